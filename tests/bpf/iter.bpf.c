// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Iterators; the kernel's types as far as they are used, found at load by their BTF. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct seq_file;
struct bpf_iter_meta { struct seq_file *seq; __u64 session_id; __u64 seq_num; };
struct task_struct { int pid; int tgid; char comm[16]; };
struct bpf_map { __u32 id; __u32 max_entries; };
struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; };
struct bpf_iter__bpf_map { struct bpf_iter_meta *meta; struct bpf_map *map; };
#pragma clang attribute pop

SEC("iter/task")
int dump_task(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	__u32 pids[2];

	if (!task)
		return 0;
	pids[0] = task->tgid;
	pids[1] = task->pid;
	bpf_seq_write(ctx->meta->seq, pids, sizeof(pids));
	return 0;
}

SEC("iter/bpf_map")
int dump_map(struct bpf_iter__bpf_map *ctx)
{
	struct bpf_map *map = ctx->map;
	__u32 id;

	if (!map)
		return 0;
	id = map->id;
	bpf_seq_write(ctx->meta->seq, &id, sizeof(id));
	return 0;
}

char _license[] SEC("license") = "GPL";
