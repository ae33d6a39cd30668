// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Where the CPUs spend their time: the stacks that a perf event finds, counted in the kernel. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum { DEPTH = 127 };

struct place {
	__u32 pid;
	int user, kernel;	/* numbers of stacks; negative: none */
	char comm[16];
};

struct settings {
	__u32 pid;	/* of all, if 0 */
	__u32 idle;	/* count the idle task too */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 16384);
	__uint(key_size, 4);
	__uint(value_size, 8 * DEPTH);
} stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 40960);
	__type(key, struct place);
	__type(value, __u64);
} counts SEC(".maps");

SEC("perf_event")
int on_sample(void *ctx)
{
	struct place place = {};
	__u32 zero = 0;
	struct settings *wanted = bpf_map_lookup_elem(&settings, &zero);
	__u64 *count, one = 1;

	place.pid = bpf_get_current_pid_tgid() >> 32;
	if (!wanted || (wanted->pid && wanted->pid != place.pid) || (!place.pid && !wanted->idle))
		return 0;
	bpf_get_current_comm(place.comm, sizeof(place.comm));
	place.kernel = bpf_get_stackid(ctx, &stacks, 0);
	place.user = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
	count = bpf_map_lookup_elem(&counts, &place);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&counts, &place, &one, BPF_NOEXIST);
	return 0;
}

char _license[] SEC("license") = "GPL";
