// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Tells who starts a program, and who started that: a field of a kernel type, wherever this kernel has it. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct task_struct {
	int tgid;
	struct task_struct *real_parent;
} __attribute__((preserve_access_index));

int last, parent_of_last;

SEC("raw_tp/sched_process_exec")
int on_exec(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];

	last = BPF_CORE_READ(task, tgid);
	parent_of_last = BPF_CORE_READ(task, real_parent, tgid);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
