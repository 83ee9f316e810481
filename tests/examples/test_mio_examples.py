"""The programs in examples/mio print what their docstrings promise, on every selector."""

from __future__ import annotations

import http.client
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mioloop import mio

DIRECTORY = Path(__file__).parents[2] / "examples" / "mio"


def command(name: str, selector: str, *args: object) -> list[str]:
    # -X dev: a socket or thread left behind is a warning on stderr.
    program = [sys.executable, "-X", "dev", str(DIRECTORY / name)]
    return [*program, "--selector", selector, *map(str, args)]


def run(name: str, selector: str, *args: object) -> list[str]:
    """The lines that the program prints; it succeeds and complains of nothing."""
    done = subprocess.run(
        command(name, selector, *args), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def number(pattern: str, line: str) -> float:
    found = re.search(pattern, line)
    assert found, f"{pattern!r} is not in {line!r}"
    return float(found[1])


def test_every_program_is_run_here() -> None:
    names = [path.name for path in DIRECTORY.glob("[0-9]*.py")]
    here = Path(__file__).read_text(encoding="utf-8")
    assert len(names) == 23
    assert [name for name in names if f'"{name}"' not in here] == []


def test_readme_lists_every_program() -> None:
    names = sorted(path.name for path in DIRECTORY.glob("[0-9]*.py"))
    readme = (DIRECTORY / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| (\S+\.py) \|", readme, re.MULTILINE)) == names


def test_unknown_selector_is_refused_with_the_valid_ones() -> None:
    done = subprocess.run(
        command("03_poll_timeout.py", "select"), capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 2
    assert "select" in done.stderr
    assert all(name in done.stderr for name in mio.selectors())


# -- the listings ---------------------------------------------------------


def test_server_accepts_then_client_is_done(selector: str) -> None:
    assert run("01_server_and_client.py", selector) == ["server accepted", "client done"]


def test_reregister_replaces_token_and_interest(selector: str) -> None:
    assert run("02_reregister.py", selector) == [
        "event: Token(2) Writable",
        "events in the next 100 ms: 0",
    ]


def test_poll_of_nothing_takes_its_timeout(selector: str) -> None:
    (line,) = run("03_poll_timeout.py", selector)
    assert line.startswith("0 events")
    assert 0.5 <= number(r"after ([\d.]+) s", line) < 10


def test_many_connections_get_tokens_in_turn_and_the_33rd_stops_it(selector: str) -> None:
    lines = run("04_many_connections.py", selector)
    accepted = [line for line in lines if line.startswith("accepted")]
    assert accepted == [f"accepted Token({n})" for n in range(32)]
    (end,) = [line for line in lines if line.startswith("33rd")]
    assert "32 accepted" in end
    assert 0 <= number(r"(\d+) closed so far", end) <= 32
    (process_limit,) = [line for line in lines if "RLIMIT_NOFILE" in line]
    assert number(r": (-?\d+),", process_limit) == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert any("fs.file-max" in line for line in lines)


def test_deregister_silences_a_readable_stream(selector: str) -> None:
    (line,) = run("05_deregister.py", selector)
    assert line.startswith("0 events")
    assert number(r"after ([\d.]+) s", line) >= 1.0


def test_event_from_another_thread_ends_the_poll(selector: str) -> None:
    (line,) = run("06_event_from_thread.py", selector)
    assert line.startswith("Token(0) Readable")
    assert 0.5 <= number(r"after ([\d.]+) s", line) < 1.5


def test_deadline_is_an_event_source(selector: str) -> None:
    early, due, cancelled = run("07_deadline.py", selector)
    assert early == "early: 0 events, is_elapsed() is False"
    assert due.startswith("Token(7) Readable") and due.endswith("is_elapsed() is True")
    assert number(r"after ([\d.]+) s", due) >= 0.5
    assert cancelled == "from the cancelled one: 0 events, is_elapsed() is True"


def test_readiness_is_polled_for_until_seen(selector: str) -> None:
    event, polls = run("08_readiness_is_not_delivery.py", selector)
    assert event == "event: Token(0) Readable"
    assert number(r"seen after (\d+) poll", polls) >= 1
    assert "not promised" in polls


def test_readiness_value_is_seen_by_its_setter_and_by_no_poll(selector: str) -> None:
    assert run("09_readiness_value.py", selector) == [
        "before: (empty)",
        "after: Readable",
        "after another setter: Writable",
        "events of an unregistered pair: 0",
    ]


def test_listener_is_readable_only_with_a_client(selector: str) -> None:
    assert run("10_tcp_listener.py", selector) == [
        "alone: 0 events",
        "with a client: Token(0) Readable",
        "accepted the client",
    ]


def test_connect_ends_in_success_or_a_refusal_told_once(selector: str) -> None:
    lines = run("11_tcp_connect.py", selector)
    refused = lines.index("-- nobody listens any more")
    assert lines[:refused] == [
        "-- somebody listens",
        "event: Writable",
        "take_error(): None",
        "connected: True",
    ]
    if sys.platform == "linux":
        assert lines[refused + 1 :] == [
            "event: Writable | Error | Hup",
            "take_error(): ConnectionRefusedError",
            "take_error() again: None",
        ]
    else:
        assert "ConnectionRefusedError" in "".join(lines[refused:])


def test_udp_pair_goes_on_for_five_rounds_and_an_idle_sender_is_silent(selector: str) -> None:
    lines = run("12_udp_echo.py", selector)
    nines = [9] * 9
    part_2 = lines.index("-- part 2: reregister after each send")
    part_3 = lines.index("-- part 3: the sender is idle")
    assert lines[1] == "poll: sender"           # nothing to receive yet
    assert lines[part_2:part_3].count(f"sent {nines} -> 9 bytes") == 5
    assert lines[part_2:part_3].count(f"echo {nines} -> 9") == 5
    assert "rounds in part 2: 5" in lines
    if selector == "epoll":
        assert "rounds in part 1: 5" in lines
    assert lines[part_3 + 1] == "events of three polls: [1, 0, 0]"


ERRORS = {
    "NotFound": "FileNotFoundError ENOENT",
    "AlreadyExists": "FileExistsError EEXIST",
    "PermissionDenied": "PermissionError EPERM",
    "ConnectionRefused": "ConnectionRefusedError ECONNREFUSED",
    "ConnectionReset": "ConnectionResetError ECONNRESET",
    "NotConnected": "OSError ENOTCONN",
    "AddrInUse": "OSError EADDRINUSE",
    "AddrNotAvailable": "OSError EADDRNOTAVAIL",
    "BrokenPipe": "BrokenPipeError EPIPE",
    "WouldBlock": "BlockingIOError EAGAIN",
    "Interrupted": "InterruptedError EINTR",
    "UnexpectedEof": "EOFError -",
    "InvalidData": "ValueError -",
    "(closed)": "ValueError -",
    "(EBADF)": "OSError EBADF",
    "(EMSGSIZE)": "OSError EMSGSIZE",
    "(EDESTADDRREQ)": "OSError EDESTADDRREQ",
}


def test_errors_come_as_the_class_of_their_kind(selector: str) -> None:
    rows = [line.split() for line in run("14_error_kinds.py", selector)[1:]]
    seen = [(row[0], f"{row[1]} {row[2]}") for row in rows]
    for kind, error in ERRORS.items():
        assert (kind, error) in seen
    assert [error for kind, error in seen if kind == "InvalidInput"] == [
        "OSError EINVAL",
        "ValueError -",
    ]
    assert [error for kind, error in seen if kind == "Other"] == [
        "InvalidTokenError -",
        "WrongPollError -",
    ]


# -- four points of attention ----------------------------------------------


def test_edge_reports_nothing_new_before_the_stream_is_drained(selector: str) -> None:
    assert run("15_edge_needs_draining.py", selector) == [
        "Edge-Triggered: 1 event, read 1024 of 2048 bytes",
        "Edge-Triggered: 0 further events",
        "Edge-Triggered: 1024 bytes by draining",
        "Level-Triggered: 1 event, read 1024 of 2048 bytes",
        "Level-Triggered: 1 further events",
        "Level-Triggered: 1024 bytes by draining",
    ]


def test_oneshot_reports_once_for_each_arming_and_loses_nothing(selector: str) -> None:
    lines = run("16_oneshot_keeps_state.py", selector)
    oneshot = "Edge-Triggered | OneShot"
    assert f"{oneshot}: events after each chunk: [1, 0, 0]" in lines
    assert f"{oneshot}: events of three polls after reregister: [1, 0, 0]" in lines
    assert f"{oneshot}: 30 bytes were waiting" in lines
    if selector == "epoll":
        assert "Edge-Triggered: events after each chunk: [1, 1, 1]" in lines


def test_false_events_meet_would_block_and_all_clients_go_on(selector: str) -> None:
    lines = run("17_false_events.py", selector)
    for client in (1, 2):
        mine = [line for line in lines if line.startswith(f"client {client}:")]
        assert sorted(line.split(") ")[1] for line in mine) == [
            "accepted",
            "got BlockingIOError, goes on",
        ]
    if sys.platform == "linux":
        assert "urgent byte: event Readable | Priority" in lines
        assert "urgent byte: read got BlockingIOError, goes on" in lines
        assert "ordinary byte: read b'x'" in lines


def test_peer_close_comes_to_the_same_end_without_error_and_hup_bits(selector: str) -> None:
    lines = run("18_portable_peer_close.py", selector)
    assert [line.split(":")[0] for line in lines] == ["half_close", "close", "reset"]
    assert all(line.endswith("; same") for line in lines)
    assert "end of stream" in lines[0] and "end of stream" in lines[1]
    assert "ConnectionResetError" in lines[2]


# -- demonstrations ---------------------------------------------------------


def test_five_layers_find_the_peer_gone(selector: str) -> None:
    lines = run("19_peer_close_layers.py", selector)
    assert "a: peer closed: read gives b''" in lines
    assert re.search(r"a: peer reset: write raises (ConnectionReset|BrokenPipe)Error", lines[1])

    (deadline,) = [line for line in lines if line.startswith("b:")]
    assert number(r"b: (\d+) polls", deadline) > 1
    assert number(r"after ([\d.]+) s of", deadline) >= 0.2

    assert "c: SIGPIPE is ignored: True" in lines
    assert "c: first write after the peer closed: accepted, 6 bytes" in lines
    assert "c: after the reset, write raises BrokenPipeError" in lines

    (half,) = [line for line in lines if line.startswith("d: peer will send no more")]
    assert "Hup" not in half and half.endswith("is_read_closed() is True, read gives b''")
    assert "d: reset while a oneshot is spent: 0 events" in lines
    if sys.platform == "linux":
        assert "d: both sides will send no more: Readable | Writable | Hup" in lines
        assert "d: after reregister: Readable | Writable | Error | Hup" in lines

    (live,) = [line for line in lines if line.startswith("e: live")]
    (silent,) = [line for line in lines if line.startswith("e: silent")]
    assert live.endswith("alive") and number(r"(\d+) pongs", live) > 0
    assert silent.endswith("dead") and number(r"(\d+) pongs", silent) == 0
    (found,) = [line for line in lines if line.startswith("e: found out")]
    assert number(r"after ([\d.]+) s", found) >= 0.2


def test_budget_and_oneshot_bound_the_wait_of_quiet_clients(selector: str) -> None:
    lines = run("20_starvation.py", selector)
    assert [line.split(":")[0] for line in lines] == ["until would block", "budget", "oneshot"]
    reads = [number(r"at most (\d+) reads for one event", line) for line in lines]
    delays_ms = [number(r"the slowest after ([\d.]+) ms", line) for line in lines]
    floods = {number(r"flood of (\d+) bytes", line) for line in lines}
    assert len(floods) == 1
    # The bound is on the cost of one event. The delays themselves depend on the machine.
    assert reads[0] > 8
    assert reads[1] <= 4 and reads[2] <= 4
    assert all(delays_ms)


def test_back_pressure_rises_to_a_plateau_each_round_and_loses_nothing(selector: str) -> None:
    lines = run("21_oneshot_back_pressure.py", selector)
    rounds = [line for line in lines if line.startswith("round")]
    assert len(rounds) == 4
    plateaus = [number(r"plateau at (\d+) bytes", line) for line in rounds]
    unread = [number(r"(\d+) of them unread", line) for line in rounds]
    assert all(number(r": (\d+) event;", line) == 1 for line in rounds)
    assert all(number(r"; (\d+) events in \d+ polls", line) == 0 for line in rounds)
    assert all(number(r"in (\d+) polls", line) > 5 for line in rounds)
    assert plateaus == sorted(set(plateaus)), "each round lets the client write more"
    assert max(unread) < 4 * min(unread), "the buffers bound what waits, in every round"

    (total,) = [line for line in lines if line.startswith("written")]
    assert total.endswith("checksums agree")
    assert number(r"written (\d+)", total) == number(r"received (\d+)", total)
    assert number(r"written (\d+)", total) >= plateaus[-1]

    (level,) = [line for line in lines if line.startswith("level")]
    assert 0 < number(r"plateau at (\d+) bytes", level) < 4 * max(unread)
    assert number(r"(\d+) events in", level) > 5


def test_several_polls_share_the_connections_in_turn(selector: str) -> None:
    lines = run("22_several_polls.py", selector, "--connections", 32, "--requests", 50)
    workers = [line for line in lines if "worker(s)" in line]
    assert [number(r"(\d+) worker", line) for line in workers] == [1, 2, 4]
    for count, line in zip((1, 2, 4), workers, strict=True):
        assert f"connections {[32 // count] * count}," in line
        assert f"requests {[1600 // count] * count}, 1600 in all" in line
        assert number(r"(\d+) requests/s", line) > 0


# -- the HTTP server under load ----------------------------------------------


@contextmanager
def http_server(
    selector: str, *args: object, descriptors: int | None = None
) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """The server in a process of its own: its port, and the process."""

    def limit_descriptors() -> None:
        if descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    process = subprocess.Popen(
        command("13_http_server.py", selector, "--port", 0, "--seconds", 40, *args),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit_descriptors,
    )
    with process:
        try:
            assert process.stdout is not None
            port = int(number(r"http://127.0.0.1:(\d+)/", process.stdout.readline()))
            yield port, process
        finally:
            process.terminate()


def totals(process: subprocess.Popen[str]) -> str:
    """The lines that the server prints at its end, which it reaches without complaint."""
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    return out


def test_http_server_answers_every_request_of_its_own_load_generator(selector: str) -> None:
    with http_server(selector, "--requests", 5000) as (port, process):
        lines = run(
            "13_http_load.py", selector, "--port", port, "--requests", 5000, "--connections", 128
        )
        out = totals(process)
    assert lines[0].startswith("5000 requests on 128 connections")
    assert lines[1].endswith("requests/s, 0 failed")
    assert "5000 requests in" in out
    assert "requests/s, 0 failed" in out


def test_http_server_keeps_128_connections_of_ab_and_wrk_alive(selector: str) -> None:
    tools = [tool for tool in ("ab", "wrk") if shutil.which(tool)]
    if not tools:
        pytest.skip("neither ab nor wrk is installed")
    with http_server(selector) as (port, process):
        url = f"http://127.0.0.1:{port}/"
        if "ab" in tools:
            out = subprocess.check_output(
                ["ab", "-q", "-n", "10000", "-c", "128", "-k", url], text=True, timeout=60
            )
            assert number(r"Complete requests: +(\d+)", out) == 10_000
            assert number(r"Keep-Alive requests: +(\d+)", out) == 10_000
            assert number(r"Failed requests: +(\d+)", out) == 0
            assert "Non-2xx" not in out
        if "wrk" in tools:
            out = subprocess.check_output(
                ["wrk", "-d", "2s", "-t", "2", "-c", "128", url], text=True, timeout=60
            )
            assert number(r"(\d+) requests in", out) > 0
            assert "Socket errors" not in out
            assert "Non-2xx" not in out
        process.terminate()
        assert re.search(r"\d+ requests/s, \d+ failed", totals(process))


def test_http_load_counts_requests_that_a_missing_server_does_not_answer(selector: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = subprocess.run(
        command("13_http_load.py", selector, "--port", port, "--requests", 10),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert "requests/s, 10 failed" in done.stdout
    assert "ConnectionRefusedError" in done.stderr


def test_http_server_out_of_descriptors_serves_the_rest_later(selector: str) -> None:
    with http_server(selector, descriptors=24) as (port, process):
        clients = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(40)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        for client in clients:              # accepted in this order
            with client:
                assert client.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
        process.terminate()
        out = totals(process)
    assert "40 requests in" in out
    assert "requests/s, 0 failed" in out


def test_http_server_is_understood_by_a_standard_client(selector: str) -> None:
    with http_server(selector, "--requests", 2) as (port, process):
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for _ in range(2):
            client.request("GET", "/")
            answer = client.getresponse()
            assert (answer.status, answer.read()) == (200, b"hello\n")
        client.close()
        assert "requests/s, 0 failed" in totals(process)
