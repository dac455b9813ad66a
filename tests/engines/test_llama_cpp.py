"""llama-cpp-python with SmolLM2: the tokens that it generates are the chain's on its own logits."""

import ctypes
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import llama_cpp
import numba
import numpy as np
import pytest
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding
from numpy.testing import assert_allclose, assert_array_equal
from smollm2 import Model, model_path

import logitchain as lc
from logitchain.engines.llama_cpp import NEUTRAL, LogitsProcessor, sampling

ROOT = Path(__file__).parents[2]

VOCAB = 49_152
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
PROMPT = "Once upon a time, in a small village by the sea, there lived"

#: Every control on, each strong enough to be missed.
EVERYTHING = lc.Params(
    temperature=1.2,
    top_k=200,
    top_p=0.97,
    min_p=0.01,
    xtc_probability=0.5,
    xtc_threshold=0.05,
    repetition_penalty=1.3,
    frequency_penalty=0.3,
    presence_penalty=0.4,
    banned_tokens=(28, 30),
    no_repeat_ngram=3,
    bad_words=((216, 33), (260, 1165)),
    logit_bias={260: 1.5, 29: -2.0, 42: float("-inf")},
    min_tokens=5,
    eos_token=(0, 2),
    seed=11,
)
REQUESTS = {
    "everything": EVERYTHING,
    "temperature": lc.Params(seed=3),
    "top_p, min_p": lc.Params(temperature=0.8, top_p=0.95, min_p=0.05, seed=-1),
    "states": lc.Params(
        **{"mirostat_tau": 3.0, "mirostat_eta": 0.5, "dry_multiplier": 0.8, "seed": 9},
        **{"dynatemp_range": 0.4, "top_n_sigma": 4.0, "penalty_exempt": (28, 216)},
    ),
    "greedy": lc.Params(temperature=0, repetition_penalty=1.2),
    "history": lc.Params(temperature=0.1, no_repeat_ngram=1, frequency_penalty=2.0, seed=5),
}


def load(path=None, **options):
    """On one thread: several wait for each other, where cores are shared longer than they work."""
    alone = {"n_ctx": 512, "n_threads": 1, "n_threads_batch": 1, "verbose": False}
    return llama_cpp.Llama(str(path or model_path()), **alone, **options)


@pytest.fixture(scope="module")
def llm():
    """It keeps the logits of every position, `llm.scores`."""
    return load(logits_all=True)


@pytest.fixture(scope="module")
def lean():
    """As most have it: the logits of the last position only, and prompts in small parts."""
    return load(n_batch=8)


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """The same weights as float32, so that it computes what the demo's engine computes."""
    path = tmp_path_factory.mktemp("model") / "float32.gguf"
    how = llama_cpp.llama_model_quantize_default_params()
    how.ftype, how.allow_requantize = llama_cpp.LLAMA_FTYPE_ALL_F32, True
    assert llama_cpp.llama_model_quantize(bytes(model_path()), bytes(path), how) == 0
    caches = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}
    yield load(path=path, logits_all=True, **caches)
    path.unlink()


@pytest.fixture(scope="module")
def demo():
    return Model.load()


def tokens_of(llm, text=PROMPT):
    return llm.tokenize(text.encode())


def take(llm, count, prompt=None, **arguments):
    """So many tokens of the engine's own loop, from an empty cache."""
    llm.reset()
    stream = llm.generate(prompt or tokens_of(llm), **arguments)
    return [next(stream) for _ in range(count)]


def recorded(llm, count, prompt=None):
    """The logits, of the last generation, that so many tokens were drawn from."""
    first = len(prompt or tokens_of(llm)) - 1
    return llm.scores[first : first + count].copy()


def reference(params, prompt, logits, sample=0, chain=None):
    """The tokens of the chain on these logits, and the processed logits, with no engine near."""
    chain, batch = chain or lc.Chain(), lc.Batch(VOCAB)
    rows = batch.add(params, prompt)
    batch.remove([row for row in rows if row != rows[sample]])
    tokens, processed = [], []
    for row in logits:
        processed.append(chain(row, batch))
        tokens.append(int(chain.sample(row, batch)[0]))
        batch.append(tokens[-1:])
    return tokens, processed


# ---- in the place of its samplers


@pytest.mark.parametrize("name", REQUESTS)
def test_the_tokens_are_the_chains_on_the_engines_logits(llm, name):
    params = REQUESTS[name]
    for seed in (params.seed, 0):
        params = replace(params, seed=seed)
        with sampling(llm, params):
            tokens = take(llm, 25)
        assert tokens == reference(params, tokens_of(llm), recorded(llm, 25))[0]


def test_another_chain_can_be_given(llm):
    chain = lc.Chain.preset("llama_cpp")
    with sampling(llm, EVERYTHING, chain):
        tokens = take(llm, 20)
    logits = recorded(llm, 20)
    assert tokens == reference(EVERYTHING, tokens_of(llm), logits, chain=chain)[0]
    assert tokens != reference(EVERYTHING, tokens_of(llm), logits)[0]


def test_the_engines_own_arguments_change_nothing(llm):
    own = {"top_k": 1, "top_p": 0.1, "min_p": 0.9, "temp": 0.0, "repeat_penalty": 3.0}
    with sampling(llm, EVERYTHING):
        assert take(llm, 20) == take(llm, 20, **own)


def test_the_logits_are_read_where_llama_cpp_has_them(llm):
    class Watching(lc.Chain):
        def sample(self, logits, batch, **options):
            seen.append(logits)
            return super().sample(logits, batch, **options)

    seen = []
    with sampling(llm, EVERYTHING, Watching()):
        take(llm, 1)
    ours = llama_cpp.llama_get_logits_ith(llm.ctx, -1)
    assert seen[0].ctypes.data == ctypes.addressof(ours.contents)
    assert seen[0].dtype is np.dtype(np.float32)  # its equal takes a detour
    assert seen[0].flags.carray
    assert_array_equal(seen[0][0], recorded(llm, 1)[0])  # and nothing was written there


def test_with_the_last_logits_only_it_gives_the_same_tokens(llm, lean):
    with sampling(llm, EVERYTHING), sampling(lean, EVERYTHING):
        assert take(llm, 20) == take(lean, 20)


def test_n_samples_are_the_next_n_generations(llm):
    params = replace(EVERYTHING, n=3)
    answers = []
    with sampling(llm, params):
        for sample in range(4):
            answers.append(take(llm, 15))
            logits = recorded(llm, 15)
            assert answers[-1] == reference(params, tokens_of(llm), logits, sample % 3)[0]
    assert answers[0] == answers[3]
    assert len(set(map(tuple, answers))) == 3


def test_the_batch_has_the_seed_and_the_output(llm):
    with sampling(llm, lc.Params(temperature=1.5)) as batch:
        first = take(llm, 10)
        (row,) = batch.rows
        seed = batch.seed(row)
        assert batch.prompt(row) == tokens_of(llm)
        assert batch.output(row) == first[:-1]
        assert take(llm, 10) != first  # no seed: another each time
    with sampling(llm, lc.Params(temperature=1.5, seed=seed)):
        assert take(llm, 10) == first


def test_a_prompt_that_goes_on_reuses_the_cache_and_is_a_prompt(llm):
    prompt = tokens_of(llm)
    with sampling(llm, EVERYTHING) as batch:
        longer = prompt + take(llm, 10)
        stream = llm.generate(longer)
        tokens = [next(stream) for _ in range(10)]
        assert batch.prompt(batch.rows[0]) == longer
    assert tokens == reference(EVERYTHING, longer, recorded(llm, 10, longer))[0]


def test_a_generation_begins_when_its_first_token_is_asked_for(llm):
    prompts = tokens_of(llm), tokens_of(llm, "The capital of France")
    llm.reset()
    with sampling(llm, EVERYTHING):
        streams = [llm.generate(prompt) for prompt in prompts]
        for prompt, stream in zip(prompts, streams, strict=True):
            tokens = [next(stream) for _ in range(10)]
            logits = recorded(llm, 10, prompt)
            assert tokens == reference(EVERYTHING, prompt, logits)[0]


def test_a_loop_of_eval_and_sample_is_one_request(llm):
    tokens, prompt = [], tokens_of(llm)
    llm.reset()
    with sampling(llm, EVERYTHING):
        llm.eval(prompt)
        for _ in range(10):
            tokens.append(llm.sample())
            llm.eval(tokens[-1:])
        assert tokens == reference(EVERYTHING, prompt, recorded(llm, 10))[0]
        llm.reset()
        llm.eval(prompt[:-1])
        with pytest.raises(ValueError, match="ids must begin with the prompt"):
            llm.sample()


def test_a_draft_model_changes_no_token():
    """A repetitive greedy text, so that drafts are kept; others are dropped."""
    drafting = load(draft_model=LlamaPromptLookupDecoding(num_pred_tokens=4))
    prompt = tokens_of(drafting, "one two three four one two three four one two three")
    for params in (lc.Params(temperature=0), replace(EVERYTHING, banned_tokens=())):
        with sampling(drafting, params) as batch:
            tokens = take(drafting, 24, prompt)
            assert batch.output(batch.rows[0]) == tokens[:-1]
        assert tokens == reference(params, prompt, recorded(drafting, 24, prompt))[0]
    with pytest.raises(ValueError, match="llm must have no draft model"):
        LogitsProcessor(drafting, lc.Params())


def test_completions_chat_stop_stream_and_logprobs(llm):
    prompt = tokens_of(llm)
    with sampling(llm, EVERYTHING):
        tokens = take(llm, 24)
        text = llm.detokenize(tokens, prompt).decode()
        asked = {"prompt": prompt, "max_tokens": 24}
        llm.reset()
        (whole,) = llm.create_completion(**asked, logprobs=3)["choices"]
        llm.reset()
        pieces = [
            part["choices"][0]["text"] for part in llm.create_completion(**asked, stream=True)
        ]
        llm.reset()
        (cut,) = llm.create_completion(**asked, stop=[text[20:26]])["choices"]
    assert whole["text"] == "".join(pieces) == text
    assert len(pieces) > 10
    assert (cut["text"], cut["finish_reason"]) == (text[: text.index(text[20:26])], "stop")
    ours = lc.token_logprobs(recorded(llm, 24), tokens)
    assert_allclose(whole["logprobs"]["token_logprobs"], ours, atol=1e-4)


def test_a_chat_ends_by_itself(exact):
    with sampling(exact, lc.Params(temperature=0)):
        (choice,) = exact.create_chat_completion(QUESTION, max_tokens=40)["choices"]
    assert choice["message"]["content"] == "The capital of France is Paris."
    assert choice["finish_reason"] == "stop"


def test_a_generation_ends_where_its_request_says(llm):
    """The sequence that ends it is held back; then comes the model's end token."""
    prompt, end = tokens_of(llm), llm.token_eos()
    with sampling(llm, EVERYTHING):
        said = take(llm, 20)
    loop = {"max_pattern_size": 1, "min_count": 3}
    looping = lc.Params(logit_bias={365: 1000.0}, repetition_detection=loop)
    for params, expected in (
        (replace(EVERYTHING, stop_tokens=[said[6:8]]), said[:6]),
        (replace(EVERYTHING, max_total_tokens=len(prompt) + 5), said[:5]),
        (looping, [365] * 3),
    ):
        with sampling(llm, params):
            llm.reset()
            assert [*llm.generate(prompt)] == [*expected, end]
            llm.reset()
            (choice,) = llm.create_completion(prompt, max_tokens=20)["choices"]
        assert choice["text"] == llm.detokenize(expected, prompt).decode()
        assert choice["finish_reason"] == "stop"
    never = replace(EVERYTHING, stop_tokens=[[said[6], 5]])
    with sampling(llm, never):
        assert take(llm, 20) == said


def test_a_mark_of_the_draw_is_found_again(llm):
    mark = lc.Watermark("gumbel", key=42)
    with sampling(llm, lc.Params(temperature=1.5, watermark=mark)):
        tokens = take(llm, 60)
    assert lc.detect_watermark(tokens, mark).p_value < 1e-6


def test_what_needs_our_draw_or_our_end_is_refused_where_the_engine_has_it(llm):
    loop = {"max_pattern_size": 4, "min_count": 3}
    for name, value in (
        ("watermark", lc.Watermark("gumbel", key=42)),
        ("stop_tokens", [5]),
        ("max_total_tokens", 50),
        ("repetition_detection", loop),
    ):
        with pytest.raises(ValueError, match=f"{name} must .*: use `sampling`"):
            LogitsProcessor(llm, lc.Params(**{name: value}))
    LogitsProcessor(llm, lc.Params(watermark=lc.Watermark("sbw", key=42)))


def test_a_grammar_masks_before_the_chain(llm):
    """At this heat every word of the vocabulary is as good as another."""
    grammar = llama_cpp.LlamaGrammar.from_string('root ::= ("yes" | "no") ("." | "!")+ "\\n"')
    for seed in range(5):
        with sampling(llm, lc.Params(temperature=50.0, seed=seed)):
            text = llm.create_completion(PROMPT, max_tokens=60, grammar=grammar)["choices"][0]
        assert re.fullmatch(r"(yes|no)[.!]+\n?", text["text"])


def test_chat_in_json(llm):
    shape = {"type": "object", "properties": {"city": {"enum": ["Paris", "Lyon"]}}}
    shape["required"] = ["city"]
    asked = {"response_format": {"type": "json_object", "schema": shape}, "max_tokens": 60}
    with sampling(llm, lc.Params(temperature=1.5, top_p=0.9, seed=1)):
        (choice,) = llm.create_chat_completion(QUESTION, **asked)["choices"]
    assert json.loads(choice["message"]["content"])["city"] in ("Paris", "Lyon")


def test_the_engines_bias_and_processors_come_before_the_chain(llm):
    bias = {100: 9.0, 101: 9.0}
    params = replace(EVERYTHING, logit_bias={})
    with sampling(llm, params):
        llm.reset()
        stream = llm.create_completion(
            tokens_of(llm), max_tokens=12, logit_bias=bias, stream=True, temperature=0
        )
        text = "".join(part["choices"][0]["text"] for part in stream)
    logits = recorded(llm, 12)
    logits[:, [100, 101]] += np.float32(9.0)
    tokens = reference(params, tokens_of(llm), logits)[0]
    assert text == llm.detokenize(tokens, tokens_of(llm)).decode()


@pytest.mark.parametrize("bias", [{}, {100: 1.0}], ids=str)
def test_a_grammar_goes_with_a_bias_or_a_processor(llm, bias):
    """The engine's custom sampler before the grammar has no name: to ask it ends the process."""
    grammar = llama_cpp.LlamaGrammar.from_string('root ::= "yes" | "no"')
    processors = (
        {"logit_bias": bias} if bias else {"logits_processor": [lambda ids, scores: scores]}
    )
    with sampling(llm, lc.Params(temperature=50.0, seed=1)):
        (choice,) = llm.create_completion(PROMPT, grammar=grammar, **processors)["choices"]
    assert choice["text"] in ("yes", "no")


def test_a_processor_may_give_a_list(llm):
    with sampling(llm, lc.Params(temperature=0)):
        as_list = take(llm, 5, logits_processor=[lambda ids, scores: scores.tolist()])
        assert as_list == take(llm, 5)


def test_a_processor_that_writes_changes_its_own_request_only(llm):
    """The second and third begin with the logits that are there, as the prompt is in the cache."""

    def ban(ids, scores):
        scores[first] = -np.inf
        return scores

    prompt = tokens_of(llm)
    llm.reset()
    with sampling(llm, lc.Params(temperature=0)):
        first = next(llm.generate(prompt))
        second = next(llm.generate(prompt, logits_processor=[ban]))
        assert next(llm.generate(prompt)) == first != second


def test_afterwards_the_engine_is_as_it_was(llm):
    before = dict(vars(llm))
    with (
        pytest.raises(ValueError, match="top_k must be in"),
        sampling(llm, lc.Params(top_k=VOCAB + 1)),
    ):
        pass
    with (
        sampling(llm, EVERYTHING),
        pytest.raises(ValueError, match="llm must be free"),
        sampling(llm, EVERYTHING),
    ):
        pass
    assert vars(llm).keys() == before.keys()
    llm.set_seed(1)
    own = take(llm, 10, temp=0.0)
    assert own == recorded(llm, 10).argmax(axis=1).tolist()


# ---- as a logits processor


def test_the_engine_draws_from_the_chains_logits(llm):
    """Greedy, it takes the best of them."""

    def watched(ids, scores):
        assert scores.strides == (12,)
        seen.append(processor(ids, scores))
        return seen[-1]

    params, prompt, seen = replace(EVERYTHING, seed=2), tokens_of(llm), []
    processor = LogitsProcessor(llm, params)
    tokens = take(llm, 30, logits_processor=[watched], temp=0.0)
    chain, batch = lc.Chain(), lc.Batch(VOCAB)
    batch.add(params, prompt)
    for row, ours, token in zip(recorded(llm, 30), seen, tokens, strict=True):
        assert_array_equal(ours, chain(row, batch))
        assert token == ours.argmax()
        batch.append([token])


def test_neutral_arguments_leave_all_that_the_chain_leaves(llm):
    """llama.cpp's own defaults would never draw the third."""
    shares = {5000: 0.9, 6000: 0.07, 7000: 0.03}

    def scripted(ids, scores):
        scores = np.full(VOCAB, -np.inf, np.float32)
        scores[list(shares)] = np.log(list(shares.values()))
        return scores

    counts = dict.fromkeys((llm.detokenize([token]).decode() for token in shares), 0)
    asked = {"logits_processor": [scripted, LogitsProcessor(llm, lc.Params())], **NEUTRAL}
    for seed in range(400):
        answer = llm.create_completion(tokens_of(llm), max_tokens=1, seed=seed, **asked)
        counts[answer["choices"][0]["text"]] += 1
    assert_allclose(np.array(list(counts.values())) / 400, list(shares.values()), atol=0.03)
    assert all(counts.values())


# ---- what is bad


def broken(ids, scores):
    scores = np.array(scores)
    scores[77] = np.nan
    return scores


def test_errors_reach_who_asked_for_the_text(llm):
    with sampling(llm, EVERYTHING):
        with pytest.raises(ValueError, match="logits: row 0, token 77 is nan"):
            llm.create_completion(PROMPT, logits_processor=[broken])
        tokens = take(llm, 20)  # the next request is none the worse
    assert tokens == reference(EVERYTHING, tokens_of(llm), recorded(llm, 20))[0]
    contradiction = lc.Params(allowed_tokens=(5,), banned_tokens=(5,))
    marking = lc.Chain(on_invalid="mark")
    with (
        pytest.raises(ValueError, match="no finite logit is left"),
        sampling(llm, contradiction, marking),
    ):
        llm.create_chat_completion(QUESTION)


def test_without_a_token_there_are_no_logits(llm):
    """Those of the request before would still be there."""
    take(llm, 3)
    with sampling(llm, EVERYTHING), pytest.raises(ValueError, match="prompt must have a token"):
        llm.create_completion("")


def test_a_grammar_ends_its_own_request_only(llm):
    """Each would end the process in llama.cpp's own functions."""

    @numba.njit
    def only_77(row, ids, request):
        for i in range(row.size):
            token = ids[i] if ids.size else i
            row[i] = 0.0 if token == 77 else -np.inf

    def write_77(rows, batch):
        rows[:] = -np.inf
        rows[:, 77] = 0.0

    restoring = lc.Control(name="restoring", kind="free", kernel=only_77)
    grammar = llama_cpp.LlamaGrammar.from_string('root ::= "yes"')
    unclosed = llama_cpp.LlamaGrammar.from_string('root ::= ("yes"')
    with (
        sampling(llm, lc.Params(temperature=0), lc.Chain([write_77])),
        pytest.raises(ValueError, match="write_77 must leave removed tokens at -inf"),
    ):
        llm.create_completion(PROMPT, grammar=grammar)
    with sampling(llm, lc.Params(temperature=0), lc.Chain([restoring])):
        with pytest.raises(ValueError, match="token must be one that the grammar allows, not 77"):
            llm.create_completion(PROMPT, grammar=grammar)
        with pytest.raises(ValueError, match="grammar must be a generation's"):
            llm.create_completion(PROMPT, grammar=unclosed)
        assert take(llm, 3) == [77] * 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_processors_error_is_raised_by_its_check(llm):
    with pytest.raises(ValueError, match="top_k must be in"):
        LogitsProcessor(llm, lc.Params(top_k=VOCAB + 1))
    processor = LogitsProcessor(llm, EVERYTHING)
    asked = {"logits_processor": [broken, processor], "stopping_criteria": processor.check}
    with pytest.raises(ValueError, match="logits: row 0, token 77 is nan"):
        llm.create_completion(PROMPT, **asked)
    asked["logits_processor"] = [processor]
    assert llm.create_completion(PROMPT, **asked)["choices"][0]["text"]
    with pytest.raises(ValueError, match="ids must begin with the prompt"):
        llm.create_completion("Another request", **asked)


# ---- the whole of it


def test_the_adapter_imports_no_engine():
    code = "import sys, logitchain.engines.llama_cpp; print('llama_cpp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", REQUESTS)
def test_the_same_model_gives_the_same_tokens_as_the_demos_engine(exact, demo, name):
    """Logits were at most 1e-4 apart."""
    prompt = demo.tokenizer.chat(QUESTION)
    params, batch, tokens, apart = REQUESTS[name], lc.Batch(VOCAB), [], []
    batch.add(params, prompt)
    with sampling(exact, params):
        theirs = take(exact, 40, prompt)
    logits, cache = demo.prefill(prompt)
    for row in recorded(exact, 40, prompt):
        apart.append(np.abs(row - logits).max())
        tokens.append(int(lc.Chain().sample(logits, batch)[0]))
        batch.append(tokens[-1:])
        logits = demo.step([cache], tokens[-1:])[0]
    assert tokens == theirs
    assert max(apart) < 1e-3


def test_from_the_files_own_four_bits_the_logits_are_others(llm, demo):
    """llama.cpp quantises the activations too: at most 1.8 apart were seen, in one text."""
    prompt, cache = demo.tokenizer.chat(QUESTION), demo.new_cache()
    llm.reset()
    llm.eval(prompt)
    theirs = llm.scores[: len(prompt)]
    ours = np.stack([demo.step([cache], [token])[0] for token in prompt])
    assert 0.1 < np.abs(ours - theirs).max() < 4
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() > 0.8


def test_the_documentations_snippets_run(capsys):
    page = (ROOT / "docs/engines/llama_cpp.md").read_text()
    for number, snippet in enumerate(re.findall(r"```python\n(.*?)```", page, re.S)):
        exec(compile(snippet, f"snippet {number}", "exec"), {})
    assert capsys.readouterr().out.strip()
