"""What a request may say.

request.py      `Params`: the table of all fields, and the parser of a request's body
fields.py       `Field`: range, off value, check
lists.py        lists of token ids, phrases, seeds and biases, each checked once
options.py      what `RepetitionDetection` (repetition.py) and `Watermark` (watermark.py) share
columns.py      the same fields as parameters of the pure functions, one value or one per row
"""

from .columns import column, reals
from .fields import Field, Interval, field, fields_of, real_number, required_of, whole_number
from .lists import (
    BIAS_INTERVAL,
    SEED_INTERVAL,
    Bias,
    Phrases,
    Seeds,
    StopPhrases,
    StopTokens,
    TokenIds,
)
from .repetition import RepetitionDetection
from .request import FIELDS, Params
from .watermark import Watermark

__all__ = [
    "BIAS_INTERVAL",
    "FIELDS",
    "SEED_INTERVAL",
    "Bias",
    "Field",
    "Interval",
    "Params",
    "Phrases",
    "RepetitionDetection",
    "Seeds",
    "StopPhrases",
    "StopTokens",
    "TokenIds",
    "Watermark",
    "column",
    "field",
    "fields_of",
    "real_number",
    "reals",
    "required_of",
    "whole_number",
]
