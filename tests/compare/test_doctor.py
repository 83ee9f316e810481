"""``python -m mioloop doctor``: why the system refuses an io_uring."""

from __future__ import annotations

import errno
import platform
import subprocess
import sys

import pytest

from mioloop.doctor import refused_by

# Forbids io_uring_setup(2), number 425 on all these processors, by a seccomp filter as container
# runtimes do, with the errno of the first argument; then it becomes the program of the others.
UNDER_A_FILTER = """
import ctypes, os, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
instructions = b"".join(struct.pack("=HBBI", *instruction) for instruction in (
    (0x20, 0, 0, 0),                                # load the number of the call
    (0x15, 0, 1, 425),                              # another call than io_uring_setup: skip one
    (0x06, 0, 0, 0x00050000 | int(sys.argv[1])),    # SECCOMP_RET_ERRNO
    (0x06, 0, 0, 0x7FFF0000),                       # SECCOMP_RET_ALLOW
))
memory = ctypes.create_string_buffer(instructions)
program = struct.pack("@HP", len(instructions) // 8, ctypes.addressof(memory))
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program)):
    if libc.prctl(*arguments, 0, 0):
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
os.execv(sys.argv[2], sys.argv[2:])
"""


def doctor(*before: str) -> list[str]:
    """The lines about io_uring, of a doctor that is started by the command *before*."""
    command = [*before, sys.executable, "-m", "mioloop", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "prctl" in done.stderr:
        pytest.skip(f"this system permits no seccomp filter: {done.stderr}")
    assert done.returncode == 0, done.stderr + done.stdout
    return [line for line in done.stdout.splitlines() if "io_uring" in line]


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.machine() not in ("x86_64", "aarch64"),
    reason="the filter is for Linux on these processors",
)
@pytest.mark.parametrize("errno_name", ["EPERM", "ENOSYS"])
def test_a_seccomp_filter_that_forbids_io_uring_is_named(errno_name: str) -> None:
    [line] = doctor(sys.executable, "-c", UNDER_A_FILTER, str(getattr(errno, errno_name)))

    assert line.endswith(
        f"no ({errno_name}): a seccomp filter forbids it, as container runtimes do"
    )


FILTERED = "Name:\tpython\nSeccomp:\t2\nSeccomp_filters:\t1\n"
FREE = "Name:\tpython\nSeccomp:\t0\nSeccomp_filters:\t0\n"


@pytest.mark.parametrize(
    ("answer", "sysctl", "status", "reason"),
    [
        ("EPERM", "2\n", FREE, "kernel.io_uring_disabled=2 forbids it to everyone"),
        ("EPERM", "1\n", FREE, "kernel.io_uring_disabled=1 forbids it to processes without"),
        ("EPERM", "2\n", FILTERED, "kernel.io_uring_disabled=2"),
        ("EPERM", "0\n", FILTERED, "a seccomp filter"),
        ("EPERM", "", FREE, "a security module"),
        ("ENOSYS", "", FILTERED, "a seccomp filter"),
        ("ENOSYS", "", FREE, "older than Linux 5.12"),
        ("EINVAL", "0\n", FREE, "older than Linux 5.12"),
        ("ENOMEM", "0\n", FREE, "locked memory"),
        ("EMFILE", "0\n", FREE, "no free descriptor"),
        ("EIO", "0\n", FREE, "does not say why"),
    ],
)
def test_each_refusal_has_a_reason(answer: str, sysctl: str, status: str, reason: str) -> None:
    assert reason in refused_by(answer, sysctl, status)
