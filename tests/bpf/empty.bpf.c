// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Maps and globals, and not one program. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} table SEC(".maps");

__u32 answer = 42;

char _license[] SEC("license") = "GPL";
