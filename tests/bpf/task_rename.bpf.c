// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Runs when a task changes its name, which a test does at will by writing to /proc/self/comm: one write, one run. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

__u32 only_pid; /* .data: 0 is everybody */

SEC("raw_tp/task_rename")
int on_task_rename(void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32, zero = 0;
	__u64 *count = bpf_map_lookup_elem(&counts, &zero);

	if (only_pid && pid != only_pid)
		return 0;
	if (count)
		__sync_fetch_and_add(count, 1);
	bpf_ringbuf_output(&events, &pid, sizeof(pid), 0);
	return 0;
}

char _license[] SEC("license") = "GPL";
