"""A request with every control on, of SmolLM2."""

import logitchain as lc

VOCAB = 49_152
LONGER = [1, 4093, 198, *range(300, 320)]  # a prompt
EVERYTHING = lc.Params(
    temperature=0.9,
    top_k=300,
    top_p=0.97,
    min_p=0.01,
    xtc_probability=0.5,
    xtc_threshold=0.1,
    repetition_penalty=1.3,
    frequency_penalty=0.4,
    presence_penalty=0.3,
    banned_tokens=[28, 30],
    no_repeat_ngram=3,
    bad_words=[[284, 216]],
    logit_bias={365: 2.0, 260: -1.5},
    dry_multiplier=0.5,
    dry_allowed_length=1,
    mirostat_tau=7.0,
    eos_token=[2, 0],
    min_tokens=5,
    seed=1,
)
