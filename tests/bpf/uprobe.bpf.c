// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} cookie SEC(".maps");

static __always_inline int count(__u32 slot)
{
	__u64 *value = bpf_map_lookup_elem(&counts, &slot);

	if (value)
		__sync_fetch_and_add(value, 1);
	return 0;
}

SEC("uprobe") int on_entry(void *ctx) { return count(0); }
SEC("uretprobe") int on_return(void *ctx) { return count(1); }

SEC("?uprobe")
int on_entry_with_cookie(void *ctx)
{
	__u64 value = bpf_get_attach_cookie(ctx);
	__u32 zero = 0;

	bpf_map_update_elem(&cookie, &zero, &value, BPF_ANY);
	return count(2);
}

char _license[] SEC("license") = "GPL";
