/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/*
 * What an older libbpf lacks.
 *
 * A binary must not depend on the age of the header it was compiled with. So
 * - functions newer than 1.1 are weak: built against 1.1 they are found in
 *   whatever libbpf.so.1 is loaded, and pylbpf_compat_<name> fails cleanly
 *   where it has none;
 * - option structs that grew since 1.1 are here in their newest layout, as
 *   pylbpf_<name>; libbpf goes by their first field, the size, and accepts
 *   a longer one whose unknown rest is zero.
 */
#ifndef PYLBPF_COMPAT_H
#define PYLBPF_COMPAT_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <linux/bpf.h>
#include <bpf/libbpf.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The function that was missing last, on this thread and in this module. */
struct pylbpf_missing {
	const char *name;
	const char *version;
};

static __thread struct pylbpf_missing pylbpf_missing __attribute__((unused));

/* Told of each missing function, if the module sets it; it must not touch Python without the GIL. */
static void (*pylbpf_on_missing)(const char *name, const char *version) __attribute__((unused));

/* Return and forget the missing function's name, NULL if there was none. */
static inline const char *pylbpf_compat_missing(const char **version)
{
	struct pylbpf_missing last = pylbpf_missing;

	pylbpf_missing.name = NULL;
	pylbpf_missing.version = NULL;
	if (version)
		*version = last.version;
	return last.name;
}

static inline bool pylbpf_lacks(const char *name, const char *version)
{
	pylbpf_missing.name = name;
	pylbpf_missing.version = version;
	if (pylbpf_on_missing)
		pylbpf_on_missing(name, version);
	errno = EOPNOTSUPP;
	return false;
}

/* In a missing function's place: -EOPNOTSUPP, or NULL, 0, false with that errno. */
#define PYLBPF_WEAK LIBBPF_API __attribute__((weak))
#define PYLBPF_HAS(function, version) ((function) || pylbpf_lacks(#function, version))

/* Structs that 1.1 does not know: the tag is all that a prototype needs. */

struct bpf_cgroup_opts;
struct bpf_log_opts;
struct bpf_netfilter_opts;
struct bpf_netkit_opts;
struct bpf_obj_pin_opts;
struct bpf_prog_assoc_struct_ops_opts;
struct bpf_prog_detach_opts;
struct bpf_prog_stream_read_opts;
struct bpf_raw_tp_opts;
struct bpf_raw_tracepoint_opts;
struct bpf_tcx_opts;
struct bpf_token_create_opts;
struct bpf_tracing_multi_opts;
struct bpf_uprobe_multi_opts;
struct btf_new_opts;
struct btf_permute_opts;

/* bpf.h: option structs in their newest layout */

struct pylbpf_bpf_log_opts {
	size_t sz;
	char *buf;
	__u32 size;
	__u32 level;
	__u32 true_size;
};

struct pylbpf_bpf_map_create_opts {
	size_t sz;
	__u32 btf_fd;
	__u32 btf_key_type_id;
	__u32 btf_value_type_id;
	__u32 btf_vmlinux_value_type_id;
	__u32 inner_map_fd;
	__u32 map_flags;
	__u64 map_extra;
	__u32 numa_node;
	__u32 map_ifindex;
	__s32 value_type_btf_obj_fd;
	__u32 token_fd;
	const void *excl_prog_hash;
	__u32 excl_prog_hash_size;
	struct pylbpf_bpf_log_opts *log_opts;
};

struct pylbpf_bpf_prog_load_opts {
	size_t sz;
	int attempts;
	enum bpf_attach_type expected_attach_type;
	__u32 prog_btf_fd;
	__u32 prog_flags;
	__u32 prog_ifindex;
	__u32 kern_version;
	__u32 attach_btf_id;
	__u32 attach_prog_fd;
	__u32 attach_btf_obj_fd;
	const int *fd_array;
	const void *func_info;
	__u32 func_info_cnt;
	__u32 func_info_rec_size;
	const void *line_info;
	__u32 line_info_cnt;
	__u32 line_info_rec_size;
	__u32 log_level;
	__u32 log_size;
	char *log_buf;
	__u32 log_true_size;
	__u32 token_fd;
	__u32 fd_array_cnt;
};

struct pylbpf_bpf_btf_load_opts {
	size_t sz;
	char *log_buf;
	__u32 log_level;
	__u32 log_size;
	__u32 log_true_size;
	__u32 btf_flags;
	__u32 token_fd;
};

struct pylbpf_bpf_obj_pin_opts {
	size_t sz;
	__u32 file_flags;
	int path_fd;
};

struct pylbpf_bpf_obj_get_opts {
	size_t sz;
	__u32 file_flags;
	int path_fd;
};

struct pylbpf_bpf_prog_attach_opts {
	size_t sz;
	__u32 flags;
	union {
		int replace_prog_fd;
		int replace_fd;
	};
	int relative_fd;
	__u32 relative_id;
	__u64 expected_revision;
};

struct pylbpf_bpf_prog_detach_opts {
	size_t sz;
	__u32 flags;
	int relative_fd;
	__u32 relative_id;
	__u64 expected_revision;
};

struct pylbpf_link_create_perf_event {
	__u64 bpf_cookie;
};

struct pylbpf_link_create_kprobe_multi {
	__u32 flags;
	__u32 cnt;
	const char **syms;
	const unsigned long *addrs;
	const __u64 *cookies;
};

struct pylbpf_link_create_uprobe_multi {
	__u32 flags;
	__u32 cnt;
	const char *path;
	const unsigned long *offsets;
	const unsigned long *ref_ctr_offsets;
	const __u64 *cookies;
	__u32 pid;
};

struct pylbpf_link_create_tracing {
	__u64 cookie;
};

struct pylbpf_link_create_netfilter {
	__u32 pf;
	__u32 hooknum;
	__s32 priority;
	__u32 flags;
};

struct pylbpf_link_create_tcx {
	__u32 relative_fd;
	__u32 relative_id;
	__u64 expected_revision;
};

struct pylbpf_link_create_netkit {
	__u32 relative_fd;
	__u32 relative_id;
	__u64 expected_revision;
};

struct pylbpf_link_create_cgroup {
	__u32 relative_fd;
	__u32 relative_id;
	__u64 expected_revision;
};

struct pylbpf_bpf_link_create_opts {
	size_t sz;
	__u32 flags;
	union bpf_iter_link_info *iter_info;
	__u32 iter_info_len;
	__u32 target_btf_id;
	union {
		struct pylbpf_link_create_perf_event perf_event;
		struct pylbpf_link_create_kprobe_multi kprobe_multi;
		struct pylbpf_link_create_uprobe_multi uprobe_multi;
		struct pylbpf_link_create_tracing tracing;
		struct pylbpf_link_create_netfilter netfilter;
		struct pylbpf_link_create_tcx tcx;
		struct pylbpf_link_create_netkit netkit;
		struct pylbpf_link_create_cgroup cgroup;
	};
};

struct pylbpf_bpf_link_update_opts {
	size_t sz;
	__u32 flags;
	__u32 old_prog_fd;
	__u32 old_map_fd;
};

struct pylbpf_bpf_get_fd_by_id_opts {
	size_t sz;
	__u32 open_flags;
	__u32 token_fd;
};

struct pylbpf_bpf_prog_query_opts {
	size_t sz;
	__u32 query_flags;
	__u32 attach_flags;
	__u32 *prog_ids;
	union {
		__u32 prog_cnt;
		__u32 count;
	};
	__u32 *prog_attach_flags;
	__u32 *link_ids;
	__u32 *link_attach_flags;
	__u64 revision;
};

struct pylbpf_bpf_raw_tp_opts {
	size_t sz;
	const char *tp_name;
	__u64 cookie;
};

struct pylbpf_bpf_token_create_opts {
	size_t sz;
	__u32 flags;
};

struct pylbpf_bpf_prog_stream_read_opts {
	size_t sz;
};

struct pylbpf_bpf_prog_assoc_struct_ops_opts {
	size_t sz;
	__u32 flags;
};

/* libbpf.h: option structs in their newest layout */

enum pylbpf_probe_attach_mode {
	PYLBPF_PROBE_ATTACH_MODE_DEFAULT,
	PYLBPF_PROBE_ATTACH_MODE_LEGACY,
	PYLBPF_PROBE_ATTACH_MODE_PERF,
	PYLBPF_PROBE_ATTACH_MODE_LINK,
};

/* Of enum bpf_tc_attach_point, since 1.6. */
#define PYLBPF_BPF_TC_QDISC ((enum bpf_tc_attach_point)(1 << 3))

/* What libbpf passes is as long as opts->sz says, perhaps shorter than this. */
typedef int (*pylbpf_prog_prepare_load_fn_t)(struct bpf_program *prog,
		struct pylbpf_bpf_prog_load_opts *opts, long cookie);

struct pylbpf_bpf_object_open_opts {
	size_t sz;
	const char *object_name;
	bool relaxed_maps;
	const char *pin_root_path;
	__u32 :32;
	const char *kconfig;
	const char *btf_custom_path;
	char *kernel_log_buf;
	size_t kernel_log_size;
	__u32 kernel_log_level;
	const char *bpf_token_path;
};

struct pylbpf_bpf_perf_event_opts {
	size_t sz;
	__u64 bpf_cookie;
	bool force_ioctl_attach;
	bool dont_enable;
};

struct pylbpf_bpf_kprobe_opts {
	size_t sz;
	__u64 bpf_cookie;
	size_t offset;
	bool retprobe;
	enum pylbpf_probe_attach_mode attach_mode;
};

struct pylbpf_bpf_kprobe_multi_opts {
	size_t sz;
	const char **syms;
	const unsigned long *addrs;
	const __u64 *cookies;
	size_t cnt;
	bool retprobe;
	bool session;
	bool unique_match;
};

struct pylbpf_bpf_uprobe_multi_opts {
	size_t sz;
	const char **syms;
	const unsigned long *offsets;
	const unsigned long *ref_ctr_offsets;
	const __u64 *cookies;
	size_t cnt;
	bool retprobe;
	bool session;
};

struct pylbpf_bpf_uprobe_opts {
	size_t sz;
	size_t ref_ctr_offset;
	__u64 bpf_cookie;
	bool retprobe;
	const char *func_name;
	enum pylbpf_probe_attach_mode attach_mode;
};

struct pylbpf_bpf_raw_tracepoint_opts {
	size_t sz;
	__u64 cookie;
};

struct pylbpf_bpf_tracing_multi_opts {
	size_t sz;
	const __u32 *ids;
	const __u64 *cookies;
	size_t cnt;
};

struct pylbpf_bpf_netfilter_opts {
	size_t sz;
	__u32 pf;
	__u32 hooknum;
	__s32 priority;
	__u32 flags;
};

struct pylbpf_bpf_tcx_opts {
	size_t sz;
	__u32 flags;
	__u32 relative_fd;
	__u32 relative_id;
	__u64 expected_revision;
};

struct pylbpf_bpf_netkit_opts {
	size_t sz;
	__u32 flags;
	__u32 relative_fd;
	__u32 relative_id;
	__u64 expected_revision;
};

struct pylbpf_bpf_cgroup_opts {
	size_t sz;
	__u32 flags;
	__u32 relative_fd;
	__u32 relative_id;
	__u64 expected_revision;
};

struct pylbpf_bpf_xdp_query_opts {
	size_t sz;
	__u32 prog_id;
	__u32 drv_prog_id;
	__u32 hw_prog_id;
	__u32 skb_prog_id;
	__u8 attach_mode;
	__u64 feature_flags;
	__u32 xdp_zc_max_segs;
};

struct pylbpf_bpf_tc_hook {
	size_t sz;
	int ifindex;
	enum bpf_tc_attach_point attach_point;
	__u32 parent;
	__u32 handle;
	const char *qdisc;
};

struct pylbpf_perf_buffer_opts {
	size_t sz;
	__u32 sample_period;
};

struct pylbpf_bpf_map_skeleton {
	const char *name;
	struct bpf_map **map;
	void **mmaped;
	struct bpf_link **link;
};

struct pylbpf_bpf_object_skeleton {
	size_t sz;
	const char *name;
	const void *data;
	size_t data_sz;
	struct bpf_object **obj;
	int map_cnt;
	int map_skel_sz;
	struct pylbpf_bpf_map_skeleton *maps;
	int prog_cnt;
	int prog_skel_sz;
	struct bpf_prog_skeleton *progs;
};

struct pylbpf_bpf_object_subskeleton {
	size_t sz;
	const struct bpf_object *obj;
	int map_cnt;
	int map_skel_sz;
	struct pylbpf_bpf_map_skeleton *maps;
	int prog_cnt;
	int prog_skel_sz;
	struct bpf_prog_skeleton *progs;
	int var_cnt;
	int var_skel_sz;
	struct bpf_var_skeleton *vars;
};

struct pylbpf_gen_loader_opts {
	size_t sz;
	const char *data;
	const char *insns;
	__u32 data_sz;
	__u32 insns_sz;
	bool gen_hash;
};

struct pylbpf_libbpf_prog_handler_opts {
	size_t sz;
	long cookie;
	libbpf_prog_setup_fn_t prog_setup_fn;
	pylbpf_prog_prepare_load_fn_t prog_prepare_load_fn;
	libbpf_prog_attach_fn_t prog_attach_fn;
};

/* btf.h: option structs in their newest layout */

struct pylbpf_btf_new_opts {
	size_t sz;
	struct btf *base_btf;
	bool add_layout;
};

struct pylbpf_btf_permute_opts {
	size_t sz;
	struct btf_ext *btf_ext;
};

struct pylbpf_btf_dump_type_data_opts {
	size_t sz;
	const char *indent_str;
	int indent_level;
	bool compact;
	bool skip_names;
	bool emit_zeroes;
	bool emit_strings;
};

/* bpf.h: functions of 1.1 that take one of those structs */

static inline int pylbpf_compat_bpf_map_create(enum bpf_map_type map_type, const char *map_name,
		__u32 key_size, __u32 value_size, __u32 max_entries,
		const struct pylbpf_bpf_map_create_opts *opts)
{
	return bpf_map_create(map_type, map_name, key_size, value_size, max_entries,
		(const struct bpf_map_create_opts *)opts);
}

static inline int pylbpf_compat_bpf_prog_load(enum bpf_prog_type prog_type, const char *prog_name,
		const char *license, const struct bpf_insn *insns, size_t insn_cnt,
		struct pylbpf_bpf_prog_load_opts *opts)
{
	return bpf_prog_load(prog_type, prog_name, license, insns, insn_cnt,
		(struct bpf_prog_load_opts *)opts);
}

static inline int pylbpf_compat_bpf_btf_load(const void *btf_data, size_t btf_size,
		struct pylbpf_bpf_btf_load_opts *opts)
{
	return bpf_btf_load(btf_data, btf_size, (struct bpf_btf_load_opts *)opts);
}

static inline int pylbpf_compat_bpf_obj_get_opts(const char *pathname,
		const struct pylbpf_bpf_obj_get_opts *opts)
{
	return bpf_obj_get_opts(pathname, (const struct bpf_obj_get_opts *)opts);
}

static inline int pylbpf_compat_bpf_prog_attach_opts(int prog_fd, int target,
		enum bpf_attach_type type, const struct pylbpf_bpf_prog_attach_opts *opts)
{
	return bpf_prog_attach_opts(prog_fd, target, type, (const struct bpf_prog_attach_opts *)opts);
}

static inline int pylbpf_compat_bpf_link_create(int prog_fd, int target_fd,
		enum bpf_attach_type attach_type, const struct pylbpf_bpf_link_create_opts *opts)
{
	return bpf_link_create(prog_fd, target_fd, attach_type,
		(const struct bpf_link_create_opts *)opts);
}

static inline int pylbpf_compat_bpf_link_update(int link_fd, int new_prog_fd,
		const struct pylbpf_bpf_link_update_opts *opts)
{
	return bpf_link_update(link_fd, new_prog_fd, (const struct bpf_link_update_opts *)opts);
}

static inline int pylbpf_compat_bpf_prog_get_fd_by_id_opts(__u32 id,
		const struct pylbpf_bpf_get_fd_by_id_opts *opts)
{
	return bpf_prog_get_fd_by_id_opts(id, (const struct bpf_get_fd_by_id_opts *)opts);
}

static inline int pylbpf_compat_bpf_map_get_fd_by_id_opts(__u32 id,
		const struct pylbpf_bpf_get_fd_by_id_opts *opts)
{
	return bpf_map_get_fd_by_id_opts(id, (const struct bpf_get_fd_by_id_opts *)opts);
}

static inline int pylbpf_compat_bpf_btf_get_fd_by_id_opts(__u32 id,
		const struct pylbpf_bpf_get_fd_by_id_opts *opts)
{
	return bpf_btf_get_fd_by_id_opts(id, (const struct bpf_get_fd_by_id_opts *)opts);
}

static inline int pylbpf_compat_bpf_link_get_fd_by_id_opts(__u32 id,
		const struct pylbpf_bpf_get_fd_by_id_opts *opts)
{
	return bpf_link_get_fd_by_id_opts(id, (const struct bpf_get_fd_by_id_opts *)opts);
}

static inline int pylbpf_compat_bpf_prog_query_opts(int target, enum bpf_attach_type type,
		struct pylbpf_bpf_prog_query_opts *opts)
{
	return bpf_prog_query_opts(target, type, (struct bpf_prog_query_opts *)opts);
}

/* libbpf.h: functions of 1.1 that take one of those structs */

static inline struct bpf_object *pylbpf_compat_bpf_object__open_file(const char *path,
		const struct pylbpf_bpf_object_open_opts *opts)
{
	return bpf_object__open_file(path, (const struct bpf_object_open_opts *)opts);
}

static inline struct bpf_object *pylbpf_compat_bpf_object__open_mem(const void *obj_buf,
		size_t obj_buf_sz, const struct pylbpf_bpf_object_open_opts *opts)
{
	return bpf_object__open_mem(obj_buf, obj_buf_sz, (const struct bpf_object_open_opts *)opts);
}

static inline struct bpf_link *pylbpf_compat_bpf_program__attach_perf_event_opts(
		const struct bpf_program *prog, int pfd, const struct pylbpf_bpf_perf_event_opts *opts)
{
	return bpf_program__attach_perf_event_opts(prog, pfd, (const struct bpf_perf_event_opts *)opts);
}

static inline struct bpf_link *pylbpf_compat_bpf_program__attach_kprobe_opts(
		const struct bpf_program *prog, const char *func_name, const struct pylbpf_bpf_kprobe_opts *opts)
{
	return bpf_program__attach_kprobe_opts(prog, func_name, (const struct bpf_kprobe_opts *)opts);
}

static inline struct bpf_link *pylbpf_compat_bpf_program__attach_kprobe_multi_opts(
		const struct bpf_program *prog, const char *pattern,
		const struct pylbpf_bpf_kprobe_multi_opts *opts)
{
	return bpf_program__attach_kprobe_multi_opts(prog, pattern,
		(const struct bpf_kprobe_multi_opts *)opts);
}

static inline struct bpf_link *pylbpf_compat_bpf_program__attach_uprobe_opts(
		const struct bpf_program *prog, pid_t pid, const char *binary_path, size_t func_offset,
		const struct pylbpf_bpf_uprobe_opts *opts)
{
	return bpf_program__attach_uprobe_opts(prog, pid, binary_path, func_offset,
		(const struct bpf_uprobe_opts *)opts);
}

/* Its const qualifiers changed on the way to 1.7. */
static inline void *pylbpf_compat_bpf_map__initial_value(const struct bpf_map *map, size_t *psize)
{
	return (void *)bpf_map__initial_value((struct bpf_map *)map, psize);
}

static inline int pylbpf_compat_bpf_xdp_query(int ifindex, int flags,
		struct pylbpf_bpf_xdp_query_opts *opts)
{
	return bpf_xdp_query(ifindex, flags, (struct bpf_xdp_query_opts *)opts);
}

static inline int pylbpf_compat_bpf_tc_hook_create(struct pylbpf_bpf_tc_hook *hook)
{
	return bpf_tc_hook_create((struct bpf_tc_hook *)hook);
}

static inline int pylbpf_compat_bpf_tc_hook_destroy(struct pylbpf_bpf_tc_hook *hook)
{
	return bpf_tc_hook_destroy((struct bpf_tc_hook *)hook);
}

static inline int pylbpf_compat_bpf_tc_attach(const struct pylbpf_bpf_tc_hook *hook,
		struct bpf_tc_opts *opts)
{
	return bpf_tc_attach((const struct bpf_tc_hook *)hook, opts);
}

static inline int pylbpf_compat_bpf_tc_detach(const struct pylbpf_bpf_tc_hook *hook,
		const struct bpf_tc_opts *opts)
{
	return bpf_tc_detach((const struct bpf_tc_hook *)hook, opts);
}

static inline int pylbpf_compat_bpf_tc_query(const struct pylbpf_bpf_tc_hook *hook,
		struct bpf_tc_opts *opts)
{
	return bpf_tc_query((const struct bpf_tc_hook *)hook, opts);
}

static inline struct perf_buffer *pylbpf_compat_perf_buffer__new(int map_fd, size_t page_cnt,
		perf_buffer_sample_fn sample_cb, perf_buffer_lost_fn lost_cb, void *ctx,
		const struct pylbpf_perf_buffer_opts *opts)
{
	return perf_buffer__new(map_fd, page_cnt, sample_cb, lost_cb, ctx,
		(const struct perf_buffer_opts *)opts);
}

static inline int pylbpf_compat_bpf_object__open_skeleton(struct pylbpf_bpf_object_skeleton *s,
		const struct pylbpf_bpf_object_open_opts *opts)
{
	return bpf_object__open_skeleton((struct bpf_object_skeleton *)s,
		(const struct bpf_object_open_opts *)opts);
}

static inline int pylbpf_compat_bpf_object__load_skeleton(struct pylbpf_bpf_object_skeleton *s)
{
	return bpf_object__load_skeleton((struct bpf_object_skeleton *)s);
}

static inline int pylbpf_compat_bpf_object__attach_skeleton(struct pylbpf_bpf_object_skeleton *s)
{
	return bpf_object__attach_skeleton((struct bpf_object_skeleton *)s);
}

static inline void pylbpf_compat_bpf_object__detach_skeleton(struct pylbpf_bpf_object_skeleton *s)
{
	bpf_object__detach_skeleton((struct bpf_object_skeleton *)s);
}

static inline void pylbpf_compat_bpf_object__destroy_skeleton(struct pylbpf_bpf_object_skeleton *s)
{
	bpf_object__destroy_skeleton((struct bpf_object_skeleton *)s);
}

static inline int pylbpf_compat_bpf_object__open_subskeleton(
		struct pylbpf_bpf_object_subskeleton *s)
{
	return bpf_object__open_subskeleton((struct bpf_object_subskeleton *)s);
}

static inline void pylbpf_compat_bpf_object__destroy_subskeleton(
		struct pylbpf_bpf_object_subskeleton *s)
{
	bpf_object__destroy_subskeleton((struct bpf_object_subskeleton *)s);
}

static inline int pylbpf_compat_bpf_object__gen_loader(struct bpf_object *obj,
		struct pylbpf_gen_loader_opts *opts)
{
	return bpf_object__gen_loader(obj, (struct gen_loader_opts *)opts);
}

static inline int pylbpf_compat_libbpf_register_prog_handler(const char *sec,
		enum bpf_prog_type prog_type, enum bpf_attach_type exp_attach_type,
		const struct pylbpf_libbpf_prog_handler_opts *opts)
{
	return libbpf_register_prog_handler(sec, prog_type, exp_attach_type,
		(const struct libbpf_prog_handler_opts *)opts);
}

/* btf.h: functions of 1.1 that take one of those structs */

static inline int pylbpf_compat_btf_dump__dump_type_data(struct btf_dump *d, __u32 id,
		const void *data, size_t data_sz, const struct pylbpf_btf_dump_type_data_opts *opts)
{
	return btf_dump__dump_type_data(d, id, data, data_sz,
		(const struct btf_dump_type_data_opts *)opts);
}

/* since 1.2 */

PYLBPF_WEAK int bpf_link__update_map(struct bpf_link *link, const struct bpf_map *map);
static inline int pylbpf_compat_bpf_link__update_map(struct bpf_link *link,
		const struct bpf_map *map)
{
	return PYLBPF_HAS(bpf_link__update_map, "1.2") ? bpf_link__update_map(link, map) : -EOPNOTSUPP;
}

PYLBPF_WEAK int bpf_prog_get_info_by_fd(int prog_fd, struct bpf_prog_info *info, __u32 *info_len);
static inline int pylbpf_compat_bpf_prog_get_info_by_fd(int prog_fd, struct bpf_prog_info *info,
		__u32 *info_len)
{
	return PYLBPF_HAS(bpf_prog_get_info_by_fd, "1.2")
		? bpf_prog_get_info_by_fd(prog_fd, info, info_len) : -EOPNOTSUPP;
}

PYLBPF_WEAK int bpf_map_get_info_by_fd(int map_fd, struct bpf_map_info *info, __u32 *info_len);
static inline int pylbpf_compat_bpf_map_get_info_by_fd(int map_fd, struct bpf_map_info *info,
		__u32 *info_len)
{
	return PYLBPF_HAS(bpf_map_get_info_by_fd, "1.2")
		? bpf_map_get_info_by_fd(map_fd, info, info_len) : -EOPNOTSUPP;
}

PYLBPF_WEAK int bpf_btf_get_info_by_fd(int btf_fd, struct bpf_btf_info *info, __u32 *info_len);
static inline int pylbpf_compat_bpf_btf_get_info_by_fd(int btf_fd, struct bpf_btf_info *info,
		__u32 *info_len)
{
	return PYLBPF_HAS(bpf_btf_get_info_by_fd, "1.2")
		? bpf_btf_get_info_by_fd(btf_fd, info, info_len) : -EOPNOTSUPP;
}

PYLBPF_WEAK int bpf_link_get_info_by_fd(int link_fd, struct bpf_link_info *info, __u32 *info_len);
static inline int pylbpf_compat_bpf_link_get_info_by_fd(int link_fd, struct bpf_link_info *info,
		__u32 *info_len)
{
	return PYLBPF_HAS(bpf_link_get_info_by_fd, "1.2")
		? bpf_link_get_info_by_fd(link_fd, info, info_len) : -EOPNOTSUPP;
}

/* since 1.3 */

PYLBPF_WEAK int bpf_object__unpin(struct bpf_object *obj, const char *path);
static inline int pylbpf_compat_bpf_object__unpin(struct bpf_object *obj, const char *path)
{
	return PYLBPF_HAS(bpf_object__unpin, "1.3") ? bpf_object__unpin(obj, path) : -EOPNOTSUPP;
}

PYLBPF_WEAK struct bpf_link *bpf_program__attach_uprobe_multi(const struct bpf_program *prog,
		pid_t pid, const char *binary_path, const char *func_pattern,
		const struct bpf_uprobe_multi_opts *opts);
static inline struct bpf_link *pylbpf_compat_bpf_program__attach_uprobe_multi(
		const struct bpf_program *prog, pid_t pid, const char *binary_path, const char *func_pattern,
		const struct pylbpf_bpf_uprobe_multi_opts *opts)
{
	return PYLBPF_HAS(bpf_program__attach_uprobe_multi, "1.3")
		? bpf_program__attach_uprobe_multi(prog, pid, binary_path, func_pattern,
			(const struct bpf_uprobe_multi_opts *)opts) : NULL;
}

PYLBPF_WEAK struct bpf_link *bpf_program__attach_netfilter(const struct bpf_program *prog,
		const struct bpf_netfilter_opts *opts);
static inline struct bpf_link *pylbpf_compat_bpf_program__attach_netfilter(
		const struct bpf_program *prog, const struct pylbpf_bpf_netfilter_opts *opts)
{
	return PYLBPF_HAS(bpf_program__attach_netfilter, "1.3")
		? bpf_program__attach_netfilter(prog, (const struct bpf_netfilter_opts *)opts) : NULL;
}

PYLBPF_WEAK struct bpf_link *bpf_program__attach_tcx(const struct bpf_program *prog, int ifindex,
		const struct bpf_tcx_opts *opts);
static inline struct bpf_link *pylbpf_compat_bpf_program__attach_tcx(const struct bpf_program *prog,
		int ifindex, const struct pylbpf_bpf_tcx_opts *opts)
{
	return PYLBPF_HAS(bpf_program__attach_tcx, "1.3")
		? bpf_program__attach_tcx(prog, ifindex, (const struct bpf_tcx_opts *)opts) : NULL;
}

PYLBPF_WEAK struct bpf_link *bpf_program__attach_netkit(const struct bpf_program *prog, int ifindex,
		const struct bpf_netkit_opts *opts);
static inline struct bpf_link *pylbpf_compat_bpf_program__attach_netkit(
		const struct bpf_program *prog, int ifindex, const struct pylbpf_bpf_netkit_opts *opts)
{
	return PYLBPF_HAS(bpf_program__attach_netkit, "1.3")
		? bpf_program__attach_netkit(prog, ifindex,
			(const struct bpf_netkit_opts *)opts) : NULL;
}

PYLBPF_WEAK struct ring *ring_buffer__ring(struct ring_buffer *rb, unsigned int idx);
static inline struct ring *pylbpf_compat_ring_buffer__ring(struct ring_buffer *rb, unsigned int idx)
{
	return PYLBPF_HAS(ring_buffer__ring, "1.3") ? ring_buffer__ring(rb, idx) : NULL;
}

PYLBPF_WEAK unsigned long ring__consumer_pos(const struct ring *r);
static inline unsigned long pylbpf_compat_ring__consumer_pos(const struct ring *r)
{
	return PYLBPF_HAS(ring__consumer_pos, "1.3") ? ring__consumer_pos(r) : 0;
}

PYLBPF_WEAK unsigned long ring__producer_pos(const struct ring *r);
static inline unsigned long pylbpf_compat_ring__producer_pos(const struct ring *r)
{
	return PYLBPF_HAS(ring__producer_pos, "1.3") ? ring__producer_pos(r) : 0;
}

PYLBPF_WEAK size_t ring__avail_data_size(const struct ring *r);
static inline size_t pylbpf_compat_ring__avail_data_size(const struct ring *r)
{
	return PYLBPF_HAS(ring__avail_data_size, "1.3") ? ring__avail_data_size(r) : 0;
}

PYLBPF_WEAK size_t ring__size(const struct ring *r);
static inline size_t pylbpf_compat_ring__size(const struct ring *r)
{
	return PYLBPF_HAS(ring__size, "1.3") ? ring__size(r) : 0;
}

PYLBPF_WEAK int ring__map_fd(const struct ring *r);
static inline int pylbpf_compat_ring__map_fd(const struct ring *r)
{
	return PYLBPF_HAS(ring__map_fd, "1.3") ? ring__map_fd(r) : -EOPNOTSUPP;
}

PYLBPF_WEAK int ring__consume(struct ring *r);
static inline int pylbpf_compat_ring__consume(struct ring *r)
{
	return PYLBPF_HAS(ring__consume, "1.3") ? ring__consume(r) : -EOPNOTSUPP;
}

PYLBPF_WEAK int bpf_obj_pin_opts(int fd, const char *pathname, const struct bpf_obj_pin_opts *opts);
static inline int pylbpf_compat_bpf_obj_pin_opts(int fd, const char *pathname,
		const struct pylbpf_bpf_obj_pin_opts *opts)
{
	return PYLBPF_HAS(bpf_obj_pin_opts, "1.3")
		? bpf_obj_pin_opts(fd, pathname, (const struct bpf_obj_pin_opts *)opts) : -EOPNOTSUPP;
}

PYLBPF_WEAK int bpf_prog_detach_opts(int prog_fd, int target, enum bpf_attach_type type,
		const struct bpf_prog_detach_opts *opts);
static inline int pylbpf_compat_bpf_prog_detach_opts(int prog_fd, int target,
		enum bpf_attach_type type, const struct pylbpf_bpf_prog_detach_opts *opts)
{
	return PYLBPF_HAS(bpf_prog_detach_opts, "1.3")
		? bpf_prog_detach_opts(prog_fd, target, type,
			(const struct bpf_prog_detach_opts *)opts) : -EOPNOTSUPP;
}

/* since 1.4 */

PYLBPF_WEAK struct bpf_link *bpf_program__attach_raw_tracepoint_opts(const struct bpf_program *prog,
		const char *tp_name, struct bpf_raw_tracepoint_opts *opts);
static inline struct bpf_link *pylbpf_compat_bpf_program__attach_raw_tracepoint_opts(
		const struct bpf_program *prog, const char *tp_name, struct pylbpf_bpf_raw_tracepoint_opts *opts)
{
	return PYLBPF_HAS(bpf_program__attach_raw_tracepoint_opts, "1.4")
		? bpf_program__attach_raw_tracepoint_opts(prog, tp_name,
			(struct bpf_raw_tracepoint_opts *)opts) : NULL;
}

PYLBPF_WEAK int bpf_raw_tracepoint_open_opts(int prog_fd, struct bpf_raw_tp_opts *opts);
static inline int pylbpf_compat_bpf_raw_tracepoint_open_opts(int prog_fd,
		struct pylbpf_bpf_raw_tp_opts *opts)
{
	return PYLBPF_HAS(bpf_raw_tracepoint_open_opts, "1.4")
		? bpf_raw_tracepoint_open_opts(prog_fd, (struct bpf_raw_tp_opts *)opts) : -EOPNOTSUPP;
}

PYLBPF_WEAK int bpf_token_create(int bpffs_fd, struct bpf_token_create_opts *opts);
static inline int pylbpf_compat_bpf_token_create(int bpffs_fd,
		struct pylbpf_bpf_token_create_opts *opts)
{
	return PYLBPF_HAS(bpf_token_create, "1.4")
		? bpf_token_create(bpffs_fd, (struct bpf_token_create_opts *)opts) : -EOPNOTSUPP;
}

PYLBPF_WEAK struct btf *btf__new_split(const void *data, __u32 size, struct btf *base_btf);
static inline struct btf *pylbpf_compat_btf__new_split(const void *data, __u32 size,
		struct btf *base_btf)
{
	return PYLBPF_HAS(btf__new_split, "1.4") ? btf__new_split(data, size, base_btf) : NULL;
}

PYLBPF_WEAK const void *btf_ext__raw_data(const struct btf_ext *btf_ext, __u32 *size);
static inline const void *pylbpf_compat_btf_ext__raw_data(const struct btf_ext *btf_ext,
		__u32 *size)
{
	return PYLBPF_HAS(btf_ext__raw_data, "1.4") ? btf_ext__raw_data(btf_ext, size) : NULL;
}

/* since 1.5 */

PYLBPF_WEAK int bpf_object__token_fd(const struct bpf_object *obj);
static inline int pylbpf_compat_bpf_object__token_fd(const struct bpf_object *obj)
{
	return PYLBPF_HAS(bpf_object__token_fd, "1.5") ? bpf_object__token_fd(obj) : -EOPNOTSUPP;
}

PYLBPF_WEAK struct bpf_link *bpf_program__attach_sockmap(const struct bpf_program *prog, int map_fd);
static inline struct bpf_link *pylbpf_compat_bpf_program__attach_sockmap(
		const struct bpf_program *prog, int map_fd)
{
	return PYLBPF_HAS(bpf_program__attach_sockmap, "1.5")
		? bpf_program__attach_sockmap(prog, map_fd) : NULL;
}

PYLBPF_WEAK int bpf_map__set_autoattach(struct bpf_map *map, bool autoattach);
static inline int pylbpf_compat_bpf_map__set_autoattach(struct bpf_map *map, bool autoattach)
{
	return PYLBPF_HAS(bpf_map__set_autoattach, "1.5")
		? bpf_map__set_autoattach(map, autoattach) : -EOPNOTSUPP;
}

PYLBPF_WEAK bool bpf_map__autoattach(const struct bpf_map *map);
static inline bool pylbpf_compat_bpf_map__autoattach(const struct bpf_map *map)
{
	return PYLBPF_HAS(bpf_map__autoattach, "1.5") ? bpf_map__autoattach(map) : false;
}

PYLBPF_WEAK int ring_buffer__consume_n(struct ring_buffer *rb, size_t n);
static inline int pylbpf_compat_ring_buffer__consume_n(struct ring_buffer *rb, size_t n)
{
	return PYLBPF_HAS(ring_buffer__consume_n, "1.5") ? ring_buffer__consume_n(rb, n) : -EOPNOTSUPP;
}

PYLBPF_WEAK int ring__consume_n(struct ring *r, size_t n);
static inline int pylbpf_compat_ring__consume_n(struct ring *r, size_t n)
{
	return PYLBPF_HAS(ring__consume_n, "1.5") ? ring__consume_n(r, n) : -EOPNOTSUPP;
}

PYLBPF_WEAK int btf__distill_base(const struct btf *src_btf, struct btf **new_base_btf,
		struct btf **new_split_btf);
static inline int pylbpf_compat_btf__distill_base(const struct btf *src_btf,
		struct btf **new_base_btf, struct btf **new_split_btf)
{
	return PYLBPF_HAS(btf__distill_base, "1.5")
		? btf__distill_base(src_btf, new_base_btf, new_split_btf) : -EOPNOTSUPP;
}

PYLBPF_WEAK enum btf_endianness btf_ext__endianness(const struct btf_ext *btf_ext);
static inline enum btf_endianness pylbpf_compat_btf_ext__endianness(const struct btf_ext *btf_ext)
{
	return PYLBPF_HAS(btf_ext__endianness, "1.5")
		? btf_ext__endianness(btf_ext) : (enum btf_endianness)0;
}

PYLBPF_WEAK int btf_ext__set_endianness(struct btf_ext *btf_ext, enum btf_endianness endian);
static inline int pylbpf_compat_btf_ext__set_endianness(struct btf_ext *btf_ext,
		enum btf_endianness endian)
{
	return PYLBPF_HAS(btf_ext__set_endianness, "1.5")
		? btf_ext__set_endianness(btf_ext, endian) : -EOPNOTSUPP;
}

PYLBPF_WEAK int btf__relocate(struct btf *btf, const struct btf *base_btf);
static inline int pylbpf_compat_btf__relocate(struct btf *btf, const struct btf *base_btf)
{
	return PYLBPF_HAS(btf__relocate, "1.5") ? btf__relocate(btf, base_btf) : -EOPNOTSUPP;
}

/* since 1.6 */

PYLBPF_WEAK int bpf_object__prepare(struct bpf_object *obj);
static inline int pylbpf_compat_bpf_object__prepare(struct bpf_object *obj)
{
	return PYLBPF_HAS(bpf_object__prepare, "1.6") ? bpf_object__prepare(obj) : -EOPNOTSUPP;
}

PYLBPF_WEAK struct bpf_link *bpf_program__attach_cgroup_opts(const struct bpf_program *prog,
		int cgroup_fd, const struct bpf_cgroup_opts *opts);
static inline struct bpf_link *pylbpf_compat_bpf_program__attach_cgroup_opts(
		const struct bpf_program *prog, int cgroup_fd, const struct pylbpf_bpf_cgroup_opts *opts)
{
	return PYLBPF_HAS(bpf_program__attach_cgroup_opts, "1.6")
		? bpf_program__attach_cgroup_opts(prog, cgroup_fd,
			(const struct bpf_cgroup_opts *)opts) : NULL;
}

PYLBPF_WEAK struct bpf_func_info *bpf_program__func_info(const struct bpf_program *prog);
static inline struct bpf_func_info *pylbpf_compat_bpf_program__func_info(
		const struct bpf_program *prog)
{
	return PYLBPF_HAS(bpf_program__func_info, "1.6") ? bpf_program__func_info(prog) : NULL;
}

PYLBPF_WEAK __u32 bpf_program__func_info_cnt(const struct bpf_program *prog);
static inline __u32 pylbpf_compat_bpf_program__func_info_cnt(const struct bpf_program *prog)
{
	return PYLBPF_HAS(bpf_program__func_info_cnt, "1.6") ? bpf_program__func_info_cnt(prog) : 0;
}

PYLBPF_WEAK struct bpf_line_info *bpf_program__line_info(const struct bpf_program *prog);
static inline struct bpf_line_info *pylbpf_compat_bpf_program__line_info(
		const struct bpf_program *prog)
{
	return PYLBPF_HAS(bpf_program__line_info, "1.6") ? bpf_program__line_info(prog) : NULL;
}

PYLBPF_WEAK __u32 bpf_program__line_info_cnt(const struct bpf_program *prog);
static inline __u32 pylbpf_compat_bpf_program__line_info_cnt(const struct bpf_program *prog)
{
	return PYLBPF_HAS(bpf_program__line_info_cnt, "1.6") ? bpf_program__line_info_cnt(prog) : 0;
}

PYLBPF_WEAK struct bpf_linker *bpf_linker__new_fd(int fd, struct bpf_linker_opts *opts);
static inline struct bpf_linker *pylbpf_compat_bpf_linker__new_fd(int fd,
		struct bpf_linker_opts *opts)
{
	return PYLBPF_HAS(bpf_linker__new_fd, "1.6") ? bpf_linker__new_fd(fd, opts) : NULL;
}

PYLBPF_WEAK int bpf_linker__add_fd(struct bpf_linker *linker, int fd,
		const struct bpf_linker_file_opts *opts);
static inline int pylbpf_compat_bpf_linker__add_fd(struct bpf_linker *linker, int fd,
		const struct bpf_linker_file_opts *opts)
{
	return PYLBPF_HAS(bpf_linker__add_fd, "1.6")
		? bpf_linker__add_fd(linker, fd, opts) : -EOPNOTSUPP;
}

PYLBPF_WEAK int bpf_linker__add_buf(struct bpf_linker *linker, void *buf, size_t buf_sz,
		const struct bpf_linker_file_opts *opts);
static inline int pylbpf_compat_bpf_linker__add_buf(struct bpf_linker *linker, void *buf,
		size_t buf_sz, const struct bpf_linker_file_opts *opts)
{
	return PYLBPF_HAS(bpf_linker__add_buf, "1.6")
		? bpf_linker__add_buf(linker, buf, buf_sz, opts) : -EOPNOTSUPP;
}

PYLBPF_WEAK int bpf_prog_stream_read(int prog_fd, __u32 stream_id, void *buf, __u32 buf_len,
		struct bpf_prog_stream_read_opts *opts);
static inline int pylbpf_compat_bpf_prog_stream_read(int prog_fd, __u32 stream_id, void *buf,
		__u32 buf_len, struct pylbpf_bpf_prog_stream_read_opts *opts)
{
	return PYLBPF_HAS(bpf_prog_stream_read, "1.6")
		? bpf_prog_stream_read(prog_fd, stream_id, buf, buf_len,
			(struct bpf_prog_stream_read_opts *)opts) : -EOPNOTSUPP;
}

PYLBPF_WEAK int btf__add_type_attr(struct btf *btf, const char *value, int ref_type_id);
static inline int pylbpf_compat_btf__add_type_attr(struct btf *btf, const char *value,
		int ref_type_id)
{
	return PYLBPF_HAS(btf__add_type_attr, "1.6")
		? btf__add_type_attr(btf, value, ref_type_id) : -EOPNOTSUPP;
}

PYLBPF_WEAK int btf__add_decl_attr(struct btf *btf, const char *value, int ref_type_id,
		int component_idx);
static inline int pylbpf_compat_btf__add_decl_attr(struct btf *btf, const char *value,
		int ref_type_id, int component_idx)
{
	return PYLBPF_HAS(btf__add_decl_attr, "1.6")
		? btf__add_decl_attr(btf, value, ref_type_id, component_idx) : -EOPNOTSUPP;
}

/* since 1.7 */

PYLBPF_WEAK int bpf_program__assoc_struct_ops(struct bpf_program *prog, struct bpf_map *map,
		struct bpf_prog_assoc_struct_ops_opts *opts);
static inline int pylbpf_compat_bpf_program__assoc_struct_ops(struct bpf_program *prog,
		struct bpf_map *map, struct pylbpf_bpf_prog_assoc_struct_ops_opts *opts)
{
	return PYLBPF_HAS(bpf_program__assoc_struct_ops, "1.7")
		? bpf_program__assoc_struct_ops(prog, map,
			(struct bpf_prog_assoc_struct_ops_opts *)opts) : -EOPNOTSUPP;
}

PYLBPF_WEAK int bpf_map__set_exclusive_program(struct bpf_map *map, struct bpf_program *prog);
static inline int pylbpf_compat_bpf_map__set_exclusive_program(struct bpf_map *map,
		struct bpf_program *prog)
{
	return PYLBPF_HAS(bpf_map__set_exclusive_program, "1.7")
		? bpf_map__set_exclusive_program(map, prog) : -EOPNOTSUPP;
}

PYLBPF_WEAK struct bpf_program *bpf_map__exclusive_program(struct bpf_map *map);
static inline struct bpf_program *pylbpf_compat_bpf_map__exclusive_program(struct bpf_map *map)
{
	return PYLBPF_HAS(bpf_map__exclusive_program, "1.7") ? bpf_map__exclusive_program(map) : NULL;
}

PYLBPF_WEAK int bpf_prog_assoc_struct_ops(int prog_fd, int map_fd,
		struct bpf_prog_assoc_struct_ops_opts *opts);
static inline int pylbpf_compat_bpf_prog_assoc_struct_ops(int prog_fd, int map_fd,
		struct pylbpf_bpf_prog_assoc_struct_ops_opts *opts)
{
	return PYLBPF_HAS(bpf_prog_assoc_struct_ops, "1.7")
		? bpf_prog_assoc_struct_ops(prog_fd, map_fd,
			(struct bpf_prog_assoc_struct_ops_opts *)opts) : -EOPNOTSUPP;
}

PYLBPF_WEAK int btf__permute(struct btf *btf, __u32 *id_map, __u32 id_map_cnt,
		const struct btf_permute_opts *opts);
static inline int pylbpf_compat_btf__permute(struct btf *btf, __u32 *id_map, __u32 id_map_cnt,
		const struct pylbpf_btf_permute_opts *opts)
{
	return PYLBPF_HAS(btf__permute, "1.7")
		? btf__permute(btf, id_map, id_map_cnt,
			(const struct btf_permute_opts *)opts) : -EOPNOTSUPP;
}

/* since 1.8 */

PYLBPF_WEAK int bpf_program__clone(struct bpf_program *prog, const struct bpf_prog_load_opts *opts);
static inline int pylbpf_compat_bpf_program__clone(struct bpf_program *prog,
		const struct pylbpf_bpf_prog_load_opts *opts)
{
	return PYLBPF_HAS(bpf_program__clone, "1.8")
		? bpf_program__clone(prog, (const struct bpf_prog_load_opts *)opts) : -EOPNOTSUPP;
}

PYLBPF_WEAK struct bpf_link *bpf_program__attach_tracing_multi(const struct bpf_program *prog,
		const char *pattern, const struct bpf_tracing_multi_opts *opts);
static inline struct bpf_link *pylbpf_compat_bpf_program__attach_tracing_multi(
		const struct bpf_program *prog, const char *pattern,
		const struct pylbpf_bpf_tracing_multi_opts *opts)
{
	return PYLBPF_HAS(bpf_program__attach_tracing_multi, "1.8")
		? bpf_program__attach_tracing_multi(prog, pattern,
			(const struct bpf_tracing_multi_opts *)opts) : NULL;
}

PYLBPF_WEAK struct btf *btf__new_empty_opts(struct btf_new_opts *opts);
static inline struct btf *pylbpf_compat_btf__new_empty_opts(struct pylbpf_btf_new_opts *opts)
{
	return PYLBPF_HAS(btf__new_empty_opts, "1.8")
		? btf__new_empty_opts((struct btf_new_opts *)opts) : NULL;
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif
