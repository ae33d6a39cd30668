// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* CO-RE: a typed raw tracepoint that reads a field where this kernel has it, and a question about its types. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct task_struct { int pid; int tgid; } __attribute__((preserve_access_index));
struct no_kernel_has_this { int field; } __attribute__((preserve_access_index));

__u32 only_pid;
__u64 switches;
__u32 has_tgid, has_nothing;

SEC("tp_btf/sched_switch")
int on_sched_switch(__u64 *ctx)
{
	struct task_struct *previous = (void *)ctx[1];

	if (only_pid && BPF_CORE_READ(previous, tgid) != only_pid)
		return 0;
	has_tgid = bpf_core_field_exists(struct task_struct, tgid);
	has_nothing = bpf_core_field_exists(struct no_kernel_has_this, field);
	__sync_fetch_and_add(&switches, 1);
	return 0;
}

char _license[] SEC("license") = "GPL";
