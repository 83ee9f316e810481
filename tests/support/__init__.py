"""Parts that several test modules use: loops, protocols, connections, and ways to wait."""
