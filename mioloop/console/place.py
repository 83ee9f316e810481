"""Where the socket of a process is: mioloop-PID.sock, in a directory mioloop-UID of its user.

The directory is in XDG_RUNTIME_DIR, or else in the directory for temporary files. It has mode 0700,
and the socket 0600. In a directory that every user can write to, another user may have made the
directory first: so its owner and its mode are checked, and a symbolic link is not followed.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile

LONGEST_PATH = 100      # bytes; sun_path has 104 or 108

_NAME = re.compile(r"mioloop-([0-9]+)\.sock")


def directories(uid: int) -> list[str]:
    """The directories where the sockets of user *uid* may be; the best place first.

    A client looks into each: a service often runs without the XDG_RUNTIME_DIR of its user's shell.
    """
    bases = [os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), f"/run/user/{uid}", "/tmp"]
    return list(dict.fromkeys(os.path.join(base, f"mioloop-{uid}") for base in bases if base))


def problem_of(directory: str, uid: int) -> str | None:
    """Why user *uid* must not use *directory*, or None. Raises OSError: it is missing."""
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode):
        return f"{directory} is not a directory"
    if found.st_uid != uid:
        return f"{directory} belongs to user {found.st_uid}, not to {uid}"
    if found.st_mode & 0o077:
        return f"{directory} has mode {found.st_mode & 0o777:04o}, not 0700"
    return None


def make_directory() -> str:
    """Return the directory for the sockets of this user. Raises OSError: none can be used."""
    uid = os.geteuid()
    problems = []
    for directory in directories(uid):
        if len(os.fsencode(directory)) > LONGEST_PATH - len("/mioloop-4194304.sock.new"):
            problems.append(f"{directory} is too long for the name of a socket")
            continue
        try:
            try:
                os.mkdir(directory, 0o700)
            except FileExistsError:
                pass
            problem = problem_of(directory, uid)
        except OSError as exc:
            problem = str(exc)
        if problem is None:
            return directory
        problems.append(problem)
    raise OSError("; ".join(problems))


def socket_name(pid: int) -> str:
    return f"mioloop-{pid}.sock"


def sockets_of(uid: int) -> dict[int, str]:
    """The path of each socket of user *uid* by its pid; a process may have ended already."""
    found: dict[int, str] = {}
    for directory in reversed(directories(uid)):
        try:
            if problem_of(directory, uid) is not None:
                continue
            names = os.listdir(directory)
        except OSError:
            continue
        for name in names:
            match = _NAME.fullmatch(name)
            if match:
                found[int(match[1])] = os.path.join(directory, name)
    return found
