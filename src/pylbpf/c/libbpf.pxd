# SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
# Mirror of <bpf/libbpf.h> up to 1.8. A pylbpf_ name is explained in pylbpf/compat.h:
# the newest layout of a struct, or a function that an older libbpf may lack.
# Zero a struct, set its sz = sizeof, then its fields.

from posix.types cimport pid_t

from pylbpf.c.bpf cimport bpf_prog_load_opts, bpf_prog_assoc_struct_ops_opts
from pylbpf.c.btf cimport btf, va_list
from pylbpf.c.uapi cimport (
    __s32, __u8, __u32, __u64, bpf_attach_type, bpf_func_id, bpf_func_info, bpf_insn, bpf_iter_link_info,
    bpf_line_info, bpf_link_type, bpf_map_type, bpf_prog_info, bpf_prog_type,
)

cdef extern from "<linux/perf_event.h>" nogil:
    struct perf_event_attr:
        pass
    struct perf_event_header:
        __u32 type
        unsigned short misc
        unsigned short size

cdef extern from "pylbpf/compat.h" nogil:
    # The function that was missing last on this thread in the calling module.
    const char *pylbpf_compat_missing(const char **version)
    void (*pylbpf_on_missing)(const char *name, const char *version) noexcept nogil

    enum libbpf_errno:
        __LIBBPF_ERRNO__START
        LIBBPF_ERRNO__LIBELF
        LIBBPF_ERRNO__FORMAT
        LIBBPF_ERRNO__KVERSION
        LIBBPF_ERRNO__ENDIAN
        LIBBPF_ERRNO__INTERNAL
        LIBBPF_ERRNO__RELOC
        LIBBPF_ERRNO__LOAD
        LIBBPF_ERRNO__VERIFY
        LIBBPF_ERRNO__PROG2BIG
        LIBBPF_ERRNO__KVER
        LIBBPF_ERRNO__PROGTYPE
        LIBBPF_ERRNO__WRNGPID
        LIBBPF_ERRNO__INVSEQ
        LIBBPF_ERRNO__NLPARSE
        __LIBBPF_ERRNO__END

    enum libbpf_print_level:
        LIBBPF_WARN
        LIBBPF_INFO
        LIBBPF_DEBUG

    enum probe_attach_mode "pylbpf_probe_attach_mode":
        PROBE_ATTACH_MODE_DEFAULT "PYLBPF_PROBE_ATTACH_MODE_DEFAULT"
        PROBE_ATTACH_MODE_LEGACY "PYLBPF_PROBE_ATTACH_MODE_LEGACY"
        PROBE_ATTACH_MODE_PERF "PYLBPF_PROBE_ATTACH_MODE_PERF"
        PROBE_ATTACH_MODE_LINK "PYLBPF_PROBE_ATTACH_MODE_LINK"

    enum bpf_tc_attach_point:
        BPF_TC_INGRESS
        BPF_TC_EGRESS
        BPF_TC_CUSTOM
        BPF_TC_QDISC "PYLBPF_BPF_TC_QDISC"

    enum bpf_tc_flags:
        BPF_TC_F_REPLACE

    enum bpf_perf_event_ret:
        LIBBPF_PERF_EVENT_DONE
        LIBBPF_PERF_EVENT_ERROR
        LIBBPF_PERF_EVENT_CONT

    enum libbpf_tristate:
        TRI_NO
        TRI_YES
        TRI_MODULE

    struct bpf_object:
        pass
    struct bpf_program:
        pass
    struct bpf_map:
        pass
    struct bpf_link:
        pass
    struct ring_buffer:
        pass
    struct ring:
        pass
    struct user_ring_buffer:
        pass
    struct perf_buffer:
        pass
    struct bpf_prog_linfo:
        pass
    struct bpf_linker:
        pass

    ctypedef int (*libbpf_print_fn_t)(libbpf_print_level level, const char *format, va_list ap) noexcept nogil
    ctypedef int (*ring_buffer_sample_fn)(void *ctx, void *data, size_t size) noexcept nogil
    ctypedef void (*perf_buffer_sample_fn)(void *ctx, int cpu, void *data, __u32 size) noexcept nogil
    ctypedef void (*perf_buffer_lost_fn)(void *ctx, int cpu, __u64 cnt) noexcept nogil
    ctypedef bpf_perf_event_ret (*perf_buffer_event_fn)(void *ctx, int cpu, perf_event_header *event) noexcept nogil
    ctypedef int (*libbpf_prog_setup_fn_t)(bpf_program *prog, long cookie) noexcept nogil
    # opts is as long as opts.sz says: with an older libbpf the newest fields are not there.
    ctypedef int (*libbpf_prog_prepare_load_fn_t "pylbpf_prog_prepare_load_fn_t")(
            bpf_program *prog, bpf_prog_load_opts *opts, long cookie) noexcept nogil
    ctypedef int (*libbpf_prog_attach_fn_t)(const bpf_program *prog, long cookie, bpf_link **link) noexcept nogil

    __u32 BPF_TC_PARENT(__u32 a, __u32 b)

    __u32 libbpf_major_version()
    __u32 libbpf_minor_version()
    const char *libbpf_version_string()
    int libbpf_strerror(int err, char *buf, size_t size)
    const char *libbpf_bpf_attach_type_str(bpf_attach_type t)
    const char *libbpf_bpf_link_type_str(bpf_link_type t)
    const char *libbpf_bpf_map_type_str(bpf_map_type t)
    const char *libbpf_bpf_prog_type_str(bpf_prog_type t)
    libbpf_print_fn_t libbpf_set_print(libbpf_print_fn_t fn)

    struct bpf_object_open_opts "pylbpf_bpf_object_open_opts":
        size_t sz
        const char *object_name
        bint relaxed_maps
        const char *pin_root_path
        const char *kconfig
        const char *btf_custom_path
        char *kernel_log_buf
        size_t kernel_log_size
        __u32 kernel_log_level
        const char *bpf_token_path

    bpf_object *bpf_object__open(const char *path)
    bpf_object *bpf_object__open_file "pylbpf_compat_bpf_object__open_file"(const char *path,
            const bpf_object_open_opts *opts)
    bpf_object *bpf_object__open_mem "pylbpf_compat_bpf_object__open_mem"(const void *obj_buf,
            size_t obj_buf_sz, const bpf_object_open_opts *opts)
    int bpf_object__prepare "pylbpf_compat_bpf_object__prepare"(bpf_object *obj)
    int bpf_object__load(bpf_object *obj)
    void bpf_object__close(bpf_object *obj)
    int bpf_object__pin_maps(bpf_object *obj, const char *path)
    int bpf_object__unpin_maps(bpf_object *obj, const char *path)
    int bpf_object__pin_programs(bpf_object *obj, const char *path)
    int bpf_object__unpin_programs(bpf_object *obj, const char *path)
    int bpf_object__pin(bpf_object *obj, const char *path)
    int bpf_object__unpin "pylbpf_compat_bpf_object__unpin"(bpf_object *obj, const char *path)
    const char *bpf_object__name(const bpf_object *obj)
    unsigned int bpf_object__kversion(const bpf_object *obj)
    int bpf_object__set_kversion(bpf_object *obj, __u32 kern_version)
    int bpf_object__token_fd "pylbpf_compat_bpf_object__token_fd"(const bpf_object *obj)
    btf *bpf_object__btf(const bpf_object *obj)
    int bpf_object__btf_fd(const bpf_object *obj)
    bpf_program *bpf_object__find_program_by_name(const bpf_object *obj, const char *name)

    int libbpf_prog_type_by_name(const char *name, bpf_prog_type *prog_type,
            bpf_attach_type *expected_attach_type)
    int libbpf_attach_type_by_name(const char *name, bpf_attach_type *attach_type)
    int libbpf_find_vmlinux_btf_id(const char *name, bpf_attach_type attach_type)

    bpf_program *bpf_object__next_program(const bpf_object *obj, bpf_program *prog)
    bpf_program *bpf_object__prev_program(const bpf_object *obj, bpf_program *prog)

    void bpf_program__set_ifindex(bpf_program *prog, __u32 ifindex)
    const char *bpf_program__name(const bpf_program *prog)
    const char *bpf_program__section_name(const bpf_program *prog)
    bint bpf_program__autoload(const bpf_program *prog)
    int bpf_program__set_autoload(bpf_program *prog, bint autoload)
    bint bpf_program__autoattach(const bpf_program *prog)
    void bpf_program__set_autoattach(bpf_program *prog, bint autoattach)
    const bpf_insn *bpf_program__insns(const bpf_program *prog)
    int bpf_program__set_insns(bpf_program *prog, bpf_insn *new_insns, size_t new_insn_cnt)
    size_t bpf_program__insn_cnt(const bpf_program *prog)
    int bpf_program__fd(const bpf_program *prog)
    int bpf_program__pin(bpf_program *prog, const char *path)
    int bpf_program__unpin(bpf_program *prog, const char *path)
    void bpf_program__unload(bpf_program *prog)
    int bpf_program__clone "pylbpf_compat_bpf_program__clone"(bpf_program *prog,
            const bpf_prog_load_opts *opts)

    bpf_link *bpf_link__open(const char *path)
    int bpf_link__fd(const bpf_link *link)
    const char *bpf_link__pin_path(const bpf_link *link)
    int bpf_link__pin(bpf_link *link, const char *path)
    int bpf_link__unpin(bpf_link *link)
    int bpf_link__update_program(bpf_link *link, bpf_program *prog)
    void bpf_link__disconnect(bpf_link *link)
    int bpf_link__detach(bpf_link *link)
    int bpf_link__destroy(bpf_link *link)

    bpf_link *bpf_program__attach(const bpf_program *prog)

    struct bpf_perf_event_opts "pylbpf_bpf_perf_event_opts":
        size_t sz
        __u64 bpf_cookie
        bint force_ioctl_attach
        bint dont_enable

    bpf_link *bpf_program__attach_perf_event(const bpf_program *prog, int pfd)
    bpf_link *bpf_program__attach_perf_event_opts "pylbpf_compat_bpf_program__attach_perf_event_opts"(
            const bpf_program *prog, int pfd, const bpf_perf_event_opts *opts)

    struct bpf_kprobe_opts "pylbpf_bpf_kprobe_opts":
        size_t sz
        __u64 bpf_cookie
        size_t offset
        bint retprobe
        probe_attach_mode attach_mode

    bpf_link *bpf_program__attach_kprobe(const bpf_program *prog, bint retprobe, const char *func_name)
    bpf_link *bpf_program__attach_kprobe_opts "pylbpf_compat_bpf_program__attach_kprobe_opts"(
            const bpf_program *prog, const char *func_name, const bpf_kprobe_opts *opts)

    struct bpf_kprobe_multi_opts "pylbpf_bpf_kprobe_multi_opts":
        size_t sz
        const char **syms
        const unsigned long *addrs
        const __u64 *cookies
        size_t cnt
        bint retprobe
        bint session
        bint unique_match

    bpf_link *bpf_program__attach_kprobe_multi_opts "pylbpf_compat_bpf_program__attach_kprobe_multi_opts"(
            const bpf_program *prog, const char *pattern, const bpf_kprobe_multi_opts *opts)

    struct bpf_uprobe_multi_opts "pylbpf_bpf_uprobe_multi_opts":
        size_t sz
        const char **syms
        const unsigned long *offsets
        const unsigned long *ref_ctr_offsets
        const __u64 *cookies
        size_t cnt
        bint retprobe
        bint session

    bpf_link *bpf_program__attach_uprobe_multi "pylbpf_compat_bpf_program__attach_uprobe_multi"(
            const bpf_program *prog, pid_t pid, const char *binary_path, const char *func_pattern,
            const bpf_uprobe_multi_opts *opts)

    struct bpf_ksyscall_opts:
        size_t sz
        __u64 bpf_cookie
        bint retprobe

    bpf_link *bpf_program__attach_ksyscall(const bpf_program *prog, const char *syscall_name,
            const bpf_ksyscall_opts *opts)

    struct bpf_uprobe_opts "pylbpf_bpf_uprobe_opts":
        size_t sz
        size_t ref_ctr_offset
        __u64 bpf_cookie
        bint retprobe
        const char *func_name
        probe_attach_mode attach_mode

    bpf_link *bpf_program__attach_uprobe(const bpf_program *prog, bint retprobe, pid_t pid,
            const char *binary_path, size_t func_offset)
    bpf_link *bpf_program__attach_uprobe_opts "pylbpf_compat_bpf_program__attach_uprobe_opts"(
            const bpf_program *prog, pid_t pid, const char *binary_path, size_t func_offset,
            const bpf_uprobe_opts *opts)

    struct bpf_usdt_opts:
        size_t sz
        __u64 usdt_cookie

    bpf_link *bpf_program__attach_usdt(const bpf_program *prog, pid_t pid, const char *binary_path,
            const char *usdt_provider, const char *usdt_name, const bpf_usdt_opts *opts)

    struct bpf_tracepoint_opts:
        size_t sz
        __u64 bpf_cookie

    bpf_link *bpf_program__attach_tracepoint(const bpf_program *prog, const char *tp_category,
            const char *tp_name)
    bpf_link *bpf_program__attach_tracepoint_opts(const bpf_program *prog, const char *tp_category,
            const char *tp_name, const bpf_tracepoint_opts *opts)

    struct bpf_raw_tracepoint_opts "pylbpf_bpf_raw_tracepoint_opts":
        size_t sz
        __u64 cookie

    bpf_link *bpf_program__attach_raw_tracepoint(const bpf_program *prog, const char *tp_name)
    bpf_link *bpf_program__attach_raw_tracepoint_opts "pylbpf_compat_bpf_program__attach_raw_tracepoint_opts"(
            const bpf_program *prog, const char *tp_name, bpf_raw_tracepoint_opts *opts)

    struct bpf_tracing_multi_opts "pylbpf_bpf_tracing_multi_opts":
        size_t sz
        const __u32 *ids
        const __u64 *cookies
        size_t cnt

    struct bpf_trace_opts:
        size_t sz
        __u64 cookie

    bpf_link *bpf_program__attach_trace(const bpf_program *prog)
    bpf_link *bpf_program__attach_trace_opts(const bpf_program *prog, const bpf_trace_opts *opts)
    bpf_link *bpf_program__attach_tracing_multi "pylbpf_compat_bpf_program__attach_tracing_multi"(
            const bpf_program *prog, const char *pattern, const bpf_tracing_multi_opts *opts)
    bpf_link *bpf_program__attach_lsm(const bpf_program *prog)
    bpf_link *bpf_program__attach_cgroup(const bpf_program *prog, int cgroup_fd)
    bpf_link *bpf_program__attach_netns(const bpf_program *prog, int netns_fd)
    bpf_link *bpf_program__attach_sockmap "pylbpf_compat_bpf_program__attach_sockmap"(const bpf_program *prog,
            int map_fd)
    bpf_link *bpf_program__attach_xdp(const bpf_program *prog, int ifindex)
    bpf_link *bpf_program__attach_freplace(const bpf_program *prog, int target_fd,
            const char *attach_func_name)

    struct bpf_netfilter_opts "pylbpf_bpf_netfilter_opts":
        size_t sz
        __u32 pf
        __u32 hooknum
        __s32 priority
        __u32 flags

    bpf_link *bpf_program__attach_netfilter "pylbpf_compat_bpf_program__attach_netfilter"(
            const bpf_program *prog, const bpf_netfilter_opts *opts)

    struct bpf_tcx_opts "pylbpf_bpf_tcx_opts":
        size_t sz
        __u32 flags
        __u32 relative_fd
        __u32 relative_id
        __u64 expected_revision

    bpf_link *bpf_program__attach_tcx "pylbpf_compat_bpf_program__attach_tcx"(const bpf_program *prog,
            int ifindex, const bpf_tcx_opts *opts)

    struct bpf_netkit_opts "pylbpf_bpf_netkit_opts":
        size_t sz
        __u32 flags
        __u32 relative_fd
        __u32 relative_id
        __u64 expected_revision

    bpf_link *bpf_program__attach_netkit "pylbpf_compat_bpf_program__attach_netkit"(const bpf_program *prog,
            int ifindex, const bpf_netkit_opts *opts)

    struct bpf_cgroup_opts "pylbpf_bpf_cgroup_opts":
        size_t sz
        __u32 flags
        __u32 relative_fd
        __u32 relative_id
        __u64 expected_revision

    bpf_link *bpf_program__attach_cgroup_opts "pylbpf_compat_bpf_program__attach_cgroup_opts"(
            const bpf_program *prog, int cgroup_fd, const bpf_cgroup_opts *opts)

    bpf_link *bpf_map__attach_struct_ops(const bpf_map *map)

    int bpf_link__update_map "pylbpf_compat_bpf_link__update_map"(bpf_link *link, const bpf_map *map)

    struct bpf_iter_attach_opts:
        size_t sz
        bpf_iter_link_info *link_info
        __u32 link_info_len

    bpf_link *bpf_program__attach_iter(const bpf_program *prog, const bpf_iter_attach_opts *opts)
    bpf_prog_type bpf_program__type(const bpf_program *prog)
    int bpf_program__set_type(bpf_program *prog, bpf_prog_type type)
    bpf_attach_type bpf_program__expected_attach_type(const bpf_program *prog)
    int bpf_program__set_expected_attach_type(bpf_program *prog, bpf_attach_type type)
    __u32 bpf_program__flags(const bpf_program *prog)
    int bpf_program__set_flags(bpf_program *prog, __u32 flags)
    __u32 bpf_program__log_level(const bpf_program *prog)
    int bpf_program__set_log_level(bpf_program *prog, __u32 log_level)
    const char *bpf_program__log_buf(const bpf_program *prog, size_t *log_size)
    int bpf_program__set_log_buf(bpf_program *prog, char *log_buf, size_t log_size)
    bpf_func_info *bpf_program__func_info "pylbpf_compat_bpf_program__func_info"(const bpf_program *prog)
    __u32 bpf_program__func_info_cnt "pylbpf_compat_bpf_program__func_info_cnt"(const bpf_program *prog)
    bpf_line_info *bpf_program__line_info "pylbpf_compat_bpf_program__line_info"(const bpf_program *prog)
    __u32 bpf_program__line_info_cnt "pylbpf_compat_bpf_program__line_info_cnt"(const bpf_program *prog)
    int bpf_program__set_attach_target(bpf_program *prog, int attach_prog_fd, const char *attach_func_name)
    int bpf_program__assoc_struct_ops "pylbpf_compat_bpf_program__assoc_struct_ops"(bpf_program *prog,
            bpf_map *map, bpf_prog_assoc_struct_ops_opts *opts)

    bpf_map *bpf_object__find_map_by_name(const bpf_object *obj, const char *name)
    int bpf_object__find_map_fd_by_name(const bpf_object *obj, const char *name)
    bpf_map *bpf_object__next_map(const bpf_object *obj, const bpf_map *map)
    bpf_map *bpf_object__prev_map(const bpf_object *obj, const bpf_map *map)

    int bpf_map__set_autocreate(bpf_map *map, bint autocreate)
    bint bpf_map__autocreate(const bpf_map *map)
    int bpf_map__set_autoattach "pylbpf_compat_bpf_map__set_autoattach"(bpf_map *map, bint autoattach)
    bint bpf_map__autoattach "pylbpf_compat_bpf_map__autoattach"(const bpf_map *map)
    int bpf_map__fd(const bpf_map *map)
    int bpf_map__reuse_fd(bpf_map *map, int fd)
    const char *bpf_map__name(const bpf_map *map)
    bpf_map_type bpf_map__type(const bpf_map *map)
    int bpf_map__set_type(bpf_map *map, bpf_map_type type)
    __u32 bpf_map__max_entries(const bpf_map *map)
    int bpf_map__set_max_entries(bpf_map *map, __u32 max_entries)
    __u32 bpf_map__map_flags(const bpf_map *map)
    int bpf_map__set_map_flags(bpf_map *map, __u32 flags)
    __u32 bpf_map__numa_node(const bpf_map *map)
    int bpf_map__set_numa_node(bpf_map *map, __u32 numa_node)
    __u32 bpf_map__key_size(const bpf_map *map)
    int bpf_map__set_key_size(bpf_map *map, __u32 size)
    __u32 bpf_map__value_size(const bpf_map *map)
    int bpf_map__set_value_size(bpf_map *map, __u32 size)
    __u32 bpf_map__btf_key_type_id(const bpf_map *map)
    __u32 bpf_map__btf_value_type_id(const bpf_map *map)
    __u32 bpf_map__ifindex(const bpf_map *map)
    int bpf_map__set_ifindex(bpf_map *map, __u32 ifindex)
    __u64 bpf_map__map_extra(const bpf_map *map)
    int bpf_map__set_map_extra(bpf_map *map, __u64 map_extra)
    int bpf_map__set_initial_value(bpf_map *map, const void *data, size_t size)
    void *bpf_map__initial_value "pylbpf_compat_bpf_map__initial_value"(const bpf_map *map, size_t *psize)
    bint bpf_map__is_internal(const bpf_map *map)
    int bpf_map__set_pin_path(bpf_map *map, const char *path)
    const char *bpf_map__pin_path(const bpf_map *map)
    bint bpf_map__is_pinned(const bpf_map *map)
    int bpf_map__pin(bpf_map *map, const char *path)
    int bpf_map__unpin(bpf_map *map, const char *path)
    int bpf_map__set_inner_map_fd(bpf_map *map, int fd)
    bpf_map *bpf_map__inner_map(bpf_map *map)
    int bpf_map__lookup_elem(const bpf_map *map, const void *key, size_t key_sz, void *value, size_t value_sz,
            __u64 flags)
    int bpf_map__update_elem(const bpf_map *map, const void *key, size_t key_sz, const void *value,
            size_t value_sz, __u64 flags)
    int bpf_map__delete_elem(const bpf_map *map, const void *key, size_t key_sz, __u64 flags)
    int bpf_map__lookup_and_delete_elem(const bpf_map *map, const void *key, size_t key_sz, void *value,
            size_t value_sz, __u64 flags)
    int bpf_map__get_next_key(const bpf_map *map, const void *cur_key, void *next_key, size_t key_sz)
    int bpf_map__set_exclusive_program "pylbpf_compat_bpf_map__set_exclusive_program"(bpf_map *map,
            bpf_program *prog)
    bpf_program *bpf_map__exclusive_program "pylbpf_compat_bpf_map__exclusive_program"(bpf_map *map)

    struct bpf_xdp_set_link_opts:
        size_t sz
        int old_fd

    struct bpf_xdp_attach_opts:
        size_t sz
        int old_prog_fd

    struct bpf_xdp_query_opts "pylbpf_bpf_xdp_query_opts":
        size_t sz
        __u32 prog_id
        __u32 drv_prog_id
        __u32 hw_prog_id
        __u32 skb_prog_id
        __u8 attach_mode
        __u64 feature_flags
        __u32 xdp_zc_max_segs

    int bpf_xdp_attach(int ifindex, int prog_fd, __u32 flags, const bpf_xdp_attach_opts *opts)
    int bpf_xdp_detach(int ifindex, __u32 flags, const bpf_xdp_attach_opts *opts)
    int bpf_xdp_query "pylbpf_compat_bpf_xdp_query"(int ifindex, int flags, bpf_xdp_query_opts *opts)
    int bpf_xdp_query_id(int ifindex, int flags, __u32 *prog_id)

    struct bpf_tc_hook "pylbpf_bpf_tc_hook":
        size_t sz
        int ifindex
        bpf_tc_attach_point attach_point
        __u32 parent
        __u32 handle
        const char *qdisc

    struct bpf_tc_opts:
        size_t sz
        int prog_fd
        __u32 flags
        __u32 prog_id
        __u32 handle
        __u32 priority

    int bpf_tc_hook_create "pylbpf_compat_bpf_tc_hook_create"(bpf_tc_hook *hook)
    int bpf_tc_hook_destroy "pylbpf_compat_bpf_tc_hook_destroy"(bpf_tc_hook *hook)
    int bpf_tc_attach "pylbpf_compat_bpf_tc_attach"(const bpf_tc_hook *hook, bpf_tc_opts *opts)
    int bpf_tc_detach "pylbpf_compat_bpf_tc_detach"(const bpf_tc_hook *hook, const bpf_tc_opts *opts)
    int bpf_tc_query "pylbpf_compat_bpf_tc_query"(const bpf_tc_hook *hook, bpf_tc_opts *opts)

    struct ring_buffer_opts:
        size_t sz

    ring_buffer *ring_buffer__new(int map_fd, ring_buffer_sample_fn sample_cb, void *ctx,
            const ring_buffer_opts *opts)
    void ring_buffer__free(ring_buffer *rb)
    int ring_buffer__add(ring_buffer *rb, int map_fd, ring_buffer_sample_fn sample_cb, void *ctx)
    int ring_buffer__poll(ring_buffer *rb, int timeout_ms)
    int ring_buffer__consume(ring_buffer *rb)
    int ring_buffer__consume_n "pylbpf_compat_ring_buffer__consume_n"(ring_buffer *rb, size_t n)
    int ring_buffer__epoll_fd(const ring_buffer *rb)
    ring *ring_buffer__ring "pylbpf_compat_ring_buffer__ring"(ring_buffer *rb, unsigned int idx)

    unsigned long ring__consumer_pos "pylbpf_compat_ring__consumer_pos"(const ring *r)
    unsigned long ring__producer_pos "pylbpf_compat_ring__producer_pos"(const ring *r)
    size_t ring__avail_data_size "pylbpf_compat_ring__avail_data_size"(const ring *r)
    size_t ring__size "pylbpf_compat_ring__size"(const ring *r)
    int ring__map_fd "pylbpf_compat_ring__map_fd"(const ring *r)
    int ring__consume "pylbpf_compat_ring__consume"(ring *r)
    int ring__consume_n "pylbpf_compat_ring__consume_n"(ring *r, size_t n)

    struct user_ring_buffer_opts:
        size_t sz

    user_ring_buffer *user_ring_buffer__new(int map_fd, const user_ring_buffer_opts *opts)
    void *user_ring_buffer__reserve(user_ring_buffer *rb, __u32 size)
    void *user_ring_buffer__reserve_blocking(user_ring_buffer *rb, __u32 size, int timeout_ms)
    void user_ring_buffer__submit(user_ring_buffer *rb, void *sample)
    void user_ring_buffer__discard(user_ring_buffer *rb, void *sample)
    void user_ring_buffer__free(user_ring_buffer *rb)

    struct perf_buffer_opts "pylbpf_perf_buffer_opts":
        size_t sz
        __u32 sample_period

    perf_buffer *perf_buffer__new "pylbpf_compat_perf_buffer__new"(int map_fd, size_t page_cnt,
            perf_buffer_sample_fn sample_cb, perf_buffer_lost_fn lost_cb, void *ctx,
            const perf_buffer_opts *opts)

    struct perf_buffer_raw_opts:
        size_t sz
        int cpu_cnt
        int *cpus
        int *map_keys

    perf_buffer *perf_buffer__new_raw(int map_fd, size_t page_cnt, perf_event_attr *attr,
            perf_buffer_event_fn event_cb, void *ctx, const perf_buffer_raw_opts *opts)
    void perf_buffer__free(perf_buffer *pb)
    int perf_buffer__epoll_fd(const perf_buffer *pb)
    int perf_buffer__poll(perf_buffer *pb, int timeout_ms)
    int perf_buffer__consume(perf_buffer *pb)
    int perf_buffer__consume_buffer(perf_buffer *pb, size_t buf_idx)
    size_t perf_buffer__buffer_cnt(const perf_buffer *pb)
    int perf_buffer__buffer_fd(const perf_buffer *pb, size_t buf_idx)
    int perf_buffer__buffer(perf_buffer *pb, int buf_idx, void **buf, size_t *buf_size)

    void bpf_prog_linfo__free(bpf_prog_linfo *prog_linfo)
    bpf_prog_linfo *bpf_prog_linfo__new(const bpf_prog_info *info)
    const bpf_line_info *bpf_prog_linfo__lfind_addr_func(const bpf_prog_linfo *prog_linfo, __u64 addr,
            __u32 func_idx, __u32 nr_skip)
    const bpf_line_info *bpf_prog_linfo__lfind(const bpf_prog_linfo *prog_linfo, __u32 insn_off,
            __u32 nr_skip)

    int libbpf_probe_bpf_prog_type(bpf_prog_type prog_type, const void *opts)
    int libbpf_probe_bpf_map_type(bpf_map_type map_type, const void *opts)
    int libbpf_probe_bpf_helper(bpf_prog_type prog_type, bpf_func_id helper_id, const void *opts)
    int libbpf_num_possible_cpus()

    struct bpf_map_skeleton "pylbpf_bpf_map_skeleton":
        const char *name
        bpf_map **map
        void **mmaped
        bpf_link **link

    struct bpf_prog_skeleton:
        const char *name
        bpf_program **prog
        bpf_link **link

    struct bpf_object_skeleton "pylbpf_bpf_object_skeleton":
        size_t sz
        const char *name
        const void *data
        size_t data_sz
        bpf_object **obj
        int map_cnt
        int map_skel_sz
        bpf_map_skeleton *maps
        int prog_cnt
        int prog_skel_sz
        bpf_prog_skeleton *progs

    int bpf_object__open_skeleton "pylbpf_compat_bpf_object__open_skeleton"(bpf_object_skeleton *s,
            const bpf_object_open_opts *opts)
    int bpf_object__load_skeleton "pylbpf_compat_bpf_object__load_skeleton"(bpf_object_skeleton *s)
    int bpf_object__attach_skeleton "pylbpf_compat_bpf_object__attach_skeleton"(bpf_object_skeleton *s)
    void bpf_object__detach_skeleton "pylbpf_compat_bpf_object__detach_skeleton"(bpf_object_skeleton *s)
    void bpf_object__destroy_skeleton "pylbpf_compat_bpf_object__destroy_skeleton"(bpf_object_skeleton *s)

    struct bpf_var_skeleton:
        const char *name
        bpf_map **map
        void **addr

    struct bpf_object_subskeleton "pylbpf_bpf_object_subskeleton":
        size_t sz
        const bpf_object *obj
        int map_cnt
        int map_skel_sz
        bpf_map_skeleton *maps
        int prog_cnt
        int prog_skel_sz
        bpf_prog_skeleton *progs
        int var_cnt
        int var_skel_sz
        bpf_var_skeleton *vars

    int bpf_object__open_subskeleton "pylbpf_compat_bpf_object__open_subskeleton"(bpf_object_subskeleton *s)
    void bpf_object__destroy_subskeleton "pylbpf_compat_bpf_object__destroy_subskeleton"(
            bpf_object_subskeleton *s)

    struct gen_loader_opts "pylbpf_gen_loader_opts":
        size_t sz
        const char *data
        const char *insns
        __u32 data_sz
        __u32 insns_sz
        bint gen_hash

    int bpf_object__gen_loader "pylbpf_compat_bpf_object__gen_loader"(bpf_object *obj, gen_loader_opts *opts)

    struct bpf_linker_opts:
        size_t sz

    struct bpf_linker_file_opts:
        size_t sz

    bpf_linker *bpf_linker__new(const char *filename, bpf_linker_opts *opts)
    bpf_linker *bpf_linker__new_fd "pylbpf_compat_bpf_linker__new_fd"(int fd, bpf_linker_opts *opts)
    int bpf_linker__add_file(bpf_linker *linker, const char *filename, const bpf_linker_file_opts *opts)
    int bpf_linker__add_fd "pylbpf_compat_bpf_linker__add_fd"(bpf_linker *linker, int fd,
            const bpf_linker_file_opts *opts)
    int bpf_linker__add_buf "pylbpf_compat_bpf_linker__add_buf"(bpf_linker *linker, void *buf, size_t buf_sz,
            const bpf_linker_file_opts *opts)
    int bpf_linker__finalize(bpf_linker *linker)
    void bpf_linker__free(bpf_linker *linker)

    struct libbpf_prog_handler_opts "pylbpf_libbpf_prog_handler_opts":
        size_t sz
        long cookie
        libbpf_prog_setup_fn_t prog_setup_fn
        libbpf_prog_prepare_load_fn_t prog_prepare_load_fn
        libbpf_prog_attach_fn_t prog_attach_fn

    int libbpf_register_prog_handler "pylbpf_compat_libbpf_register_prog_handler"(const char *sec,
            bpf_prog_type prog_type, bpf_attach_type exp_attach_type, const libbpf_prog_handler_opts *opts)
    int libbpf_unregister_prog_handler(int handler_id)
