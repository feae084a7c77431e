"""The Tensor-Program core: particle spaces, noise streams and the lazy Gaussian matrix. It knows no network.

    space = ParticleSpace(4096)                  # M particles
    W = GaussianMatrix(space, space, scale=1.0)  # n x n, N(0, 1/n) entries, never materialised
    y = W @ x                                    # x, y: arrays (k, M)
    z = W.T @ y
"""

from .guards import GUARDS, count, counted, counting, restore
from .kernels import accumulate, expand, inner
from .matrix import BACKWARD, FORWARD, GaussianMatrix, MaxRank, Parts, Product
from .noise import NormalSource
from .passes import backward_pass, forward_pass
from .rows import Rows
from .space import Noise, ParticleSpace, SpaceFull, check_noise
from .tiles import TILE

__all__ = [
    "BACKWARD",
    "FORWARD",
    "GUARDS",
    "TILE",
    "GaussianMatrix",
    "MaxRank",
    "Noise",
    "NormalSource",
    "Parts",
    "ParticleSpace",
    "Product",
    "Rows",
    "SpaceFull",
    "accumulate",
    "backward_pass",
    "check_noise",
    "count",
    "counted",
    "counting",
    "expand",
    "forward_pass",
    "inner",
    "restore",
]
