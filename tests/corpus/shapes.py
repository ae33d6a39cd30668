"""Sound objects of many shapes: globals, maps, several programs, subprograms, tail calls, loops, sections of others."""
from __future__ import annotations

from random import Random

from .text import Kind, count, map, plain, program, source, work

RAW = "raw_tp/task_rename"
SIZES = (1, 2, 3, 5, 8, 20, 50, 100, 200, 500)

# ---------------------------------------------------------------- data


def globals_(draw: Random, variant: int) -> str:
    """In .data, .bss, .rodata, and in sections with names of their own, where libbpf makes a map of each."""
    words = draw.randrange(1, 200)
    section = draw.choice([".data.mine", ".bss.mine", ".rodata.mine"])
    start = "" if section.startswith(".bss") else " = 5"
    const = "const volatile " if section.startswith(".rodata") else ""
    return source(
        f"__u64 counted; __u64 started = {draw.randrange(1, 99)}; const volatile __u32 wanted = {draw.randrange(99)};",
        f"__u32 table[{words}] = {{ {', '.join(str(draw.randrange(1000)) for _ in range(words))} }};",
        f'{const}__u64 own SEC("{section}"){start}; struct {{ __u32 a; char name[{words}]; }} room;',
        program(RAW, "use", *work(draw), "counted += started + wanted + own;",
                f"if (counted < {words}) room.a = table[counted];", result="0"),
        *([program("tp/task/task_rename", "also", "if (wanted == 7) started = own;")] if variant % 2 else []),
    )


def rodata(draw: Random, variant: int) -> str:
    """What is read-only decides in the verifier: a branch that would be refused is never seen."""
    return source(
        "const volatile bool allowed = false; const volatile char words[] = \"one two three\";",
        program(RAW, "guarded", *work(draw), "if (allowed) asm volatile(\"r0 = *(u64 *)(r10 + 8)\" ::: \"r0\");",
                "n = words[n & 7];"),
    )


# ---------------------------------------------------------------- maps

SIMPLE = ("HASH", "ARRAY", "PERCPU_HASH", "PERCPU_ARRAY", "LRU_HASH", "LRU_PERCPU_HASH")


def maps_counting(draw: Random, variant: int) -> str:
    chosen = [draw.choice(SIMPLE) for _ in range(draw.randrange(1, 12))]
    return source(
        *(map(f"m{i}", kind, draw.randrange(1, 5000)) for i, kind in enumerate(chosen)),
        program(RAW, "use", *(count(f"m{i}", i) for i in range(len(chosen)))),
    )


def maps_special(draw: Random, variant: int) -> str:
    """Of types with rules of their own; none of them is used by the program, but all are created."""
    all_of_them = [
        map("ring", "RINGBUF", 4096 << draw.randrange(4), key="", value=""),
        map("events", "PERF_EVENT_ARRAY", 0, "__uint(key_size, 4);", "__uint(value_size, 4);", key="", value=""),
        map("stacks", "STACK_TRACE", 64, "__uint(key_size, 4);", "__uint(value_size, 400);", key="", value=""),
        map("trie", "LPM_TRIE", 32, "__uint(map_flags, BPF_F_NO_PREALLOC);", key="__u64"),
        map("queue", "QUEUE", 16, key=""),
        map("stack", "STACK", 16, key=""),
        map("bloom", "BLOOM_FILTER", 128, key=""),
        map("devices", "DEVMAP", 8, "__uint(key_size, 4);", "__uint(value_size, 4);", key="", value=""),
        map("cpus", "CPUMAP", 8, "__uint(key_size, 4);", "__uint(value_size, 4);", key="", value=""),
        map("sockets", "SOCKMAP", 8, "__uint(key_size, 4);", "__uint(value_size, 4);", key="", value=""),
        map("socket_hash", "SOCKHASH", 8, key="__u32", value="__u32"),
        map("reuse", "REUSEPORT_SOCKARRAY", 8, "__uint(key_size, 4);", "__uint(value_size, 8);", key="", value=""),
        map("xsk", "XSKMAP", 8, "__uint(key_size, 4);", "__uint(value_size, 4);", key="", value=""),
        map("cgroups", "CGROUP_ARRAY", 8, "__uint(key_size, 4);", "__uint(value_size, 4);", key="", value=""),
        map("per_socket", "SK_STORAGE", 0, "__uint(map_flags, BPF_F_NO_PREALLOC);", key="int"),
        map("per_task", "TASK_STORAGE", 0, "__uint(map_flags, BPF_F_NO_PREALLOC);", key="int"),
        map("user_ring", "USER_RINGBUF", 4096, key="", value=""),
    ]
    return source(*draw.sample(all_of_them, draw.randrange(3, len(all_of_them))), plain(RAW, "beside", draw))


def maps_of_maps(draw: Random, variant: int) -> str:
    outer = draw.choice(["ARRAY_OF_MAPS", "HASH_OF_MAPS"])
    inner = draw.choice(["ARRAY", "HASH"])
    return source(
        f"struct inner {{ __uint(type, BPF_MAP_TYPE_{inner}); __uint(max_entries, {draw.randrange(1, 50)});"
        ' __type(key, __u32); __type(value, __u64); } first SEC(".maps"), second SEC(".maps");',
        f"struct {{ __uint(type, BPF_MAP_TYPE_{outer}); __uint(max_entries, 4); __type(key, __u32);"
        " __array(values, struct inner); } outer SEC(\".maps\") = { .values = { [0] = &first, [2] = &second } };",
        program(RAW, "use", "__u32 at = 2; void *found = bpf_map_lookup_elem(&outer, &at);",
                "if (found) { __u64 *value = bpf_map_lookup_elem(found, &at); if (value) *value += 1; }"),
    )


def arena(draw: Random, variant: int) -> str:
    return source(
        f"struct {{ __uint(type, 33); __uint(map_flags, BPF_F_MMAPABLE); __uint(max_entries, {1 << variant % 5}); }}"
        ' arena SEC(".maps");',
        program("syscall", "use", "void *map = &arena;", 'asm volatile("" :: "r"(map));'),
    )


# ---------------------------------------------------------------- programs


def several(draw: Random, variant: int) -> str:
    """Programs of different types in one object, that share a map."""
    sections = [RAW, "tp/sched/sched_switch", "xdp", "tc", "socket", "cgroup_skb/egress",
                "kprobe/do_nanosleep", "syscall"]
    chosen = draw.sample(sections, draw.randrange(2, len(sections)))
    return source(
        map("shared", draw.choice(SIMPLE[:4]), len(chosen)),
        *(plain(section, f"on_{i}", draw, count("shared", i)) for i, section in enumerate(chosen)),
    )


def size(draw: Random, variant: int) -> str:
    """From 1 to 500 programs, all in one section, in a few, or in one each."""
    n = SIZES[variant % len(SIZES)]
    sections = ["raw_tp/task_rename", "tp/task/task_rename", "xdp"]
    each = variant // len(SIZES) % 2
    return source(*(
        program(f"{draw.choice(sections[:2])}{i}" if each else sections[i % 3], f"p{i:03}", *work(draw, 1))
        for i in range(n)
    ))


def subprograms(draw: Random, variant: int) -> str:
    """Static ones, which libbpf appends to each program that calls them, and global ones, verified by themselves."""
    depth = draw.randrange(1, 6)
    lines = ["static __noinline __maybe_unused __u64 f0(__u64 n) { asm volatile(\"\" : \"+r\"(n)); return n * 3; }"]
    for i in range(1, depth + 1):
        kind = "__noinline" if draw.random() < 0.4 else "static __noinline __maybe_unused"
        lines.append(f"{kind} __u64 f{i}(__u64 n) {{ if (n & {1 << i}) n += f{i - 1}(n + {i}); return n ^ {i}; }}")
    users = draw.randrange(1, 6)
    return source(*lines, *(
        program(RAW, f"calls_{i}", *work(draw), f"n = f{draw.randrange(depth + 1)}(n);",
                'asm volatile("" :: "r"(n));') for i in range(users)
    ))


def callbacks(draw: Random, variant: int) -> str:
    """Subprograms that are called by the kernel: for each element, and so many times."""
    return source(
        map("m", draw.choice(["HASH", "ARRAY"]), draw.randrange(1, 100)),
        "static long each(void *map, __u32 *key, __u64 *value, __u64 *sum) { *sum += *value; return 0; }",
        "static long turn(__u32 i, __u64 *sum) { *sum += i; return 0; }",
        program(RAW, "sum_up", "__u64 sum = 0;", "bpf_for_each_map_elem(&m, each, &sum, 0);",
                f"bpf_loop({draw.randrange(1, 1000)}, turn, &sum, 0);", 'asm volatile("" :: "r"(sum));'),
    )


def tail_calls(draw: Random, variant: int) -> str:
    """A prog_array whose slots are declared, as libbpf fills them in after the load."""
    n = draw.randrange(1, 9)
    section = draw.choice(["xdp", "tc", "raw_tp/task_rename", "socket"])
    slots = sorted(draw.sample(range(16), n))
    return source(
        *(f"int target_{i}(void *ctx);" for i in range(n)),
        "struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 16); __type(key, __u32);"
        ' __array(values, int (void *)); } jumps SEC(".maps") = { .values = { '
        + ", ".join(f"[{slot}] = (void *)&target_{i}" for i, slot in enumerate(slots)) + " } };",
        *(plain(section, f"target_{i}", draw) for i in range(n)),
        program(section, "jump", *work(draw), f"bpf_tail_call(ctx, &jumps, {slots[0]});"),
    )


def loops(draw: Random, variant: int) -> str:
    """Verified turn by turn: some milliseconds for each program."""
    return source(NUMBERS, *(walk(f"walk_{i}", draw.randrange(200, 4000)) for i in range(draw.randrange(1, 5))))


NUMBERS = "__u64 numbers[64];"


def walk(name: str, turns: int, section: str = RAW) -> str:
    """A program that takes the verifier time in proportion to `turns` (at most some 80,000)."""
    return program(section, name, "__u64 sum = 0, i;", "#pragma clang loop unroll(disable)",
                   f"for (i = 0; i < {turns}; i++) sum += numbers[(sum + i) % 64] ^ i;", result="sum & 1")


def locks_and_timers(draw: Random, variant: int) -> str:
    """Values with fields that the kernel finds by BTF."""
    field, use = "struct bpf_timer timer;", "bpf_timer_init(&value->timer, &m, 1);"
    if variant % 2 == 0:
        field = "struct bpf_spin_lock held;"
        use = "bpf_spin_lock(&value->held); value->n += 1; bpf_spin_unlock(&value->held);"
    return source(
        f"struct value {{ {field} __u64 n; char more[{draw.randrange(1, 64)}]; }};",
        map("m", "ARRAY", draw.randrange(1, 9), value="struct value"),
        program("tc", "use", "__u32 slot = 0; struct value *value = bpf_map_lookup_elem(&m, &slot);",
                f"if (value) {{ {use} }}"),
    )


def ring(draw: Random, variant: int) -> str:
    return source(
        map("ring", "RINGBUF", 4096 << draw.randrange(5), key="", value=""),
        program(RAW, "send", *work(draw), f"char *record = bpf_ringbuf_reserve(&ring, {draw.randrange(1, 200)}, 0);",
                "if (!record) return 0;", "*record = n;", "bpf_ringbuf_submit(record, 0);"),
        program("xdp", "output", "__u64 it = 7;", "bpf_ringbuf_output(&ring, &it, sizeof(it), 0);", result="2"),
    )


def packets(draw: Random, variant: int) -> str:
    """Reads a packet as far as it has checked that there is one."""
    offset = draw.randrange(0, 40)
    section, context = draw.choice([("xdp", "struct xdp_md *ctx"), ("tc", "struct __sk_buff *ctx")])
    return source(program(
        section, "look", "unsigned char *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;",
        f"if (data + {offset} + 4 > end) return 0;", f"if (data[{offset}] == 8 && data[{offset + 3}] > 5) return 2;",
        result="1", context=context,
    ))


# ---------------------------------------------------------------- sections of others, and externs


def optional(draw: Random, variant: int) -> str:
    """`?` programs are not loaded unless asked for: here are some that could not be."""
    return source(
        plain(RAW, "real", draw), plain("?tp/task/task_rename", "sound", draw),
        program("?" + RAW, "broken", 'asm volatile("r0 = *(u64 *)(r10 + 8)" ::: "r0");'),
        program("?nobody_knows/this", "strange", *work(draw)),
    )


def handled(draw: Random, variant: int) -> str:
    """Sections that the corpus' own handlers know."""
    sections = ["corpus", "corpus/{i}", "corpus/of/{i}", "shape/xdp", "shape/{i}"]
    return source(*(
        plain(draw.choice(sections).format(i=i), f"mine_{i}", draw) for i in range(draw.randrange(1, 10))
    ), plain(RAW, "beside", draw))


def unknown(draw: Random, variant: int) -> str:
    return source(*(plain(f"nobody_knows/{variant}_{i}", f"strange_{i}", draw) for i in range(draw.randrange(1, 4))),
                  plain(RAW, "beside", draw))


def kconfig(draw: Random, variant: int) -> str:
    return source(
        "extern int LINUX_KERNEL_VERSION __kconfig; extern bool CONFIG_BPF_SYSCALL __kconfig __weak;",
        f"extern int CONFIG_PYLBPF_NOT_THERE_{variant} __kconfig __weak; __u64 seen;",
        program(RAW, "look", *work(draw), "seen = LINUX_KERNEL_VERSION + CONFIG_BPF_SYSCALL;",
                f"seen += CONFIG_PYLBPF_NOT_THERE_{variant};"),
    )


def ksyms(draw: Random, variant: int) -> str:
    names = draw.sample(["init_task", "bpf_prog_put", "tcp_prot", "jiffies_64", "nobody_has_this_symbol"], 3)
    return source(
        *(f"extern const void {name} __ksym __weak;" for name in names), "__u64 seen;",
        program(RAW, "look", *(f"seen += (__u64)&{name};" for name in names)),
    )


KINDS = {
    "globals": Kind(globals_),
    "rodata": Kind(rodata),
    "maps_counting": Kind(maps_counting),
    "maps_special": Kind(maps_special, needs="btf"),
    "maps_of_maps": Kind(maps_of_maps),
    "arena": Kind(arena, needs="map type 33, libbpf 1.5"),
    "several": Kind(several),
    "size": Kind(size),
    "subprograms": Kind(subprograms),
    "callbacks": Kind(callbacks),
    "tail_calls": Kind(tail_calls),
    "loops": Kind(loops),
    "locks_and_timers": Kind(locks_and_timers, needs="btf"),
    "ring": Kind(ring),
    "packets": Kind(packets),
    "optional": Kind(optional),
    "handled": Kind(handled, handled=True),
    "unknown": Kind(unknown, "rejected"),
    "kconfig": Kind(kconfig),
    "ksyms": Kind(ksyms, needs="btf"),
}
