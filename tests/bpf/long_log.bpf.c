// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Refused after a long walk: the verifier's log is long. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 numbers[64];

SEC("raw_tp/task_rename")
int walk(void *ctx)
{
	__u64 sum = 0, i;

#pragma clang loop unroll(disable)
	for (i = 0; i < 2000; i++)
		sum += numbers[(sum + i) % 64] ^ i;
	return *(volatile int *)(sum + 8);
}

char _license[] SEC("license") = "GPL";
