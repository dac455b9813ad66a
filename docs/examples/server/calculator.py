"""The built-in tool `math:calculator`: arithmetic, and nothing that takes long."""

import ast
import operator
from collections.abc import Callable
from typing import Any

EXPRESSION = r"^[(-]{0,3}[0-9][0-9+*/%(). -]{0,60}$"  # what a grammar can say of one
LARGEST = 1e100
OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def calculate(expression: str) -> str:
    """The value of an expression; ValueError or ArithmeticError if it has none.

    >>> calculate("(3 + 4) * 5 / 2")
    '17.5'
    """
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, MemoryError, RecursionError):
        raise ValueError(f"{expression!r} is not an expression") from None
    value = _value(tree.body)
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _value(node: ast.AST) -> int | float:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _small(node.value)
    if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
        return _small(OPERATORS[type(node.op)](_value(node.operand)))
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Pow) and abs(right) > 100:
            raise ValueError(f"an exponent must be in [-100, 100], not {right}")
        return _small(OPERATORS[type(node.op)](left, right))
    raise ValueError("only numbers and + - * / // % ** and parentheses are known")


def _small(value: Any) -> int | float:
    if isinstance(value, complex) or not abs(value) <= LARGEST:
        raise ValueError(f"every value must be real and in [-{LARGEST}, {LARGEST}]")
    return value
