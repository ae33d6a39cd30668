"""What a C compiler says of types: the offset, size and alignment of every member. For comparisons with BTF."""
from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PLAIN = ("struct", "union")


def compiler() -> str:
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        pytest.skip("C compiler: not installed")
    return found


def ask(header: str, questions: list[str], folder: Path) -> list[int]:
    """What each of the C expressions is, after the text of a header."""
    source = folder / "ask.c"
    lines = "\n".join(f'\tprintf("%lld\\n", (long long)({question}));' for question in questions)
    source.write_text(f"#include <stddef.h>\n#include <stdio.h>\n#include <stdbool.h>\n#include <string.h>\n"
                      f"#include <linux/types.h>\n{header}\nint main(void)\n{{\n{lines}\n\treturn 0;\n}}\n")
    program = folder / "ask"
    result = subprocess.run([compiler(), "-w", "-O0", "-o", program, source], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return [int(line) for line in subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()]
