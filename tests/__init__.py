"""The tests of mioloop; README.md describes them."""
