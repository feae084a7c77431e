"""Finite networks walking into the limit: the study behind `tpsim converge`."""

from .study import Study, study

__all__ = ["Study", "study"]
