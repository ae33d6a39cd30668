# SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
# Mirror of <bpf/bpf.h> up to 1.8; see libbpf.pxd. Where C has a struct and a function of
# one name, the function keeps it and the struct is struct_<name>.

from pylbpf.c.uapi cimport (
    __s32, __u32, __u64, bpf_attach_type, bpf_btf_info, bpf_insn, bpf_iter_link_info, bpf_link_info,
    bpf_map_info, bpf_map_type, bpf_prog_info, bpf_prog_type, bpf_stats_type,
)

cdef extern from "pylbpf/compat.h" nogil:
    enum:
        BPF_LOG_BUF_SIZE

    int libbpf_set_memlock_rlim(size_t memlock_bytes)

    struct bpf_log_opts "pylbpf_bpf_log_opts":
        size_t sz
        char *buf
        __u32 size
        __u32 level
        __u32 true_size

    struct bpf_map_create_opts "pylbpf_bpf_map_create_opts":
        size_t sz
        __u32 btf_fd
        __u32 btf_key_type_id
        __u32 btf_value_type_id
        __u32 btf_vmlinux_value_type_id
        __u32 inner_map_fd
        __u32 map_flags
        __u64 map_extra
        __u32 numa_node
        __u32 map_ifindex
        __s32 value_type_btf_obj_fd
        __u32 token_fd
        const void *excl_prog_hash
        __u32 excl_prog_hash_size
        bpf_log_opts *log_opts

    int bpf_map_create "pylbpf_compat_bpf_map_create"(bpf_map_type map_type, const char *map_name,
            __u32 key_size, __u32 value_size, __u32 max_entries, const bpf_map_create_opts *opts)

    struct bpf_prog_load_opts "pylbpf_bpf_prog_load_opts":
        size_t sz
        int attempts
        bpf_attach_type expected_attach_type
        __u32 prog_btf_fd
        __u32 prog_flags
        __u32 prog_ifindex
        __u32 kern_version
        __u32 attach_btf_id
        __u32 attach_prog_fd
        __u32 attach_btf_obj_fd
        const int *fd_array
        const void *func_info
        __u32 func_info_cnt
        __u32 func_info_rec_size
        const void *line_info
        __u32 line_info_cnt
        __u32 line_info_rec_size
        __u32 log_level
        __u32 log_size
        char *log_buf
        __u32 log_true_size
        __u32 token_fd
        __u32 fd_array_cnt

    int bpf_prog_load "pylbpf_compat_bpf_prog_load"(bpf_prog_type prog_type, const char *prog_name,
            const char *license, const bpf_insn *insns, size_t insn_cnt, bpf_prog_load_opts *opts)

    struct bpf_btf_load_opts "pylbpf_bpf_btf_load_opts":
        size_t sz
        char *log_buf
        __u32 log_level
        __u32 log_size
        __u32 log_true_size
        __u32 btf_flags
        __u32 token_fd

    int bpf_btf_load "pylbpf_compat_bpf_btf_load"(const void *btf_data, size_t btf_size,
            bpf_btf_load_opts *opts)

    int bpf_map_update_elem(int fd, const void *key, const void *value, __u64 flags)
    int bpf_map_lookup_elem(int fd, const void *key, void *value)
    int bpf_map_lookup_elem_flags(int fd, const void *key, void *value, __u64 flags)
    int bpf_map_lookup_and_delete_elem(int fd, const void *key, void *value)
    int bpf_map_lookup_and_delete_elem_flags(int fd, const void *key, void *value, __u64 flags)
    int bpf_map_delete_elem(int fd, const void *key)
    int bpf_map_delete_elem_flags(int fd, const void *key, __u64 flags)
    int bpf_map_get_next_key(int fd, const void *key, void *next_key)
    int bpf_map_freeze(int fd)

    struct bpf_map_batch_opts:
        size_t sz
        __u64 elem_flags
        __u64 flags

    int bpf_map_delete_batch(int fd, const void *keys, __u32 *count, const bpf_map_batch_opts *opts)
    int bpf_map_lookup_batch(int fd, void *in_batch, void *out_batch, void *keys, void *values, __u32 *count,
            const bpf_map_batch_opts *opts)
    int bpf_map_lookup_and_delete_batch(int fd, void *in_batch, void *out_batch, void *keys, void *values,
            __u32 *count, const bpf_map_batch_opts *opts)
    int bpf_map_update_batch(int fd, const void *keys, const void *values, __u32 *count,
            const bpf_map_batch_opts *opts)

    struct struct_bpf_obj_pin_opts "pylbpf_bpf_obj_pin_opts":
        size_t sz
        __u32 file_flags
        int path_fd

    int bpf_obj_pin(int fd, const char *pathname)
    int bpf_obj_pin_opts "pylbpf_compat_bpf_obj_pin_opts"(int fd, const char *pathname,
            const struct_bpf_obj_pin_opts *opts)

    struct struct_bpf_obj_get_opts "pylbpf_bpf_obj_get_opts":
        size_t sz
        __u32 file_flags
        int path_fd

    int bpf_obj_get(const char *pathname)
    int bpf_obj_get_opts "pylbpf_compat_bpf_obj_get_opts"(const char *pathname,
            const struct_bpf_obj_get_opts *opts)

    int bpf_prog_attach(int prog_fd, int attachable_fd, bpf_attach_type type, unsigned int flags)
    int bpf_prog_detach(int attachable_fd, bpf_attach_type type)
    int bpf_prog_detach2(int prog_fd, int attachable_fd, bpf_attach_type type)

    struct struct_bpf_prog_attach_opts "pylbpf_bpf_prog_attach_opts":
        size_t sz
        __u32 flags
        int replace_prog_fd
        int replace_fd
        int relative_fd
        __u32 relative_id
        __u64 expected_revision

    struct struct_bpf_prog_detach_opts "pylbpf_bpf_prog_detach_opts":
        size_t sz
        __u32 flags
        int relative_fd
        __u32 relative_id
        __u64 expected_revision

    int bpf_prog_attach_opts "pylbpf_compat_bpf_prog_attach_opts"(int prog_fd, int target,
            bpf_attach_type type, const struct_bpf_prog_attach_opts *opts)
    int bpf_prog_detach_opts "pylbpf_compat_bpf_prog_detach_opts"(int prog_fd, int target,
            bpf_attach_type type, const struct_bpf_prog_detach_opts *opts)

    struct link_create_perf_event "pylbpf_link_create_perf_event":
        __u64 bpf_cookie

    struct link_create_kprobe_multi "pylbpf_link_create_kprobe_multi":
        __u32 flags
        __u32 cnt
        const char **syms
        const unsigned long *addrs
        const __u64 *cookies

    struct link_create_uprobe_multi "pylbpf_link_create_uprobe_multi":
        __u32 flags
        __u32 cnt
        const char *path
        const unsigned long *offsets
        const unsigned long *ref_ctr_offsets
        const __u64 *cookies
        __u32 pid

    struct link_create_tracing "pylbpf_link_create_tracing":
        __u64 cookie

    struct link_create_netfilter "pylbpf_link_create_netfilter":
        __u32 pf
        __u32 hooknum
        __s32 priority
        __u32 flags

    struct link_create_tcx "pylbpf_link_create_tcx":
        __u32 relative_fd
        __u32 relative_id
        __u64 expected_revision

    struct link_create_netkit "pylbpf_link_create_netkit":
        __u32 relative_fd
        __u32 relative_id
        __u64 expected_revision

    struct link_create_cgroup "pylbpf_link_create_cgroup":
        __u32 relative_fd
        __u32 relative_id
        __u64 expected_revision

    struct bpf_link_create_opts "pylbpf_bpf_link_create_opts":
        size_t sz
        __u32 flags
        bpf_iter_link_info *iter_info
        __u32 iter_info_len
        __u32 target_btf_id
        link_create_perf_event perf_event
        link_create_kprobe_multi kprobe_multi
        link_create_uprobe_multi uprobe_multi
        link_create_tracing tracing
        link_create_netfilter netfilter
        link_create_tcx tcx
        link_create_netkit netkit
        link_create_cgroup cgroup

    int bpf_link_create "pylbpf_compat_bpf_link_create"(int prog_fd, int target_fd,
            bpf_attach_type attach_type, const bpf_link_create_opts *opts)
    int bpf_link_detach(int link_fd)

    struct bpf_link_update_opts "pylbpf_bpf_link_update_opts":
        size_t sz
        __u32 flags
        __u32 old_prog_fd
        __u32 old_map_fd

    int bpf_link_update "pylbpf_compat_bpf_link_update"(int link_fd, int new_prog_fd,
            const bpf_link_update_opts *opts)

    int bpf_iter_create(int link_fd)

    int bpf_prog_get_next_id(__u32 start_id, __u32 *next_id)

    int bpf_map_get_next_id(__u32 start_id, __u32 *next_id)

    int bpf_btf_get_next_id(__u32 start_id, __u32 *next_id)

    int bpf_link_get_next_id(__u32 start_id, __u32 *next_id)

    struct bpf_get_fd_by_id_opts "pylbpf_bpf_get_fd_by_id_opts":
        size_t sz
        __u32 open_flags
        __u32 token_fd

    int bpf_prog_get_fd_by_id(__u32 id)
    int bpf_prog_get_fd_by_id_opts "pylbpf_compat_bpf_prog_get_fd_by_id_opts"(__u32 id,
            const bpf_get_fd_by_id_opts *opts)

    int bpf_map_get_fd_by_id(__u32 id)
    int bpf_map_get_fd_by_id_opts "pylbpf_compat_bpf_map_get_fd_by_id_opts"(__u32 id,
            const bpf_get_fd_by_id_opts *opts)

    int bpf_btf_get_fd_by_id(__u32 id)
    int bpf_btf_get_fd_by_id_opts "pylbpf_compat_bpf_btf_get_fd_by_id_opts"(__u32 id,
            const bpf_get_fd_by_id_opts *opts)

    int bpf_link_get_fd_by_id(__u32 id)
    int bpf_link_get_fd_by_id_opts "pylbpf_compat_bpf_link_get_fd_by_id_opts"(__u32 id,
            const bpf_get_fd_by_id_opts *opts)

    int bpf_obj_get_info_by_fd(int bpf_fd, void *info, __u32 *info_len)

    int bpf_prog_get_info_by_fd "pylbpf_compat_bpf_prog_get_info_by_fd"(int prog_fd, bpf_prog_info *info,
            __u32 *info_len)

    int bpf_map_get_info_by_fd "pylbpf_compat_bpf_map_get_info_by_fd"(int map_fd, bpf_map_info *info,
            __u32 *info_len)

    int bpf_btf_get_info_by_fd "pylbpf_compat_bpf_btf_get_info_by_fd"(int btf_fd, bpf_btf_info *info,
            __u32 *info_len)

    int bpf_link_get_info_by_fd "pylbpf_compat_bpf_link_get_info_by_fd"(int link_fd, bpf_link_info *info,
            __u32 *info_len)

    struct struct_bpf_prog_query_opts "pylbpf_bpf_prog_query_opts":
        size_t sz
        __u32 query_flags
        __u32 attach_flags
        __u32 *prog_ids
        __u32 prog_cnt
        __u32 count
        __u32 *prog_attach_flags
        __u32 *link_ids
        __u32 *link_attach_flags
        __u64 revision

    int bpf_prog_query_opts "pylbpf_compat_bpf_prog_query_opts"(int target, bpf_attach_type type,
            struct_bpf_prog_query_opts *opts)
    int bpf_prog_query(int target_fd, bpf_attach_type type, __u32 query_flags, __u32 *attach_flags,
            __u32 *prog_ids, __u32 *prog_cnt)

    struct bpf_raw_tp_opts "pylbpf_bpf_raw_tp_opts":
        size_t sz
        const char *tp_name
        __u64 cookie

    int bpf_raw_tracepoint_open_opts "pylbpf_compat_bpf_raw_tracepoint_open_opts"(int prog_fd,
            bpf_raw_tp_opts *opts)
    int bpf_raw_tracepoint_open(const char *name, int prog_fd)

    int bpf_task_fd_query(int pid, int fd, __u32 flags, char *buf, __u32 *buf_len, __u32 *prog_id,
            __u32 *fd_type, __u64 *probe_offset, __u64 *probe_addr)

    int bpf_enable_stats(bpf_stats_type type)

    struct bpf_prog_bind_opts:
        size_t sz
        __u32 flags

    int bpf_prog_bind_map(int prog_fd, int map_fd, const bpf_prog_bind_opts *opts)

    struct bpf_test_run_opts:
        size_t sz
        const void *data_in
        void *data_out
        __u32 data_size_in
        __u32 data_size_out
        const void *ctx_in
        void *ctx_out
        __u32 ctx_size_in
        __u32 ctx_size_out
        __u32 retval
        int repeat
        __u32 duration
        __u32 flags
        __u32 cpu
        __u32 batch_size

    int bpf_prog_test_run_opts(int prog_fd, bpf_test_run_opts *opts)

    struct bpf_token_create_opts "pylbpf_bpf_token_create_opts":
        size_t sz
        __u32 flags

    int bpf_token_create "pylbpf_compat_bpf_token_create"(int bpffs_fd, bpf_token_create_opts *opts)

    struct bpf_prog_stream_read_opts "pylbpf_bpf_prog_stream_read_opts":
        size_t sz

    int bpf_prog_stream_read "pylbpf_compat_bpf_prog_stream_read"(int prog_fd, __u32 stream_id, void *buf,
            __u32 buf_len, bpf_prog_stream_read_opts *opts)

    struct bpf_prog_assoc_struct_ops_opts "pylbpf_bpf_prog_assoc_struct_ops_opts":
        size_t sz
        __u32 flags

    int bpf_prog_assoc_struct_ops "pylbpf_compat_bpf_prog_assoc_struct_ops"(int prog_fd, int map_fd,
            bpf_prog_assoc_struct_ops_opts *opts)
