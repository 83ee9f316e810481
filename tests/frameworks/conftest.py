"""Fixtures of the scenarios: certificates, and the loops of servers in their own processes."""

from __future__ import annotations

import pytest

from tests.frameworks.certificates import Certificates, make_certificates
from tests.frameworks.server_process import SERVED_LOOPS, ServedLoop


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    pytest.importorskip("trustme")
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=SERVED_LOOPS, ids=str)
def served_loop(request: pytest.FixtureRequest) -> ServedLoop:
    served: ServedLoop = request.param
    if served.name == "uvloop":
        pytest.importorskip("uvloop")
    return served
