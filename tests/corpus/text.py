"""C text from pieces: whole sources, programs, maps, and statements that any program may consist of."""
from __future__ import annotations

import dataclasses
from random import Random
from typing import Callable, Sequence, Union

Made = Union[str, bytes]


@dataclasses.dataclass(frozen=True)
class Kind:
    """One sort of object. `make(draw, variant)` returns a source, or a file as it is; `variant` counts from 0."""

    make: Callable[[Random, int], Made]
    expected: str = "loads"
    needs: str = ""
    handled: bool = False
    # What is done to the compiled file.
    damage: Union[Callable[[bytes, Random, int], bytes], None] = None


def source(*parts: str, license: str = "GPL", include: Sequence[str] = ()) -> str:
    lines = ["#include <linux/bpf.h>", "#include <stdbool.h>", "#include <bpf/bpf_helpers.h>",
             "#define __maybe_unused __attribute__((unused))"]
    lines += [f"#include <{name}>" for name in include]
    return "\n".join([*lines, *parts, f'char _license[] SEC("license") = "{license}";']) + "\n"


def program(section: str, name: str, *statements: str, result: str = "0", context: str = "void *ctx") -> str:
    return "\n\t".join([f'SEC("{section}") int {name}({context})\n{{', *statements, f"return {result};"]) + "\n}"


def map(name: str, type: str, entries: int, *more: str, key: str = "__u32", value: str = "__u64") -> str:  # noqa: A001
    lines = [f"__uint(type, BPF_MAP_TYPE_{type});", f"__uint(max_entries, {entries});"]
    lines += [f"__type(key, {key});"] if key else []
    lines += [f"__type(value, {value});"] if value else []
    return "struct {\n\t" + "\n\t".join([*lines, *more]) + f'\n}} {name} SEC(".maps");'


def count(name: str, slot: int) -> str:
    """Count in an array or a hash of 8-byte values."""
    return f"{{ __u32 slot = {slot}; __u64 *value = bpf_map_lookup_elem(&{name}, &slot); if (value) *value += 1; }}"


def work(draw: Random, statements: int | None = None) -> list[str]:
    """Some statements that every kind of program may have, on a number that the compiler knows nothing of."""
    lines = [f"__u64 n = {draw.randrange(1, 1000)}, some[4] = {{}};", 'asm volatile("" : "+r"(n));']
    for _ in range(draw.randrange(1, 12) if statements is None else statements):
        number = draw.randrange(1, 60)
        lines.append(draw.choice([
            f"n = n * {number} + {draw.randrange(1000)};",
            f"n ^= n >> {number};",
            f"if (n > {number * 1000}) n -= {number};",
            f"some[n & 3] += {number};",
            f"n += some[{number & 3}];",
            f"n %= {number * 77 + 1};",
            f"n <<= {number};",
        ]))
    return [*lines, 'asm volatile("" :: "r"(n), "r"(some) : "memory");']


def result_of(section: str) -> str:
    """What the kernel lets a program of that section return, whatever it is about."""
    return "1" if section.lstrip("?").startswith("cgroup") else "0"


def plain(section: str, name: str, draw: Random, *more: str) -> str:
    return program(section, name, *work(draw), *more, result=result_of(section))
