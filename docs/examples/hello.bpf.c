// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Tells who starts a program: one record for each. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct record {
	__u32 pid;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH); /* pid -> how often */
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} starts SEC(".maps");

SEC("raw_tp/sched_process_exec")
int on_exec(void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 one = 1, *count = bpf_map_lookup_elem(&starts, &pid);
	struct record *record;

	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&starts, &pid, &one, BPF_ANY);

	record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);
	if (!record)
		return 0; /* nobody reads fast enough */
	record->pid = pid;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	bpf_ringbuf_submit(record, 0);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
