"""The tools of a release: contents of wheels and sdists, pins of actions, the version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import mioloop
from tests.tools import actions, version, wheels

ROOT = Path(__file__).parents[2]


def tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    return wheels.tracked_files()


def sound_wheel() -> list[str]:
    package = [
        name
        for name in tracked()
        if name.startswith("mioloop/")
        and name.endswith((".py", ".pyi", "py.typed"))
        and name != "mioloop/core/gen_ffi.py"
    ]
    compiled = [f"mioloop/{name}.cpython-313-x.so" for name in wheels.compiled_modules()]
    about = ["METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"]
    return [*package, *compiled, *(f"mioloop-1.dist-info/{name}" for name in about)]


def test_a_sound_wheel_has_no_problem() -> None:
    assert wheels.problems_of_wheel(sound_wheel(), tracked()) == []


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("mioloop/py.typed", "mioloop/py.typed is missing"),
        ("mioloop/mio/_core.pyi", "mioloop/mio/_core.pyi is missing"),
        ("mioloop/hook/sitecustomize.py", "mioloop/hook/sitecustomize.py is missing"),
        ("mioloop/reactor/reactor.cpython-313-x.so", "mioloop/reactor/reactor is not compiled"),
        ("mioloop/mio/_core.cpython-313-x.so", "mioloop/mio/_core is not compiled"),
        ("mioloop-1.dist-info/licenses/LICENSE", "the wheel has no licenses/LICENSE"),
        ("mioloop-1.dist-info/entry_points.txt", "the wheel has no entry_points.txt"),
    ],
)
def test_a_file_that_a_wheel_lacks_is_found(name: str, problem: str) -> None:
    names = sound_wheel()
    names.remove(name)
    assert wheels.problems_of_wheel(names, tracked()) == [problem]


@pytest.mark.parametrize(
    "name",
    ["mioloop/loop/sock.pyx", "mioloop/loop/sock.pxd", "mioloop/core/poll.c", "tests/conftest.py"],
)
def test_a_file_that_a_wheel_must_not_have_is_found(name: str) -> None:
    assert len(wheels.problems_of_wheel([*sound_wheel(), name], tracked())) == 1


def test_the_sdist_has_all_sources_and_nothing_that_was_built(tmp_path: Path) -> None:
    tracked()
    pytest.importorskip("scikit_build_core")
    code = f"from scikit_build_core.build import build_sdist; print(build_sdist({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    (sdist,) = tmp_path.glob("mioloop-*.tar.gz")
    assert sdist.name == f"mioloop-{mioloop.__version__}.tar.gz"
    wheels.check(sdist)


def test_strays_and_gaps_of_an_sdist_are_found() -> None:
    names = [f"mioloop-1/{name}" for name in tracked() if not name.startswith(".ci/")]
    assert wheels.problems_of_sdist(names, tracked()) == []
    assert wheels.problems_of_sdist(names[1:], tracked()) != []
    for stray in ("mioloop-1/build/x.c", "mioloop-1/mioloop/mio/_core.so"):
        assert len(wheels.problems_of_sdist([*names, stray], tracked())) == 1


def test_an_unpacked_sdist_names_its_own_files_as_a_clone_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pyproject.toml", "mioloop/loop/sock.pyx", "build/x.c", ".hypothesis/x",
                 "tests/__pycache__/x.pyc", "mioloop/mio/_core.so"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(wheels, "ROOT", tmp_path)
    assert wheels.tracked_files() == ["mioloop/loop/sock.pyx", "pyproject.toml"]


def test_a_compiler_for_an_older_glibc_sees_only_the_headers_of_python(tmp_path: Path) -> None:
    include = tmp_path / "include" / "python3.14"
    apart = tmp_path / "include" / "x86_64-linux-gnu" / "python3.14" / "pyconfig.h"
    for directory in (include, apart.parent):
        directory.mkdir(parents=True)
    apart.touch()
    (apart.parents[1] / "features.h").touch()
    here, there = "x86_64-linux-gnu", "aarch64-linux-gnu"
    place = wheels.link_python_headers(tmp_path / "headers", include, here, there)
    for name in (here, there):
        assert [path.name for path in (place / name).iterdir()] == ["python3.14"]
        assert (place / name / "python3.14" / "pyconfig.h").exists()
    own = tmp_path / "own" / "python3.14"
    place = wheels.link_python_headers(tmp_path / "headers", own, "", here)
    assert [path for path in place.rglob("*") if not path.is_dir()] == []


@pytest.mark.parametrize(
    ("name", "triple", "machine", "multiarch", "suffixes"),
    [
        ("2.17", "x86_64-linux-gnu.2.17", "x86_64", "x86_64-linux-gnu",
         (".cpython-310-x86_64-linux-gnu.so", ".cpython-313-x86_64-linux-gnu.so")),
        ("aarch64-linux-gnu.2.28", "aarch64-linux-gnu.2.28", "aarch64", "aarch64-linux-gnu",
         (".cpython-310-aarch64-linux-gnu.so", ".cpython-313-aarch64-linux-gnu.so")),
        ("x86_64-linux-musl", "x86_64-linux-musl", "x86_64", "x86_64-linux-musl",
         (".cpython-310-x86_64-linux-gnu.so", ".cpython-313-x86_64-linux-musl.so")),
    ],
)
def test_a_target_has_the_names_that_its_python_looks_for(
    name: str, triple: str, machine: str, multiarch: str, suffixes: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uname = os.uname_result(("Linux", "here", "6", "1", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: uname)
    target = wheels.Target.named(name)
    assert (target.triple, target.machine, target.multiarch) == (triple, machine, multiarch)
    assert (target.suffix(10), target.suffix(13)) == suffixes
    assert target.runs_here() == (name == "2.17")


@pytest.mark.parametrize("name", ["2", "musl", "aarch64", "riscv64-linux-musl", "x86_64-linux-gnu"])
def test_a_target_that_cannot_be_compiled_for_is_refused(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        wheels.main(["--zig", name])
    assert "CPU-linux-musl" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_headers_of_a_python_with_other_sizes_are_refused(tmp_path: Path) -> None:
    include = sysconfig.get_path("include")
    if not os.path.exists(f"{include}/Python.h"):
        pytest.skip("no headers of this Python")
    source = tmp_path / "sizes.c"
    command = ["cc", f"-I{include}", "-c", str(source), "-o", str(tmp_path / "sizes.o")]
    source.write_text(wheels.SAME_SIZES)
    subprocess.run(command, check=True)
    source.write_text(wheels.SAME_SIZES.replace("SIZEOF_LONG,", "2 * SIZEOF_LONG,"))
    assert subprocess.run(command, capture_output=True).returncode != 0


def test_the_version_is_in_one_place() -> None:
    assert version.version() == mioloop.__version__
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert version.main([f"v{mioloop.__version__}"]) == 0
    assert version.main(["v99.0"]) == 1


def test_the_next_section_of_the_changelog_is_made_from_fragments(tmp_path: Path) -> None:
    pytest.importorskip("towncrier")
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / ".github" / "changelog.d", tmp_path / ".github" / "changelog.d")
    before = (tmp_path / "CHANGELOG.md").read_text(encoding="utf-8")
    fragments = tmp_path / ".github" / "changelog.d"
    (fragments / "123.fixed.md").write_text("Fixed a fault.\n", encoding="utf-8")
    (fragments / "+a-name.added.md").write_text("Added a\nname.\n", encoding="utf-8")

    def build(*arguments: str) -> str:
        command = [sys.executable, "-m", "towncrier", "build", "--version", "99.0"]
        command += ["--date", "2099-01-01", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    draft = build("--draft")
    assert "## 99.0 (2099-01-01)" in draft
    assert "- Fixed a fault. (#123)" in draft
    assert "- Added a\n  name.\n" in draft
    assert (tmp_path / "CHANGELOG.md").read_text(encoding="utf-8") == before

    build("--keep")
    start, _, released = before.partition("\n## ")
    after = (tmp_path / "CHANGELOG.md").read_text(encoding="utf-8")
    assert after.startswith(f"{start}\n## 99.0 (2099-01-01)\n")
    assert after.endswith(f"\n\n## {released}")


HASH = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("use", "kind"),
    [
        (f"a/b@{HASH} # v1.2.3", "hash"), (f"a/b/c@{HASH} # v1.2.3", "hash"),
        (f"a/b@{HASH}", "no version"), (f"a/b@{HASH} # v1", "no version"),
        (f"a/b@{HASH}  # v1.2.3 or so", "no version"), (f"a/b@{HASH[:-1]} # v1.2.3", "no hash"),
        ("a/b@v1.2.3", "no hash"), ("a/b@main # v1.2.3", "no hash"), ("a/b", "no hash"),
        ("./x.yml    # a comment", "local"),
    ],
)
def test_pins_of_actions_are_told_apart(use: str, kind: str) -> None:
    assert actions.kind_of(use) == kind


def test_an_action_with_two_pins_is_found() -> None:
    uses = {f"a/b@{HASH} # v1.2.3": ["x.yml"], f"a/b@{HASH[::-1]} # v1.2.4": ["y.yml"]}
    assert actions.problems(uses) == ["2 pins: a/b"]


def test_every_action_is_pinned_by_a_hash_and_names_its_version() -> None:
    assert actions.used()
    assert actions.problems(actions.used()) == []


def test_workflows_give_no_permission_that_they_do_not_name() -> None:
    for path in sorted(actions.WORKFLOWS.glob("*.yml")):
        text = path.read_text(encoding="utf-8")
        assert re.search(r"^permissions: \{\}$", text, re.MULTILINE), path.name
        jobs = text.split("\njobs:\n")[1]
        for job in re.findall(r"^  \w[\w-]*:\n((?:    [^\n]*\n)+)", jobs, re.MULTILINE):
            assert "permissions:" in job, path.name


def test_workflows_run_targets_that_the_makefile_has() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in sorted(actions.WORKFLOWS.glob("*.yml")):
        run = set(re.findall(r"run: make ([\w-]+)", path.read_text(encoding="utf-8")))
        assert run <= targets, path.name
