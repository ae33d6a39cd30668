"""A library with a USDT probe, and BPF programs on it."""
from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import objects
from handling import compile_c

# What <sys/sdt.h> would write: a nop, and a note that says where it is and what it is called.
LIBRARY = r"""
void probe(void)
{
	asm volatile("990: nop\n"
		".pushsection .note.stapsdt, \"\", \"note\"\n"
		".balign 4\n.4byte 992f-991f, 994f-993f, 3\n"
		"991: .asciz \"stapsdt\"\n992: .balign 4\n"
		"993: .8byte 990b, _.stapsdt.base, 0\n"
		".asciz \"pylbpf\"\n.asciz \"probe\"\n.asciz \"\"\n994: .balign 4\n.popsection\n"
		".ifndef _.stapsdt.base\n.pushsection .stapsdt.base, \"aG\", \"progbits\", .stapsdt.base, comdat\n"
		".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n.size _.stapsdt.base, 1\n.popsection\n.endif");
}
"""


@functools.cache
def library() -> Path:
    path = objects.cache_dir() / "usdt.so"
    if not path.exists():
        compile_c(LIBRARY, path)
    return path


def trip(times: int = 1) -> None:
    probe = ctypes.CDLL(str(library())).probe
    for _ in range(times):
        probe()


def build(programs: int) -> Path:
    """As many programs on the probe, each counting in its slot how often it got the right number of arguments, and two on
    another hook."""
    functions = [f"""SEC("usdt/{library()}:pylbpf:probe") int u{number}(struct pt_regs *ctx)
{{ return count({number}, bpf_usdt_arg_cnt(ctx)); }}""" for number in range(programs)]
    return objects.build("\n".join([
        "#include <linux/bpf.h>", "#include <linux/ptrace.h>", "#include <stdbool.h>",
        "#include <bpf/bpf_helpers.h>", "#include <bpf/usdt.bpf.h>",
        "struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 64); __type(key, __u32);",
        '__type(value, __u64); } counts SEC(".maps");',
        "static __always_inline int count(__u32 slot, int arguments) {",
        "	__u64 *value = bpf_map_lookup_elem(&counts, &slot);",
        "	if (value && arguments == 0) __sync_fetch_and_add(value, 1);",
        "	return 0; }",
        *functions,
        'SEC("raw_tp/task_rename") int other(void *ctx) { return 0; }',
        'SEC("raw_tp/task_rename") int another(void *ctx) { return 0; }',
        'char _license[] SEC("license") = "GPL";', ""]), f"usdt_{programs}")
