// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline int allow(__u32 slot)
{
	__u64 *value = bpf_map_lookup_elem(&counts, &slot);

	if (value)
		__sync_fetch_and_add(value, 1);
	return 1;
}

SEC("cgroup_skb/egress") int on_egress(struct __sk_buff *skb) { return allow(0); }
SEC("cgroup_skb/ingress") int on_ingress(struct __sk_buff *skb) { return allow(1); }
SEC("cgroup/sock_create") int on_sock_create(struct bpf_sock *sk) { return allow(2); }

char _license[] SEC("license") = "GPL";
