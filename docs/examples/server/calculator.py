"""The built-in tool `math:calculator`: arithmetic, and nothing that takes long."""

import ast
import math
import operator

from simpleeval import DEFAULT_OPERATORS, InvalidExpression, SimpleEval

EXPRESSION = r"^[(-]{0,3}[0-9][0-9+*/%(). -]{0,60}$"  # what a grammar can say of one
KNOWN = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.USub, ast.UAdd)
OPERATORS = {kind: DEFAULT_OPERATORS[kind] for kind in KNOWN} | {ast.Pow: operator.pow}


def calculate(expression: str) -> str:
    """The value of an expression; ValueError or ArithmeticError if it has none.

    >>> calculate("(3 + 4) * 5 / 2")
    '17.5'
    """
    evaluator = SimpleEval(OPERATORS, functions={}, names={})
    # Floats overflow where integers would grow for ever.
    evaluator.nodes[ast.Constant] = lambda node: float(node.value)
    try:
        value = evaluator.eval(expression)
    except (SyntaxError, TypeError, InvalidExpression):
        raise ValueError(f"{expression!r} is not an expression of + - * / // % **") from None
    if isinstance(value, complex) or not math.isfinite(value):
        raise ValueError("the value is not a real number")
    return f"{value:.15g}"
