// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline int count(__u32 slot)
{
	__u64 *value = bpf_map_lookup_elem(&counts, &slot);

	if (value)
		__sync_fetch_and_add(value, 1);
	return 0;
}

SEC("tp/task/task_rename") int on_task_rename(void *ctx) { return count(0); }
SEC("tracepoint") int on_anything(void *ctx) { return count(1); } /* attached by hand */

char _license[] SEC("license") = "GPL";
