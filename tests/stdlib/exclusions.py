"""Tests of CPython's ``test.test_asyncio`` that are not run, each with its reason.

A pattern is matched (as by fnmatch) against ``module.Class.test``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

ANY_LOOP = "any"
Version = tuple[int, int]


@dataclass(frozen=True)
class Exclusion:
    pattern: str
    reason: str
    loop: str = "mioloop"
    since: Version = (3, 10)
    until: Version = (3, 99)  # the last version it concerns
    in_all: bool = True  # else only the later releases of these versions have such a test

    def applies(self, loop: str, modules: list[str]) -> bool:
        return (
            self.loop in (ANY_LOOP, loop)
            and self.since <= sys.version_info[:2] <= self.until
            and self.pattern.partition(".")[0] in modules
        )


EXCLUSIONS: list[Exclusion] = [
    Exclusion(
        "test_ssl.TestSSL.test_remote_shutdown_receives_trailing_data*",
        "fills the backlog of asyncio's own TLS transport by its private "
        "_test__append_write_backlog(); test_tls_sessions.py does so by write()",
        since=(3, 11),
    ),
    Exclusion(
        "test_subprocess.SubprocessThreadedWatcherTests.test_pid_not_reaped_before_exit_published",
        "looks for the waiting thread inside asyncio's own private watcher; test_child_ends.py has "
        "the same test for the loop's own thread",
        since=(3, 14),
    ),
    Exclusion(
        "test_base_events.BaseEventLoopTests.test_create_connection_happy_eyeballs*",
        "connects a mocked socket, which only the loop's mocked _add_reader() can watch; "
        "test_tcp_client.py has happy eyeballs over real sockets",
        since=(3, 15),
    ),
    Exclusion(
        "test_sslproto.SelectorStartTLSTests."
        "test_create_connection_ssl_failed_certificate_no_cycles",
        "patches asyncio's own SSLProtocol to see its transport; test_tls.py has the same test "
        "for the loop's own",
        since=(3, 13),
        in_all=False,
    ),
    Exclusion(
        "test_unix_events.PidfdChildWatcherTests.test_pidfd_closed_when_waitpid_raises",
        "counts the descriptors of the process, of which the loop's own io_uring is one; "
        "test_children.py has the same test for the number of pidfds",
        since=(3, 13),
        in_all=False,
    ),
]
