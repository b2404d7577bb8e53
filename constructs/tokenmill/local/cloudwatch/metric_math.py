"""Metric math: the expressions that this library's stacks put into alarms, and no others.

A series maps the number of a period (0 is the oldest) to its value; a missing period has no entry.
Source: Amazon CloudWatch User Guide, "Using math expressions with CloudWatch metrics".
"""

from __future__ import annotations

import ast
import math
import operator
from typing import TYPE_CHECKING

from tokenmill.core.errors import TokenmillError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Series = dict[int, float]
Value = Series | float

FUNCTIONS = ("ABS", "AVG", "CEIL", "FILL", "FLOOR", "IF", "MAX", "MIN", "SUM")

_BINARY: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Pow: operator.pow,
}
_COMPARE: dict[type[ast.AST], Callable[[float, float], bool]] = {
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_REDUCE: dict[str, Callable[[list[float]], float]] = {
    "SUM": lambda values: sum(values),
    "AVG": lambda values: sum(values) / len(values),
    "MAX": lambda values: max(values),
    "MIN": lambda values: min(values),
}
_EACH: dict[str, Callable[[float], float]] = {"ABS": abs, "CEIL": math.ceil, "FLOOR": math.floor}


class MetricMathError(TokenmillError):
    """An expression that the local cloud does not evaluate."""


def check(expression: str) -> None:
    """Refuse an expression that cannot be evaluated here.

    Args:
        expression: Metric math.

    Raises:
        MetricMathError: It is malformed, or uses a function that is not supported; the message names it.
    """
    for node in ast.walk(_parse(expression)):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ast.dump(node.func)
            if name not in FUNCTIONS:
                raise MetricMathError(
                    f"metric math function {name} is not evaluated by the local cloud; "
                    f"it evaluates {', '.join(FUNCTIONS)}, + - * / ^ and comparisons"
                )


def evaluate(expression: str, metrics: Mapping[str, Value], periods: int) -> Value:
    """Return an expression's series.

    Args:
        expression: Metric math.
        metrics: Series by their ids.
        periods: How many periods the series cover.

    Raises:
        MetricMathError: It is malformed, or uses what is not supported.
    """
    check(expression)
    return _Evaluation(metrics, periods).value(_parse(expression).body)


def _parse(expression: str) -> ast.Expression:
    source = expression.replace("&&", " and ").replace("||", " or ").replace("^", "**")
    source = source.replace(" AND ", " and ").replace(" OR ", " or ").strip()
    try:
        return ast.parse(source, mode="eval")
    except SyntaxError as error:
        raise MetricMathError(f"metric math {expression!r} is not an expression: {error.msg}") from error


class _Evaluation:
    def __init__(self, metrics: Mapping[str, Value], periods: int) -> None:
        self._metrics = metrics
        self._periods = range(periods)

    def value(self, node: ast.AST) -> Value:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return float(node.value)
        if isinstance(node, ast.Name):
            return self._named(node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return _zip(self.value(node.operand), 0.0, lambda a, _: -a)
        if isinstance(node, ast.BinOp):
            return self._binary(node)
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            compare = _COMPARE[type(node.ops[0])]
            left, right = self.value(node.left), self.value(node.comparators[0])
            return _zip(left, right, lambda a, b: float(compare(a, b)))
        if isinstance(node, ast.BoolOp):
            return self._boolean(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return self._call(node.func.id, node.args)
        raise MetricMathError(f"metric math {ast.unparse(node)!r} is not evaluated by the local cloud")

    def _named(self, name: str) -> Value:
        if name not in self._metrics:
            raise MetricMathError(
                f"metric math names {name}; the alarm's metrics are {', '.join(self._metrics)}"
            )
        return self._metrics[name]

    def _binary(self, node: ast.BinOp) -> Value:
        left, right = self.value(node.left), self.value(node.right)
        if isinstance(node.op, ast.Div):
            return _divide(left, right)
        if type(node.op) not in _BINARY:
            raise MetricMathError(f"metric math {ast.unparse(node)!r} is not evaluated by the local cloud")
        return _zip(left, right, _BINARY[type(node.op)])

    def _boolean(self, node: ast.BoolOp) -> Value:
        every = isinstance(node.op, ast.And)
        result = self.value(node.values[0])
        for operand in node.values[1:]:
            result = _zip(
                result,
                self.value(operand),
                lambda a, b: float((a != 0 and b != 0) if every else (a != 0 or b != 0)),
            )
        return result

    def _call(self, name: str, arguments: list[ast.expr]) -> Value:
        if name == "FILL":
            return self._fill(self.value(arguments[0]), arguments[1])
        if name == "IF":
            return self._if(*(self.value(argument) for argument in arguments))
        if name in _EACH:
            each = _EACH[name]
            return _zip(self.value(arguments[0]), 0.0, lambda a, _: float(each(a)))
        return self._aggregate(name, arguments)

    def _fill(self, series: Value, filling: ast.expr) -> Value:
        if isinstance(series, float):
            return series
        if isinstance(filling, ast.Name) and filling.id == "LINEAR":
            raise MetricMathError(
                "metric math FILL(…, LINEAR) is not evaluated by the local cloud; use REPEAT or a number"
            )
        repeat = isinstance(filling, ast.Name) and filling.id == "REPEAT"
        other = None if repeat else self.value(filling)
        filled: Series = {}
        last: float | None = None
        for period in self._periods:
            last = series.get(period, last if repeat else None)
            value = last if repeat else series.get(period, _at(other, period))
            if value is not None:
                filled[period] = value
        return filled

    def _if(self, condition: Value, then: Value, otherwise: Value | None = None) -> Value:
        if isinstance(condition, float):
            chosen = then if condition != 0 else otherwise
            return {} if chosen is None else chosen
        result: Series = {}
        for period, truth in condition.items():
            value = _at(then if truth != 0 else otherwise, period)
            if value is not None:
                result[period] = value
        return result

    def _aggregate(self, name: str, arguments: list[ast.expr]) -> Value:
        reduce = _REDUCE[name]
        first = arguments[0]
        if len(arguments) == 1 and not isinstance(first, ast.List):
            series = self.value(first)
            return series if isinstance(series, float) else (reduce(list(series.values())) if series else {})
        members = first.elts if isinstance(first, ast.List) else arguments
        values = [self.value(member) for member in members]
        result: Series = {}
        for period in self._periods:
            here = [value for value in (_at(series, period) for series in values) if value is not None]
            if here:
                result[period] = reduce(here)
        return result


def _at(value: Value | None, period: int) -> float | None:
    return value.get(period) if isinstance(value, dict) else value


def _zip(left: Value, right: Value, combine: Callable[[float, float], float]) -> Value:
    if isinstance(left, float) and isinstance(right, float):
        return combine(left, right)
    periods = set(left if isinstance(left, dict) else right)  # type: ignore[arg-type]  # one of them is a series
    result: Series = {}
    for period in sorted(periods):
        a, b = _at(left, period), _at(right, period)
        if a is not None and b is not None:
            result[period] = combine(a, b)
    return result


def _divide(left: Value, right: Value) -> Value:
    """Divide where the divisor is not 0; CloudWatch gives no data point there."""
    if isinstance(left, float) and isinstance(right, float):
        return left / right if right else {}
    if isinstance(right, float):
        return _zip(left, right, operator.truediv) if right else {}
    return _zip(left, {period: value for period, value in right.items() if value}, operator.truediv)
