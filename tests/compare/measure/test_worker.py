"""Workers: the child processes of a comparison."""

from __future__ import annotations

import pytest

from mioloop.compare.measure import cpu, worker


def test_connections_that_do_not_fit_into_memory_are_not_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpu, "available_bytes", lambda: 2**30)
    worker._check_memory(100 * 2**20, 1000, 8_000)
    with pytest.raises(OSError, match=r"10,000 connections would need another 0.9 GiB of memory"):
        worker._check_memory(100 * 2**20, 1000, 10_000)
