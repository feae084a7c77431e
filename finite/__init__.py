"""Dense networks of finite width in torch: the same problems, names and result schema as the limit's."""

from tpsim.parametrization import APPENDIX_A, MUP, TABLE_2, Parametrization, appendix_a

from .collect import load_sweep
from .run import train
from .sweep import sweep

__all__ = ["APPENDIX_A", "MUP", "TABLE_2", "Parametrization", "appendix_a", "load_sweep", "sweep", "train"]
