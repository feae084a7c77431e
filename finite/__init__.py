"""Dense networks of finite width in torch: the same problems, names and result schema as the limit's."""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError("finite networks need torch: pip install 'tpsim[finite]'", name=_error.name) from _error

from tpsim.parametrization import APPENDIX_A, MUP, TABLE_2, Parametrization, appendix_a

from .collect import load_sweep
from .run import train
from .sweep import sweep

__all__ = ["APPENDIX_A", "MUP", "TABLE_2", "Parametrization", "appendix_a", "load_sweep", "sweep", "train"]
