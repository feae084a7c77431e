"""The one tile size of the library."""

TILE = 1024
"""Particles per tile: work is cut at multiples of it, whatever the number of threads."""
