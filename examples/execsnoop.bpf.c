// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Each program that is executed: who, by whom, with which arguments. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Of the kernel's structures only what is read here: libbpf finds the places in the kernel's own BTF. */
#define KERNEL __attribute__((preserve_access_index))

struct mm_struct {
	unsigned long arg_start, arg_end;
} KERNEL;

struct task_struct {
	int tgid;
	struct task_struct *real_parent;
	struct mm_struct *mm;
} KERNEL;

struct event {
	__u64 time;
	__u32 pid, ppid, uid, args_size;
	char comm[16];
	char args[256];
};

const struct event *unused;	/* puts the type into BTF */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

SEC("tp_btf/sched_process_exec")
int on_exec(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	struct mm_struct *mm = task->mm;
	unsigned long start, size;
	struct event *event;

	if (!mm)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;
	event->time = bpf_ktime_get_ns();
	event->pid = task->tgid;
	event->ppid = task->real_parent->tgid;
	event->uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	__builtin_memset(event->args, 0, sizeof(event->args));
	start = mm->arg_start;
	size = mm->arg_end - start;
	event->args_size = size;
	if (size > sizeof(event->args))
		size = sizeof(event->args);
	bpf_probe_read_user(event->args, size, (void *)start);
	bpf_ringbuf_submit(event, 0);
	return 0;
}

char _license[] SEC("license") = "GPL";
