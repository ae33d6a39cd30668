"""The objects that tests and benchmarks use: compiled once, kept, and rebuilt when their source changes."""
from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Sequence, Union

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "tests" / "bpf"

sys.path.insert(0, str(ROOT / "tools"))
import bpfcc as bpfcc  # noqa: E402

CPU = re.compile(r"(?:cpu: |-mcpu=)(v\d)")


def cache_dir() -> Path:
    """.cache/bpf of the repository, or a folder of the user's own where that cannot be written."""
    chosen = Path(os.environ.get("PYLBPF_TEST_CACHE", ROOT / ".cache" / "bpf"))
    try:
        chosen.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=chosen):
            return chosen
    except OSError:
        own = Path(tempfile.gettempdir(), f"pylbpf-bpf-{os.getuid()}")
        own.mkdir(mode=0o700, exist_ok=True)
        return own


def build(source: Union[Path, str], name: str | None = None, *, cpu: str = "v3", defines: Sequence[str] = ()) -> Path:
    """Compile a file, or a string of C under `name`; safe to call from many processes at once.

    The result is found by what it was made from: <cache>/<hash>/<name>.bpf.o.
    """
    text = source if isinstance(source, str) else source.read_text()
    name = name or Path(source).name[: -len(".bpf.c")]
    made_from = hashlib.sha256()
    for part in (text, name, cpu, *defines, bpfcc.compiler_version(), Path(bpfcc.__file__).read_text()):
        made_from.update(part.encode() + b"\0")
    if not isinstance(source, str):
        for header in sorted(source.parent.glob("*.h")):
            made_from.update(header.read_bytes())
    output = cache_dir() / made_from.hexdigest()[:16] / f"{name}.bpf.o"
    if output.exists():
        return output
    output.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(source, str):
        return bpfcc.compile(source, output, cpu=cpu, defines=defines)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, f"{name}.bpf.c")
        written.write_text(text)
        return bpfcc.compile(written, output, cpu=cpu, defines=defines)


def build_all() -> tuple[dict[str, Path], dict[str, bpfcc.CompileError]]:
    """Every tests/bpf/*.bpf.c by its short name: those that compile, and why the others do not.

    A source asks for more than v3 in its first lines: `// cpu: v4`.
    """

    def one(source: Path) -> Union[Path, bpfcc.CompileError]:
        head = "\n".join(source.read_text().splitlines()[:5])
        wish = CPU.search(head)
        try:
            return build(source, cpu=wish.group(1) if wish else "v3")
        except bpfcc.CompileError as error:
            return error

    sources = sorted(SOURCES.glob("*.bpf.c"))
    bpfcc.compiler_version()  # also finds out, once and in this thread, whether there is a compiler at all
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = dict(zip((source.name[: -len(".bpf.c")] for source in sources), pool.map(one, sources)))
    return (
        {name: result for name, result in results.items() if isinstance(result, Path)},
        {name: result for name, result in results.items() if not isinstance(result, Path)},
    )


def many(
    n: int,
    sections: Union[str, Sequence[str], Callable[[int], str]] = "many/{i}",
    *,
    insns: int = 0,
    with_map: bool = False,
    by_process: bool = False,
    subprogram: bool = False,
) -> str:
    """C source of `n` programs p0000, p0001, ... that return 0 and touch no context.

    `sections`: one name for all or with {i} in it, a sequence that is gone through again and again, or a function
    of the program's number. `insns` makes each longer by about so many instructions; `with_map` adds an array that
    each counts in, and `by_process` a last slot in it: the process whose calls are counted, see
    handling.count_this_process(). With `subprogram` each calls a static function that libbpf has to append.
    """
    if isinstance(sections, str):
        section = sections.replace("{i}", "%d") if "{i}" in sections else None
        section_of = (lambda i: section % i) if section else (lambda i: sections)
    elif callable(sections):
        section_of = sections
    else:
        section_of = lambda i: sections[i % len(sections)]  # noqa: E731
    lines = [
        "#include <linux/bpf.h>",
        "#include <bpf/bpf_helpers.h>",
    ]
    if with_map:
        lines += [
            "struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, %d);" % (max(n, 1) + by_process),
            "__type(key, __u32); __type(value, __u64); } counts SEC(\".maps\");",
            "#define COUNT(i) do { __u32 slot = i; __u64 *value = bpf_map_lookup_elem(&counts, &slot); \\",
            "	if (value && COUNTS) *value += 1; } while (0)",
        ]
        lines += [
            "static __always_inline int counts_here(void) { __u32 last = %d;" % max(n, 1),
            "	__u64 *process = bpf_map_lookup_elem(&counts, &last);",
            "	return process && *process == bpf_get_current_pid_tgid() >> 32; }",
            "#define COUNTS counts_here()",
        ] if by_process else ["#define COUNTS 1"]
    if subprogram:
        lines.append("static __noinline int zero(int i) { asm volatile(\"\" : \"+r\"(i)); return i - i; }")
    count = "COUNT({i}); " if with_map else ""
    longer = f'asm volatile(".rept {insns}\\n r1 = 0\\n .endr" ::: "r1"); ' if insns else ""
    for i in range(n):
        result = f"zero({i})" if subprogram else "0"
        lines.append(f'SEC("{section_of(i)}") int p{i:04}(void *ctx) {{ {count.format(i=i)}{longer}return {result}; }}')
    lines.append('char _license[] SEC("license") = "GPL";')
    return "\n".join(lines) + "\n"
