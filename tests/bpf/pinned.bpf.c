// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* `shared` is pinned under its name when the object is loaded, and found there by the next one. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} shared SEC(".maps");

SEC("raw_tp/task_rename") int user(void *ctx) { return bpf_map_lookup_elem(&shared, &(__u32){ 0 }) != 0; }

char _license[] SEC("license") = "GPL";
