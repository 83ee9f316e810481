"""PostgreSQL, Redis, an MQTT broker and Prometheus on loopback, for as long as a block runs.

    with postgresql() as database, redis() as cache:
        ...     # database.port, cache.port

Each server has a free port and a temporary directory; it is ended, and its directory removed, when
the block ends. PostgreSQL refuses to run as root: for root, every server runs as an ordinary user.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

WAIT_S = 60.0
HOST = "127.0.0.1"

# The line that a server logs when it has started.
READY = re.compile(
    r"eady to accept connections|mosquitto version .* running|eady to receive web requests"
)


class MissingServer(Exception):
    """The server's program is not on this machine. The text says in one line how to install it."""


@dataclass(frozen=True)
class LocalServer:
    """A server that accepts connections on `HOST`."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"{self.name} on {HOST}:{self.port}"


@contextmanager
def postgresql() -> Iterator[LocalServer]:
    """A PostgreSQL server; its superuser `postgres` needs no password."""
    initdb = find("initdb", "postgresql", "/usr/lib/postgresql/*/bin")
    postgres = find("postgres", "postgresql", "/usr/lib/postgresql/*/bin")
    with temporary_directory() as directory:
        data = str(directory / "data")
        initialise = [
            initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale",
            "--no-sync",
        ]
        subprocess.run(
            [*launcher(), *initialise],
            cwd=directory,
            stdout=subprocess.DEVNULL,
            check=True,
            start_new_session=True,
        )
        port = free_port()
        settings = {
            "listen_addresses": HOST, "port": port, "unix_socket_directories": "",
            "fsync": "off", "full_page_writes": "off", "synchronous_commit": "off",
        }
        options = [option for name in settings for option in ("-c", f"{name}={settings[name]}")]
        with running([postgres, "-D", data, *options], directory):
            yield LocalServer("PostgreSQL", port)


@contextmanager
def redis() -> Iterator[LocalServer]:
    """A Redis server that keeps everything in memory."""
    program = find("redis-server", "redis-server")
    with temporary_directory() as directory:
        port = free_port()
        options = ["--bind", HOST, "--port", str(port), "--save", "", "--appendonly", "no"]
        with running([program, *options], directory):
            yield LocalServer("Redis", port)


@contextmanager
def mosquitto() -> Iterator[LocalServer]:
    """An MQTT broker; any client may connect."""
    program = find("mosquitto", "mosquitto", "/usr/sbin")
    with temporary_directory() as directory:
        port = free_port()
        # Without a configuration file mosquitto listens on loopback only.
        with running([program, "-p", str(port)], directory):
            yield LocalServer("mosquitto", port)


@contextmanager
def prometheus(configuration: str) -> Iterator[LocalServer]:
    """A Prometheus with the text of a configuration file; it has its HTTP API at the port."""
    program = find("prometheus", "prometheus")
    with temporary_directory() as directory:
        file = directory / "prometheus.yml"
        file.write_text(configuration)
        file.chmod(0o644)
        port = free_port()
        options = [
            f"--config.file={file}", f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={HOST}:{port}",
        ]
        with running([program, *options], directory):
            yield LocalServer("Prometheus", port)


# -- parts ---------------------------------------------------------------------------------------


def find(program: str, package: str, elsewhere: str = "") -> str:
    """The path of *program*: on PATH, or in a directory that the pattern *elsewhere* matches."""
    if found := shutil.which(program):
        return found
    for path in sorted(Path("/").glob(f"{elsewhere}/{program}".lstrip("/"))):
        return str(path)
    raise MissingServer(f"{program} is not installed: apt-get install {package}")


def ordinary_user() -> pwd.struct_passwd | None:
    """The user that a server runs as if root starts it; None if this process is not root."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")


def launcher() -> list[str]:
    """The start of a server's command line: an ordinary user, and an end if this process dies."""
    user = ordinary_user()
    if user is None and not shutil.which("setpriv"):
        return []
    command = [find("setpriv", "util-linux"), "--pdeathsig", "INT"]
    if user is not None:
        command += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return [*command, "--"]


@contextmanager
def temporary_directory() -> Iterator[Path]:
    user = ordinary_user()
    with tempfile.TemporaryDirectory(prefix="mioloop-", ignore_cleanup_errors=True) as name:
        if user is not None:
            os.chown(name, user.pw_uid, user.pw_gid)
        yield Path(name)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def running(command: Sequence[str], directory: Path) -> Iterator[None]:
    """A server's process, from the moment at which it accepts connections to the block's end."""
    process = subprocess.Popen(
        [*launcher(), *command],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,     # Ctrl-C at the terminal reaches this program only
    )
    log: deque[str] = deque(maxlen=50)
    spoken = threading.Event()
    ready = False

    def read_log() -> None:
        nonlocal ready
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                log.append(line)
                if not ready and READY.search(line):
                    ready = True
                    spoken.set()
        spoken.set()

    reader = threading.Thread(target=read_log, daemon=True)
    reader.start()
    try:
        spoken.wait(WAIT_S)
        if not ready:
            raise RuntimeError(f"{command[0]} did not start:\n{''.join(log)}")
        yield
    finally:
        process.send_signal(signal.SIGINT)      # PostgreSQL closes every connection, and ends
        try:
            process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()
