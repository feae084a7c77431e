"""Property-based fuzzing of every public entry point: values, entry points, and the property."""
