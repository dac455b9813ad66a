"""The controls, one record each.

The order of `CONTROLS` is the default order of a chain: masks, adjustments, and then the rest.
"""

from . import (
    adaptive_p,
    allowed_tokens,
    bad_words,
    banned_tokens,
    dry,
    dynamic_temperature,
    epsilon_cutoff,
    eta_cutoff,
    frequency_penalty,
    logit_bias,
    min_p,
    min_tokens,
    mirostat,
    no_repeat_ngram,
    p_less,
    presence_penalty,
    quadratic,
    repetition_penalty,
    temperature,
    tfs,
    token_bitmask,
    top_a,
    top_h,
    top_k,
    top_n_sigma,
    top_p,
    typical_p,
    xtc,
)

CONTROLS = tuple(
    module.CONTROL
    for module in (
        token_bitmask,
        allowed_tokens,
        banned_tokens,
        min_tokens,
        no_repeat_ngram,
        bad_words,
        logit_bias,
        repetition_penalty,
        frequency_penalty,
        presence_penalty,
        dry,
        temperature,
        dynamic_temperature,
        quadratic,
        top_n_sigma,
        top_k,
        top_p,
        min_p,
        typical_p,
        top_a,
        epsilon_cutoff,
        eta_cutoff,
        tfs,
        p_less,
        top_h,
        xtc,
        mirostat,
        adaptive_p,
    )
)
