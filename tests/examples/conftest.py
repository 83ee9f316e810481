from __future__ import annotations

import pytest

from mioloop import mio


@pytest.fixture(params=mio.selectors())
def selector(request: pytest.FixtureRequest) -> str:
    return request.param
