"""Faults are injected for real. The fixtures of TLS are those of tests/transports."""

from __future__ import annotations

from tests.support.tls import certificates, tls

__all__ = ["certificates", "tls"]
