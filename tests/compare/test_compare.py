"""``python -m mioloop compare``, for real but in very small rounds."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.dom.minidom
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rich")

WAIT_S = 110
SMALL = ("--rounds", "2", "--seconds", "0.02")


def compare(
    *arguments: str, directory: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mioloop", "compare", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WAIT_S,
        cwd=directory,
    )


def figures(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def lines_of(found: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (cell["workload"], line["loop"]): line for cell in found["cells"] for line in cell["lines"]
    }


# -- all workloads ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], Path]:
    """One run of every workload on every loop, with all its files."""
    for name in ("uvloop", "aiohttp", "uvicorn"):
        pytest.importorskip(name)
    directory = tmp_path_factory.mktemp("compare")
    done = compare(
        "--rounds", "1", "--seconds", "0.01", "--sizes", "1k", "--connections", "2",
        "--json", str(directory / "figures.json"), "--html", str(directory / "page.html"),
    )
    assert done.returncode == 0, done.stdout
    return done.stdout, figures(directory / "figures.json"), directory


@pytest.mark.timeout(WAIT_S + 10)
def test_every_workload_runs_on_every_loop(everything: tuple[str, dict[str, Any], Path]) -> None:
    from mioloop.compare.workloads import BY_NAME

    lines = lines_of(everything[1])
    assert {workload for workload, _ in lines} == set(BY_NAME)
    for (workload, _), line in lines.items():
        assert not line["failed"]
        assert line["samples"], workload
        figure = line["bytes"] if workload.startswith("idle") else line["rate"]
        assert figure is not None


def test_floor_stands_beside_servers_and_clients(
    everything: tuple[str, dict[str, Any], Path]
) -> None:
    lines = lines_of(everything[1])
    with_floor = {workload for workload, loop in lines if loop == "C floor"}

    assert {"echo-protocol", "unix", "udp", "tls", "http", "aiohttp-client", "idle"} <= with_floor
    assert not {"call-soon-chain", "import"} & with_floor


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processor time is Linux only")
def test_requests_have_latencies_and_processor_time(
    everything: tuple[str, dict[str, Any], Path]
) -> None:
    for loop in ("asyncio", "uvloop", "mioloop"):
        line = lines_of(everything[1])["echo-protocol", loop]
        assert line["cpu_s"] > 0
        assert set(line["latencies_s"]) == {"p50_s", "p99_s", "p999_s", "max_s"}
        assert {"requests", "elapsed_s", "rate", "client_busy"} <= set(line["samples"][0])


def test_environment_and_command_are_in_the_files(
    everything: tuple[str, dict[str, Any], Path]
) -> None:
    _, found, directory = everything
    page = (directory / "page.html").read_text()

    assert found["environment"]["command"][:4] == ["python", "-m", "mioloop", "compare"]
    for text in (found["environment"]["python"], "--sizes 1k", "uvloop", "echo-protocol 1 KiB"):
        assert text in page


def test_page_needs_nothing_from_outside(everything: tuple[str, dict[str, Any], Path]) -> None:
    page = (everything[2] / "page.html").read_text()
    outside: list[str] = []
    opened: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            opened.append(tag)
            outside.extend(str(value) for name, value in attrs if name in ("src", "href"))

    Reader().feed(page)
    assert outside == []
    assert {"svg", "table", "dl"} <= set(opened)
    start, end = page.index("<svg"), page.index("</svg>") + len("</svg>")
    xml.dom.minidom.parseString(page[start:end])


def test_table_names_every_cell_and_the_base(everything: tuple[str, dict[str, Any], Path]) -> None:
    output, found, _ = everything

    for cell in found["cells"]:
        assert cell["name"] in output
    assert "against uvloop" in output
    assert "fewer than 6 rounds decide nothing" in output


# -- loops ------------------------------------------------------------------------------------


def test_every_trigger_and_selector_can_be_compared(tmp_path: Path) -> None:
    names = ["mioloop", "mioloop-edge-poll", "mioloop-edge", "mioloop-level", "mioloop-oneshot"]
    done = compare(
        *SMALL, "echo-protocol", "--sizes", "1k", "--connections", "2", "--triggers",
        "--loops", "mioloop,mioloop-edge-poll", "--base", "mioloop", "--json",
        str(tmp_path / "figures"),
    )

    assert done.returncode == 0, done.stdout
    (cell,) = figures(tmp_path / "figures")["cells"]
    assert [line["loop"] for line in cell["lines"]] == [*names, "C floor"]


def test_loop_of_any_module_can_be_compared(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("import asyncio\nmake = asyncio.SelectorEventLoop\n")
    done = compare(
        *SMALL, "sleep-0", "--loops", "other:make,mioloop", "--json", "figures", directory=tmp_path
    )

    assert done.returncode == 0, done.stdout
    (cell,) = figures(tmp_path / "figures")["cells"]
    assert [line["loop"] for line in cell["lines"]] == ["other:make", "mioloop"]


def test_failed_request_fails_the_cell_and_the_run(tmp_path: Path) -> None:
    """A loop whose transports drop a byte is not fast, it is wrong."""
    (tmp_path / "lossy.py").write_text(
        "import asyncio\n"
        "from asyncio import selector_events\n"
        "class Lossy(selector_events._SelectorSocketTransport):\n"
        "    def write(self, data):\n"
        "        super().write(bytes(data)[:-1] + b'?')\n"
        "class Loop(asyncio.SelectorEventLoop):\n"
        "    def _make_socket_transport(self, sock, protocol, waiter=None, *, extra=None,"
        " server=None):\n"
        "        return Lossy(self, sock, protocol, waiter, extra, server)\n"
    )
    done = compare(
        *SMALL, "echo-protocol", "--sizes", "1k", "--connections", "2",
        "--loops", "asyncio,lossy:Loop", "--json", "figures", directory=tmp_path,
    )

    assert done.returncode == 1, done.stdout
    lines = lines_of(figures(tmp_path / "figures"))
    assert "wrong bytes in the answer" in lines["echo-protocol", "lossy:Loop"]["failed"]
    assert not lines["echo-protocol", "asyncio"]["failed"]
    assert "FAILED echo-protocol 1 KiB x 2, lossy:Loop" in done.stdout


def test_system_calls_are_counted_or_said_not_to_be(tmp_path: Path) -> None:
    done = compare(
        *SMALL, "echo-protocol", "--sizes", "1k", "--connections", "1", "--loops", "mioloop",
        "--syscalls", "--json", str(tmp_path / "figures"),
    )

    assert done.returncode == 0, done.stdout
    line = lines_of(figures(tmp_path / "figures"))["echo-protocol", "mioloop"]
    if line["syscalls"] is None:
        assert "system calls are not counted" in done.stdout
    else:
        assert 2 <= line["syscalls"] < 10       # one recv, one send, a share of a poll


def test_plot_writes_a_vector_and_a_bitmap(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = compare(
        *SMALL, "sleep-0", "queue", "--loops", "asyncio,mioloop", "--plot", str(tmp_path / "chart")
    )

    assert done.returncode == 0, done.stdout
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
    assert "sleep-0" in (tmp_path / "chart.svg").read_text() or xml.dom.minidom.parse(
        str(tmp_path / "chart.svg")
    )


# -- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--quik"], "there is no option '--quik'; did you mean --quick?"),
        (["ech"], "there is no workload 'ech'; they are echo-protocol,"),
        (["--loops", "uvlop"], "there is no loop 'uvlop'; the loops are asyncio, uvloop,"),
        (["--loops", ","], "--loops names none"),
        (["--loops", "no_such_module:make"], "no_such_module is not installed"),
        (["--loops", "json:nothing"], "AttributeError: module 'json' has no attribute 'nothing'"),
        (["--loops", "builtins:dict"], "which is not an event loop"),
        (["--rounds", "0"], "'0' is not a number above 0"),
        (["--seconds", "nan"], "'nan' is not a number above 0"),
        (["--sizes", "1x"], "'1x' is not a number of bytes"),
        (["--connections", "1,,2"], "'1,,2' is not a list of numbers"),
        (["--cpus", "1"], "'1' is not SERVER,CLIENT"),
        (["--json", "/no/such/file"], "there is no directory /no/such"),
        (["--app", "nothing"], "--app 'nothing' is not MODULE:NAME"),
        (["--app", "a:b", "--", "python"], "--app and a command exclude each other"),
        (["--app", "a:b", "http"], "a program of your own is measured by itself"),
        (["--", "python", "server.py"], "the command names no {port}"),
        (["--", "no-such-command", "{port}"], "there is no command 'no-such-command'"),
        (["--path", "x", "--app", "a:b"], "--path 'x' does not begin with /"),
    ],
)
def test_mistake_is_answered_with_what_would_be_right(arguments: list[str], message: str) -> None:
    done = compare("--loops", "asyncio", *arguments)

    assert done.returncode == 2, done.stdout
    assert message in done.stdout
    assert "Traceback" not in done.stdout


# -- the user's own program ---------------------------------------------------------------------

PROGRAM = """\
import asyncio
import sys
from aiohttp import web


async def hello(request):
    return web.Response(text="hello")


def make():
    app = web.Application()
    app.router.add_get("/hello", hello)
    return app


app = make()


async def asgi(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})


async def answer(reader, writer):
    while await reader.readuntil(b"\\r\\n\\r\\n"):
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")


async def serve(host, port):
    return await asyncio.start_server(answer, host, port)


number = 3

if __name__ == "__main__":
    if "--own-loop" in sys.argv:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(web._run_app(make(), host="127.0.0.1", port=int(sys.argv[1])))
    web.run_app(make(), host="127.0.0.1", port=int(sys.argv[1]), print=None)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    pytest.importorskip("aiohttp")
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


OWN = (*SMALL, "--connections", "2", "--json", "figures")


@pytest.mark.parametrize("name", ["app", "make", "asgi", "serve"])
def test_app_is_measured_on_each_loop(program: Path, name: str) -> None:
    if name == "asgi":
        pytest.importorskip("uvicorn")
    done = compare(*OWN, "--path", "/hello", "--app", f"program:{name}", directory=program)

    assert done.returncode == 0, done.stdout
    (cell,) = figures(program / "figures")["cells"]
    assert all(line["rate"] > 0 for line in cell["lines"])


@pytest.mark.parametrize(
    ("name", "message"),
    [("number", "what can be measured is an aiohttp.web.Application"), ("no", "has no attribute")],
)
def test_app_that_is_none_fails(program: Path, name: str, message: str) -> None:
    done = compare(*OWN, "--loops", "mioloop", "--app", f"program:{name}", directory=program)

    assert done.returncode == 1, done.stdout
    assert message in figures(program / "figures")["cells"][0]["lines"][0]["failed"]


def test_command_is_measured_on_each_loop_by_its_environment(program: Path) -> None:
    done = compare(
        *OWN, "--path", "/hello", "--", sys.executable, "program.py", "{port}", directory=program
    )

    assert done.returncode == 0, done.stdout
    (cell,) = figures(program / "figures")["cells"]
    assert all(line["rate"] > 0 for line in cell["lines"])


def failure_of(program: Path, *arguments: str) -> str:
    done = compare(*OWN, "--loops", "mioloop", *arguments, directory=program)
    assert done.returncode == 1, done.stdout
    failed: str = figures(program / "figures")["cells"][0]["lines"][0]["failed"]
    return failed


def test_wrong_answer_of_a_command_fails(program: Path) -> None:
    failed = failure_of(program, "--path", "/no", "--", sys.executable, "program.py", "{port}")

    assert "answered with status 404" in failed


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner came with 3.11")
def test_command_that_makes_its_own_loop_fails(program: Path) -> None:
    failed = failure_of(
        program, "--path", "/hello",
        *("--", sys.executable, "program.py", "{port}", "--own-loop"),
    )

    assert "it makes its loop by itself" in failed


def test_command_that_ends_fails_with_what_it_said(program: Path) -> None:
    failed = failure_of(program, "--", sys.executable, "-c", "raise SystemExit('{port}: no more')")

    assert failed.endswith(": no more")
