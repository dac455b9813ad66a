"""Watermarks of the demo's model: found where they are, and not where they are not."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("gguf")

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
sys.path.insert(0, str(EXAMPLES))

import watermark
from smollm2 import Model

import logitchain as lc


@pytest.fixture(scope="module")
def texts():
    return watermark.write(Model.load(), 1, 100)


def test_texts_of_a_real_model_are_found_with_their_key_alone(texts):
    for (scheme, setting), some in texts.items():
        mark = watermark.SCHEMES[scheme]
        if mark is not None and setting == "temperature 1":
            assert lc.detect_watermark(some[0], mark).p_value < 1e-3
        for other in watermark.SCHEMES.values():
            if other is not None and other is not mark:
                assert lc.detect_watermark(some[0], other).p_value > 1e-4
    assert watermark.shares("gumbel", texts["gumbel", "temperature 1"])[0] == 1.0


def test_p_values_of_plain_texts_are_uniform(texts):
    plain = [x for (scheme, _), some in texts.items() if scheme == "none" for x in some]
    p_values = sorted(
        lc.detect_watermark(text, {"key": key}).p_value for text in plain for key in range(200)
    )
    count = len(p_values)
    assert max(abs(p - (n + 0.5) / count) for n, p in enumerate(p_values)) < 1.63 / count**0.5
