"""Figures computed from the samples, and the forms in which they are shown."""
