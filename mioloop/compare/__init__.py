"""`python -m mioloop compare`: which event loop is faster, measured."""
