// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* What libbpf appends to a program before the load: static and global functions, and a callback. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __noinline __u64 count(__u32 slot)
{
	__u64 *value = bpf_map_lookup_elem(&counts, &slot);

	if (!value)
		return 0;
	__sync_fetch_and_add(value, 1);
	return *value;
}

__noinline int larger(int a, int b) /* global: verified on its own */
{
	return a > b ? a : b;
}

struct bpf_map;

static long add_up(struct bpf_map *map, const __u32 *key, __u64 *value, __u64 *sum)
{
	*sum += *value;
	return 0;
}

SEC("raw_tp/task_rename") int first(void *ctx) { return larger(count(0), count(1)); }
SEC("raw_tp/task_rename") int second(void *ctx) { return count(2) > 1000; }

SEC("?raw_tp/task_rename")
int with_callback(void *ctx)
{
	__u64 sum = 0;

	bpf_for_each_map_elem(&counts, add_up, &sum, 0);
	return larger(sum, count(3));
}

SEC("raw_tp/task_rename") int alone(void *ctx) { return 0; }

char _license[] SEC("license") = "GPL";
