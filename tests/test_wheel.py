"""The built wheel, installed beside another package that defines a control."""

import os
import re
import shutil
from pathlib import Path

import pytest

from child import run_python
from logitchain.numeric import compile as jit

PROJECT = Path(__file__).parents[1]
OTHER = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "other"
version = "1.0"
dependencies = ["logitchain"]
"""

pytestmark = pytest.mark.skipif(jit.INTERPRETED, reason="a child process, and nothing to compile")


def command(*words, cwd, **environment):
    """What `python` prints when run with these words in a folder."""
    return run_python(*words, cwd=cwd, env=os.environ | environment).stdout


def install(folder):
    """A folder with the wheels of this project and of another package, installed."""
    package = folder / "project/other"
    package.mkdir(parents=True)
    (package.parent / "pyproject.toml").write_text(OTHER)
    (package / "__init__.py").touch()
    shutil.copy(PROJECT / "docs/examples/own_control.py", package / "control.py")
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps")
    build = ("-m", "pip", "wheel", *quiet, "--no-build-isolation", "--wheel-dir", folder)
    command(*build, PROJECT, package.parent, cwd=folder)
    # Always the same place, so that the kernels are found in the cache the next time.
    site = PROJECT / "build/site"
    shutil.rmtree(site, ignore_errors=True)
    command("-m", "pip", "install", *quiet, "--target", site, *folder.glob("*.whl"), cwd=folder)
    return site


def test_the_wheel_is_whole_and_another_package_brings_a_control(tmp_path):
    installed = install(tmp_path)
    source, wheel = PROJECT / "src/logitchain", installed / "logitchain"
    names = {path.relative_to(source) for path in source.rglob("*.py")}
    assert names == {path.relative_to(wheel) for path in wheel.rglob("*.py")}
    assert (wheel / "py.typed").exists()

    readme = next(installed.glob("logitchain-*/METADATA")).read_text()
    assert "See random numbers (`docs/rng.md`)" in readme  # as PyPI shows it
    assert not re.findall(r"\]\((?!https:)|^\[[\w-]+\]: (?!https:)", readme, re.MULTILINE)

    where = {"PYTHONPATH": str(installed)}
    source = "import logitchain; print(logitchain.__file__)"
    assert command("-c", source, cwd=tmp_path, **where).startswith(str(installed))
    printed = command("-m", "other.control", cwd=tmp_path, **where)
    assert printed.startswith("top_cube obeys the laws of a cut\ntokens: ")
    assert re.search(r"\ntop_cube +0\.4 +3 +10\.66%", printed)
