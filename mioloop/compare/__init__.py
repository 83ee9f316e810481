"""`python -m mioloop compare`: measures which event loop is faster."""
