"""Write the components of an installation of mioloop, as CycloneDX: the wheel and its dependencies.

Usage: python tests/tools/sbom.py FILE
    installs a wheel of dist/ that fits this Python into a new environment
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "sbom"


def run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True)


def new_environment(name: str) -> Path:
    run(sys.executable, "-m", "venv", "--clear", WORK / name)
    python = WORK / name / "bin" / "python"
    run(python, "-m", "pip", "-qq", "install", "-U", "pip")
    return python


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    dist = ROOT / "dist"
    if not any(dist.glob("mioloop-*.whl")):
        print("dist/ has no wheel; run `make wheels` first", file=sys.stderr)
        return 1
    installed, tool = new_environment("installed"), new_environment("tool")
    run(installed, "-m", "pip", "-qq", "install", "--only-binary", "mioloop",
        "--find-links", dist, "mioloop")
    run(installed, "-m", "pip", "-qq", "uninstall", "--yes", "pip")
    run(tool, "-m", "pip", "-qq", "install", "--group", f"{ROOT}/pyproject.toml:sbom")
    run(tool, "-m", "cyclonedx_py", "environment", "--output-reproducible",
        "--pyproject", ROOT / "pyproject.toml", "--mc-type", "library",
        "--output-file", arguments[0], installed)
    print(arguments[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
