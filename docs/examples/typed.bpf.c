// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Variables and types that Python reads by name. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum mode { OFF, SAMPLE, ALL };

struct config {
	__u16 port;
	__u16 urgent : 1, level : 3;
	char name[8];
};

struct event {
	__u64 when;
	__u32 pid;
	enum mode mode;
	char comm[16];
};

const volatile __u32 limit = 100;
enum mode mode = SAMPLE;
struct config config = { .port = 80 };
struct event last;
__u64 counts[4];

SEC("raw_tp/sched_process_exec")
int on_exec(void *ctx)
{
	counts[mode & 3]++;
	if (counts[mode & 3] > limit || config.urgent)
		return 0;
	last.when = bpf_ktime_get_ns();
	last.pid = bpf_get_current_pid_tgid() >> 32;
	last.mode = mode;
	bpf_get_current_comm(last.comm, sizeof(last.comm));
	return 0;
}

char _license[] SEC("license") = "GPL";
