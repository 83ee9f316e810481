"""Puts mioloop in the place of every other loop: for `mioloop run` and for `mioloop.pytest`.

A program gets its loop in one of these ways, and `TakeOver` changes each of them:

- from the default policy, or on CPython 3.16 from `asyncio.new_event_loop`;
- by the class, `asyncio.SelectorEventLoop` or `asyncio.EventLoop`;
- by uvicorn's choice "auto" or "uvloop", also in the workers that gunicorn starts;
- from uvloop, if the user asked for it (`as_uvloop`).

`asyncio` and `uvicorn` may be imported later than this module, or never, so that they are changed
when they are imported. Processes that never import asyncio pay for one entry in `sys.meta_path`.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

# The stand-in for uvloop reports this version: the newest whose functions it has all of.
UVLOOP_VERSION = "0.22.1"


class _PatchingLoader:
    """Executes a module by its own loader, and then calls *patch* with it."""

    def __init__(self, loader: Any, patch: Callable[[ModuleType], None]) -> None:
        self._loader, self._patch = loader, patch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._patch(module)


class _UvloopLoader:
    """Makes the stand-in for uvloop."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        from mioloop import stand_in

        stand_in.fill(module, UVLOOP_VERSION)


def _new_event_loop() -> Any:
    from mioloop.factory import new_event_loop

    return new_event_loop()


class TakeOver:
    """The changes to asyncio, uvicorn and uvloop in this process. `undo` takes them back.

    Args:
        as_uvloop: ``import uvloop`` imports a stand-in, whether or not uvloop is installed.
        on_loop: called with each class of loop when a loop of it runs for the first time.
    """

    current: TakeOver | None = None

    def __init__(
        self, as_uvloop: bool = False, on_loop: Callable[[type], None] | None = None
    ) -> None:
        self.as_uvloop, self._on_loop = as_uvloop, on_loop
        self._patches: dict[str, Callable[[ModuleType], None]] = {
            "asyncio": self._patch_asyncio,
            "uvicorn.loops.auto": self._patch_uvicorn,
            "uvicorn.loops.uvloop": self._patch_uvicorn,
        }
        self._undo: list[Callable[[], None]] = []
        self._finding: set[str] = set()
        self._seen: set[type] = set()

    def begin(self) -> TakeOver:
        if TakeOver.current is not None:
            raise RuntimeError("mioloop has taken over in this process already")
        TakeOver.current = self
        sys.meta_path.insert(0, self)
        if self.as_uvloop:
            self._set_aside_uvloop()
        for name, patch in self._patches.items():
            if name in sys.modules:
                patch(sys.modules[name])
        return self

    def undo(self) -> None:
        """Take all changes back. Loops that were made stay as they are."""
        TakeOver.current = None
        sys.meta_path.remove(self)
        while self._undo:
            self._undo.pop()()

    # -- the finder: importlib calls these ------------------------------------------------------

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if self.as_uvloop and name == "uvloop":
            spec = importlib.machinery.ModuleSpec(name, _UvloopLoader(), is_package=True)  # type: ignore[arg-type]
            return spec
        patch = self._patches.get(name)
        if patch is None or name in self._finding:
            return None
        self._finding.add(name)
        try:
            for finder in sys.meta_path:
                if finder is not self and hasattr(finder, "find_spec"):
                    spec = finder.find_spec(name, path, target)  # type: ignore[assignment]
                    if spec is not None:
                        break
            else:
                return None
        finally:
            self._finding.remove(name)
        if spec.loader is not None:
            spec.loader = _PatchingLoader(spec.loader, patch)  # type: ignore[assignment]
        return spec

    def find_distributions(self, context: Any = None) -> Iterator[Any]:
        """Answers ``importlib.metadata.version("uvloop")``."""
        name = getattr(context, "name", None)
        if self.as_uvloop and name is not None and name.lower() == "uvloop":
            from mioloop import stand_in

            yield stand_in.Distribution(UVLOOP_VERSION)

    def invalidate_caches(self) -> None:
        pass

    # -- the changes ------------------------------------------------------------------------------

    def _change(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute. `undo` sets it back, or deletes it where the owner had none."""
        own = vars(owner)
        if name in own:
            before = own[name]
            self._undo.append(lambda: setattr(owner, name, before))
        else:
            self._undo.append(lambda: delattr(owner, name))
        setattr(owner, name, value)

    def _set_aside_uvloop(self) -> None:
        real = {
            name: module for name, module in sys.modules.items()
            if name.partition(".")[0] == "uvloop"
        }
        for name in real:
            del sys.modules[name]

        def restore() -> None:
            for name in [name for name in sys.modules if name.partition(".")[0] == "uvloop"]:
                del sys.modules[name]
            sys.modules.update(real)

        self._undo.append(restore)

    def _patch_asyncio(self, asyncio: Any) -> None:
        unix_events = asyncio.unix_events
        policy = getattr(unix_events, "_UnixDefaultEventLoopPolicy", None)
        if policy is not None:
            self._change(policy, "_loop_factory", staticmethod(_new_event_loop))
        else:                           # 3.16
            self._change(asyncio, "new_event_loop", _new_event_loop)
            self._change(asyncio.events, "new_event_loop", _new_event_loop)
        if (os.environ.get("MIOLOOP_BACKEND") or "mio") == "mio":
            self._replace_classes(asyncio)
            self._replace_classes(unix_events)
        if self._on_loop is not None:
            self._watch_running_loops(asyncio)

    def _replace_classes(self, module: Any) -> None:
        """Let *module* find SelectorEventLoop and EventLoop by a ``__getattr__`` (PEP 562).

        The import of mioloop's loop waits until a program asks for one of them, because it may be
        this import that has imported asyncio.
        """
        names = [name for name in ("SelectorEventLoop", "EventLoop") if name in vars(module)]
        own_getattr = vars(module).get("__getattr__")

        def find(name: str) -> Any:
            if name in names:
                from mioloop.stand_in import SelectorEventLoop

                return SelectorEventLoop
            if own_getattr is not None:
                return own_getattr(name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        self._change(module, "__getattr__", find)
        for name in names:
            before = vars(module)[name]
            delattr(module, name)
            self._undo.append(lambda name=name, before=before: setattr(module, name, before))  # type: ignore[misc]

    def _watch_running_loops(self, asyncio: Any) -> None:
        """Tell `on_loop` of each class of loop, by the function that every loop calls to run."""
        set_running_loop = asyncio._set_running_loop
        on_loop = self._on_loop
        assert on_loop is not None

        def note(loop: Any) -> None:
            if loop is not None and type(loop) not in self._seen:
                self._seen.add(type(loop))
                on_loop(type(loop))
            set_running_loop(loop)

        self._change(asyncio, "_set_running_loop", note)
        self._change(asyncio.events, "_set_running_loop", note)

    def _patch_uvicorn(self, module: Any) -> None:
        """uvicorn.loops.auto and .uvloop: `..._loop_factory`, before 0.36 `..._loop_setup`."""
        for name in list(vars(module)):
            if name.endswith("_loop_factory"):
                self._change(module, name, lambda use_subprocess=False: _new_event_loop)
            elif name.endswith("_loop_setup"):
                self._change(module, name, lambda use_subprocess=False: None)


def import_real_uvloop() -> ModuleType:
    """The uvloop that is installed, also while the stand-in takes its place.

    Raises ImportError if there is none.
    """
    over = TakeOver.current
    if over is None or not over.as_uvloop:
        return importlib.import_module("uvloop")

    def all_of_uvloop() -> Iterable[str]:
        return [name for name in sys.modules if name.partition(".")[0] == "uvloop"]

    stand_in = {name: sys.modules.pop(name) for name in all_of_uvloop()}
    over.as_uvloop = False
    try:
        return importlib.import_module("uvloop")
    finally:
        over.as_uvloop = True
        for name in all_of_uvloop():
            del sys.modules[name]
        sys.modules.update(stand_in)


# -- a process under `mioloop run` ----------------------------------------------------------------


def begin_from_environment() -> None:
    """Called at the start of a process by hook/sitecustomize.py, if `mioloop run` has set it up.

    MIOLOOP_RUN_SEEN is a file for the classes of other loops that run, in the program or in its
    children. The first loop of mioloop that runs removes it.
    """
    seen = os.environ.get("MIOLOOP_RUN_SEEN")
    if seen is None:                    # the user has asked for another backend
        TakeOver(_is_on("MIOLOOP_AS_UVLOOP")).begin()
        return

    def on_loop(kind: type) -> None:
        try:
            if any(base.__module__ == "mioloop.loop.event_loop" for base in kind.__mro__):
                os.unlink(seen)
            else:
                file = os.open(seen, os.O_WRONLY | os.O_APPEND)
                with open(file, "w") as lines:
                    print(f"{kind.__module__}.{kind.__qualname__}", file=lines)
        except FileNotFoundError:
            pass

    TakeOver(_is_on("MIOLOOP_AS_UVLOOP"), on_loop).begin()
    if os.environ.get("MIOLOOP_RUN_PID") == str(os.getpid()):
        import atexit

        atexit.register(_say_which_loops_ran, seen, os.getpid())


def _is_on(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")


def _say_which_loops_ran(seen: str, pid: int) -> None:
    """At the end of the program: say so if no loop of mioloop ran."""
    if os.getpid() != pid:              # a forked child that runs the handlers of its parent
        return
    try:
        with open(seen) as file:
            kinds = list(dict.fromkeys(file.read().split()))
        os.unlink(seen)
    except FileNotFoundError:           # a loop of mioloop ran
        return
    if not kinds:
        what = "no event loop ran"
    elif "uvloop.Loop" in kinds:
        what = "the program ran on uvloop.Loop, not on mioloop; --as-uvloop takes its place"
    else:
        what = f"the program ran on {', '.join(kinds)}, not on mioloop"
    print(f"mioloop run: {what}", file=sys.stderr)
    if _is_on("MIOLOOP_STRICT"):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)                     # the exit status cannot be changed here in another way
