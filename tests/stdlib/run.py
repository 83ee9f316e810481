"""Run CPython's own ``test.test_asyncio`` with another event loop in asyncio's place.

    python tests/stdlib/run.py [--loop mioloop] [--trigger edge] [--selector epoll] [-k PATTERN]

The tests make their loops through ``asyncio.SelectorEventLoop``, ``asyncio.new_event_loop`` and
``asyncio.DefaultEventLoopPolicy``; these three names, and nothing else, are replaced before a test
module is imported. Tests of the stdlib's internals are left out one by one, each with a reason, by
``exclusions.py``; an exclusion that matches no test is an error.

Every test module runs in a process of its own. A test that crashes or hangs that process counts as
failed, and the rest of the module runs in a new one.

The exit status is 0 if every test that was run passed. The last line is
``N passed, N failed, N skipped``.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import json
import os
import pathlib
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from exclusions import EXCLUSIONS, Exclusion

PACKAGE = "test.test_asyncio"
LOOPS = ("mioloop", "uvloop", "asyncio")

# A module that has nothing to do here: it tests the proactor and other systems.
OTHER_SYSTEMS = ("test_proactor_events", "test_windows_events", "test_windows_utils")


# -- in the process of one test module ----------------------------------------------------------


class Reporter(unittest.TestResult):
    """Writes one JSON object a line: the tests that start, how they end, and why."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._report = stream
        self._failed: list[str] = []
        self._skipped: str | None = None
        self._loops_before = 0

    def send(self, **event: Any) -> None:
        self._report.write(json.dumps(event) + "\n")
        self._report.flush()

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._failed, self._skipped = [], None
        self._loops_before = loops_made
        self.send(start=short_id(test))

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        outcome = "failed" if self._failed else "passed" if self._skipped is None else "skipped"
        self.send(
            end=short_id(test),
            outcome=outcome,
            detail="\n".join(self._failed) or self._skipped or "",
            on_loop=loops_made > self._loops_before,
        )

    def _add_failure(self, test: Any, err: Any) -> None:
        text = self._exc_info_to_string(err, test)
        if isinstance(test, unittest.TestCase):
            self._failed.append(text)
        else:  # setUpModule, setUpClass and their twins have no test of their own
            self.send(fixture=str(test), detail=text)

    def addError(self, test: Any, err: Any) -> None:
        self._add_failure(test, err)

    def addFailure(self, test: Any, err: Any) -> None:
        self._add_failure(test, err)

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            self._failed.append(f"{subtest}\n{self._exc_info_to_string(err, test)}")

    def addSkip(self, test: Any, reason: str) -> None:
        if isinstance(test, unittest.TestCase):
            self._skipped = reason
        else:  # a whole class or module
            self.send(fixture_skipped=str(test), detail=reason)

    def addUnexpectedSuccess(self, test: Any) -> None:
        self._failed.append("unexpected success")


loops_made = 0


def put_loop_in_place(loop_name: str, loop_options: dict[str, str]) -> None:
    """Replace the loop classes that the tests construct by the loop under test."""
    import asyncio

    if loop_name == "asyncio":
        return
    if loop_name == "uvloop":
        import uvloop

        loop_class: type = uvloop.Loop
        policy_class: type = uvloop.EventLoopPolicy
    else:
        import mioloop

        loop_class = mioloop.EventLoop
        policy_class = mioloop.EventLoopPolicy

    class SelectorEventLoop(loop_class):  # type: ignore[misc,valid-type]
        """The loop under test, constructed the way the stdlib's is."""

        def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
            global loops_made
            loops_made += 1
            if selector is not None:
                selector.close()
            super().__init__(**loop_options | nearest_selector(selector, loop_name))

    class DefaultEventLoopPolicy(policy_class):  # type: ignore[misc,valid-type]
        _loop_factory = SelectorEventLoop

    asyncio.SelectorEventLoop = SelectorEventLoop  # type: ignore[misc]
    for name in ("EventLoop", "_UnixSelectorEventLoop"):
        if hasattr(asyncio, name):
            setattr(asyncio, name, SelectorEventLoop)
    if hasattr(asyncio.unix_events, "_DefaultEventLoopPolicy"):  # 3.14; the public name warns
        asyncio.unix_events._DefaultEventLoopPolicy = DefaultEventLoopPolicy
    else:
        asyncio.DefaultEventLoopPolicy = DefaultEventLoopPolicy  # type: ignore[misc]


def nearest_selector(selector: selectors.BaseSelector | None, loop_name: str) -> dict[str, str]:
    """The option for mioloop's nearest selector to the one that a test asks for."""
    if selector is None or loop_name != "mioloop":
        return {}
    is_epoll = isinstance(selector, getattr(selectors, "EpollSelector", ()))
    return {"selector": "epoll" if is_epoll else "poll"}


def short_id(test: unittest.TestCase) -> str:
    return test.id().removeprefix(PACKAGE + ".")


def flatten(suite: Iterable[Any]) -> Iterator[unittest.TestCase]:
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


def run_module(options: argparse.Namespace) -> None:
    """Load one test module; report its test ids, or run the wanted ones."""
    from test import support

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:   # run in the background, by a shell
        signal.signal(signal.SIGINT, signal.default_int_handler)
    put_loop_in_place(options.loop, options.loop_options)
    # Tests of a missing network are skipped by the tests' own rule.
    support.use_resources = ["cpu", "decimal", "largefile", "subprocess", "walltime"]

    suite = unittest.defaultTestLoader.loadTestsFromName(f"{PACKAGE}.{options.module}")
    with open(int(options.report_fd), "w", encoding="utf-8") as stream:
        reporter = Reporter(stream)
        tests = list(flatten(suite))
        if options.wanted is None:
            reporter.send(ids=[short_id(test) for test in tests])
            return
        wanted = set(pathlib.Path(options.wanted).read_text(encoding="utf-8").split("\n"))
        unittest.TestSuite(test for test in tests if short_id(test) in wanted).run(reporter)
        reporter.send(done=True)


# -- in the process that starts the others ------------------------------------------------------


class ModuleProcess:
    """One test module in a process of its own, and its reports."""

    def __init__(self, options: argparse.Namespace, module: str, wanted: list[str] | None) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="test_asyncio_")
        self.output = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        command = [sys.executable, "-X", "faulthandler", __file__]
        command += ["--loop", options.loop, "--module", module]
        for name, value in options.loop_options.items():
            command += [f"--{name}", value]
        if wanted is not None:
            wanted_file = os.path.join(self._directory.name, "wanted")
            pathlib.Path(wanted_file).write_text("\n".join(wanted), encoding="utf-8")
            command += ["--wanted", wanted_file]
        report, child_end = os.pipe()
        self._process = subprocess.Popen(
            [*command, "--report-fd", str(child_end)],
            cwd=self._directory.name,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            pass_fds=(child_end,),
            start_new_session=True,
        )
        os.close(child_end)
        os.set_blocking(report, False)
        self._report = report
        self._unread = b""

    def __enter__(self) -> ModuleProcess:
        return self

    def __exit__(self, *exc_info: object) -> None:
        # Its own process group: the children that a test left behind go with it.
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        os.close(self._report)
        self.output.close()
        self._directory.cleanup()

    def events(self, silence_s: float) -> Iterator[dict[str, Any]]:
        """Yield the reports until the process ends; TimeoutError after too long a silence."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._report, selectors.EVENT_READ)
            while True:
                if not selector.select(silence_s):
                    raise TimeoutError(f"nothing reported for {silence_s:.0f} s")
                data = os.read(self._report, 65536)
                if not data:
                    return
                *lines, self._unread = (self._unread + data).split(b"\n")
                for line in lines:
                    yield json.loads(line)

    def exit_status(self) -> str:
        code = self._process.wait(timeout=30)
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"

    def last_output(self, lines: int = 60) -> str:
        self.output.seek(0)
        return "".join(self.output.readlines()[-lines:])


class Run:
    """All results, and the lines that are printed about them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.outcomes: Counter[str] = Counter()
        self.on_loop = 0
        self.failed: list[str] = []

    def record(self, test_id: str, outcome: str, detail: str = "", on_loop: bool = False) -> None:
        self.outcomes[outcome] += 1
        self.on_loop += on_loop
        if outcome == "failed":
            self.failed.append(test_id)
            print(f"FAIL {test_id}\n{detail}\n", flush=True)
        elif self.options.verbose:
            print(f"{outcome} {test_id} {detail}".rstrip(), flush=True)

    def ids_of(self, module: str) -> list[str]:
        with ModuleProcess(self.options, module, None) as process:
            for event in process.events(self.options.timeout):
                if "ids" in event:
                    ids: list[str] = event["ids"]
                    return ids
            raise RuntimeError(f"{module} cannot be loaded:\n{process.last_output()}")

    def module(self, module: str, wanted: list[str]) -> None:
        """Run the wanted tests of a module, in as many processes as it takes."""
        waiting = dict.fromkeys(wanted)
        while waiting:
            waiting_before = len(waiting)
            self._one_process(module, waiting)
            if len(waiting) == waiting_before:
                for test_id in waiting:
                    self.record(test_id, "failed", "the process ended before it started a test")
                return

    def _one_process(self, module: str, waiting: dict[str, None]) -> None:
        current: str | None = None
        with ModuleProcess(self.options, module, list(waiting)) as process:
            try:
                for event in process.events(self.options.timeout):
                    if "start" in event:
                        current = event["start"]
                    elif "end" in event:
                        current = None
                        if event["end"] in waiting:
                            del waiting[event["end"]]
                            self.record(
                                event["end"], event["outcome"], event["detail"], event["on_loop"]
                            )
                    elif "fixture" in event:
                        self.record(f"{module}: {event['fixture']}", "failed", event["detail"])
                    elif "fixture_skipped" in event and self.options.verbose:
                        print(f"skipped {event['fixture_skipped']}: {event['detail']}", flush=True)
                    elif "done" in event:
                        # Tests of a class or module that was skipped, or could not be set up.
                        for test_id in waiting:
                            self.record(test_id, "skipped", "its class or module was not run")
                        waiting.clear()
                        return
                reason = f"the process ended with {process.exit_status()}"
            except TimeoutError as error:
                reason = str(error)
            if current in waiting:
                del waiting[current]
                self.record(current, "failed", f"{reason}\n{process.last_output()}")


def split_excluded(
    ids: Iterable[str], exclusions: Iterable[Exclusion]
) -> tuple[list[str], dict[str, Exclusion], list[Exclusion]]:
    """Test ids to run, those left out and why, and the exclusions that matched nothing."""
    excluded: dict[str, Exclusion] = {}
    idle: list[Exclusion] = []
    ids = list(ids)
    for exclusion in exclusions:
        matched = fnmatch.filter(ids, exclusion.pattern)
        excluded.update(dict.fromkeys(matched, exclusion))
        if not matched and exclusion.in_all:
            idle.append(exclusion)
    return [test_id for test_id in ids if test_id not in excluded], excluded, idle


def test_modules() -> list[str]:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"this Python ({sys.executable}) was installed without {PACKAGE}")
    directory = pathlib.Path(spec.submodule_search_locations[0])
    names = sorted(path.stem for path in directory.glob("test_*.py"))
    return [name for name in names if name not in OTHER_SYSTEMS]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", help="test modules, such as test_events; default all")
    parser.add_argument("--loop", choices=LOOPS, default="mioloop")
    parser.add_argument("--trigger", help="mioloop's trigger; default: its own")
    parser.add_argument("--selector", help="mioloop's selector; default: its own")
    parser.add_argument("-k", metavar="PATTERN", help="only tests whose id contains PATTERN")
    parser.add_argument("-v", "--verbose", action="store_true", help="a line for every test")
    parser.add_argument("--timeout", type=float, default=150.0, help="seconds a test may take")
    parser.add_argument("--list-excluded", action="store_true", help="what is left out, and why")
    parser.add_argument(
        "--only-excluded", action="store_true", help="run what is left out, and nothing else"
    )
    for internal in ("--module", "--wanted", "--report-fd"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    options = parser.parse_args()
    chosen = {"trigger": options.trigger, "selector": options.selector}
    options.loop_options = {name: value for name, value in chosen.items() if value is not None}
    if options.loop_options and options.loop != "mioloop":
        parser.error("--trigger and --selector are options of --loop mioloop")
    unknown = set(options.modules) - set(test_modules())
    if unknown:
        parser.error(f"no test module {', '.join(sorted(unknown))} in {', '.join(test_modules())}")
    return options


def main() -> int:
    options = arguments()
    if options.module is not None:
        run_module(options)
        return 0

    started = time.monotonic()
    run = Run(options)
    modules = options.modules or test_modules()
    exclusions = [x for x in EXCLUSIONS if x.applies(options.loop, modules)]
    ids = {module: run.ids_of(module) for module in modules}
    to_run, excluded, idle = split_excluded((i for m in modules for i in ids[m]), exclusions)

    if options.list_excluded:
        for test_id, exclusion in excluded.items():
            print(f"{test_id}: {exclusion.reason}")
    else:
        chosen = set(excluded if options.only_excluded else to_run)
        for module in modules:
            run.module(module, [i for i in ids[module] if i in chosen and (options.k or "") in i])
        print(
            f"{options.loop} on Python {sys.version.split()[0]}: {time.monotonic() - started:.0f} s"
        )
        print(
            f"{run.on_loop} of the tests made a {options.loop} loop" * (options.loop != "asyncio")
        )
    for exclusion in idle:
        print(f"FAIL the exclusion {exclusion.pattern!r} matches no test")
    for test_id in run.failed:
        print(f"FAIL {test_id}")
    print(f"{len(excluded)} tests are excluded by exclusions.py")
    if not options.list_excluded:
        passed, skipped = run.outcomes["passed"], run.outcomes["skipped"]
        print(f"{passed} passed, {len(run.failed) + len(idle)} failed, {skipped} skipped")
    return 1 if run.failed or idle else 0


if __name__ == "__main__":
    sys.exit(main())
