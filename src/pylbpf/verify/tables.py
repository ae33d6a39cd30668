"""Results as tables: CSV, JSON, numpy, pandas, Arrow."""
from __future__ import annotations

import csv
import importlib
import io
import json
import os
from typing import TYPE_CHECKING, Any, Callable, Optional, Sequence, Union

if TYPE_CHECKING:
    from .report import VerifyResult

# What is in a column; all but the logs, which are long, and not for tables.
TEXTS = ("object", "path", "program", "section", "type", "verdict", "reason", "source")
TIMES = ("seconds", "verification_time")
COUNTS = (
    "insns_processed", "total_states", "peak_states", "max_states_per_insn", "mark_read", "stack_depth", "insn_count",
    "xlated_size", "jited_size", "errno", "insn",
)
COLUMNS = (
    "object", "path", "program", "section", "type", "verdict", "seconds", "verification_time", "insns_processed",
    "total_states", "peak_states", "max_states_per_insn", "mark_read", "stack_depth", "stack_depths", "insn_count",
    "xlated_size", "jited_size", "errno", "reason", "insn", "source",
)
MAY_BE_NONE = ("reason", "source")


def write(path: Optional[Union[str, "os.PathLike[str]"]], text: str) -> Optional[str]:
    if path is None:
        return text
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(text)
    return None


def read(path: Union[str, "os.PathLike[str]"]) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return file.read()


def joined(depths: Sequence[int]) -> str:
    return "+".join(map(str, depths))


def cell(result: VerifyResult, column: str) -> Any:
    value = getattr(result, column)
    return joined(value) if column == "stack_depths" else value


# ---------------------------------------------------------------- CSV


def to_csv(results: Sequence[VerifyResult]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in results:
        row = (cell(result, column) for column in COLUMNS)
        writer.writerow(["" if value is None else value for value in row])
    return text.getvalue()


def from_csv(text: str, make: Callable[..., VerifyResult]) -> list[VerifyResult]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        missing = {"object", "program", "verdict"} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"no table of verify_many(): it has no column {sorted(missing)[0]!r}")
        return [make(**values(row, reader.line_num)) for row in reader]
    except csv.Error as error:
        raise ValueError(f"no table of verify_many(): line {reader.line_num}: {error}") from None


def values(row: dict[str, Optional[str]], line: int) -> dict[str, Any]:
    """The fields of a result, from one line of a table."""
    fields: dict[str, Any] = {"log": ""}
    for column in COLUMNS:
        text = row.get(column) or ""
        try:
            if column == "stack_depths":
                fields[column] = tuple(int(depth) for depth in text.split("+") if depth)
            elif column in TEXTS:
                fields[column] = None if not text and column in MAY_BE_NONE else text
            elif column != "stack_depth":
                number = float if column in TIMES else int
                fields[column] = number(text) if text else None
        except ValueError:
            raise ValueError(f"line {line}: {text!r} is not a value of {column}") from None
    fields["seconds"] = fields["seconds"] or 0.0
    fields["errno"] = fields["errno"] or 0
    return fields


# ---------------------------------------------------------------- JSON


def to_json(about: dict[str, Any], results: Sequence[VerifyResult]) -> str:
    return json.dumps({**about, "results": [result._asdict() for result in results]}, indent=1) + "\n"


def from_json(text: str, make: Callable[..., VerifyResult]) -> tuple[dict[str, Any], list[VerifyResult]]:
    whole = json.loads(text)
    try:
        results = []
        for record in whole["results"]:
            record["stack_depths"] = tuple(record["stack_depths"])
            result = make(**record)
            check(result)
            results.append(result)
        about = {"kernel": str(whole["kernel"]), "libbpf": str(whole["libbpf"]), "seconds": float(whole["seconds"])}
        return about, results
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no report of verify_many(): {type(error).__name__}: {error}") from None


def check(result: VerifyResult) -> None:
    """That each field is what a report has there, since others count and compare with it."""
    if not all(type(depth) is int for depth in result.stack_depths):
        raise TypeError(f"stack_depths: {result.stack_depths!r}")
    for columns, types in ((TEXTS + ("log",), (str,)), (TIMES, (float, int)), (COUNTS, (int,))):
        for column in columns:
            value = getattr(result, column)
            known = value is not None or column in ("verdict", "object", "program", "seconds", "errno")
            if known and type(value) not in types:
                raise TypeError(f"{column}: {value!r}")


# ---------------------------------------------------------------- arrays and frames


def need(module: str, method: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"VerifyReport.{method}() needs {module}, which is not installed", name=module) from error


def to_numpy(results: Sequence[VerifyResult]) -> Any:
    numpy = need("numpy", "to_numpy")
    columns = {column: [cell(result, column) for result in results] for column in COLUMNS}
    kinds = []
    for column, found in columns.items():
        if column in TIMES:
            columns[column] = [float("nan") if value is None else value for value in found]
            kinds.append((column, "f8"))
        elif column in COUNTS:
            columns[column] = [-1 if value is None else value for value in found]
            kinds.append((column, "i8"))
        else:
            columns[column] = ["" if value is None else value for value in found]
            kinds.append((column, f"U{max(map(len, columns[column]), default=0) or 1}"))
    table = numpy.empty(len(results), kinds)
    for column, found in columns.items():
        table[column] = found
    return table


def to_pandas(results: Sequence[VerifyResult]) -> Any:
    pandas = need("pandas", "to_pandas")
    kinds = {**dict.fromkeys(TIMES, "float64"), **dict.fromkeys(COUNTS, "Int64")}
    return pandas.DataFrame({
        column: pandas.Series([cell(result, column) for result in results], dtype=kinds.get(column, "object"))
        for column in COLUMNS
    })


def to_arrow(results: Sequence[VerifyResult]) -> Any:
    arrow = need("pyarrow", "to_arrow")
    kinds = {**dict.fromkeys(TIMES, arrow.float64()), **dict.fromkeys(COUNTS, arrow.int64()),
             "stack_depths": arrow.list_(arrow.int64())}
    return arrow.table({
        column: arrow.array([plain(getattr(result, column)) for result in results], kinds.get(column, arrow.string()))
        for column in COLUMNS
    })


def plain(value: Any) -> Any:
    if isinstance(value, str):  # Arrow takes UTF-8 only
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return list(value) if isinstance(value, tuple) else value
