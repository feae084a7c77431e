"""Exact oracles: independent computations that the engine and its twins are tested against."""
