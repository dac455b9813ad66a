"""A chain as the composition of the public functions, in its order, for each row by itself."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import logitchain as lc


def last(tokens, window):
    return tokens if window is None else tokens[len(tokens) - min(window, len(tokens)) :]


def history_of(row, scope, window):
    scopes = {
        "all": row["prompt"] + row["output"],
        "prompt": row["prompt"],
        "output": row["output"],
    }
    return last(scopes[scope], window)


def penalty(function, scope):
    def apply(x, row, scope=scope, window=None):
        params = row["params"]
        window = window if params.penalty_window is None else params.penalty_window
        tokens = [t for t in history_of(row, scope, window) if t not in params.penalty_exempt]
        return function(x, getattr(params, function.__name__), tokens)

    return apply


def xtc(x, row, **options):
    params = row["params"]
    probability = params.xtc_probability if params.xtc_threshold else 0.0
    keys = {"seed": row["seed"], "position": len(row["output"])}
    return lc.xtc(x, params.xtc_threshold, probability, **keys, **options)


def token_bitmask(x, row):
    return x if row.get("mask") is None else lc.token_bitmask(x, row["mask"])


def allowed_tokens(x, row):
    allowed = row["params"].allowed_tokens
    return lc.allowed_tokens(x, allowed) if allowed else x


def min_tokens(x, row):
    params = row["params"]
    ends = params.eos_token, params.stop_tokens
    return lc.min_tokens(x, params.min_tokens, *ends, row["output"], position=len(row["output"]))


def min_total_tokens(x, row):
    params, tokens = row["params"], row["prompt"] + row["output"]
    settings = params.min_total_tokens, params.eos_token, tokens, params.stop_tokens
    return lc.min_total_tokens(x, *settings, prompt_size=len(row["prompt"]))


def forced_output_tokens(x, row):
    return lc.forced_output_tokens(
        x, row["params"].forced_output_tokens, position=len(row["output"])
    )


def reasoning(x, row):
    params = row["params"]
    if not params.reasoning_end:
        return x
    names = ("reasoning_start", "reasoning_end", "reasoning_message", "min_reasoning")
    names += ("reasoning_grace", "reasoning_line_ends", "reasoning_per_block", "eos_token")
    names += ("repetition_detection",)
    fields = {name: getattr(params, name) for name in names}
    return lc.reasoning(x, params.reasoning_budget, row["prompt"], row["output"], **fields)


def no_repeat_ngram(x, row, scope="all"):
    params, tokens = row["params"], history_of(row, scope, row["params"].ngram_window)
    n = params.no_repeat_ngram
    if not (params.ngram_exempt or params.penalty_exempt):
        return lc.no_repeat_ngram(x, n if n > 1 else 0, tokens)
    starts = range(len(tokens) - n + 1) if n > 1 else ()
    pattern = tokens[len(tokens) - n + 1 :]
    banned = {tokens[i + n - 1] for i in starts if tokens[i : i + n - 1] == pattern}
    return lc.banned_tokens(x, sorted(banned - {*params.ngram_exempt, *params.penalty_exempt}))


def dry(x, row, window=None):
    params = row["params"]
    if params.dry_multiplier == 0:
        return x
    window = window if params.dry_window is None else params.dry_window
    settings = params.dry_multiplier, params.dry_base, params.dry_allowed_length
    tokens = row["prompt"] + row["output"]
    ours = lc.dry(x, tokens, *settings, window, params.dry_sequence_breakers)
    ours[list(params.penalty_exempt)] = x[list(params.penalty_exempt)]
    return ours


def green_list(x, row, scope="output"):
    mark = row["params"].watermark
    if mark is None or mark.keys_draw:
        return x
    return lc.green_list(x, mark, history_of(row, scope, None))


def draw(x, row):
    """The token of a processed row."""
    mark, keys = row["params"].watermark, {"seed": row["seed"], "position": len(row["output"])}
    if mark is None or not mark.keys_draw:
        return lc.sample(x, **keys)
    return lc.watermarked_sample(x, mark, row["output"], prompt_tokens=row["prompt"], **keys)


def dynamic_temperature(x, row):
    params = row["params"]
    settings = params.temperature, params.dynatemp_range, params.dynatemp_exponent
    return lc.dynamic_temperature(x, *settings) if params.dynatemp_range else x


def mirostat(x, row):
    """Before the first token."""
    tau = row["params"].mirostat_tau
    return x if tau is None else lc.mirostat(x, 2 * tau)


def adaptive_p(x, row):
    target = row["params"].adaptive_target
    return x if target is None else lc.adaptive_p(x, target)


def plain(name):
    """A control that has one field, with its name."""
    return lambda x, row: getattr(lc, name)(x, getattr(row["params"], name))


BY_HAND = {
    "token_bitmask": token_bitmask,
    "allowed_tokens": allowed_tokens,
    "banned_tokens": lambda x, row: lc.banned_tokens(x, row["params"].banned_tokens),
    "min_tokens": min_tokens,
    "min_total_tokens": min_total_tokens,
    "no_repeat_ngram": no_repeat_ngram,
    "bad_words": lambda x, row, scope="output": lc.bad_words(
        x, row["params"].bad_words, history_of(row, scope, None)
    ),
    "banned_texts": lambda x, row, scope="output": lc.banned_texts(
        x, row["params"].banned_texts, history_of(row, scope, None)
    ),
    "forced_output_tokens": forced_output_tokens,
    "reasoning": reasoning,
    "green_list": green_list,
    "logit_bias": lambda x, row: lc.logit_bias(x, row["params"].logit_bias),
    "repetition_penalty": penalty(lc.repetition_penalty, "all"),
    "frequency_penalty": penalty(lc.frequency_penalty, "output"),
    "presence_penalty": penalty(lc.presence_penalty, "output"),
    "dry": dry,
    "temperature": plain("temperature"),
    "dynamic_temperature": dynamic_temperature,
    "quadratic": lambda x, row: lc.quadratic(
        x, row["params"].smoothing_factor, row["params"].smoothing_curve
    ),
    "top_n_sigma": plain("top_n_sigma"),
    "top_k": lambda x, row, **options: lc.top_k(x, row["params"].top_k, **options),
    "top_p": lambda x, row, **options: lc.top_p(x, row["params"].top_p, **options),
    "min_p": plain("min_p"),
    "typical_p": plain("typical_p"),
    "top_a": plain("top_a"),
    "epsilon_cutoff": plain("epsilon_cutoff"),
    "eta_cutoff": plain("eta_cutoff"),
    "tfs": plain("tfs"),
    "p_less": lambda x, row: lc.p_less(x) if row["params"].p_less else x,
    "top_h": lambda x, row: lc.top_h(x, row["params"].top_h) if row["params"].top_h else x,
    "xtc": xtc,
    "mirostat": mirostat,
    "adaptive_p": adaptive_p,
}

# Other engines' orders, as docs/presets.md has them.
MASKS = ["token_bitmask", "allowed_tokens", "banned_tokens"]
MASKS += ["min_tokens", "min_total_tokens", "no_repeat_ngram", "bad_words", "banned_texts"]
MASKS += ["forced_output_tokens", "reasoning"]
LLAMA, MLX, WHOLE = {"scope": "all", "window": 64}, {"scope": "all", "window": 20}, {"ties": "all"}
KOBOLD, WEBUI, SEEN = LLAMA | {"window": 320}, LLAMA | {"window": 1024}, {"scope": "all"}
ORDERS = {
    "llama_cpp": [
        *(*MASKS, "logit_bias"),
        *(("repetition_penalty", LLAMA), ("frequency_penalty", LLAMA), ("presence_penalty", LLAMA)),
        *(("dry", {"window": 64}), "top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "xtc"),
        *("temperature", "dynamic_temperature", "mirostat", "adaptive_p"),
    ],
    "koboldcpp": [
        *(*MASKS, "logit_bias", ("dry", {"window": 320})),
        *(("repetition_penalty", KOBOLD), ("presence_penalty", KOBOLD)),
        *("top_k", "top_a", "tfs", "typical_p", "top_p", "min_p"),
        *("temperature", "dynamic_temperature", "quadratic", "top_n_sigma"),
        *("xtc", "mirostat", "adaptive_p"),
    ],
    "text_generation_webui": [
        *(*MASKS[:5], *MASKS[6:], "logit_bias"),
        *(("repetition_penalty", WEBUI), ("presence_penalty", WEBUI), ("frequency_penalty", WEBUI)),
        *(("dry", {"window": 1024}), "top_n_sigma"),
        *("temperature", "dynamic_temperature", "quadratic", ("top_k", WHOLE), "top_p"),
        *("typical_p", "epsilon_cutoff", "eta_cutoff", "tfs", "top_a", "min_p"),
        *("adaptive_p", "mirostat", "xtc", "no_repeat_ngram"),
    ],
    "exllamav2": [
        *MASKS,
        *(("repetition_penalty", SEEN), ("presence_penalty", SEEN), ("frequency_penalty", SEEN)),
        *("logit_bias", "dry", "quadratic", "temperature", "top_k", "top_p", "top_a", "min_p"),
        *("tfs", "typical_p", "mirostat", "dynamic_temperature", "xtc"),
    ],
    "exllamav3": [
        *(*MASKS, "logit_bias"),
        *(("repetition_penalty", SEEN), ("presence_penalty", SEEN), ("frequency_penalty", SEEN)),
        *("temperature", "min_p", ("top_k", WHOLE), ("top_p", WHOLE), "xtc", "adaptive_p"),
    ],
    "transformers": [
        *(*MASKS[:6], ("bad_words", {"scope": "all"}), *MASKS[7:]),
        *("logit_bias", "repetition_penalty", "temperature", "top_h", ("top_k", WHOLE)),
        *("top_p", "min_p"),
        *("typical_p", "epsilon_cutoff", "eta_cutoff"),
    ],
    "vllm": [
        *(*MASKS, "logit_bias"),
        *("repetition_penalty", "frequency_penalty", "presence_penalty"),
        *("temperature", "min_p", ("top_k", WHOLE), "top_p"),
    ],
    "sglang": [
        *MASKS,
        *("frequency_penalty", "presence_penalty", ("repetition_penalty", {"scope": "output"})),
        *("logit_bias", "temperature", "top_p", "top_k", "min_p"),
    ],
    "mlx_lm": [
        *(*MASKS, "logit_bias"),
        *(("repetition_penalty", MLX), ("presence_penalty", MLX), ("frequency_penalty", MLX)),
        *(("top_p", WHOLE), "min_p", "xtc", "top_k", "temperature"),
    ],
    "openvino_genai": [
        *(*MASKS, "repetition_penalty", "presence_penalty", "frequency_penalty"),
        *("top_k", "temperature", "top_p", "min_p"),
    ],
}


def steps(order):
    return [entry if isinstance(entry, tuple) else (entry, {}) for entry in order]


def by_hand(logits, rows, order):
    """Each row's result, or the error that the functions raise, with the name of the control.

    An order may also have functions of (logits of the row, row), as BY_HAND has them.
    """
    results = []
    is_dynamic = "dynamic_temperature" in dict(steps(order))
    for x, row in zip(logits, rows, strict=True):
        try:
            for name, chosen in steps(order):
                if name == "temperature" and row["params"].dynatemp_range and is_dynamic:
                    continue  # the dynamic one works instead
                x = (name if callable(name) else BY_HAND[name])(x, row, **chosen)
        except ValueError as error:
            x = ValueError(f"{error} after {name}")
        results.append(x)
    return results


def check(logits, batch, rows, order, chain):
    expected = by_hand(logits, rows, order)
    bad = [r for r, x in enumerate(expected) if isinstance(x, ValueError)]
    if bad:
        text = str(expected[bad[0]]).replace("logits: ", f"logits: row {bad[0]}, ")
        for call in (chain, chain.sample):
            with pytest.raises(ValueError, match=f"^{text}$"):
                call(logits, batch)
    ours = chain(logits, batch, on_invalid="mark")
    tokens = chain.sample(logits, batch, on_invalid="mark")
    assert (ours.dtype, tokens.dtype, tokens.shape) == (np.float32, np.int64, (len(rows),))
    for r, (x, row) in enumerate(zip(expected, rows, strict=True)):
        if r in bad:
            assert tokens[r] == -1
            assert_array_equal(ours[r], np.full_like(ours[r], -np.inf))
            assert str(x) == f"logits: {batch.status[r]}"
            continue
        assert batch.status[r] == "ok"
        assert_array_equal(ours[r].view(np.int32), x.view(np.int32))
        assert tokens[r] == draw(x, row)
    status, in_place = batch.status, logits.copy()
    assert_array_equal(chain(in_place, batch, on_invalid="mark", out=in_place), ours)
    assert batch.status == status
    if not bad:
        assert_array_equal(chain(logits, batch).view(np.int32), ours.view(np.int32))
        assert_array_equal(chain.sample(logits, batch), tokens)
        assert_array_equal([draw(*pair) for pair in zip(ours, rows, strict=True)], tokens)
