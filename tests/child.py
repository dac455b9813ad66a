"""A Python process of its own, for tests of what happens when one starts."""

import subprocess
import sys


def run_python(*words, env, cwd=None):
    """Run `python` with these words; its output, after a failure of the test if it fails."""
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done
