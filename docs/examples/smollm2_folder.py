"""SmolLM2-135M-Instruct as a folder of config, safetensors and tokenizer, for engines that read no
GGUF file.

    python docs/examples/smollm2_folder.py FOLDER
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from smollm2 import ChatTokenizer, model_path

#: What GGUF calls a tensor, and what transformers does.
NAMES = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "blk": "layers",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write_folder(folder: Path, layers: int | None = None) -> Path:
    """Write the model, or its first layers, in float32 into `folder`; the folder."""
    reader = gguf.GGUFReader(model_path())
    fields = {name: field.contents() for name, field in reader.fields.items()}
    fields["llama.block_count"] = layers = layers or int(fields["llama.block_count"])
    tokenizer = ChatTokenizer(fields)
    heads = {
        "attn_q": int(fields["llama.attention.head_count"]),
        "attn_k": int(fields["llama.attention.head_count_kv"]),
    }
    tensors = {}
    for tensor in reader.tensors:
        parts = tensor.name.split(".")
        if parts[0] == "blk" and int(parts[1]) >= layers:
            continue
        weight = gguf.dequantize(tensor.data, tensor.tensor_type)
        if parts[-2] in heads:
            weight = halves(weight, heads[parts[-2]])
        name = ".".join(["model", *[NAMES.get(part, part) for part in parts]])
        tensors[name] = np.ascontiguousarray(weight)

    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "tokenizer.json").write_text(tokenizer.to_json())
    ends = {"bos_token_id": 1, "eos_token_id": list(tokenizer.eos), "pad_token_id": 2}
    write_json(folder / "config.json", config(fields) | ends)
    write_json(folder / "generation_config.json", ends)
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>",
            "pad_token": "<|im_end|>",
            "clean_up_tokenization_spaces": False,
            "chat_template": fields["tokenizer.chat_template"],
        },
    )
    return folder


def config(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The shape of the network, as transformers spells it."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": fields["llama.embedding_length"],
        "intermediate_size": fields["llama.feed_forward_length"],
        "max_position_embeddings": fields["llama.context_length"],
        "num_attention_heads": fields["llama.attention.head_count"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "rms_norm_eps": fields["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": fields["llama.rope.freq_base"],
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
    }


def halves(weight: NDArray[Any], heads: int) -> NDArray[Any]:
    """Rows of each head as two halves; GGUF has the two that rotate together side by side."""
    pairs = weight.reshape(heads, -1, 2, weight.shape[-1])
    return pairs.swapaxes(1, 2).reshape(weight.shape)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content, indent=2))


if __name__ == "__main__":
    write_folder(Path(sys.argv[1]))
