// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Accepted after a walk of several hundred thousand instructions: a load that takes a good part of a second. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 numbers[64];

SEC("raw_tp/task_rename")
int walk(void *ctx)
{
	__u64 sum = 0, i;

#pragma clang loop unroll(disable)
	for (i = 0; i < 60000; i++)
		sum += numbers[(sum + i) % 64] ^ i;
	return sum & 1;
}

char _license[] SEC("license") = "GPL";
