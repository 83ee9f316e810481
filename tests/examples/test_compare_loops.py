"""The main job: examples/compare_loops, and the server that it runs."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from examples.aiohttp_server import make_app
from examples.compare_loops import __main__ as compare_loops
from examples.compare_loops import checks, http_client, load

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "examples" / "aiohttp_server.py"
WAIT_S = 20.0
LOOPS = ["mioloop", "uvloop", "asyncio"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def run_job(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.compare_loops", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
    )


def rows_of(output: str) -> dict[str, list[str]]:
    """The cells of the printed table, by the loop of the row."""
    rows = (re.split(r" {2,}", line.strip()) for line in output.splitlines())
    return {cells[0]: cells[1:] for cells in rows if cells[0] in LOOPS}


def number_in(cell: str) -> float:
    return float(cell.split()[0].replace(",", ""))


def test_job_prints_a_table_of_every_loop_without_errors() -> None:
    pytest.importorskip("uvloop")
    completed = run_job("--requests", "500", "--seconds", "15", "--client", "python")

    assert completed.returncode == 0, completed.stdout
    rows = rows_of(completed.stdout)
    assert list(rows) == LOOPS
    for requests, errors, *figures in rows.values():
        assert number_in(requests) > 500
        assert errors == "0"
        assert all(number_in(figure) > 0 for figure in figures)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_job_measures_with_wrk() -> None:
    completed = run_job(
        *("--loops", "mioloop", "--requests", "100", "--seconds", "5", "--client", "wrk")
    )

    assert completed.returncode == 0, completed.stdout
    assert all(number_in(cell) > 0 for cell in rows_of(completed.stdout)["mioloop"][2:])


def test_job_goes_on_without_uvloop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "uvloop" else find_spec(name)
    )
    arguments = ["--loops", "uvloop", "asyncio", "--requests", "50", "--seconds", "5"]
    monkeypatch.setattr(sys, "argv", ["compare_loops", *arguments])

    assert compare_loops.main() == 0
    output = capsys.readouterr().out
    assert "uvloop is not installed" in output
    assert list(rows_of(output)) == ["asyncio"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--loops", "trio"], "invalid choice: 'trio' (choose from"),
        (["--requests", "0"], "'0' is not a whole number from 1 up"),
        (["--client", "ab"], "invalid choice: 'ab' (choose from"),
    ],
)
def test_job_refuses_a_bad_option(arguments: list[str], message: str) -> None:
    completed = run_job(*arguments)

    assert completed.returncode == 2
    assert message in completed.stdout


# -- a wrong answer in the comparison -----------------------------------------------------


async def checked(app: web.Application, file: Path, requests: int = 50) -> checks.CheckResult:
    """The messages of the checks of *app*."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        return await checks.check_server(f"http://{host}:{port}", file, requests, 4, limit_s=10)
    finally:
        await runner.cleanup()


def wrong(path: str, answer: Handler) -> web.Application:
    """The server's application, with another answer to *path*."""

    @web.middleware
    async def replace(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await (answer if request.path == path else handler)(request)

    app = make_app(SERVER)
    app.middlewares.append(replace)
    return app


def test_right_answers_are_no_errors() -> None:
    assert asyncio.run(checked(make_app(SERVER), SERVER)).errors == []


def test_wrong_body_is_an_error_of_each_request() -> None:
    async def other(request: web.Request) -> web.Response:
        return web.json_response({"message": "Hello"})

    errors = asyncio.run(checked(wrong("/json", other), SERVER)).errors
    assert len(errors) > 40
    assert errors[0].startswith("check_json: WrongAnswer: GET /json body")


def test_short_body_is_an_error() -> None:
    async def short(request: web.Request) -> web.Response:
        return web.Response(body=SERVER.read_bytes()[:-1])

    errors = asyncio.run(checked(wrong("/file", short), SERVER)).errors
    assert any("GET /file length" in error for error in errors)


def test_connection_that_is_not_kept_is_an_error() -> None:
    async def closing(request: web.Request) -> web.Response:
        response = web.json_response({"message": "Hello, world!", "path": "/json"})
        response.force_close()
        return response

    (error,) = asyncio.run(checked(wrong("/json", closing), SERVER)).errors
    assert re.fullmatch(r"\d+ connections were opened where 4 should be kept", error)


# -- the load generators ------------------------------------------------------------------

WRK_OUTPUT = """\
Running 3s test @ http://127.0.0.1:1234/json
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.10ms    1.20ms  20.00ms   80.00%
    Req/Sec    20.29k     1.00k   22.00k    70.00%
  Latency Distribution
     50%  950.00us
     75%    3.10ms
     90%    4.00ms
     99%    1.25s
  60876 requests in 3.00s, 11.00MB read
"""


def test_wrk_figures_are_read_with_their_units() -> None:
    assert load.parse_wrk(WRK_OUTPUT) == load.Load(
        requests=60876, errors=0, seconds=3.0, p50_s=pytest.approx(950e-6), p99_s=1.25
    )


def test_wrk_errors_are_counted() -> None:
    output = WRK_OUTPUT + (
        "  Socket errors: connect 1, read 2, write 3, timeout 4\n"
        "  Non-2xx or 3xx responses: 20\n"
    )
    assert load.parse_wrk(output).errors == 30


def test_unknown_wrk_output_is_an_error_that_shows_it() -> None:
    with pytest.raises(load.LoadError, match="unable to connect"):
        load.parse_wrk("unable to connect to 127.0.0.1")


async def measured(answer: bytes) -> dict[str, float]:
    """The load generator's messages about a server that answers each request with *answer*."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        return await http_client.measure(f"http://127.0.0.1:{port}/", connections=2, seconds=0.2)


def test_python_client_counts_whole_answers() -> None:
    figures = asyncio.run(measured(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))

    assert figures["requests"] > 0
    assert figures["errors"] == 0
    assert 0 < figures["p50_s"] <= figures["p99_s"]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", id="status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nlong", id="too-long"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="no-length"),
        pytest.param(b"nonsense\r\n\r\n", id="not-HTTP"),
    ],
)
def test_python_client_counts_wrong_answers_as_errors(answer: bytes) -> None:
    figures = asyncio.run(measured(answer))

    assert figures["requests"] == 0
    assert figures["errors"] > 0


def test_python_client_counts_refused_connections_as_errors() -> None:
    async def main() -> dict[str, float]:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        return await http_client.measure(f"http://127.0.0.1:{port}/", connections=2, seconds=5)

    assert asyncio.run(main())["errors"] == 2 * http_client.MAX_RECONNECTS


# -- the server ---------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("loop_name", LOOPS)
def test_server_says_where_it_listens_and_ends_cleanly(
    loop_name: str, signum: signal.Signals
) -> None:
    if loop_name == "uvloop":
        pytest.importorskip("uvloop")
    with subprocess.Popen(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", str(SERVER),
         "--loop", loop_name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            bound = json.loads(process.stdout.readline())
            assert bound["host"] == "127.0.0.1"
            assert bound["port"] > 0
            assert bound["loop"].startswith(f"{loop_name}.")
            process.send_signal(signum)
            stdout, stderr = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
    assert (process.returncode, stdout, stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--loop", "uv"], "invalid choice: 'uv' (choose from"),
        (["--port", "http"], "'http' is not a port; 0 to 65535"),
        (["--port", "65536"], "'65536' is not a port; 0 to 65535"),
        (["--file", "no-such-file"], "'no-such-file' is not a file"),
    ],
)
def test_server_refuses_a_bad_option(arguments: list[str], message: str) -> None:
    completed = subprocess.run(
        [sys.executable, str(SERVER), *arguments], capture_output=True, text=True, timeout=WAIT_S
    )

    assert completed.returncode == 2
    assert message in completed.stderr
