"""What each control means, in float64 NumPy, one row at a time: slow, short, and the definition.

A row is a float64 array; removed is -inf. `order` is the one total order.
"""

import math

import numpy as np

SLACK = 2.0**-20


def order(row):
    """Token ids, the largest logit first, equal ones by ascending id; removed tokens left out."""
    ids = np.lexsort((np.arange(row.size), -row))
    return ids[row[ids] > -np.inf]


def probs(row):
    weights = np.exp(row - row.max())
    return weights / weights.sum()


def keep(row, ids):
    kept = np.full_like(row, -np.inf)
    kept[ids] = row[ids]
    return kept


def temperature(row, temperature):
    if temperature == 0:
        return keep(row, order(row)[:1])
    return row / temperature


def top_k(row, top_k):
    return keep(row, order(row)[:top_k]) if top_k else row


def top_p(row, top_p):
    ids = order(row)
    q = probs(row)[ids]
    above = np.cumsum(q) - q
    first = np.arange(ids.size) == 0
    return row if top_p == 1 else keep(row, ids[(above < top_p - SLACK) | first])


def min_p(row, min_p):
    q = probs(row)
    return keep(row, q >= min_p * q.max() * (1 - SLACK)) if min_p else row


def top_n_sigma(row, top_n_sigma):
    deviation = np.std(row[row > -np.inf])
    kept = row >= row.max() - top_n_sigma * deviation * (1 + SLACK)
    return keep(row, kept) if top_n_sigma else row


def entropy(row):
    q = probs(row)
    return -(q * np.log(q, where=q > 0, out=np.zeros_like(q))).sum()


def typical_p(row, typical_p):
    ids = order(row)
    q = probs(row)[ids]
    distance = row.max() - row[ids]
    typical = entropy(row) + np.log(
        q[0]
    )  # the distance of a token whose information is the entropy
    deviation = np.floor(np.minimum(np.abs(distance - typical), 64) * 2**20 + 0.5)
    nearest = np.argsort(deviation, kind="stable")
    before = np.cumsum(q[nearest]) - q[nearest]
    first = np.arange(ids.size) == 0
    return row if typical_p == 1 else keep(row, ids[nearest[(before < typical_p - SLACK) | first]])


def keep_probable(row, threshold):
    q = probs(row)
    return keep(row, (q >= threshold * (1 - SLACK)) | (row == row.max()))


def top_a(row, top_a):
    return keep_probable(row, top_a * probs(row).max() ** 2) if top_a else row


def epsilon_cutoff(row, epsilon_cutoff):
    return keep_probable(row, epsilon_cutoff) if epsilon_cutoff else row


def eta_cutoff(row, eta):
    threshold = min(eta, np.sqrt(eta) * np.exp(-entropy(row)))
    return keep_probable(row, threshold) if eta else row


def tfs(row, tfs):
    ids = order(row)
    q = probs(row)[ids]
    bends = np.abs(np.diff(q, 2))
    if tfs == 1 or bends.sum() <= SLACK:
        return row
    above = np.cumsum(bends) > (tfs + SLACK) * bends.sum()
    return keep(row, ids[: np.argmax(above) + 1]) if above.any() else row


def p_less(row):
    q = probs(row)
    return keep_probable(row, (q * q).sum())


def top_h(row, top_h):
    ids = order(row)[:100]
    q = probs(row)[ids] / probs(row)[ids].sum()
    parts = -q * np.log(q, where=q > 0, out=np.zeros_like(q))
    stays = np.cumsum(parts) <= top_h * (1 + SLACK) * parts.sum()
    stays &= parts.sum() > 0
    return keep(row, ids[stays | (np.arange(ids.size) == 0)])


def quadratic(row, smoothing_factor, smoothing_curve):
    d = row - row.max()
    k, s = (3 - smoothing_curve) / 2, (smoothing_curve - 1) / 2
    with np.errstate(invalid="ignore"):
        bent = row.max() + smoothing_factor * (s * d**3 - k * d**2)
    bent = np.clip(bent, np.finfo(np.float32).min, np.finfo(np.float32).max)
    return np.where(row > -np.inf, bent, row) if smoothing_factor else row


def xtc(row, xtc_threshold, applied):
    ids = order(row)
    top = ids[probs(row)[ids] >= xtc_threshold * (1 - SLACK)]
    return keep(row, np.setdiff1d(ids, top[:-1])) if applied else row


def repetition_penalty(row, repetition_penalty, tokens):
    out = row.copy()
    seen = np.unique(np.asarray(tokens, int))
    out[seen] = np.where(
        row[seen] > 0, row[seen] / repetition_penalty, row[seen] * repetition_penalty
    )
    return out


def presence_penalty(row, presence_penalty, tokens):
    out = row.copy()
    out[np.unique(np.asarray(tokens, int))] -= presence_penalty
    return out


def frequency_penalty(row, frequency_penalty, tokens):
    out = row.copy()
    np.subtract.at(out, np.asarray(tokens, int), frequency_penalty)
    return out


def remove(row, tokens):
    return keep(row, np.setdiff1d(np.arange(row.size), np.asarray(tokens, int)))


def token_bitmask(row, mask, tail="mask"):
    words = [int(word) % 2**32 for word in mask]
    words += [2**32 - 1 if tail == "keep" else 0] * row.size
    return keep(row, [i for i in range(row.size) if words[i // 32] >> i % 32 & 1])


def allowed_tokens(row, tokens):
    return keep(row, np.unique(np.asarray(tokens, int)))


def banned_tokens(row, tokens):
    return remove(row, tokens)


def banned_texts(row, texts, vocabulary, tokens):
    said = b"".join(vocabulary[token] for token in tokens)
    return remove(row, [i for i, word in enumerate(vocabulary) if has_one(said + word, texts)])


def has_one(said, texts):
    return any(text.encode() in said for text in texts)


def min_tokens(row, min_tokens, eos_token, stop_tokens, output, position):
    ends = [[token] for token in eos_token] + stop_tokens
    return bad_words(row, ends, output) if position < min_tokens else row


def min_total_tokens(row, min_total_tokens, eos_token, tokens, stop_tokens, prompt_size):
    output, missing = tokens[prompt_size:], min_total_tokens - len(tokens)
    return min_tokens(row, missing, eos_token, stop_tokens, output, 0)


def no_repeat_ngram(row, n, tokens):
    tokens = list(tokens)
    start = len(tokens) - n + 1  # where the n-gram starts that the next token ends
    earlier = range(max(start, 0))
    return remove(
        row, [tokens[i + n - 1] for i in earlier if tokens[i:][: n - 1] == tokens[start:]]
    )


def bad_words(row, bad_words, tokens):
    history = list(tokens)
    ends = [
        w[-1] for w in bad_words if history[max(0, len(history) - len(w) + 1) :] == list(w[:-1])
    ]
    return remove(row, ends)


def forced_output_tokens(row, forced, position):
    return keep(row, [forced[position]]) if position < len(forced) else row


def find_repetition(tokens, smallest, largest, count):
    for size in range(max(smallest, 1), largest + 1):
        copies = list(tokens[-size:]) * count
        if len(copies) == size * count <= len(tokens) and list(tokens[-size * count :]) == copies:
            return size
    return 0


def reasoning_block(prompt, output, start, end):
    """(where in the output the present block begins, None outside; tokens in earlier ones)."""
    block, spent = None if start else 0, 0
    tokens = prompt + output if start else output
    for size in range(1, len(tokens) + 1):
        whole = [x for x in (start, end) if x and tokens[max(0, size - len(x)) : size] == x]
        if not whole:
            continue
        marker, place = max(whole, key=len), max(0, size - (len(tokens) - len(output)))
        if block is not None:
            spent += max(0, place - len(marker) - block)
        block = place if marker == start else None
    return block, spent


def reasoning_end(output, block, spent, *, budget, forced, grace, line_ends, per_block, loop):
    """Which token has to come next; None if any may."""
    ready, size = [], len(output)
    if budget is not None:
        cut = block + max(0, budget - (0 if per_block else spent))
        places = range(cut, min(cut + grace, size) + 1)
        if cut > block:
            places = [x for x in places if x == cut + grace or output[x - 1] in line_ends]
        ready = list(places)[:1]
    for n in range(len(forced) - 1, -1, -1):
        if n <= size - block and output[size - n :] == forced[:n]:
            is_cut = ready and n <= size - ready[0]
            if is_cut or (loop and find_repetition(output[block : size - n], *loop)):
                return forced[n]
    return None


def reasoning(row, reasoning_budget, prompt, output, *, end, start=(), **more):
    """`more` has message, least, grace, line_ends, per_block, loop and eos."""
    start, end, prompt, output = map(list, (start, end, prompt, output))
    block, spent = reasoning_block(prompt, output, start, end)
    if block is None:
        return row
    next_forced = reasoning_end(
        output,
        block,
        spent,
        budget=reasoning_budget,
        forced=[*more["message"], *end],
        **{name: more[name] for name in ("grace", "line_ends", "per_block", "loop")},
    )
    if next_forced is not None:
        return keep(row, [next_forced])
    if len(output) - block >= more["least"]:
        return row
    tokens = prompt + output if start else output
    begun = len(end) - 1
    is_last = begun == 0 or tokens[-begun:] == end[:-1]
    return remove(row, [*more["eos"], *([end[-1]] if is_last else [])])


def logit_bias(row, bias):
    out = row.copy()
    for token, value in bias.items():
        out[token] += value
    return out


def logprobs(row):
    best = row.max()
    return row - best - np.log(np.exp(row - best).sum())


# ---- the draw, as docs/rng.md has it


def dry(row, tokens, multiplier, base, allowed, window, breakers):
    """By looking at all pairs of places."""
    tokens = tokens if window is None else tokens[max(0, len(tokens) - window) :]
    row = row.copy()
    limit = len(tokens)
    for end in range(len(tokens), 0, -1):  # where the last breaker begins
        found = [b for b in breakers if tokens[end - 1 : end - 1 + len(b)] == b]
        if found:
            limit = len(tokens) - (end - 1) - max(map(len, found))
            break
    if multiplier == 0 or len(tokens) <= allowed or limit < allowed:
        return row
    longest = {}
    for place in range(1, len(tokens)):  # the token here followed on what came before
        n = 0
        while n < place and tokens[place - 1 - n] == tokens[-1 - n]:
            n += 1
        n = min(n, limit)
        if n >= allowed and 0 <= tokens[place] < row.size:
            longest[tokens[place]] = max(n, longest.get(tokens[place], 0))
    for token, n in longest.items():
        if [token] not in breakers:
            exponent = n - allowed
            if base > 1.000001:
                exponent = min(exponent, int(88.7228391 / math.log(base)))
            row[token] -= multiplier * base**exponent
    return row


def dynamic_temperature(row, t, reach, exponent):
    finite = np.isfinite(row)
    if reach == 0:
        return temperature(row, t)
    if finite.sum() == 1:
        return row
    share = min(max(entropy(row) / np.log(finite.sum()), 0), 1)
    low = max(0, t - reach)
    return temperature(row, low + (t + reach - low) * share**exponent)


def mirostat(row, mu):
    q = probs(row)
    return keep(row, (q >= 2.0**-mu * (1 - SLACK)) | (row == row.max()))


def adaptive_p(row, target):
    distance = np.abs(probs(row) - target) / 0.3
    return np.where(row > -np.inf, 5 - 10 * distance**2 / (1 + distance), -np.inf)


def philox(counter, key):
    """Philox4x32-10 of four arrays of counter words, each below 2**32 and uint64."""
    c0, c1, c2, c3 = counter
    low = np.uint64(2**32 - 1)
    for round_ in range(10):
        k0, k1 = (
            np.uint64((k + round_ * weyl) % 2**32)
            for k, weyl in zip(key, (0x9E3779B9, 0xBB67AE85), strict=True)
        )
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        shift = np.uint64(32)
        c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ k0, p1 & low, (p0 >> shift) ^ c3 ^ k1, p0 & low
    return c0, c1, c2, c3


def arrivals(seed, position, vocab):
    """When each token arrives if its logit is 0: independent exponentials."""

    def words(stream, count):
        index = np.arange(count, dtype=np.uint64)
        places = position % 2**32, position >> 32, stream
        at, at_high, in_stream = (np.full_like(index, place) for place in places)
        return philox((at, at_high, index, in_stream), (seed % 2**32, seed >> 32))

    high, low, which, _ = words(0, -(-vocab // 64))
    uniform = (((high << np.uint64(32) | low) >> np.uint64(12)) + 0.5) * 2.0**-52
    first, leader = np.repeat(-np.log1p(-uniform) / 64, 64), np.repeat(which % np.uint64(64), 64)
    word = np.stack(words(1, 16 * -(-vocab // 64)), axis=1).reshape(-1)
    follows = np.arange(first.size) % 64 != leader
    return (first - follows * np.log1p(-(word + 0.5) * 2.0**-32))[:vocab]


def sample(row, seed, position):
    """The token of the best score, of equal scores the lowest."""
    row = np.asarray(row, np.float64)
    return np.argmax(row - row.max() - np.log(arrivals(seed, position, row.size)))


# ---- watermarks, as docs/watermarks.md has them


def gumbel_words(key, context, vocab):
    """vLLM's 32 random bits of each token, (vocab,)."""
    k0, k1, state = key % 2**32, key >> 32, [0x574D4358, len(context), 0, 0]
    for offset in range(0, len(context), 4):
        block = [t % 2**32 for t in context[offset : offset + 4]]
        block += [2**32 - 1 - i for i in range(len(block), 4)]
        counter = [np.array([s ^ b], np.uint64) for s, b in zip(state, block, strict=True)]
        state = [int(word[0]) for word in philox(counter, (k0 ^ offset, k1))]
    groups = np.arange(-(-vocab // 4), dtype=np.uint64)
    counter = groups, *(np.full_like(groups, word) for word in state[:3])
    words = philox(counter, (k0 ^ state[3], k1 ^ 0x574D544B))
    return np.stack(words, axis=1).reshape(-1)[:vocab]


def murmur(words):
    """MurmurHash3 (x86, 32 bits, seed 0) of words."""

    def turned(x, bits):
        return (x << bits | x >> (32 - bits)) % 2**32

    state = 0
    for word in words:
        state ^= turned(word % 2**32 * 0xCC9E2D51 % 2**32, 15) * 0x1B873593 % 2**32
        state = (turned(state, 13) * 5 + 0xE6546B64) % 2**32
    state ^= 4 * len(words)
    state = (state ^ state >> 16) * 0x85EBCA6B % 2**32
    state = (state ^ state >> 13) * 0xC2B2AE35 % 2**32
    return state ^ state >> 16


def halves(key):
    return key % 2**32, key >> 32


def sglang_words(key, context, vocab):
    hashed = murmur(context)
    return np.array([murmur([*halves(key), hashed, t]) for t in range(vocab)], np.uint64)


def noise_words(mark, prompt, output, vocab):
    """The words of the next draw; None where it is an ordinary one. Not of "dual_key_gumbel"."""
    width = mark.context_width

    def context(n):
        if mark.scheme == "sglang":
            return [*prompt, *output[:n]][-width:]
        return [-1] * max(0, width - n) + output[max(0, n - width) : n]

    here = context(len(output))
    if mark.deduplicate and here in map(context, range(len(output))):
        return None
    if mark.scheme != "sglang":
        return gumbel_words(mark.key, here, vocab)
    keys = mark.key, mark.key if mark.key_b is None else mark.key_b
    coin = murmur([*halves(keys[0]), *halves(keys[1]), murmur(here)])
    return sglang_words(keys[coin >= (1 - (mark.alpha or 0)) * 2**32], here, vocab)


def green_tokens(mark, output, vocab):
    """(vocab,): which tokens are green."""

    def signed(x, bits):
        return (x + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)

    def jenkins(token):
        i = signed(token + 1, 32)
        for step in (lambda i: i - signed(i << 6, 32), lambda i: i ^ i >> 17):
            i = signed(step(i), 32)
        i = signed(i - signed(i << 9, 32), 32)
        i = signed(i ^ i << 4, 32)
        i = signed(i - signed(i << 3, 32), 32)
        i = signed(i ^ i << 10, 32)
        return i ^ i >> 15

    width = mark.context_width
    context = ([-1] * width + list(output))[-width:]
    green = np.zeros(vocab, bool)
    for token in range(vocab):
        others = [token, *context[1:]]
        seed = min(signed(mark.key * jenkins(t) * jenkins(token), 64) for t in others) % 2**64
        counter = [np.array([x], np.uint64) for x in (token // 4, 0, 0, 0)]
        word = int(philox(counter, halves(seed))[token % 4][0])
        green[token] = word % 2**31 < int(mark.gamma * (2**31 - 1))
    return green


def green_list(row, mark, output):
    return np.where(green_tokens(mark, output, row.size), row + mark.delta, row)


def cut(text, stop):
    """(the text up to the phrase that is complete first, that phrase)."""
    for end in range(len(text) + 1):
        complete = [phrase for phrase in stop if text[:end].endswith(phrase)]
        if complete:
            phrase = max(complete, key=len)
            return text[: end - len(phrase)], phrase
    return text, None
