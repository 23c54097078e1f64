"""The image without Docker: its scripts are run, its Dockerfile is read.

Building the wheel compiles every native module: 20 seconds of two cores, the dearest test of the suite. It is left out where
there is no C compiler (which the scripts refuse, and the package itself does not need).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from fnmatch import fnmatch
from pathlib import Path

import pytest

from vivace import __version__

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "deploy" / "image"

needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


def run(script: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """One of the scripts, with this interpreter; packages come from its environment, none from the network."""
    variables = {**os.environ, "PYTHON": sys.executable, **environment}
    return subprocess.run([IMAGE / script, *arguments], env=variables, capture_output=True, text=True, timeout=300)


def without_optimising(directory: Path) -> str:
    """A compiler for the tests: the scripts are under test here, not the code's speed. A third of the time."""
    compiler = directory / "cc"
    compiler.write_text('#!/bin/sh\nexec gcc "$@" -O0\n')
    compiler.chmod(0o755)
    return str(compiler)


@needs_compiler
def test_the_scripts_build_and_install(tmp_path: Path) -> None:
    wheels, prefix = tmp_path / "wheels", tmp_path / "prefix"
    built = run("build.sh", wheels, "--no-build-isolation", CC=without_optimising(tmp_path))
    assert built.returncode == 0, built.stderr
    (wheel,) = wheels.iterdir()
    assert wheel.name.startswith(f"vivace-{__version__}-cp")

    # what the wheel requires is here already; PYTHONPATH lends it, PIP_NO_DEPS says so to pip
    lent = {"PYTHONPATH": sysconfig.get_path("platlib"), "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1"}
    installed = run("install.sh", wheels, prefix, **lent)
    assert installed.returncode == 0, installed.stderr
    assert installed.stdout.startswith(f"vivace, version {__version__} ")

    where = "import vivace.ingest._decode as m; print(m.__file__)"
    command = [prefix / "bin" / "python", "-c", where]
    found = subprocess.run(command, env={**os.environ, **lent}, capture_output=True, text=True, check=True).stdout
    assert Path(found).is_relative_to(prefix)
    assert not list(prefix.rglob("*.pyx"))


def test_no_image_without_native_modules(tmp_path: Path) -> None:
    """What pip does without a compiler, in no time: a wheel of Python files."""
    python = tmp_path / "python"
    wheel = tmp_path / "wheels" / "vivace-1-py3-none-any.whl"
    made = f"mkdir -p {wheel.parent} && exec {sys.executable} -m zipfile -c {wheel} {IMAGE / 'build.sh'}"
    python.write_text(f'#!/bin/sh\n[ "$2" = pip ] || exec {sys.executable} "$@"\n{made}\n')
    python.chmod(0o755)
    built = run("build.sh", wheel.parent, PYTHON=str(python))
    assert built.returncode == 1
    assert "the wheel lacks the native module vivace/" in built.stderr


# -- the Dockerfile ---------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Name and rest of each instruction, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(name, " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in lines if line)]


def rests(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    copied = [source for rest in rests("COPY") if not rest.startswith("--from") for source in rest.split()[:-1]]
    assert {"src", "pyproject.toml", "setup.py"} <= set(copied)
    for source in copied:
        assert (ROOT / source).exists(), source
        assert patterns[0] == "*"
        assert f"!{source}" in patterns
        assert not any(fnmatch(source, pattern) for pattern in patterns[1:] if pattern[0] != "!")


def test_what_is_run_is_there() -> None:
    scripts = [rest.split()[0] for rest in rests("RUN") if rest.startswith("deploy/")]
    assert scripts == ["deploy/image/build.sh", "deploy/image/install.sh"]
    for script in scripts:
        assert os.access(ROOT / script, os.X_OK)


def test_the_image_is_what_tempos_manifests_expect() -> None:
    last = [rest for name, rest in instructions() if name == "FROM"]
    assert last[-1].startswith("python:3.11-slim")
    assert rests("USER") == ["10001:10001"]
    assert json.loads(rests("ENTRYPOINT")[-1]) == ["vivace"]
    assert not rests("CMD"), "arguments of a manifest replace it"
    assert rests("VOLUME") == ["/var/tempo"]
    assert set(rests("EXPOSE")[0].split()) == {"3200", "4317", "4318", "9095"}
    (health,) = rests("HEALTHCHECK")
    command = json.loads(health.partition("CMD ")[2])
    compile(command[2], "HEALTHCHECK", "exec")
    assert "http://127.0.0.1:3200/ready" in command[2]
