"""Dense networks of finite width in torch: the same problems, names and result schema as the limit's."""

from .dense import train
from .parametrization import MUP, Parametrization

__all__ = ["MUP", "Parametrization", "train"]
