// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* How long tasks wait for a CPU: from the moment they could run until they do, in microseconds. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "log2.bpf.h"

#define KERNEL __attribute__((preserve_access_index))

struct task_struct {
	int pid, tgid;
	unsigned int __state;
} KERNEL;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} only SEC(".maps");	/* this process, or 0 */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u32);
	__type(value, __u64);
} ready SEC(".maps");

static __always_inline int get_ready(struct task_struct *task)
{
	__u32 zero = 0, pid = task->pid;
	__u32 *tgid = bpf_map_lookup_elem(&only, &zero);
	__u64 now = bpf_ktime_get_ns();

	if (pid && tgid && (!*tgid || *tgid == task->tgid))
		bpf_map_update_elem(&ready, &pid, &now, 0);
	return 0;
}

SEC("tp_btf/sched_wakeup")
int on_wakeup(__u64 *ctx)
{
	return get_ready((struct task_struct *)ctx[0]);
}

SEC("tp_btf/sched_wakeup_new")
int on_wakeup_new(__u64 *ctx)
{
	return get_ready((struct task_struct *)ctx[0]);
}

SEC("tp_btf/sched_switch")
int on_switch(__u64 *ctx)
{
	struct task_struct *previous = (struct task_struct *)ctx[1], *next = (struct task_struct *)ctx[2];
	__u32 pid = next->pid;
	__u64 *since;

	/* Who is preempted waits from now on: its state is still "running". */
	if (previous->__state == 0)
		get_ready(previous);
	since = bpf_map_lookup_elem(&ready, &pid);
	if (since) {
		count((bpf_ktime_get_ns() - *since) / 1000);
		bpf_map_delete_elem(&ready, &pid);
	}
	return 0;
}

char _license[] SEC("license") = "GPL";
