"""The tests of faults use the TLS fixtures of tests/transports."""

from __future__ import annotations

from tests.support.tls import certificates, tls

__all__ = ["certificates", "tls"]
