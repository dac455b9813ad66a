"""The built wheel, installed beside another package that defines a control."""

import os
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


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the wheels of this project and of another package, installed."""
    folder = tmp_path_factory.mktemp("wheels")
    package = folder / "project/other"
    package.mkdir(parents=True)
    (package.parent / "pyproject.toml").write_text(OTHER)
    (package / "__init__.py").touch()
    shutil.copy(PROJECT / "docs/examples/own_control.py", package / "control.py")
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps")
    build = ("-m", "pip", "wheel", *quiet, "--no-build-isolation", "--wheel-dir", folder)
    command(*build, PROJECT, package.parent, cwd=folder)
    into = ("-m", "pip", "install", *quiet, "--target", folder / "site")
    command(*into, *folder.glob("*.whl"), cwd=folder)
    return folder / "site"


def test_another_package_brings_a_control(installed):
    where = {"PYTHONPATH": str(installed)}
    source = "import logitchain; print(logitchain.__file__)"
    assert command("-c", source, cwd=installed.parent, **where).startswith(str(installed))
    printed = command("-m", "other.control", cwd=installed.parent, **where)
    assert printed.startswith("top_a obeys the laws of a cut\ntokens: ")
    assert "\n top_a         0.2       4      2.90%" in printed


def test_the_wheel_holds_all_modules_and_the_types(installed):
    source, wheel = PROJECT / "src/logitchain", installed / "logitchain"
    names = {path.relative_to(source) for path in source.rglob("*.py")}
    assert names == {path.relative_to(wheel) for path in wheel.rglob("*.py")}
    assert (wheel / "py.typed").exists()
