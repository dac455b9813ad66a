"""The adapter for transformers: the engine's tokens against the chain on the engine's logits."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from smollm2 import model_path

import logitchain as lc
from logitchain.engines.transformers import ContinuousSampler, LogitsProcessor, Sampler

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings("default")  # what the engine warns of is its own

EOS = 2
EVERY_CONTROL = {
    "temperature": 0.9,
    "top_k": 200,
    "top_p": 0.98,
    "min_p": 0.001,
    "xtc_probability": 0.5,
    "xtc_threshold": 0.05,
    "repetition_penalty": 1.2,
    "frequency_penalty": 0.4,
    "presence_penalty": -0.3,
    "banned_tokens": (5, 6),
    "no_repeat_ngram": 3,
    "bad_words": ((7, 8), (9,)),
    "logit_bias": {10: 2.0, 11: -4.0},
    "min_tokens": 4,
}
#: One request for each of three prompts.
REQUESTS = [
    lc.Params(seed=0, max_tokens=14, **EVERY_CONTROL),
    lc.Params(
        **{"seed": 11, "max_tokens": 9, "temperature": 1.3, "frequency_penalty": 1.5},
        **{"mirostat_tau": 3.0, "dry_multiplier": 0.8, "dry_allowed_length": 1},
    ),
    lc.Params(seed=2**63, max_tokens=14, top_p=0.9, repetition_penalty=1.4),
]
PROMPTS = ([40, 41, 42, 43, 40], [50], [60, 61, 60])


def tiny(**config):
    """A Llama of two layers with random weights, sure enough of some tokens."""
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        **{"vocab_size": 300, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2}
        | {"num_attention_heads": 4, "num_key_value_heads": 2, "eos_token_id": EOS}
        | config
    )
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight *= 30
    model.generation_config.pad_token_id = 0
    return model


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture(scope="module")
def smollm2():
    path = model_path()
    return transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()


@pytest.fixture(scope="module")
def tokenizer():
    path = model_path()
    return transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


def padded(prompts, pad=0):
    """What `generate` gets: prompts padded on the left."""
    width = max(map(len, prompts))
    ids = [[pad] * (width - len(p)) + list(p) for p in prompts]
    mask = [[0] * (width - len(p)) + [1] * len(p) for p in prompts]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def generate(model, sampler, inputs, **options):
    return model.generate(
        **inputs,
        **sampler.arguments,
        **{"return_dict_in_generate": True, "output_logits": True} | options,
    )


def replay(chain, params, seed, prompt, logits):
    """The tokens that the chain gives for these logits, in a batch of its own."""
    batch = lc.Batch(logits.shape[-1])
    alone = {**{name: getattr(params, name) for name in lc.FIELDS}, "n": 1, "seed": seed}
    batch.add(lc.Params(**alone), prompt)
    for row in logits:
        batch.append(chain.sample(row, batch))
    return batch.output(batch.rows[0])


def assert_drawn_by(sampler, result, prompts):
    """Each row's tokens are the chain's draws from the logits that the engine made."""
    logits = torch.stack(result.logits, 1).numpy()
    n = len(sampler.batch) // len(prompts)
    for r, row in enumerate(sampler.batch.rows):
        params, seed = sampler.batch.params(row), sampler.batch.seed(row)
        said = unpadded(result.sequences[r, -logits.shape[1] :].tolist(), params)
        assert said == replay(sampler.chain, params, seed, prompts[r // n], logits[r, : len(said)])
        assert said == sampler.batch.output(row)
        assert sampler.batch.prompt(row) == list(prompts[r // n])


def unpadded(tokens, params):
    """What a row said before the engine padded it."""
    ends = (i + 1 for i, token in enumerate(tokens) if token in params.eos_token)
    return tokens[: min(next(ends, len(tokens)), params.max_tokens)]


# ---- the draw is ours


def test_the_tokens_are_the_chains_draws_from_the_engines_logits(smollm2, tokenizer):
    texts = ["The whale is", "Once upon a time there was a little", "One, two, three, one, two,"]
    prompts = tokenizer(texts)["input_ids"]
    inputs = padded(prompts, pad=tokenizer.pad_token_id)
    sampler = Sampler(smollm2, inputs, REQUESTS)
    result = generate(smollm2, sampler, inputs)
    assert_drawn_by(sampler, result, prompts)
    assert len(sampler.batch.output(sampler.batch.rows[0])) == 14


@pytest.mark.parametrize("order", ["default", "transformers", "llama_cpp"])
def test_in_any_order_of_the_controls(model, order):
    chain = lc.Chain() if order == "default" else lc.Chain.preset(order)
    for first in range(8):
        requests = [lc.Params(seed=first + i, max_tokens=12, **EVERY_CONTROL) for i in range(3)]
        inputs = padded(PROMPTS)
        sampler = Sampler(model, inputs, requests, chain)
        assert_drawn_by(sampler, generate(model, sampler, inputs), PROMPTS)


@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS])
def test_n_samples_of_each_prompt(model, prompts):
    requests = [lc.Params(seed=5, n=3, max_tokens=10, **EVERY_CONTROL) for _ in prompts]
    inputs = padded(prompts)
    sampler = Sampler(model, inputs, requests)
    result = generate(model, sampler, inputs)
    assert len(result.sequences) == 3 * len(prompts)
    assert_drawn_by(sampler, result, prompts)
    assert len({tuple(sampler.batch.output(row)) for row in sampler.batch.rows[:3]}) == 3


def test_a_seed_that_was_drawn_gives_the_tokens_again(model):
    inputs = padded(PROMPTS[:1])
    first = Sampler(model, inputs, lc.Params(max_tokens=12))
    generate(model, first, inputs)
    (row,) = first.batch.rows
    again = Sampler(model, inputs, lc.Params(max_tokens=12, seed=first.batch.seed(row)))
    generate(model, again, inputs)
    assert again.batch.output(row) == first.batch.output(row)
    other = Sampler(model, inputs, lc.Params(max_tokens=12))
    generate(model, other, inputs)
    assert other.batch.output(row) != first.batch.output(row)


def test_two_runs_of_one_sampler_agree(model):
    inputs = padded(PROMPTS)
    sampler = Sampler(model, inputs, REQUESTS)
    first, again = (generate(model, sampler, inputs).sequences.tolist() for _ in range(2))
    assert first == again


def test_padding_is_no_history(model):
    """With the pad token's logit raised, it is said unless padding were counted as said before."""
    requests = [
        lc.Params(temperature=0, logit_bias={0: 99.0}, repetition_penalty=1e9, max_tokens=1)
    ]
    inputs = padded(([50], [60, 61, 62, 63]))
    sampler = Sampler(model, inputs, requests * 2)
    generate(model, sampler, inputs)
    assert [sampler.batch.output(row) for row in sampler.batch.rows] == [[0], [0]]
    assert [sampler.batch.prompt(row) for row in sampler.batch.rows] == [[50], [60, 61, 62, 63]]


def test_a_score_is_the_tokens_log_probability(model):
    inputs = padded(PROMPTS)
    sampler = Sampler(model, inputs, REQUESTS)
    result = generate(model, sampler, inputs, output_scores=True)
    scores = model.compute_transition_scores(result.sequences, result.scores).numpy()
    batch = lc.Batch(300)
    for request, prompt in zip(REQUESTS, PROMPTS, strict=True):
        batch.add(request, prompt)
    drawn = lc.Chain().sample_with_logprobs(result.logits[0], batch, of="processed")
    np.testing.assert_array_equal(scores[:, 0], drawn.logprobs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision(dtype):
    model, inputs = tiny().to(dtype), padded(PROMPTS)
    sampler = Sampler(model, inputs, REQUESTS)
    assert_drawn_by(sampler, generate(model, sampler, inputs), PROMPTS)


def test_the_scores_are_read_where_they_are(model):
    seen = []

    class Watching(lc.Chain):
        def sample_with_logprobs(self, logits, batch, **options):
            seen.append(logits.data_ptr())
            return super().sample_with_logprobs(logits, batch, **options)

    inputs = padded(PROMPTS[:1])
    sampler = Sampler(model, inputs, lc.Params(seed=1), Watching())
    scores = torch.randn(1, 300)
    before = scores.clone()
    sampler(inputs["input_ids"], scores)
    assert seen == [scores.data_ptr()]
    assert torch.equal(scores, before)


def test_an_encoders_input_is_no_history():
    torch.manual_seed(0)
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 32, "vocab_size": 300}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    model = transformers.BartForConditionalGeneration(
        transformers.BartConfig(**sizes, **heads, encoder_ffn_dim=32, decoder_ffn_dim=32)
    ).eval()
    with torch.no_grad():
        model.lm_head.weight *= 30
    model.generation_config.forced_eos_token_id = None  # what the engine forces, it forces
    inputs = padded(PROMPTS, pad=1)
    sampler = Sampler(model, inputs, REQUESTS)
    assert_drawn_by(sampler, generate(model, sampler, inputs), [(), (), ()])


def test_a_row_ends_where_its_request_says(model):
    """After a sequence, after so many tokens in all, after a loop, and of no other row's accord."""
    inputs = padded(PROMPTS)
    free = Sampler(model, inputs, [lc.Params(seed=s, max_tokens=14) for s in (3, 4, 5)])
    generate(model, free, inputs)
    said = [free.batch.output(row) for row in free.batch.rows]
    loop = {"max_pattern_size": 1, "min_count": 3}
    looping = {"logit_bias": {77: 1000.0}, "banned_tokens": [EOS], "repetition_detection": loop}
    requests = [
        lc.Params(seed=3, max_tokens=14, stop_tokens=[said[0][4:6]]),
        lc.Params(seed=4, max_total_tokens=4),
        lc.Params(seed=5, max_tokens=14, **looping),
    ]
    sampler = Sampler(model, inputs, requests)
    assert sampler.arguments["max_new_tokens"] == 14
    sequences = generate(model, sampler, inputs).sequences.tolist()
    assert [sampler.batch.output(row) for row in sampler.batch.rows] == [
        *(said[0][:6], said[1][:3]),
        [77, 77, 77],
    ]
    assert sampler.finish_reasons == ["stop", "length", "repetition"]
    assert len(sequences[0]) == len(PROMPTS[0]) + 6


@pytest.mark.parametrize("assisted", [{}, {"prompt_lookup_num_tokens": 3}], ids=str)
def test_a_mark_of_the_draw_is_found_again(model, assisted):
    mark = lc.Watermark("gumbel", key=42)
    inputs = padded(PROMPTS[:1])
    sampler = Sampler(
        model, inputs, lc.Params(seed=1, max_tokens=60, watermark=mark, temperature=2)
    )
    generate(model, sampler, inputs, **assisted)
    assert lc.detect_watermark(sampler.batch.output(0), mark).p_value < 1e-6
    with pytest.raises(ValueError, match="not 'gumbel', which is one of our draw: use `Sampler`"):
        LogitsProcessor(model, inputs, lc.Params(watermark=mark))
    LogitsProcessor(model, inputs, lc.Params(watermark=lc.Watermark("sbw", key=42)))


# ---- what goes with generate goes on


def test_rows_end_while_others_go_on(model):
    """Each row is what it is alone, to its own end; after that the engine pads."""
    inputs = padded(PROMPTS)
    free = Sampler(model, inputs, [lc.Params(seed=s, max_tokens=14) for s in (3, 4, 5)])
    logits = torch.stack(generate(model, free, inputs).logits, 1)
    said = [free.batch.output(row) for row in free.batch.rows]
    end = next(token for token in said[1][2:] if token not in said[0] + said[2] + said[1][:2])
    requests = [
        lc.Params(seed=3, max_tokens=14),
        lc.Params(seed=4, max_tokens=14, eos_token=end),
        lc.Params(seed=5, max_tokens=6),
    ]
    sampler = Sampler(model, inputs, requests)
    result = generate(model, sampler, inputs)
    own = [said[0], said[1][: said[1].index(end) + 1], said[2][:6]]
    assert [sampler.batch.output(row) for row in sampler.batch.rows] == own
    width = inputs["input_ids"].shape[1]
    for r, tokens in enumerate(own):
        rest = result.sequences[r, width + len(tokens) :]
        assert (rest == 0).all()
    assert torch.equal(result.logits[0], logits[:, 0])


def test_the_models_own_end_ends_a_row_and_min_tokens_holds_it_back(model):
    inputs = padded(PROMPTS[:1])
    bias = {"logit_bias": {EOS: 1000.0}, "max_tokens": 9, "seed": 1}
    sampler = Sampler(model, inputs, lc.Params(**bias, min_tokens=3))
    sequence = generate(model, sampler, inputs).sequences[0].tolist()
    said = sampler.batch.output(sampler.batch.rows[0])
    assert len(said) == 4
    assert said.index(EOS) == 3
    assert sequence == [*PROMPTS[0], *said]


def test_an_end_token_outside_the_vocabulary_is_none(opinionated):
    opinionated.generation_config.eos_token_id = [50256, EOS]
    sampler = Sampler(opinionated, padded(PROMPTS[:1]), lc.Params(eos_token=7))
    assert sampler.batch.params(0).eos_token == (7, EOS)


class Streamer:
    def __init__(self):
        self.parts, self.at_end = [], False

    def put(self, tokens):
        self.parts += tokens.reshape(-1).tolist()

    def end(self):
        self.at_end = True


def test_a_streamer_gets_the_tokens(model):
    inputs, streamer = padded(PROMPTS[:1]), Streamer()
    sampler = Sampler(model, inputs, REQUESTS[0])
    result = generate(model, sampler, inputs, streamer=streamer)
    assert streamer.parts == result.sequences[0].tolist()
    assert streamer.at_end


def test_stop_strings_end_the_text(smollm2, tokenizer):
    inputs = tokenizer("The whale is", return_tensors="pt")
    request = lc.Params(temperature=0, max_tokens=12)
    sampler = Sampler(smollm2, inputs, request)
    whole = tokenizer.decode(generate(smollm2, sampler, inputs).sequences[0])
    stop = whole.split()[4]
    cut = generate(smollm2, sampler, inputs, stop_strings=[stop], tokenizer=tokenizer)
    assert tokenizer.decode(cut.sequences[0]) == whole[: whole.index(stop) + len(stop)]


def test_a_cache_goes_on(model):
    """A second call continues the first one's cache; its own history is the whole text so far."""
    inputs = padded(PROMPTS[:1])
    first = Sampler(model, inputs, lc.Params(seed=1, max_tokens=5))
    result = generate(model, first, inputs)
    prompts = [result.sequences[0].tolist()]
    inputs = padded(prompts)
    sampler = Sampler(model, inputs, lc.Params(seed=2, max_tokens=8, **EVERY_CONTROL))
    again = generate(model, sampler, inputs, cache=result.cache)
    assert_drawn_by(sampler, again, prompts)
    assert len(sampler.batch.output(sampler.batch.rows[0])) == 8


def test_a_cache_goes_on_with_new_tokens_alone(model):
    """The mask is then longer than the tokens: it counts the cache as well."""
    inputs = padded(PROMPTS)
    first = Sampler(model, inputs, [lc.Params(seed=s, max_tokens=4) for s in (1, 2, 3)])
    result = generate(model, first, inputs)
    more, seen = padded(([70, 71, 72], [80, 80, 81], [90, 91])), result.cache
    before = torch.ones(3, seen.get_seq_length(), dtype=torch.int64)
    before[:, :5] = inputs["attention_mask"]
    more["attention_mask"] = torch.cat([before, more["attention_mask"]], 1)
    sampler = Sampler(model, more, REQUESTS)
    again = generate(model, sampler, more, cache=seen)
    assert_drawn_by(sampler, again, ([70, 71, 72], [80, 80, 81], [90, 91]))


def test_drafts_change_no_token(model):
    """Assisted decoding keeps what the row would have said: the draw has a key, not a stream."""
    inputs = padded([[40, 41, 42, 43, 40, 41, 42]])
    request = lc.Params(seed=3, temperature=0.3, repetition_penalty=1.1, max_tokens=24)
    plain, drafted, assisted = (Sampler(model, inputs, request) for _ in range(3))
    tokens = generate(model, plain, inputs).sequences.tolist()
    assert len(tokens[0]) == 7 + 24
    result = generate(model, drafted, inputs, prompt_lookup_num_tokens=3)
    assert result.sequences.tolist() == tokens
    result = generate(model, assisted, inputs, assistant_model=model)
    assert result.sequences.tolist() == tokens


def test_an_own_processor_comes_before_the_chain(model):
    inputs = padded(PROMPTS[:1])
    sampler = Sampler(model, inputs, lc.Params(temperature=0, max_tokens=3))
    only = lambda ids, scores: torch.where(torch.arange(300) == 77, scores, -torch.inf)  # noqa: E731
    arguments = sampler.arguments | {"logits_processor": [only, sampler]}
    assert model.generate(**inputs, **arguments)[0, -3:].tolist() == [77, 77, 77]


# ---- hidden defaults


@pytest.fixture
def opinionated():
    """A model whose file has its own ideas of sampling."""
    model = tiny()
    ideas = {"temperature": 0.2, "top_k": 2, "top_p": 0.3, "typical_p": 0.2, "min_p": 0.5}
    ideas |= {"repetition_penalty": 2.5, "no_repeat_ngram_size": 1, "num_beams": 2}
    ideas |= {"do_sample": True, "epsilon_cutoff": 0.1, "eta_cutoff": 0.1, "min_new_tokens": 30}
    for name, value in ideas.items():
        setattr(model.generation_config, name, value)
    return model


@pytest.mark.parametrize("n", [1, 2])
def test_hidden_defaults_do_not_act_on_the_draw(model, opinionated, n):
    request = lc.Params(seed=3, n=n, max_tokens=10, temperature=1.2)
    inputs, sequences = padded(PROMPTS[:1]), []
    for engine in (model, opinionated):
        sampler = Sampler(engine, inputs, request)
        sequences.append(generate(engine, sampler, inputs).sequences.tolist())
    assert sequences[0] == sequences[1]


def test_a_control_that_is_asked_for_twice_is_refused(model):
    inputs = padded(PROMPTS[:1])
    sampler = LogitsProcessor(model, inputs, lc.Params(max_tokens=3))
    with pytest.raises(TypeError, match="multiple values for keyword argument 'temperature'"):
        model.generate(**inputs, **sampler.arguments, temperature=0.5)


# ---- the draw is the engine's


def test_a_logits_processor_leaves_what_the_chain_leaves(opinionated):
    inputs = padded(PROMPTS)
    processor = LogitsProcessor(opinionated, inputs, REQUESTS)
    torch.manual_seed(4)
    result = generate(opinionated, processor, inputs, output_scores=True)
    batch = lc.Batch(300)
    for request, prompt in zip(REQUESTS, PROMPTS, strict=True):
        batch.add(lc.Params(**{**vars(request), "eos_token": EOS}), prompt)
    steps = len(result.logits)
    said = result.sequences[:, -steps:].numpy()
    ended = [len(processor.batch.output(row)) for row in processor.batch.rows]
    assert max(ended) == steps
    for t in range(steps):
        expected = lc.Chain()(result.logits[t], batch)
        for r in range(3):
            if t < ended[r]:
                np.testing.assert_array_equal(result.scores[t][r].numpy(), expected[r])
                assert np.isfinite(expected[r, said[r, t]])
        lc.Chain().carry(result.logits[t], batch, said[:, t])
        batch.append(said[:, t])
    ours, theirs = (some.state(some.rows[1]) for some in (batch, processor.batch))
    assert theirs
    assert ended[1] < steps or ours == theirs


def test_the_engine_draws_from_it(model):
    inputs = padded(PROMPTS)
    sequences = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        processor = LogitsProcessor(model, inputs, REQUESTS)
        sequences.append(generate(model, processor, inputs).sequences.tolist())
    assert sequences[0] == sequences[1] != sequences[2]


# ---- invalid rows


def poison(row, step):
    """A processor that spoils one row's logits at a step."""

    def spoil(input_ids, scores):
        scores = scores.clone()
        if input_ids.shape[1] == max(map(len, PROMPTS)) + step:
            scores[row, 7] = torch.nan
        return scores

    return spoil


@pytest.mark.parametrize("kind", [Sampler, LogitsProcessor])
def test_a_row_not_fit_to_use_raises(model, kind):
    inputs = padded(PROMPTS)
    sampler = kind(model, inputs, [lc.Params(seed=1, max_tokens=8)] * 3)
    arguments = sampler.arguments | {"logits_processor": [poison(1, 2), sampler]}
    with pytest.raises(ValueError, match=r"^logits: row 1, token 7 is nan"):
        model.generate(**inputs, **arguments)


@pytest.mark.parametrize("kind", [Sampler, LogitsProcessor])
def test_a_row_that_is_marked_ends_alone(model, kind):
    inputs = padded(PROMPTS)
    requests = [lc.Params(seed=s, max_tokens=8, min_tokens=8, eos_token=99) for s in (1, 2, 3)]
    sampler = kind(model, inputs, requests, lc.Chain(on_invalid="mark"))
    sequences, errors = [], []
    for processors in ([], [poison(1, 2)], []):
        torch.manual_seed(0)
        arguments = sampler.arguments | {"logits_processor": [*processors, sampler]}
        sequences.append(model.generate(**inputs, **arguments)[:, -8:].tolist())
        errors.append(sampler.errors)
    whole, cut, again = sequences
    assert errors == [{}, {sampler.batch.rows[1]: "token 7 is nan"}, {}]
    assert cut[1] == [*whole[1][:2], 99, 0, 0, 0, 0, 0]
    assert whole == again
    if kind is Sampler:  # the engine has one generator for all rows
        assert [cut[0], cut[2]] == [whole[0], whole[2]]


def test_a_row_that_has_ended_is_not_judged(model):
    inputs = padded(PROMPTS)
    requests = [lc.Params(seed=s, max_tokens=m) for s, m in ((1, 8), (2, 2), (3, 8))]
    sampler = Sampler(model, inputs, requests)
    arguments = sampler.arguments | {"logits_processor": [poison(1, 4), sampler]}
    assert model.generate(**inputs, **arguments).shape[1] == 5 + 8
    assert sampler.errors == {}


def test_a_request_that_does_not_go_with_the_model_is_refused(model):
    inputs = padded(PROMPTS)
    with pytest.raises(ValueError, match=r"top_k must be in \[0, 300\], not 301"):
        Sampler(model, inputs, [lc.Params(), lc.Params(top_k=301), lc.Params()])
    with pytest.raises(ValueError, match=r"params must be one per prompt \(3\), not 2"):
        Sampler(model, inputs, [lc.Params()] * 2)
    with pytest.raises(TypeError, match="params must be Params, not"):
        Sampler(model, inputs, [{"top_k": 3}] * 3)
    named = "inputs must be a mapping with input_ids, not an object of type Tensor"
    with pytest.raises(TypeError, match=named):
        Sampler(model, inputs["input_ids"], [lc.Params()] * 3)
    with pytest.raises(TypeError, match=r"input_ids, not \{'inputs'"):
        Sampler(model, {"inputs": inputs["input_ids"]}, [lc.Params()] * 3)
    sampler = Sampler(model, inputs, [lc.Params(), lc.Params(n=2), lc.Params()])
    with pytest.raises(ValueError, match=r"n must be one for all prompts, not \[1, 2\]"):
        generate(model, sampler, inputs)
    sampler = Sampler(model, inputs, [lc.Params(max_tokens=2)] * 3)
    with pytest.raises(ValueError, match="input_ids must have 3 rows, not 1"):
        generate(model, sampler, padded(PROMPTS[:1]))


# ---- continuous batching


class Recording(lc.Chain):
    """A chain that keeps the logits that it is given, by seed and position."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.logits, self.sizes = {}, []

    def sample_with_logprobs(self, logits, batch, **options):
        for row, seed, position in zip(logits, batch.seeds, batch.positions, strict=True):
            self.logits.setdefault(int(seed), {})[int(position)] = row.numpy().copy()
        self.sizes.append(len(batch))
        return super().sample_with_logprobs(logits, batch, **options)


@pytest.fixture
def scheduler():
    return "fifo"


@pytest.fixture
def manager(model, scheduler):
    """Not started; room for four requests at a time."""
    config = transformers.ContinuousBatchingConfig(
        **{"num_blocks": 32, "page_size": 16, "max_batch_tokens": 24, "max_requests_per_batch": 4},
        scheduler_type=scheduler,
    )
    settings = transformers.GenerationConfig(eos_token_id=EOS, pad_token_id=0, do_sample=False)
    manager = model.init_continuous_batching(
        generation_config=settings, continuous_batching_config=config
    )
    yield manager
    if manager.is_running():
        manager.stop(block=True)
    manager.destroy()


def results(manager, names):
    """The results by request id, in the order of the names."""
    found = {}
    while len(found) < len(names):
        result = manager.get_result(timeout=60)
        assert result is not None, "the engine gave up"
        found[result.request_id] = result
    return [found[name] for name in names]


def many(count):
    """(prompt, request) pairs of several lengths; one prompt is longer than a step reads."""
    rng = np.random.default_rng(5)
    for i in range(count):
        prompt = rng.integers(20, 300, 40 if i == 3 else 3 + i % 5).tolist()
        yield prompt, lc.Params(seed=1000 + i, max_tokens=5 + i % 7, **EVERY_CONTROL)


@pytest.mark.parametrize("scheduler", ["fifo", "prefill_first"])
def test_continuous_batching_draws_what_the_chain_draws(manager):
    """New prompts first: rows that go on stand in another order, or wait for a step."""
    chain = Recording()
    sampler = ContinuousSampler(manager, chain)
    manager.start()
    asked = {}
    for prompt, params in many(12):
        (name,) = sampler.add(prompt, params)
        asked[name] = prompt, params
    for (prompt, params), result in zip(asked.values(), results(manager, asked), strict=True):
        said, kept = result.generated_tokens, chain.logits[params.seed]
        logits = np.stack([kept[t] for t in range(len(said))])
        ended = lc.Params(**{**vars(params), "eos_token": EOS})
        assert said == replay(lc.Chain(), ended, params.seed, prompt, logits)
        assert len(said) == params.max_tokens or said[-1] == EOS
        assert result.error is None
    assert max(chain.sizes) == 4
    assert min(chain.sizes) < 4


def test_continuous_batching_gives_the_tokens_of_generate(model, manager):
    pairs = list(many(3))
    expected = []
    for prompt, params in pairs:
        inputs = padded([prompt])
        alone = Sampler(model, inputs, params)
        generate(model, alone, inputs)
        expected.append(alone.batch.output(0))
    sampler = ContinuousSampler(manager)
    manager.start()
    names = [next(iter(sampler.add(prompt, params))) for prompt, params in pairs]
    assert [result.generated_tokens for result in results(manager, names)] == expected


def test_continuous_batching_of_n_samples(manager):
    sampler = ContinuousSampler(manager)
    manager.start()
    seeds = sampler.add(PROMPTS[0], lc.Params(seed=7, n=3, max_tokens=6))
    said = [tuple(result.generated_tokens) for result in results(manager, seeds)]
    assert len(set(said)) == 3
    again = sampler.add(PROMPTS[0], lc.Params(seed=list(seeds.values()), n=3, max_tokens=6))
    assert [tuple(result.generated_tokens) for result in results(manager, again)] == said


def test_continuous_batching_ends_a_request_where_it_says(manager):
    """A sequence and a loop are followed by the end token."""
    sampler = ContinuousSampler(manager)
    manager.start()
    (name,) = sampler.add(PROMPTS[0], lc.Params(seed=3, max_tokens=8))
    said = results(manager, [name])[0].generated_tokens
    loop = {"max_pattern_size": 1, "min_count": 3}
    looping = {"logit_bias": {77: 1000.0}, "banned_tokens": [EOS], "repetition_detection": loop}
    asked = [
        lc.Params(seed=3, max_tokens=8, stop_tokens=[said[2:4]]),
        lc.Params(seed=3, max_tokens=8, stop_tokens=said[3]),
        lc.Params(seed=3, max_total_tokens=len(PROMPTS[0]) + 5),
        lc.Params(seed=3, max_tokens=8, **looping),
    ]
    names = [next(iter(sampler.add(PROMPTS[0], params))) for params in asked]
    assert [one.generated_tokens for one in results(manager, names)] == [
        [*said[:4], EOS],
        said[: said.index(said[3]) + 1],
        said[:5],
        [77, 77, 77, EOS],
    ]
    with pytest.raises(ValueError, match="max_total_tokens must be more than the prompt's 5"):
        sampler.add(PROMPTS[0], lc.Params(max_total_tokens=5))


def test_continuous_batching_of_an_id_that_comes_again(manager):
    """The second request is its own, though no step came between the two."""
    sampler = ContinuousSampler(manager)
    manager.start()
    said = []
    for name, seed in (("a", 1), ("a", 2), ("b", 2)):
        sampler.add([50], lc.Params(seed=seed, max_tokens=6), request_id=name)
        said += [result.generated_tokens for result in results(manager, [name])]
    assert said[0] != said[1] == said[2]


def test_continuous_batching_ends_a_row_not_fit_to_use(manager):
    def spoil(rows, batch):
        for r in np.flatnonzero((batch.seeds == 1) & (batch.positions == 2)):
            rows[r, 7] = np.nan

    sampler = ContinuousSampler(manager, lc.Chain([spoil, *lc.chain.DEFAULT_ORDER]))
    manager.start()
    names = [next(iter(sampler.add([50], lc.Params(seed=s, max_tokens=6)))) for s in (1, 1, 2)]
    first, same, other = results(manager, names)
    assert first.error == same.error == "token 7 is nan after spoil"
    assert len(first.generated_tokens) == 3
    assert first.generated_tokens[2] == EOS
    assert other.error is None
    assert len(other.generated_tokens) == 6


def test_continuous_batching_refuses_a_request_where_it_is_asked(manager):
    sampler = ContinuousSampler(manager)
    manager.start()
    with pytest.raises(ValueError, match=r"top_k must be in \[0, 300\], not 999"):
        sampler.add([50], lc.Params(top_k=999))
    with pytest.raises(ValueError, match="prompt_tokens must have a token"):
        sampler.add([], lc.Params())
    with pytest.raises(ValueError, match="n must be 1 for a request_id, not 2"):
        sampler.add([50], lc.Params(n=2), request_id="a")
    (name,) = sampler.add([50], lc.Params(seed=1, max_tokens=2))
    assert len(results(manager, [name])[0].generated_tokens) == 2
    with pytest.raises(ValueError, match="manager must not have started"):
        ContinuousSampler(manager)
    manager.generation_config.eos_token_id = -1
    with pytest.raises(ValueError, match="eos_token must have a token"):
        sampler.add([50], lc.Params())


@pytest.mark.parametrize("option", ["use_async_batching", "return_logprobs"])
def test_a_manager_that_a_chain_cannot_serve_is_refused(model, option):
    config = transformers.ContinuousBatchingConfig(num_blocks=32, page_size=16)
    settings = transformers.GenerationConfig(eos_token_id=EOS)
    manager = model.init_continuous_batching(
        generation_config=settings, continuous_batching_config=config
    )
    setattr(manager.continuous_batching_config, option, True)
    with pytest.raises(ValueError, match=r"without async batching|return_logprobs must be False"):
        ContinuousSampler(manager)
    manager.destroy()


# ---- the package


def test_the_engine_is_not_imported():
    code = "import sys, logitchain.engines.transformers; print('torch' in sys.modules, "
    code += "'transformers' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


def test_the_documentations_snippets_run():
    page = (ROOT / "docs/engines/transformers.md").read_text()
    snippets = [part.split("```")[0] for part in page.split("```python\n")[1:]]
    assert len(snippets) == 3
    names = {}
    for snippet in snippets:
        exec(compile(snippet, "docs/engines/transformers.md", "exec"), names)
