"""BPF instructions as text, in the notation of the kernel's verifier log.

Everything rests on one idea: what an opcode looks like is a template, and the templates are computed once from the
few tables that define the instruction set. The opcode alone chooses the template of most instructions; for the others
one more field does: the offset (signed division, sign-extending moves), the immediate (atomics) or the source
register (calls, 64-bit constants, conditional pseudo-jumps). An opcode without a template is undefined.

The instruction set is that of RFC 9669 with what came after it: load-acquire and store-release, may_goto, address
space casts, indirect jumps. The notation was taken from the logs of Linux 6.18, which the tests still compare with.
"""
from __future__ import annotations

import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # so that at run time neither typing nor collections is imported
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer

__all__ = ["disassemble", "format_insn", "lines"]

# struct bpf_insn in the byte order of this machine: code, registers, off, imm. The two register numbers are C bit
# fields, so their order inside the byte follows the byte order too.
_INSN = struct.Struct("=BBhi")
_DST_FIRST = sys.byteorder == "little"
_LD_IMM64 = 0x18


def format_insn(code: int, dst: int, src: int, off: int, imm: int, next_imm: int | None = None) -> str:
    """Return the text of one instruction, without its index and opcode.

    The arguments are the fields of struct bpf_insn, off and imm signed. next_imm is the imm of the second half of
    a 16-byte ld_imm64 and is used by nothing else. Numbers of registers that do not exist are printed as they are;
    an undefined instruction gives BUG_ and its opcode, as in the kernel. Never raises for fields in range.
    """
    if code == _LD_IMM64 and next_imm is None:
        return f"r{dst} = (incomplete: second half of ld_imm64 is missing)"
    template = (
        _BY_OPCODE.get(code)
        or _BY_OFF.get((code, off))
        or _BY_IMM.get((code, imm))
        or _BY_SRC.get((code, src))
        or _OTHERWISE.get(code)
        or _UNDEFINED[code & 7]
    )
    return template.format(
        code=code,
        dst=dst,
        src=src,
        off=off,
        imm=imm,
        unsigned=imm & 0xFFFFFFFF,
        low16=imm & 0xFFFF,
        high16=imm >> 16 & 0xFFFF,
        high=next_imm,
        wide=imm & 0xFFFFFFFF | ((next_imm or 0) & 0xFFFFFFFF) << 32,
        helper=_HELPERS[imm] if src == 0 and 0 <= imm < len(_HELPERS) else "unknown",
    )


def lines(buf: ReadableBuffer, *, start: int = 0) -> Iterator[tuple[int, str]]:
    """Iterate over the instructions of a program as (index, text).

    buf is any object with the buffer protocol that holds struct bpf_insn, 8 bytes each, in the byte order of this
    machine; it is copied at once, so its owner is free while the iterator lives. start is the index of the first
    instruction. A 16-byte ld_imm64 is one item and counts two in the index, as in the kernel.

    Raises ValueError, before the first item, if the size is not a multiple of 8. Any other content gives text.
    """
    return ((index, text) for index, _, text in _decode(_checked(buf), start))


def disassemble(buf: ReadableBuffer, *, start: int = 0) -> str:
    """Return the text of a program, one line per instruction, written as in the verifier's log: 3: (bf) r1 = r10.

    The arguments and errors are those of lines(). The lines are joined with newlines, without one at the end.
    """
    return "\n".join(f"{index}: ({code:02x}) {text}" for index, code, text in _decode(_checked(buf), start))


def _checked(buf: ReadableBuffer) -> bytes:
    # tobytes() takes what iter_unpack() would refuse or misread: structured formats, strides.
    data = memoryview(buf).tobytes()
    if len(data) % _INSN.size:
        raise ValueError(f"BPF instructions have {_INSN.size} bytes each, but the buffer has {len(data)} bytes")
    return data


def _decode(data: bytes, index: int) -> Iterator[tuple[int, int, str]]:
    at = 0
    while at < len(data):
        code, regs, off, imm = _INSN.unpack_from(data, at)
        dst, src = (regs & 15, regs >> 4) if _DST_FIRST else (regs >> 4, regs & 15)
        size = 1
        next_imm = None
        # Only an opcode of 0 marks a second half; before anything else, or the end, a ld_imm64 stands alone.
        if code == _LD_IMM64 and data[at + 8 : at + 9] == b"\0":
            size = 2
            next_imm = _INSN.unpack_from(data, at + 8)[3]
        yield index, code, format_insn(code, dst, src, off, imm, next_imm)
        index += size
        at += size * _INSN.size


# The templates, one dictionary per field that decides. _OTHERWISE holds what an opcode means when its field has none
# of the special values.
_BY_OPCODE: dict[int, str] = {}
_BY_OFF: dict[tuple[int, int], str] = {}
_BY_IMM: dict[tuple[int, int], str] = {}
_BY_SRC: dict[tuple[int, int], str] = {}
_OTHERWISE: dict[int, str] = {}

# By instruction class. The kernel, too, names no class in the case of stx.
_UNDEFINED = [
    f"BUG_{name}{{code:02x}}" for name in ("ld_", "ldx_", "st_", "", "alu_", "jmp_", "jmp32_", "alu64_")
]

_SIZES = {0x00: "u32", 0x08: "u16", 0x10: "u8", 0x18: "u64"}
_SIGNED = {0x00: "s32", 0x08: "s16", 0x10: "s8"}
_ARITHMETIC = {
    0x00: "+=", 0x10: "-=", 0x20: "*=", 0x30: "/=", 0x40: "|=", 0x50: "&=", 0x60: "<<=", 0x70: ">>=",
    0x90: "%=", 0xA0: "^=", 0xB0: "=", 0xC0: "s>>=",
}
_RELATIONS = {
    0x10: "==", 0x20: ">", 0x30: ">=", 0x40: "&", 0x50: "!=", 0x60: "s>", 0x70: "s>=",
    0xA0: "<", 0xB0: "<=", 0xC0: "s<", 0xD0: "s<=",
}
_ATOMICS = {0x00: ("+=", "add"), 0x40: ("|=", "or"), 0x50: ("&=", "and"), 0xA0: ("^=", "xor")}


def _add_arithmetic(cls: int, r: str) -> None:
    for op, sign in _ARITHMETIC.items():
        _OTHERWISE[cls | op] = f"{r}{{dst}} {sign} {{imm}}"
        _OTHERWISE[cls | op | 8] = f"{r}{{dst}} {sign} {r}{{src}}"
    for op in 0x30, 0x90:
        _BY_OFF[cls | op, 1] = f"{r}{{dst}} s{_ARITHMETIC[op]} {{imm}}"
        _BY_OFF[cls | op | 8, 1] = f"{r}{{dst}} s{_ARITHMETIC[op]} {r}{{src}}"
    for bits in 8, 16, 32:
        _BY_OFF[cls | 0xB8, bits] = f"{r}{{dst}} = (s{bits}){r}{{src}}"
    _BY_OPCODE[cls | 0x80] = f"{r}{{dst}} = -{r}{{dst}}"


def _add_jumps(cls: int, r: str) -> None:
    for op, relation in _RELATIONS.items():
        _BY_OPCODE[cls | op] = f"if {r}{{dst}} {relation} {{unsigned:#x}} goto pc{{off:+d}}"
        _BY_OPCODE[cls | op | 8] = f"if {r}{{dst}} {relation} {r}{{src}} goto pc{{off:+d}}"


def _add_memory() -> None:
    for size, name in _SIZES.items():
        _BY_OPCODE[0x61 | size] = f"r{{dst}} = *({name} *)(r{{src}} {{off:+d}})"
        _BY_OPCODE[0x62 | size] = f"*({name} *)(r{{dst}} {{off:+d}}) = {{imm}}"
        _BY_OPCODE[0x63 | size] = f"*({name} *)(r{{dst}} {{off:+d}}) = r{{src}}"
    for size, name in _SIGNED.items():
        _BY_OPCODE[0x81 | size] = f"r{{dst}} = *({name} *)(r{{src}} {{off:+d}})"
        # Packet access, inherited from classic BPF, has the same three sizes but no sign.
        _BY_OPCODE[0x20 | size] = f"r0 = *({_SIZES[size]} *)skb[{{imm}}]"
        _BY_OPCODE[0x40 | size] = f"r0 = *({_SIZES[size]} *)skb[r{{src}} + {{imm}}]"


def _add_atomics() -> None:
    # Kernels refuse most of these for u8 and u16, but they print them, and future ones may accept them.
    for size, name in _SIZES.items():
        code = 0xC3 | size
        bits = "64" if name == "u64" else ""
        place = f"({name} *)(r{{dst}} {{off:+d}})"
        for imm, (sign, verb) in _ATOMICS.items():
            _BY_IMM[code, imm] = f"lock *{place} {sign} r{{src}}"
            _BY_IMM[code, imm | 1] = f"r{{src}} = atomic{bits}_fetch_{verb}({place}, r{{src}})"
        _BY_IMM[code, 0xE1] = f"r{{src}} = atomic{bits}_xchg({place}, r{{src}})"
        _BY_IMM[code, 0xF1] = f"r0 = atomic{bits}_cmpxchg({place}, r0, r{{src}})"
        _BY_IMM[code, 0x100] = f"r{{dst}} = load_acquire(({name} *)(r{{src}} {{off:+d}}))"
        _BY_IMM[code, 0x110] = f"store_release({place}, r{{src}})"


_add_arithmetic(0x04, "w")
_add_arithmetic(0x07, "r")
_add_jumps(0x06, "w")
_add_jumps(0x05, "r")
_add_memory()
_add_atomics()

_BY_OPCODE.update({
    0x05: "goto pc{off:+d}",
    0x06: "gotol pc{imm:+d}",
    0x0D: "gotox r{dst}",
    0x8D: "callx r{dst}",
    0x95: "exit",
    0xC2: "nospec",  # a speculation barrier, put in by the kernel itself
    0xD4: "r{dst} = le{imm} r{dst}",
    0xDC: "r{dst} = be{imm} r{dst}",
    0xD7: "r{dst} = bswap{imm} r{dst}",
})
_BY_OFF.update({
    (0xBF, 1): "r{dst} = addr_space_cast(r{src}, {high16}, {low16})",
    (0xBF, -1): "r{dst} = &(void __percpu *)(r{src})",  # as above: only in translated programs
})
_BY_SRC.update({
    (0x85, 1): "call pc{imm:+d}",
    (0x85, 2): "call kernel-function#{imm}",
    (0xE5, 0): "may_goto pc{off:+d}",
    # In the log the next six are plain numbers, addresses mostly, for there the kernel has already resolved them.
    # Before loading they are references, written here in the way bpftool writes resolved ones.
    (_LD_IMM64, 1): "r{dst} = map[fd:{imm}]",
    (_LD_IMM64, 2): "r{dst} = map[fd:{imm}][0]{high:+d}",
    (_LD_IMM64, 3): "r{dst} = btf[fd:{high}][id:{imm}]",
    (_LD_IMM64, 4): "r{dst} = subprog[{imm:+d}]",
    (_LD_IMM64, 5): "r{dst} = map[idx:{imm}]",
    (_LD_IMM64, 6): "r{dst} = map[idx:{imm}][0]{high:+d}",
})
_OTHERWISE.update({
    0x85: "call {helper}#{imm}",
    _LD_IMM64: "r{dst} = {wide:#x}",
})

# Helper functions in the order of their numbers, from 0; include/uapi/linux/bpf.h is where they are defined.
_HELPERS = [
    f"bpf_{name}"
    for name in """
    unspec map_lookup_elem map_update_elem map_delete_elem probe_read ktime_get_ns trace_printk get_prandom_u32
    get_smp_processor_id skb_store_bytes l3_csum_replace l4_csum_replace tail_call clone_redirect
    get_current_pid_tgid get_current_uid_gid get_current_comm get_cgroup_classid skb_vlan_push skb_vlan_pop
    skb_get_tunnel_key skb_set_tunnel_key perf_event_read redirect get_route_realm perf_event_output
    skb_load_bytes get_stackid csum_diff skb_get_tunnel_opt skb_set_tunnel_opt skb_change_proto skb_change_type
    skb_under_cgroup get_hash_recalc get_current_task probe_write_user current_task_under_cgroup skb_change_tail
    skb_pull_data csum_update set_hash_invalid get_numa_node_id skb_change_head xdp_adjust_head probe_read_str
    get_socket_cookie get_socket_uid set_hash setsockopt skb_adjust_room redirect_map sk_redirect_map
    sock_map_update xdp_adjust_meta perf_event_read_value perf_prog_read_value getsockopt override_return
    sock_ops_cb_flags_set msg_redirect_map msg_apply_bytes msg_cork_bytes msg_pull_data bind xdp_adjust_tail
    skb_get_xfrm_state get_stack skb_load_bytes_relative fib_lookup sock_hash_update msg_redirect_hash
    sk_redirect_hash lwt_push_encap lwt_seg6_store_bytes lwt_seg6_adjust_srh lwt_seg6_action rc_repeat
    rc_keydown skb_cgroup_id get_current_cgroup_id get_local_storage sk_select_reuseport skb_ancestor_cgroup_id
    sk_lookup_tcp sk_lookup_udp sk_release map_push_elem map_pop_elem map_peek_elem msg_push_data msg_pop_data
    rc_pointer_rel spin_lock spin_unlock sk_fullsock tcp_sock skb_ecn_set_ce get_listener_sock skc_lookup_tcp
    tcp_check_syncookie sysctl_get_name sysctl_get_current_value sysctl_get_new_value sysctl_set_new_value
    strtol strtoul sk_storage_get sk_storage_delete send_signal tcp_gen_syncookie skb_output probe_read_user
    probe_read_kernel probe_read_user_str probe_read_kernel_str tcp_send_ack send_signal_thread jiffies64
    read_branch_records get_ns_current_pid_tgid xdp_output get_netns_cookie get_current_ancestor_cgroup_id
    sk_assign ktime_get_boot_ns seq_printf seq_write sk_cgroup_id sk_ancestor_cgroup_id ringbuf_output
    ringbuf_reserve ringbuf_submit ringbuf_discard ringbuf_query csum_level skc_to_tcp6_sock skc_to_tcp_sock
    skc_to_tcp_timewait_sock skc_to_tcp_request_sock skc_to_udp6_sock get_task_stack load_hdr_opt store_hdr_opt
    reserve_hdr_opt inode_storage_get inode_storage_delete d_path copy_from_user snprintf_btf seq_printf_btf
    skb_cgroup_classid redirect_neigh per_cpu_ptr this_cpu_ptr redirect_peer task_storage_get
    task_storage_delete get_current_task_btf bprm_opts_set ktime_get_coarse_ns ima_inode_hash sock_from_file
    check_mtu for_each_map_elem snprintf sys_bpf btf_find_by_name_kind sys_close timer_init timer_set_callback
    timer_start timer_cancel get_func_ip get_attach_cookie task_pt_regs get_branch_snapshot trace_vprintk
    skc_to_unix_sock kallsyms_lookup_name find_vma loop strncmp get_func_arg get_func_ret get_func_arg_cnt
    get_retval set_retval xdp_get_buff_len xdp_load_bytes xdp_store_bytes copy_from_user_task skb_set_tstamp
    ima_file_hash kptr_xchg map_lookup_percpu_elem skc_to_mptcp_sock dynptr_from_mem ringbuf_reserve_dynptr
    ringbuf_submit_dynptr ringbuf_discard_dynptr dynptr_read dynptr_write dynptr_data tcp_raw_gen_syncookie_ipv4
    tcp_raw_gen_syncookie_ipv6 tcp_raw_check_syncookie_ipv4 tcp_raw_check_syncookie_ipv6 ktime_get_tai_ns
    user_ringbuf_drain cgrp_storage_get cgrp_storage_delete
    """.split()
]
