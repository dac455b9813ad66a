"""SGLang imports packages whose wheels need CUDA: something in their place, so that it runs here.

torchvision is for images. `sgl_kernel` has kernels: where SGLang is told that there is a CPU
(SGLANG_USE_CPU_ENGINE=1) and finds no instructions for matrices, it computes in PyTorch.
"""

import importlib.machinery
import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock


class StandIn:
    """Stands for packages that are never asked to do anything."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        ours = name.split(".")[0] in self.names
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if ours else None

    def create_module(self, spec: Any) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: MagicMock()  # type: ignore[method-assign]
        return module

    def exec_module(self, module: Any) -> None: ...


def stand_in(*names: str) -> None:
    """Let torchvision and these seem to be there, if they are not."""
    missing = [name for name in ("torchvision", *names) if importlib.util.find_spec(name) is None]
    if missing:
        import transformers.image_utils
        import transformers.processing_utils  # noqa: F401  these look for it, and use it

        sys.meta_path.append(StandIn(*missing))


def environment() -> dict[str, str]:
    """In which SGLang's processes compute on the CPU: each runs the folder `on_cpu` first."""
    here = Path(__file__).parent
    path = [str(here / "on_cpu"), str(here), os.environ.get("PYTHONPATH", "")]
    flags = {"SGLANG_USE_CPU_ENGINE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **flags, "PYTHONPATH": os.pathsep.join(path)}
