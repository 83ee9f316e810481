"""Programs that use mioloop. A package, so that `python -m examples.compare_loops` works."""
