"""CO-RE objects: kernel structs by name, as far as they are used, relocated to what this kernel has."""
from __future__ import annotations

import re
from random import Random
from typing import NamedTuple

from .text import Kind, count, map, program, source, work

INCLUDE = ["bpf/bpf_core_read.h"]
RAW = "raw_tp/task_rename"

# Members that kernels have had for years, by struct.
STRUCTS = {
    "bio": "struct bvec_iter bi_iter; unsigned int bi_opf;",
    "bpf_map": "__u32 id; __u32 key_size; __u32 value_size; __u32 max_entries;",
    "bpf_prog": "__u16 pages; __u32 len; struct bpf_prog_aux *aux;",
    "bpf_prog_aux": "__u32 id; __u32 func_cnt; __u32 used_map_cnt;",
    "bvec_iter": "__u64 bi_sector; unsigned int bi_size;",
    "cgroup": "int level; struct kernfs_node *kn;",
    "cred": "kuid_t uid; kuid_t euid; unsigned int securebits; struct user_namespace *user_ns;",
    "css_set": "struct cgroup *dfl_cgrp;",
    "dentry": "unsigned int d_flags; struct dentry *d_parent; struct inode *d_inode; struct super_block *d_sb;",
    "fdtable": "unsigned int max_fds;",
    "file": "unsigned int f_flags; unsigned int f_mode; long long f_pos; struct inode *f_inode; struct cred *f_cred;"
            " struct path f_path;",
    "file_system_type": "int fs_flags;",
    "files_struct": "unsigned int next_fd; struct fdtable *fdt;",
    "fs_struct": "int umask; struct path pwd; struct path root;",
    "inode": "unsigned short i_mode; unsigned int i_flags; unsigned long i_ino; long long i_size; unsigned int i_nlink;"
             " unsigned int i_rdev; struct super_block *i_sb; kuid_t i_uid;",
    "irqaction": "unsigned int irq; unsigned int flags;",
    "kernfs_node": "__u64 id; unsigned short mode;",
    "linux_binprm": "struct file *file; struct mm_struct *mm; struct cred *cred; int argc; int envc;",
    "mm_struct": "unsigned long start_code; unsigned long end_code; unsigned long start_brk; unsigned long arg_start;"
                 " unsigned long env_end; unsigned long total_vm; unsigned long data_vm; int map_count;"
                 " struct file *exe_file;",
    "net": "struct ns_common ns; struct net_device *loopback_dev; struct user_namespace *user_ns;",
    "net_device": "int ifindex; unsigned int mtu; unsigned int flags; unsigned short type; unsigned char addr_len;",
    "ns_common": "unsigned int inum;",
    "nsproxy": "struct uts_namespace *uts_ns; struct pid_namespace *pid_ns_for_children; struct net *net_ns;",
    "path": "struct vfsmount *mnt; struct dentry *dentry;",
    "pid_namespace": "unsigned int level; struct pid_namespace *parent; struct ns_common ns;",
    "request": "__u64 __sector; unsigned int __data_len; unsigned int cmd_flags; struct bio *bio;",
    "rq": "unsigned int nr_running; __u64 clock; struct task_struct *curr;",
    "sched_entity": "__u64 exec_start; __u64 sum_exec_runtime; __u64 vruntime;",
    "seq_file": "unsigned long size; unsigned long from; unsigned long count; struct file *file;",
    "signal_struct": "int nr_threads; int group_exit_code; short oom_score_adj; unsigned long nvcsw;",
    "sk_buff": "unsigned int len; unsigned int data_len; __u16 protocol; __u16 mac_len; unsigned int truesize;"
               " struct net_device *dev; struct sock *sk; __u32 hash; __u16 queue_mapping;",
    "sock": "struct sock_common __sk_common; __u16 sk_type; __u16 sk_protocol; int sk_rcvbuf; int sk_sndbuf;"
            " __u32 sk_mark; kuid_t sk_uid;",
    "sock_common": "__u16 skc_family; unsigned char skc_state; __u16 skc_num; __u16 skc_dport; __u32 skc_daddr;"
                   " __u32 skc_rcv_saddr; int skc_bound_dev_if;",
    "super_block": "unsigned int s_dev; unsigned long s_blocksize; unsigned long s_magic; long long s_maxbytes;"
                   " struct file_system_type *s_type; struct dentry *s_root;",
    "task_struct": "int pid; int tgid; unsigned int flags; int prio; int static_prio; __u64 start_time; int exit_code;"
                   " struct task_struct *real_parent; struct task_struct *group_leader; struct mm_struct *mm;"
                   " struct cred *cred; struct nsproxy *nsproxy; struct files_struct *files; struct fs_struct *fs;"
                   " struct signal_struct *signal; __u64 utime; unsigned long nvcsw; unsigned int policy;"
                   " struct css_set *cgroups; struct sched_entity se;",
    "tcp_sock": "__u32 snd_cwnd; __u32 srtt_us; __u32 rcv_nxt; __u32 snd_nxt; __u32 total_retrans; __u64 bytes_acked;",
    "timer_list": "unsigned long expires; __u32 flags;",
    "user_namespace": "int level; struct user_namespace *parent; struct ns_common ns;",
    "uts_namespace": "struct ns_common ns;",
    "vfsmount": "struct dentry *mnt_root; struct super_block *mnt_sb; int mnt_flags;",
    "vm_area_struct": "unsigned long vm_start; unsigned long vm_end; unsigned long vm_pgoff; struct mm_struct *vm_mm;"
                      " struct file *vm_file;",
}


class Member(NamedTuple):
    name: str
    struct: str  # "" for a number
    pointer: bool


def parse(body: str) -> list[Member]:
    found = []
    for declaration in filter(None, (part.strip() for part in body.split(";"))):
        type_, star, name = re.fullmatch(r"(.*?) (\*?)(\w+)", declaration).groups()  # type: ignore[union-attr]
        if type_ == "kuid_t":
            found.append(Member(f"{name}.val", "", False))
        else:
            found.append(Member(name, type_[len("struct "):] if type_.startswith("struct ") else "", bool(star)))
    return found


MEMBERS = {name: parse(body) for name, body in STRUCTS.items()}
# A struct stands before those that have it as a member, so that each is complete where it has to be.
EMBEDDED = {member.struct for members in MEMBERS.values() for member in members if member.struct and not member.pointer}
ORDER = sorted(STRUCTS, key=lambda name: (name not in EMBEDDED, name))
TYPES = "\n".join([
    "#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)",
    "typedef struct { unsigned int val; } kuid_t;",
    *(f"struct {name} {{ {STRUCTS[name]} }};" for name in ORDER),
    "#pragma clang attribute pop",
])


def path(draw: Random, root: str) -> str:
    """A way from a struct over pointers to a number, as BPF_CORE_READ has it: "mm, exe_file, f_flags"."""
    steps, current, prefix = [], root, ""
    while True:
        members = MEMBERS[current]
        if len(steps) > 3:  # there is a number in each that stands behind a pointer, or a struct that has one
            members = [member for member in members if not member.pointer] or members
        member = draw.choice(members)
        prefix += member.name
        if member.struct and not member.pointer:
            prefix += "."
            current = member.struct
            continue
        steps.append(prefix)
        if not member.struct:
            return ", ".join(steps)
        current, prefix = member.struct, ""


def reads(draw: Random, n: int, root: str | None = None) -> list[str]:
    """Statements that read n numbers, each from one of a few roots that are taken for pointers to it."""
    roots = [root] if root else draw.sample(sorted(STRUCTS), min(n, draw.randrange(2, 7)))
    lines = [f"struct {name} *{name}_at = (void *)ctx->args[{i % 3}];" for i, name in enumerate(roots)]
    for _ in range(n):
        chosen = draw.choice(roots)
        lines.append(f"sum += (__u64)BPF_CORE_READ({chosen}_at, {path(draw, chosen)});")
    return [*lines, *(f"(void){name}_at;" for name in roots)]


ARGUMENTS = "struct bpf_raw_tracepoint_args *ctx"


def fields(draw: Random, variant: int) -> str:
    return source(TYPES, "__u64 sum;", program(RAW, "read", *work(draw, 2), *reads(draw, 1 + variant % 40),
                                               context=ARGUMENTS), include=INCLUDE)


def direct(draw: Random, variant: int) -> str:
    """The kernel's own pointers, which are followed without a helper."""
    numbers = [member.name for member in MEMBERS["task_struct"] if not member.struct]
    chosen = draw.sample(numbers, draw.randrange(1, len(numbers)))
    return source(TYPES, "__u64 sum;", program(
        "tp_btf/sched_switch", "follow", "struct task_struct *task = (void *)ctx[1];",
        *(f"sum += task->{name};" for name in chosen), "sum += task->real_parent->pid;",
        context="__u64 *ctx"), include=INCLUDE)


def flavors(draw: Random, variant: int) -> str:
    """A struct as it once was: of its name here, only what stands before the three underscores counts."""
    old, new = draw.choice([("state", "__state"), ("no_such_state", "__state"), ("__state", "not_any_more")])
    return source(
        f"struct task_struct___one {{ long {old}; }} __attribute__((preserve_access_index));",
        f"struct task_struct___two {{ unsigned int {new}; }} __attribute__((preserve_access_index));", "__u64 sum;",
        program(RAW, "read", "struct task_struct___one *one = (void *)ctx->args[0];",
                "struct task_struct___two *two = (void *)one;",
                *work(draw), f"if (bpf_core_field_exists(one->{old})) sum += BPF_CORE_READ(one, {old});",
                f"else if (bpf_core_field_exists(two->{new})) sum += BPF_CORE_READ(two, {new});", context=ARGUMENTS),
        include=INCLUDE)


def enums(draw: Random, variant: int) -> str:
    """Values of enumerations as this kernel has them, and one that it has not. The names differ from the headers'."""
    return source(
        f"enum bpf_map_type___mine {{ BPF_MAP_TYPE_HASH___mine = {draw.randrange(100, 200)},"
        " BPF_MAP_TYPE_NEVER___mine = 7 };", "enum no_such_enum { NO_SUCH_VALUE };", "__u64 sum;",
        program(RAW, "ask", *work(draw),
                "sum += bpf_core_enum_value(enum bpf_map_type___mine, BPF_MAP_TYPE_HASH___mine);",
                "if (bpf_core_enum_value_exists(enum bpf_map_type___mine, BPF_MAP_TYPE_NEVER___mine)) sum += 1;",
                "if (bpf_core_enum_value_exists(enum no_such_enum, NO_SUCH_VALUE)) sum += 2;"), include=INCLUDE)


def questions(draw: Random, variant: int) -> str:
    """What is there, of which size, and where."""
    name = draw.choice(["task_struct", "sk_buff", "inode", "cred"])
    member = draw.choice([member.name for member in MEMBERS[name] if not member.struct and "." not in member.name])
    nothing = "struct no_kernel_has_this { int field; } __attribute__((preserve_access_index));"
    return source(TYPES, nothing, "__u64 sum;", program(
        RAW, "ask", *work(draw), f"if (bpf_core_type_exists(struct {name})) sum += bpf_core_type_size(struct {name});",
        f"if (bpf_core_field_exists(struct {name}, {member})) sum += bpf_core_field_size(struct {name}, {member});",
        f"sum += bpf_core_field_offset(struct {name}, {member});",
        f"sum += bpf_core_type_id_kernel(struct {name}) + bpf_core_type_id_local(struct {name});",
        "if (bpf_core_type_exists(struct no_kernel_has_this)) sum += bpf_core_type_size(struct no_kernel_has_this);",
        f"if (bpf_core_type_matches(struct {name})) sum += 1;"), include=INCLUDE)


def guarded(draw: Random, variant: int) -> str:
    """What no kernel has, read only where it is: libbpf poisons the instruction, and the verifier never gets there."""
    return source(
        "struct task_struct { int pid; int pylbpf_has_no_such_field; } __attribute__((preserve_access_index));",
        f"struct not_there_{variant} {{ int field; }} __attribute__((preserve_access_index));", "__u64 sum;",
        program(RAW, "read", "struct task_struct *task = (void *)ctx->args[0];",
                f"struct not_there_{variant} *other = (void *)task;",
                *work(draw), "sum += BPF_CORE_READ(task, pid);",
                "if (bpf_core_field_exists(task->pylbpf_has_no_such_field))",
                "sum += BPF_CORE_READ(task, pylbpf_has_no_such_field);",
                f"if (bpf_core_type_exists(struct not_there_{variant})) sum += BPF_CORE_READ(other, field);",
                context=ARGUMENTS),
        include=INCLUDE)


def missing(draw: Random, variant: int) -> str:
    """The same without asking first: refused by the verifier, in words of libbpf."""
    struct, field = draw.choice([("task_struct", "pylbpf_has_no_such_field"), (f"not_there_{variant}", "field")])
    return source(
        TYPES if struct != "task_struct" else "",
        f"struct {struct} {{ int {field}; }} __attribute__((preserve_access_index));", "__u64 sum;",
        program(RAW, "read", f"struct {struct} *at = (void *)ctx->args[0];", *work(draw),
                f"sum += BPF_CORE_READ(at, {field});", context=ARGUMENTS), include=INCLUDE)


def bitfields(draw: Random, variant: int) -> str:
    names = ["in_execve", "in_iowait", "sched_reset_on_fork", "sched_contributes_to_load"]
    chosen = draw.sample(names, 1 + variant % 3)
    return source(
        "struct task_struct { " + " ".join(f"unsigned int {name}:1;" for name in chosen)
        + " } __attribute__((preserve_access_index));", "__u64 sum;",
        program(RAW, "read", "struct task_struct *task = (void *)ctx->args[0];", *work(draw),
                *(f"if (bpf_core_field_exists(task->{name})) sum += BPF_CORE_READ_BITFIELD_PROBED(task, {name});"
                  for name in chosen), context=ARGUMENTS), include=INCLUDE)


def arrays(draw: Random, variant: int) -> str:
    """Elements of arrays, and text."""
    at = draw.randrange(16)
    return source(
        "struct task_struct { char comm[16]; struct task_struct *group_leader; }",
        "__attribute__((preserve_access_index));",
        "char name[16]; __u64 sum;",
        program(RAW, "read", "struct task_struct *task = (void *)ctx->args[0];", *work(draw),
                f"sum += BPF_CORE_READ(task, group_leader, comm[{at}]);",
                "BPF_CORE_READ_STR_INTO(&name, task, group_leader, comm);", context=ARGUMENTS), include=INCLUDE)


def tool(draw: Random, variant: int) -> str:
    """As a tool would be: 5 to 40 reads of various structs in a few programs, two maps, globals that are set before."""
    n, programs = draw.randrange(5, 41), draw.randrange(1, 5)
    shares = [n // programs + (i < n % programs) for i in range(programs)]
    hooks = ["task_rename", "sched_switch", "sched_process_exit", "sys_enter", "sys_exit"]
    return source(
        TYPES, f"const volatile __u32 only = 0; const volatile bool verbose = {draw.randrange(2)};",
        f"__u64 sum; char tag[16] = \"tool{variant}\";",
        map("starts", "HASH", draw.randrange(64, 10240)), map("events", "RINGBUF", 1 << 14, key="", value=""),
        *(program(f"raw_tp/{draw.choice(hooks)}", f"on_{i}", *work(draw, 3),
                  "if (only && only != (__u32)(bpf_get_current_pid_tgid() >> 32)) return 0;",
                  *reads(draw, max(1, share)),
                  count("starts", i), "if (verbose) bpf_ringbuf_output(&events, &n, sizeof(n), 0);", context=ARGUMENTS)
          for i, share in enumerate(shares)), include=INCLUDE)


KINDS = {
    "core_fields": Kind(fields, needs="btf"),
    "core_direct": Kind(direct, needs="btf"),
    "core_flavors": Kind(flavors, needs="btf"),
    "core_enums": Kind(enums, needs="btf"),
    "core_questions": Kind(questions, needs="btf"),
    "core_guarded": Kind(guarded, needs="btf"),
    "core_missing": Kind(missing, "rejected", needs="btf"),
    "core_bitfields": Kind(bitfields, needs="btf"),
    "core_arrays": Kind(arrays, needs="btf"),
    "core_tool": Kind(tool, needs="btf"),
}
