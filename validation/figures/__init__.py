"""The figures of Chen et al. 2025 with the limit of infinite width in them, and those that readers asked for.

What a figure needs, how it is drawn and what its caption says stand side by side in `registry.FIGURES`.
"""
