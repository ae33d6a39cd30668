// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* A map of numbers that no other type of C has. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __int128);
	__type(value, unsigned __int128);
} wide SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __int128);
} each SEC(".maps");

char LICENSE[] SEC("license") = "Dual BSD/GPL";
