"""Run the benchmarks and show one table of ratios: all, or those of the files that are named.

python benchmarks/run.py [--smoke] [--rounds N] [options of pytest and pytest-benchmark] [benchmarks/FILE.py[::NAME]...]
"""
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
OPTIONS = ["--benchmark-only", "--benchmark-columns=min,median,iqr,rounds"]


def is_benchmark(word: str) -> bool:
    path = Path(word.partition("::")[0]).resolve()
    return path.exists() and (path == HERE or HERE in path.parents)


def arguments(words: "list[str]") -> "list[str]":
    return [*([] if any(map(is_benchmark, words)) else [str(HERE)]), *OPTIONS, *words]


if __name__ == "__main__":
    sys.exit(pytest.main(arguments(sys.argv[1:])))
