"""Which results are shown, and in which order."""
from __future__ import annotations

import operator
import re
from fnmatch import fnmatchcase
from typing import Any, Callable, Iterable, Optional

from ..verify import VerifyResult

TEXTS = ("object", "path", "program", "section", "type", "verdict", "reason", "source")
NUMBERS = (
    "seconds", "verification_time", "insns_processed", "total_states", "peak_states", "max_states_per_insn",
    "mark_read", "stack_depth", "insn_count", "xlated_size", "jited_size", "errno", "insn",
)
FIELDS = TEXTS + NUMBERS
EXPRESSION = re.compile(r"\s*(\w+)\s*(!=|<=|>=|==?|<|>)\s*(.*?)\s*")
NUMERIC: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge,
}
Test = Callable[[VerifyResult], bool]


def parse(expressions: Iterable[str]) -> Test:
    """A function that says whether all are true of a result; ValueError if one makes no sense."""
    tests = [one(expression) for expression in expressions]
    return lambda result: all(test(result) for test in tests)


def one(expression: str) -> Test:
    match = EXPRESSION.fullmatch(expression)
    if match is None:
        return lambda result: fnmatchcase(result.object, expression) or fnmatchcase(result.program, expression)
    field, sign, value = match.groups()
    if field in NUMBERS:
        return about_number(field, NUMERIC[sign], value)
    if field not in TEXTS:
        raise ValueError(f"{field!r} is not a field; there are {', '.join(FIELDS)}")
    if sign not in ("=", "==", "!="):
        raise ValueError(f"{field} is a text: it can be = or !=, not {sign}")
    return lambda result: fnmatchcase(getattr(result, field) or "", value) == (sign != "!=")


def about_number(field: str, compare: Callable[[Any, Any], bool], value: str) -> Test:
    try:
        number = float(value.replace("_", ""))
    except ValueError:
        raise ValueError(f"{value!r} is not a number, as {field} is") from None

    def test(result: VerifyResult) -> bool:
        known: Optional[float] = getattr(result, field)
        return known is not None and compare(known, number)

    return test


def order(field: str) -> Callable[[VerifyResult], Any]:
    """A key to sort by: numbers largest first, what is not known last."""

    def key(result: VerifyResult) -> Any:
        value = getattr(result, field)
        return value is None, "" if value is None else -value if field in NUMBERS else value

    return key
