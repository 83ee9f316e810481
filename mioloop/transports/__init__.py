"""Transports: bytes between descriptors and protocols, driven by a Reactor."""
