// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct command {
	__u32 kind;
	__u32 pid;
	__u64 when;
};

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 64 * 1024);
} commands SEC(".maps");

__u64 obeyed;

static long obey(struct bpf_dynptr *sample, void *ctx)
{
	struct command command;

	if (bpf_dynptr_read(&command, sizeof(command), sample, 0, 0) == 0)
		obeyed++;
	return 0;
}

SEC("raw_tp/sched_process_exec")
int on_exec(void *ctx)
{
	bpf_user_ringbuf_drain(&commands, obey, NULL, 0);
	return 0;
}

char _license[] SEC("license") = "GPL";
