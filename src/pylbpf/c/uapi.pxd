# SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
# Mirror of the kernel's <linux/bpf.h> and <linux/btf.h>: what libbpf's prototypes name,
# with the fields that Linux 6.1 has. Constants live in pylbpf.enums.

cdef extern from "<linux/types.h>" nogil:
    ctypedef signed char __s8
    ctypedef unsigned char __u8
    ctypedef short __s16
    ctypedef unsigned short __u16
    ctypedef int __s32
    ctypedef unsigned int __u32
    ctypedef long long __s64
    ctypedef unsigned long long __u64

cdef extern from "<linux/bpf.h>" nogil:
    enum bpf_attach_type:
        pass
    enum bpf_func_id:
        pass
    enum bpf_link_type:
        pass
    enum bpf_map_type:
        pass
    enum bpf_prog_type:
        pass
    enum bpf_stats_type:
        pass
    enum bpf_cgroup_iter_order:
        pass

    enum:
        BPF_OBJ_NAME_LEN
        BPF_TAG_SIZE

    # dst_reg and src_reg are 4 bits wide.
    struct bpf_insn:
        __u8 code
        __u8 dst_reg
        __u8 src_reg
        __s16 off
        __s32 imm

    struct bpf_func_info:
        __u32 insn_off
        __u32 type_id

    struct bpf_line_info:
        __u32 insn_off
        __u32 file_name_off
        __u32 line_off
        __u32 line_col

    # Members of a nameless C type: read and write their fields, never name the type.
    struct iter_link_map "__pylbpf_nameless":
        __u32 map_fd
    struct iter_link_cgroup "__pylbpf_nameless":
        bpf_cgroup_iter_order order
        __u32 cgroup_fd
        __u64 cgroup_id
    struct iter_link_task "__pylbpf_nameless":
        __u32 tid
        __u32 pid
        __u32 pid_fd
    union bpf_iter_link_info:
        iter_link_map map
        iter_link_cgroup cgroup
        iter_link_task task

    struct bpf_map_info:
        __u32 type
        __u32 id
        __u32 key_size
        __u32 value_size
        __u32 max_entries
        __u32 map_flags
        char name[16]
        __u32 ifindex
        __u32 btf_vmlinux_value_type_id
        __u64 netns_dev
        __u64 netns_ino
        __u32 btf_id
        __u32 btf_key_type_id
        __u32 btf_value_type_id
        __u64 map_extra

    # gpl_compatible is one bit wide.
    struct bpf_prog_info:
        __u32 type
        __u32 id
        __u8 tag[8]
        __u32 jited_prog_len
        __u32 xlated_prog_len
        __u64 jited_prog_insns
        __u64 xlated_prog_insns
        __u64 load_time
        __u32 created_by_uid
        __u32 nr_map_ids
        __u64 map_ids
        char name[16]
        __u32 ifindex
        __u32 gpl_compatible
        __u64 netns_dev
        __u64 netns_ino
        __u32 nr_jited_ksyms
        __u32 nr_jited_func_lens
        __u64 jited_ksyms
        __u64 jited_func_lens
        __u32 btf_id
        __u32 func_info_rec_size
        __u64 func_info
        __u32 nr_func_info
        __u32 nr_line_info
        __u64 line_info
        __u64 jited_line_info
        __u32 nr_jited_line_info
        __u32 line_info_rec_size
        __u32 jited_line_info_rec_size
        __u32 nr_prog_tags
        __u64 prog_tags
        __u64 run_time_ns
        __u64 run_cnt
        __u64 recursion_misses
        __u32 verified_insns
        __u32 attach_btf_obj_id
        __u32 attach_btf_id

    struct bpf_btf_info:
        __u64 btf
        __u32 btf_size
        __u32 id
        __u64 name
        __u32 name_len
        __u32 kernel_btf

    struct link_raw_tracepoint "__pylbpf_nameless":
        __u64 tp_name
        __u32 tp_name_len
    struct link_tracing "__pylbpf_nameless":
        __u32 attach_type
        __u32 target_obj_id
        __u32 target_btf_id
    struct link_cgroup "__pylbpf_nameless":
        __u64 cgroup_id
        __u32 attach_type
    struct link_iter_map "__pylbpf_nameless":
        __u32 map_id
    struct link_iter_cgroup "__pylbpf_nameless":
        __u64 cgroup_id
        __u32 order
    struct link_iter_task "__pylbpf_nameless":
        __u32 tid
        __u32 pid
    struct link_iter "__pylbpf_nameless":
        __u64 target_name
        __u32 target_name_len
        link_iter_map map
        link_iter_cgroup cgroup
        link_iter_task task
    struct link_netns "__pylbpf_nameless":
        __u32 netns_ino
        __u32 attach_type
    struct link_xdp "__pylbpf_nameless":
        __u32 ifindex
    struct bpf_link_info:
        __u32 type
        __u32 id
        __u32 prog_id
        link_raw_tracepoint raw_tracepoint
        link_tracing tracing
        link_cgroup cgroup
        link_iter iter
        link_netns netns
        link_xdp xdp

cdef extern from "<linux/btf.h>" nogil:
    enum:
        BTF_MAGIC
        BTF_VERSION
        BTF_MAX_TYPE
        BTF_MAX_NAME_OFFSET
        BTF_MAX_VLEN
        BTF_KIND_UNKN
        BTF_KIND_INT
        BTF_KIND_PTR
        BTF_KIND_ARRAY
        BTF_KIND_STRUCT
        BTF_KIND_UNION
        BTF_KIND_ENUM
        BTF_KIND_FWD
        BTF_KIND_TYPEDEF
        BTF_KIND_VOLATILE
        BTF_KIND_CONST
        BTF_KIND_RESTRICT
        BTF_KIND_FUNC
        BTF_KIND_FUNC_PROTO
        BTF_KIND_VAR
        BTF_KIND_DATASEC
        BTF_KIND_FLOAT
        BTF_KIND_DECL_TAG
        BTF_KIND_TYPE_TAG
        BTF_KIND_ENUM64
        BTF_INT_SIGNED
        BTF_INT_CHAR
        BTF_INT_BOOL
        BTF_VAR_STATIC
        BTF_VAR_GLOBAL_ALLOCATED
        BTF_VAR_GLOBAL_EXTERN

    enum btf_func_linkage:
        BTF_FUNC_STATIC
        BTF_FUNC_GLOBAL
        BTF_FUNC_EXTERN

    struct btf_header:
        __u16 magic
        __u8 version
        __u8 flags
        __u32 hdr_len
        __u32 type_off
        __u32 type_len
        __u32 str_off
        __u32 str_len

    # size and type share their place.
    struct btf_type:
        __u32 name_off
        __u32 info
        __u32 size
        __u32 type

    struct btf_array:
        __u32 type
        __u32 index_type
        __u32 nelems

    struct btf_enum:
        __u32 name_off
        __s32 val

    struct btf_enum64:
        __u32 name_off
        __u32 val_lo32
        __u32 val_hi32

    struct btf_member:
        __u32 name_off
        __u32 type
        __u32 offset

    struct btf_param:
        __u32 name_off
        __u32 type

    struct btf_var:
        __u32 linkage

    struct btf_var_secinfo:
        __u32 type
        __u32 offset
        __u32 size

    struct btf_decl_tag:
        __s32 component_idx
