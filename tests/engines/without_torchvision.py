"""SGLang imports torchvision, for images, and its wheels need CUDA: something in its place."""

import importlib.machinery
import importlib.util
import sys
import types
from typing import Any
from unittest.mock import MagicMock


class Torchvision:
    """Stands for torchvision, which SGLang imports for images and whose wheels need CUDA."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        ours = name.split(".")[0] == "torchvision"
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if ours else None

    def create_module(self, spec: Any) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: MagicMock()  # type: ignore[method-assign]
        return module

    def exec_module(self, module: Any) -> None: ...


def stand_in() -> None:
    """Let it seem to be there, if it is not."""
    if importlib.util.find_spec("torchvision") is None:
        import transformers.image_utils
        import transformers.processing_utils  # noqa: F401  these look for it, and use it

        sys.meta_path.append(Torchvision())
