"""The package exports its public names, and imports no module that it does not need."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mioloop import mio


@pytest.mark.parametrize("module", [mio, mio.net, mio.unix], ids=lambda module: module.__name__)
def test_every_exported_name_is_there(module):
    for name in module.__all__:
        assert hasattr(module, name), name


def test_mio_event_mirrors_mios_own_module():
    assert mio.event.Event is mio.Event
    assert mio.event.Events is mio.Events
    assert mio.event.Evented is mio.Evented


def test_import_needs_neither_asyncio_nor_the_loop():
    program = (
        "import sys, mioloop.mio; "
        "print([name for name in sys.modules if name == 'asyncio' "
        "or name.startswith(('mioloop.loop', 'mioloop.reactor', 'mioloop.transports'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout == "[]\n"
