"""Watermarks: the draw whose noise only a key knows, and the test that finds it in the tokens.

A watermark of the draw replaces the noise of `sample`'s race: it is a function of the key and of
the tokens before, the context, instead of seed and position. The green list, which changes logits,
is the control `green_list`. `docs/watermarks.md` describes the schemes.

    noise.py    the noise of a position: how each scheme makes it of key and context
    draw.py     the race with this noise
    detect.py   the scores of a text's tokens
    tails.py    p-values: the distributions of the scores in a text without a watermark
"""

from .detect import Detection, detect_watermark
from .draw import watermarked_sample

__all__ = ["Detection", "detect_watermark", "watermarked_sample"]
