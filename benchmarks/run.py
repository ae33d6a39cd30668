"""Run all benchmarks and show one table of ratios.

python benchmarks/run.py [--smoke] [--rounds N] [options of pytest and pytest-benchmark]
"""
import sys
from pathlib import Path

import pytest

OPTIONS = ["--benchmark-only", "--benchmark-columns=min,median,iqr,rounds"]

if __name__ == "__main__":
    sys.exit(pytest.main([str(Path(__file__).resolve().parent), *OPTIONS, *sys.argv[1:]]))
