"""The C load generator and the plain C server, and their Python face."""
