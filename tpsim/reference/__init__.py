"""The literal reference: Appendix B of Chen et al. 2025 with its full history, slow, made to be read beside the paper.

It is the twin of the fast engine in tests, and hosts the wrong engines of the negative controls (`mistake`).
"""

from .appendix_b import Mistake
from .run import simulate_reference

__all__ = ["Mistake", "simulate_reference"]
