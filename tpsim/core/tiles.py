"""The tile: the fixed number of particles that is the unit of cache blocking, of random streams and of threads."""

import os

TILE = 1024

# OpenMP threads that wait for a tile sleep; spinning, as they do by default, makes every call wait for a scheduler's
# time slice as soon as more threads than cores are ready. Read when numba starts its threads; a user's setting wins.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
