// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* The verifier refuses `careless`: the value of a lookup is used without asking whether there is one. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} values SEC(".maps");

SEC("raw_tp/task_rename")
int careful(void *ctx)
{
	return 0;
}

SEC("raw_tp/task_rename")
int careless(void *ctx)
{
	__u32 key = 7;
	__u64 *value = bpf_map_lookup_elem(&values, &key);

	*value += 1;
	return 0;
}

char _license[] SEC("license") = "GPL";
