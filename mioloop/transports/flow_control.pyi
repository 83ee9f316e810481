# No name of this module is for Python.
