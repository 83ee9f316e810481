"""Complete runs of ``python -m mioloop compare``, in very small rounds."""

from __future__ import annotations

import re
import sys
import xml.dom.minidom
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.compare.conftest import Compare

pytest.importorskip("matplotlib")
pytest.importorskip("rich")

ONE_CASE = ("echo-protocol", "--sizes", "1k", "--connections", "2")


GOALS = """\
[goals]
loop = mioloop
base = uvloop
[`call_soon` chain]
workload = call-soon-chain
ratio = 4.5
[Protocol echo 100 KiB]
workload = echo-protocol
size = 102400
connections = 64
ratio = 1.9
"""


# -- all workloads ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full_run(compare_once: Compare) -> tuple[str, Compare]:
    """One run of every workload, with all output files.

    It runs on two loops. Other tests run asyncio, which every workload suits by definition.
    """
    for name in ("uvloop", "aiohttp", "uvicorn"):
        pytest.importorskip(name)
    (compare_once.directory / "goals.md").write_text(
        "Before.\n<!-- goals: goals.ini, filled in by a test -->\nold\n"
        "<!-- end of goals -->\nAfter.\n"
    )
    (compare_once.directory / "goals.ini").write_text(GOALS)
    done = compare_once(
        "--loops", "uvloop,mioloop", "--rounds", "1", "--seconds", "0.01", "--sizes", "1k",
        "--connections", "2", "--timers", "1,10", "--scaling", "*",
        "--json", "figures", "--report", "report", "--goals", "goals.md",
    )
    assert done.returncode == 0, done.stdout
    return done.stdout, compare_once


def test_every_workload_runs(full_run: tuple[str, Compare]) -> None:
    from mioloop.compare.measure.workloads import BY_NAME

    lines = full_run[1].lines
    assert {workload for workload, _ in lines} == set(BY_NAME)
    for (workload, _), line in lines.items():
        assert not line["failed"]
        assert line["samples"], workload
        figure = {"idle": "bytes", "idle-tls": "bytes", "quiet": "cpu_s"}.get(workload, "rate")
        assert line[figure] is not None


def test_baseline_stands_beside_servers_and_clients(full_run: tuple[str, Compare]) -> None:
    with_baseline = {workload for workload, loop in full_run[1].lines if loop == "C baseline"}

    assert {"echo-protocol", "unix", "udp", "tls", "http", "aiohttp-client"} <= with_baseline
    assert {"idle", "quiet", "trickle", "scale-connections"} <= with_baseline
    assert not {"call-soon-chain", "import", "scale-timers"} & with_baseline


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processor time is Linux only")
def test_requests_have_latencies_and_processor_time(full_run: tuple[str, Compare]) -> None:
    for loop in ("uvloop", "mioloop"):
        line = full_run[1].lines["echo-protocol", loop]
        assert line["cpu_s"] > 0
        assert line["over_baseline"]["median"] > 0
        assert set(line["latencies_s"]) == {"p50_s", "p99_s", "p999_s", "max_s"}
        assert {"requests", "elapsed_s", "rate", "client_busy", "waited", "client_waited"} <= set(
            line["samples"][0]
        )


def test_environment_and_command_are_in_the_files(full_run: tuple[str, Compare]) -> None:
    found, report = full_run[1].figures, full_run[1].directory / "report"
    assert found["environment"]["command"][:4] == ["python", "-m", "mioloop", "compare"]
    for name in ("index.html", "README.md"):
        page = (report / name).read_text()
        for text in (found["environment"]["python"], "--sizes 1k", "uvloop", "echo-protocol 1 KiB"):
            assert text in page
    assert (report / "figures.json").read_text() == (report.parent / "figures").read_text()


def test_page_needs_nothing_from_outside(full_run: tuple[str, Compare]) -> None:
    page = (full_run[1].directory / "report" / "index.html").read_text()
    outside: list[str] = []
    opened: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            opened.append(tag)
            outside.extend(str(value) for name, value in attrs if name in ("src", "href"))

    Reader().feed(page)
    assert outside == []
    assert {"svg", "table", "dl"} <= set(opened)
    assert page.count("<svg viewBox=") == 3     # connections, timers, pending
    for part in page.split("<svg")[1:]:
        xml.dom.minidom.parseString("<svg" + part[: part.index("</svg>") + len("</svg>")])


def test_report_shows_its_charts(full_run: tuple[str, Compare]) -> None:
    report = full_run[1].directory / "report"
    text = (report / "README.md").read_text()

    for name in ("chart.svg", "chart-scaling.svg"):
        assert f"]({name})" in text
        xml.dom.minidom.parse(str(report / name))
    assert "scale-timers" in (report / "chart-scaling.svg").read_text()
    assert "scale-timers" not in (report / "chart.svg").read_text()


def test_goals_are_filled_in_with_the_results(full_run: tuple[str, Compare]) -> None:
    text = (full_run[1].directory / "goals.md").read_text()

    assert text.startswith("Before.\n<!-- goals")
    assert text.endswith("<!-- end of goals -->\nAfter.\n")
    assert "old" not in text
    (row,) = (line for line in text.splitlines() if line.startswith("| `call_soon` chain |"))
    assert "| 4.50x |" in row and " by CPU |" in row
    (row,) = (line for line in text.splitlines() if line.startswith("| Protocol echo 100 KiB |"))
    assert "| not measured |" in row


def test_table_names_every_cell_and_the_base(full_run: tuple[str, Compare]) -> None:
    output, run = full_run
    for case in run.figures["cases"]:
        assert case["name"] in output
    assert "against uvloop" in output
    assert "fewer than 6 rounds decide nothing" in output


# -- loops ------------------------------------------------------------------------------------


def test_every_trigger_and_selector_can_be_compared(compare: Compare) -> None:
    names = ["mioloop", "mioloop:edge:poll", "mioloop:edge", "mioloop:level", "mioloop:oneshot"]
    done = compare.small(*ONE_CASE, "--triggers", "--loops", "mioloop,mioloop:edge:poll")

    assert done.returncode == 0, done.stdout
    assert [loop for _, loop in compare.lines] == [*names, "C baseline"]


def test_loop_of_any_module_can_be_compared(compare: Compare) -> None:
    program = "import asyncio\nmake = asyncio.SelectorEventLoop\n"
    (compare.directory / "other.py").write_text(program)
    done = compare.small("sleep-0", "import", "--loops", "other:make,mioloop")

    assert done.returncode == 0, done.stdout
    assert [loop for _, loop in compare.lines] == ["other:make", "mioloop"] * 2


def test_options_of_the_environment_do_not_reach_the_measured_loops(compare: Compare) -> None:
    """With MIOLOOP_IO_URING=0 in the shell, plain mioloop was measured without io_uring."""
    (compare.directory / "other.py").write_text(
        "import asyncio, os\n"
        "def make():\n"
        "    found = [name for name in os.environ if name.startswith('MIOLOOP_')]\n"
        "    with open('seen', 'a') as file:\n"
        "        print(*found or ['none'], file=file)\n"
        "    return asyncio.SelectorEventLoop()\n"
    )
    done = compare.small(
        "sleep-0", "--loops", "other:make,mioloop", MIOLOOP_IO_URING="0", MIOLOOP_TRIGGER="egde"
    )

    assert done.returncode == 0, done.stdout
    assert set((compare.directory / "seen").read_text().split()) == {"none"}
    warnings = compare.figures["warnings"]
    assert any(text.startswith("MIOLOOP_IO_URING=0 is ignored") for text in warnings)
    assert "MIOLOOP_TRIGGER=egde is ignored" in done.stdout


def test_both_shows_mioloop_without_io_uring_as_a_column(compare: Compare) -> None:
    done = compare(
        "sleep-0", "import", "--loops", "asyncio,mioloop", "--io-uring", "both",
        "--rounds", "6", "--seconds", "0.02", "--json", "figures", "--html", "page.html",
    )

    assert done.returncode == 0, done.stdout
    assert [loop for _, loop in compare.lines] == [
        "asyncio", "mioloop", "mioloop:io_uring=off", "asyncio", "mioloop",
    ]
    assert [each["loop"] for each in compare.figures["standings"]] == ["mioloop"]
    assert "without io_uring" in done.stdout
    page = (compare.directory / "page.html").read_text()
    shown = page[: page.index("<script")]
    assert "<th>without io_uring</th>" in shown
    assert "<td>mioloop</td>" in shown and "<td>mioloop:io_uring=off</td>" not in shown
    (heading,) = re.findall("<h1>(.*)</h1>", shown)
    assert heading.endswith(".") and "mioloop" in heading and "io_uring" not in heading
    assert " ".join(heading.split()) in " ".join(done.stdout.split())


def test_failed_request_fails_the_cell_and_the_run(compare: Compare) -> None:
    """A loop is not fast if its transports change a byte."""
    (compare.directory / "lossy.py").write_text(
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
    done = compare.small(*ONE_CASE, "--loops", "asyncio,lossy:Loop")

    assert done.returncode == 1, done.stdout
    lines = compare.lines
    assert "wrong bytes in the answer" in lines["echo-protocol", "lossy:Loop"]["failed"]
    assert not lines["echo-protocol", "asyncio"]["failed"]
    assert "FAILED echo-protocol 1 KiB x 2, lossy:Loop" in done.stdout


def test_system_calls_are_counted_or_a_note_gives_the_reason(compare: Compare) -> None:
    done = compare.small(*ONE_CASE, "sleep-0", "--loops", "mioloop", "--syscalls")

    assert done.returncode == 0, done.stdout
    lines = compare.lines
    for loop in ("mioloop", "C baseline"):
        line = lines["echo-protocol", loop]
        if line["syscalls"] is None:
            assert "system calls are not counted" in done.stdout
        else:
            # One recv, one send and a share of a poll. Opening the connections is not counted.
            assert 2 <= line["syscalls"] < 3.5
            assert line["syscall_counts"]["sendto"] == pytest.approx(1, abs=0.1)


def test_plot_writes_a_vector_and_a_bitmap(compare: Compare) -> None:
    done = compare.small("sleep-0", "queue", "--loops", "asyncio,mioloop", "--plot", "chart")

    assert done.returncode == 0, done.stdout
    assert (compare.directory / "chart.png").read_bytes().startswith(b"\x89PNG")
    xml.dom.minidom.parse(str(compare.directory / "chart.svg"))
    assert "sleep-0" in (compare.directory / "chart.svg").read_text()
    assert not list(compare.directory.glob("chart-scaling*"))


# -- other machines ----------------------------------------------------------------------------


def test_without_linux_the_processor_time_is_left_out_with_a_note(compare: Compare) -> None:
    """No /proc, no clock of another process, and no way to pin a process, as on macOS."""
    (compare.directory / "sitecustomize.py").write_text(
        "import os\n"
        "del os.sched_getaffinity, os.sched_setaffinity\n"
        "from mioloop.compare.measure import cpu\n"
        "cpu.LINUX = False\n"
    )
    done = compare.small(
        *ONE_CASE, "sleep-0", "idle", "quiet", "--loops", "asyncio,mioloop",
        PYTHONPATH=str(compare.directory),
    )

    assert done.returncode == 0, done.stdout
    assert {workload for workload, _ in compare.lines} == {"echo-protocol", "sleep-0"}
    line = compare.lines["echo-protocol", "mioloop"]
    assert line["rate"] > 0 and line["cpu_s"] is None and line["cpu_ratio"] is None
    assert "idle is left out: it can be measured on Linux only" in done.stdout
    assert "not kept on separate processors: this system cannot pin" in done.stdout


def test_without_rich_the_table_is_plain(compare: Compare) -> None:
    (compare.directory / "sitecustomize.py").write_text("import sys\nsys.modules['rich'] = None\n")
    done = compare.small(
        "sleep-0", "--loops", "asyncio,mioloop", PYTHONPATH=str(compare.directory)
    )

    assert done.returncode == 0, done.stdout
    assert "\nsleep-0: await asyncio.sleep(0)\nasyncio " in done.stdout
