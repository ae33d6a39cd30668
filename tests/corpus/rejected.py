"""Objects that open well and cannot be loaded, a kind for each reason. A sound program stands before the bad one."""
from __future__ import annotations

from random import Random

from .text import Kind, map, plain, program, source

RAW = "raw_tp/task_rename"
VALUES = map("values", "HASH", 8)
LOOKUP = "__u32 key = 7; __u64 *value = bpf_map_lookup_elem(&values, &key);"


def bad(draw: Random, variant: int, *statements: str, section: str = RAW, result: str = "0", first: str = "",
        context: str = "void *ctx", license: str = "GPL") -> str:
    sound = [plain(RAW, f"sound_{i}", draw) for i in range(draw.randrange(4))]
    return source(first, *sound, program(section, "bad", *statements, result=result, context=context), license=license)


def asm(text: str, *clobbered: str) -> str:
    return f'asm volatile("{text}" ::: {", ".join(f"{chr(34)}{name}{chr(34)}" for name in clobbered)});'


def uninitialised(draw: Random, variant: int) -> str:
    register = f"r{1 + variant % 5}"  # these are gone after a call
    return bad(draw, variant, "bpf_ktime_get_ns();", asm(f"r0 = {register}; r0 += {variant}", "r0"))


def stack_bounds(draw: Random, variant: int) -> str:
    at = draw.choice([8, 16, -520, -1024, -516])
    return bad(draw, variant, asm(f"*(u64 *)(r10 {at:+d}) = r1", "memory") if at % 8 == 0
               else asm(f"r0 = *(u32 *)(r10 {at:+d})", "r0"))


def value_bounds(draw: Random, variant: int) -> str:
    return bad(draw, variant, LOOKUP, f"if (value) value[{draw.randrange(1, 50)}] = 1;", first=VALUES)


def variable_bounds(draw: Random, variant: int) -> str:
    """An index nobody has checked."""
    n = draw.randrange(2, 60)
    return bad(draw, variant, "__u64 i = bpf_get_prandom_u32();", f"numbers[i % {n + 1 + variant}] = 1;",
               first=f"__u64 numbers[{n}];")


def null(draw: Random, variant: int) -> str:
    return bad(draw, variant, LOOKUP, f"*value += {variant + 1};", first=VALUES)


def endless(draw: Random, variant: int) -> str:
    return bad(draw, variant, asm(f"r1 = {variant}; 1: r1 += 0; if r1 == {variant} goto 1b", "r1"))


def unknown_helper(draw: Random, variant: int) -> str:
    return bad(draw, variant, f"static long (*helper)(void) = (void *){9999 + variant}; helper();")


def wrong_helper(draw: Random, variant: int) -> str:
    """Helpers that are there, but not for a raw tracepoint."""
    call = ["bpf_redirect(1, 0)", "bpf_set_hash_invalid(ctx)", "bpf_skb_pull_data(ctx, 4)",
            "bpf_xdp_adjust_head(ctx, 4)", "bpf_sys_close(3)"][variant % 5]
    return bad(draw, variant, f"{call};")


def context_read(draw: Random, variant: int) -> str:
    section, size = draw.choice([("xdp", 24), ("raw_tp.w/task_rename", 4096), ("tc", 400), ("perf_event", 800)])
    return bad(draw, variant, asm(f"r0 = *(u32 *)(r1 + {size + 4 * variant})", "r0"), section=section)


def context_write(draw: Random, variant: int) -> str:
    member = ["data", "ifindex", "len"][variant % 3]
    return bad(draw, variant, f"ctx->{member} = {variant};", section="tc", context="struct __sk_buff *ctx")


def packet_bounds(draw: Random, variant: int) -> str:
    return bad(draw, variant, f"unsigned char *data = (void *)(long)ctx->data; if (data[{variant}] == 8) return 1;",
               section="xdp", context="struct xdp_md *ctx")


def stack_depth(draw: Random, variant: int) -> str:
    """Two frames that are each small enough, and together are not."""
    size = draw.randrange(264, 480, 8)
    frame = f'char room[{size}]; asm volatile("*(u8 *)(%0 + 0) = %1" :: "r"(room), "r"(1) : "memory");'
    return bad(draw, variant, frame, "inner();", section="xdp",
               first=f"static __noinline int inner(void) {{ {frame} return 0; }}")


def pointer_arithmetic(draw: Random, variant: int) -> str:
    return bad(draw, variant, asm(["r1 *= 3", "r1 <<= 2", "r1 = -r1", "r1 ^= 5", "r1 += r1"][variant % 5]
                                  + "; r0 = *(u64 *)(r1 + 0)", "r0", "r1"))


def return_value(draw: Random, variant: int) -> str:
    section = ["cgroup/sock_create", "cgroup/bind4", "cgroup/sysctl", "cgroup/dev", "cgroup_skb/egress"][variant % 5]
    return bad(draw, variant, section=section, result=str(5 + variant))


def read_only(draw: Random, variant: int) -> str:
    """A store to .rodata, which is frozen at load."""
    return bad(draw, variant, f"*(volatile __u32 *)&fixed[{variant % 4}] = 1;",
               first="const volatile __u32 fixed[4] = { 1, 2, 3, 4 };")


def license_(draw: Random, variant: int) -> str:
    """A helper that only programs under the GPL may call."""
    call = 'bpf_trace_printk("x", 2);' if variant % 2 else "char c; bpf_probe_read_kernel(&c, 1, ctx);"
    return bad(draw, variant, call, license="Proprietary")


def leaked_reference(draw: Random, variant: int) -> str:
    return bad(draw, variant, f"char *record = bpf_ringbuf_reserve(&ring, {8 + variant}, 0); if (record) *record = 1;",
               first=map("ring", "RINGBUF", 4096, key="", value=""))


def wrong_map(draw: Random, variant: int) -> str:
    return bad(draw, variant, "bpf_ringbuf_output(&values, &(__u64){1}, 8, 0);" if variant % 2
               else "bpf_map_push_elem(&values, &(__u64){1}, 0);", first=VALUES)


def wrong_argument(draw: Random, variant: int) -> str:
    """A key that is not wholly there, or none at all."""
    return bad(draw, variant, ["bpf_map_lookup_elem(&values, ctx);", "bpf_map_lookup_elem(&values, (void *)8);",
                               "__u32 key = 7; bpf_map_lookup_elem(ctx, &key);"][variant % 3], first=VALUES)


def unlocked(draw: Random, variant: int) -> str:
    locked = map("locked", "ARRAY", 1 + variant, value="struct held")
    return bad(draw, variant, "__u32 slot = 0; struct held *at = bpf_map_lookup_elem(&locked, &slot);",
               "if (at) { bpf_spin_lock(&at->lock); at->n = 1; }", section="tc",
               first="struct held { struct bpf_spin_lock lock; __u64 n; };" + locked)


def too_long(draw: Random, variant: int) -> str:
    """More open branches than the verifier keeps."""
    return bad(draw, variant, asm(
        f".rept 9000; call 7; if r0 > {variant} goto +1; r6 = 0; .endr", "r0", "r1", "r2", "r3", "r4", "r5", "r6"))


def bad_global_function(draw: Random, variant: int) -> str:
    """A global function is verified for any argument."""
    return bad(draw, variant, "__u64 n = 7; n = any(&n);", 'asm volatile("" :: "r"(n));',
               first=f"__noinline int any(__u64 *n) {{ return *n + {variant}; }}")


def missing_kfunc(draw: Random, variant: int) -> str:
    return bad(draw, variant, "nobody_has_this_kfunc();", first="extern int nobody_has_this_kfunc(void) __ksym;")


def missing_ksym(draw: Random, variant: int) -> str:
    return bad(draw, variant, f"if (&nobody_has_this_symbol_{variant} == ctx) return 1;",
               first=f"extern const void nobody_has_this_symbol_{variant} __ksym;")


def missing_kconfig(draw: Random, variant: int) -> str:
    return bad(draw, variant, f"if (CONFIG_PYLBPF_MUST_BE_THERE_{variant}) return 1;",
               first=f"extern int CONFIG_PYLBPF_MUST_BE_THERE_{variant} __kconfig;")


def missing_target(draw: Random, variant: int) -> str:
    hook = ["tp_btf/no_such_tracepoint", "fentry/no_such_function", "iter/no_such_thing", "lsm/no_such_hook"]
    return bad(draw, variant, section=hook[variant % 4])


def map_size(draw: Random, variant: int) -> str:
    """A map that the kernel does not create."""
    definition = [map("wrong", "HASH", 0), map("wrong", "QUEUE", 4),
                  map("wrong", "ARRAY", 1, key="__u64"), map("wrong", "ARRAY", 1 << 30, value="char[1 << 20]"),
                  map("wrong", "HASH", 8, f"__uint(map_flags, {1 << 30});")][variant % 5]
    return bad(draw, variant, first=definition)


REASONS = (
    uninitialised, stack_bounds, value_bounds, variable_bounds, null, endless, unknown_helper, wrong_helper,
    context_read, context_write, packet_bounds, stack_depth, pointer_arithmetic, return_value, read_only,
    license_, leaked_reference, wrong_map, wrong_argument, unlocked, too_long, bad_global_function,
    missing_kfunc, missing_ksym, missing_kconfig, missing_target, map_size,
)
NEED_BTF = (missing_target, missing_kfunc, unlocked)
KINDS = {
    make.__name__.rstrip("_"): Kind(make, "rejected", needs="btf" if make in NEED_BTF else "") for make in REASONS
}
