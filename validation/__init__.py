"""Claims of the papers, each a function that returns estimate, reference, standard error and verdict."""
