// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Global variables in every section that libbpf makes a map of. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

const volatile __u32 limit = 10;                /* .rodata */
const volatile __u64 tables[2] SEC(".rodata.tables") = { 1, 2 };
__u32 rate = 99;                                /* .data */
__s64 tuned SEC(".data.tuned") = -5;
__u64 runs;                                     /* .bss */
__u64 sum;

SEC("raw_tp/task_rename")
int run(void *ctx)
{
	if (runs < limit)
		runs++;
	sum = rate + tuned + tables[1];
	return 0;
}

char _license[] SEC("license") = "GPL";
