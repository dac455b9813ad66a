"""The server as a process of its own, and the official client pointed at it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import openai
import pytest
from asking import TOKEN

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
sys.path.insert(0, str(EXAMPLES))


class Server:
    """A running server."""

    def __init__(self, log, *options, token="", wait=True):
        self.log = log
        command = [sys.executable, str(EXAMPLES / "serve.py"), *options]
        with log.open("w") as out:
            self.process = subprocess.Popen(
                command,
                stdout=out,
                stderr=out,
                env={**os.environ, "SERVER_TOKEN": token},
                # A shell's background job ignores Ctrl-C, and so would what it starts.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        if wait:
            self.url = self._address(deadline=time.monotonic() + 300)

    def _address(self, deadline):
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in self.log.read_text().splitlines():
                if line.startswith("listening on "):
                    return line.split()[2].rstrip(";")
            time.sleep(0.1)
        raise RuntimeError(f"the server did not start:\n{self.log.read_text()}")

    def client(self, token="none"):
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=token, max_retries=0, timeout=240)

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("server") / "log")
    yield running
    running.stop()
    assert "Traceback" not in running.log.read_text()


@pytest.fixture(scope="session")
def guarded(tmp_path_factory):
    """One with a token, a queue of two, and log-probabilities of what is drawn from."""
    options = ["--waiting", "2", "--logprobs", "processed", "--allow-origin", "https://a.example"]
    running = Server(tmp_path_factory.mktemp("guarded") / "log", *options, token=TOKEN)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def client(server):
    return server.client()


@pytest.fixture(scope="session")
def model():
    from smollm2 import Model

    return Model.load()


@pytest.fixture(scope="session")
def tokenizer(model):
    return model.tokenizer


@pytest.fixture(scope="session")
def grammars(tokenizer):
    from server.grammar import Grammars

    return Grammars(tokenizer)
