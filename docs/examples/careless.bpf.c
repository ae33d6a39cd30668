// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* The verifier refuses this: nobody asks whether the key was found. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} starts SEC(".maps");

SEC("raw_tp/sched_process_exec")
int on_exec(void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 *count = bpf_map_lookup_elem(&starts, &pid);

	*count += 1;
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
