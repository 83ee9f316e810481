"""From samples to figures, and the forms in which they are shown."""
