"""SGLang's server in a process of its own, on the CPU, and a processor that keeps what it sees."""

import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from socket import socket
from typing import Any

import numpy as np
import without_cuda

from logitchain.engines.sglang import LogitProcessor

RECORDED = "RECORDED_LOGITS"  # the variable of the environment that names a folder
#: What every SGLang on a CPU is started with, and the two flags that the adapter wants.
FLAGS = (
    *("--device", "cpu", "--attention-backend", "torch_native", "--sampling-backend", "pytorch"),
    *("--dtype", "float32", "--disable-cuda-graph", "--mem-fraction-static", "0.2"),
    *("--enable-custom-logit-processor", "--disable-overlap-schedule"),
)
PATIENCE = 240  # seconds


class Recording(LogitProcessor):
    """The adapter, which first writes each row of logits to a file of its request and position."""

    def __call__(self, logits: Any, custom_param_list: Any = None) -> Any:
        for row, params in zip(logits, custom_param_list, strict=True):
            engine = params["__req__"]
            np.save(_file(os.environ[RECORDED], engine.rid, len(engine.output_ids)), row.numpy())
        return super().__call__(logits, custom_param_list)


def recorded(folder: Path, rid: str, count: int) -> Iterator[Any]:
    """The rows of logits of a request, as SGLang computed them."""
    for position in range(count):
        yield np.load(_file(str(folder), rid, position))


def _file(folder: str, rid: str, position: int) -> Path:
    return Path(folder) / f"{rid}-{position}.npy"


@contextmanager
def serving(model: Path, folder: Path, variables: Mapping[str, str] = {}) -> Iterator[str]:
    """A server of the model at this URL; what is recorded lies in the folder."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    what = ["--model-path", str(model), "--port", str(port), *FLAGS]
    command = [sys.executable, "-m", "sglang.launch_server", *what]
    environment = {**without_cuda.environment(), RECORDED: str(folder), **variables}
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            if not _healthy(url, server):
                log.seek(0)
                raise RuntimeError(log.read().decode(errors="replace")[-4000:])
            yield url
        finally:
            server.terminate()
            server.wait(60)


def _healthy(url: str, server: Any) -> bool:
    for _ in range(PATIENCE):
        try:
            urllib.request.urlopen(f"{url}/health", timeout=30).close()
            return True
        except (urllib.error.URLError, OSError):
            if server.poll() is not None:
                return False
            time.sleep(1)
    return False
