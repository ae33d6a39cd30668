// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* What programs of an object have in common: maps, slots with programs and maps in them, variables, configuration,
 * functions. Each counts its runs for one process. */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#define ON SEC("raw_tp/task_rename")

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} process SEC(".maps");

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 3);
	__type(key, __u32);
	__array(values, struct inner);
} outer SEC(".maps") = { .values = { [1] = &counts } };

extern int LINUX_KERNEL_VERSION __kconfig;
extern bool CONFIG_BPF_SYSCALL __kconfig __weak;

const volatile __u64 step = 1;
__u64 tuned SEC(".data.tuned") = 2;
__u64 total;

static __noinline bool ours(void)
{
	__u32 zero = 0;
	__u64 *pid = bpf_map_lookup_elem(&process, &zero);

	return pid && *pid == bpf_get_current_pid_tgid() >> 32;
}

__noinline __u64 added(__u64 a, __u64 b) /* global: verified on its own */
{
	return a + b;
}

static __noinline int count(__u32 slot)
{
	__u64 *value = bpf_map_lookup_elem(&counts, &slot);

	if (!ours() || !value)
		return 0;
	*value = added(*value, step);
	__sync_fetch_and_add(&total, step);
	return 0;
}

int leap(void *ctx);
int land(void *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, sizeof(__u32));
	__array(values, int (void *));
} jumps SEC(".maps") = { .values = { [1] = (void *)&leap, [2] = (void *)&land } };

ON int plain(void *ctx) { return count(0); }
ON int caller(void *ctx) { bpf_tail_call(ctx, &jumps, 1); return 0; }
ON int leap(void *ctx) { count(2); bpf_tail_call(ctx, &jumps, 2); return 0; }

ON int through_outer(void *ctx)
{
	__u32 one = 1, slot = 3;
	void *map = bpf_map_lookup_elem(&outer, &one);
	__u64 *value = map ? bpf_map_lookup_elem(map, &slot) : NULL;

	if (value && ours())
		*value += 1;
	return 0;
}

SEC("?raw_tp/task_rename") int off(void *ctx) { return count(4); }
ON int configured(void *ctx) { return LINUX_KERNEL_VERSION > 0x050000 && CONFIG_BPF_SYSCALL ? count(5) : 0; }
ON int tuning(void *ctx) { return ours() ? count(tuned++ % 2 + 6) : 0; }
ON int land(void *ctx) { return count(8); }
ON int last(void *ctx) { return count(9); }

char _license[] SEC("license") = "GPL";
