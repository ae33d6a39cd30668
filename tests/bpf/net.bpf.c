// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Programs of the network; each counts in a slot of its own, and adds its digit to the order in which they ran. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum { FIRST, SECOND, THIRD, LOOKUP, MESSAGE, STREAM, FILTER, SOCKET, REUSEPORT, ORDER };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 10);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

static __always_inline void count(__u32 slot)
{
	__u64 *value = bpf_map_lookup_elem(&counts, &slot);

	if (value)
		__sync_fetch_and_add(value, 1);
}

static __always_inline void in_order(__u32 digit)
{
	__u32 slot = ORDER;
	__u64 *value = bpf_map_lookup_elem(&counts, &slot);

	if (value)
		*value = *value * 10 + digit;
	count(digit - 1);
}

/* -1 (TCX_NEXT, TC_ACT_UNSPEC): the next program decides. */
SEC("tc") int first(struct __sk_buff *skb) { in_order(1); return -1; }
SEC("tc") int second(struct __sk_buff *skb) { in_order(2); return -1; }
SEC("tc") int third(struct __sk_buff *skb) { in_order(3); return -1; }
SEC("cgroup_skb/egress") int egress_first(struct __sk_buff *skb) { in_order(1); return 1; }
SEC("cgroup_skb/egress") int egress_second(struct __sk_buff *skb) { in_order(2); return 1; }
SEC("sk_lookup") int lookup(struct bpf_sk_lookup *ctx) { count(LOOKUP); return SK_PASS; }
SEC("sk_msg") int message(struct sk_msg_md *msg) { count(MESSAGE); return SK_PASS; }
SEC("sk_skb/stream_verdict") int stream(struct __sk_buff *skb) { count(STREAM); return SK_PASS; }
SEC("netfilter") int filter(void *ctx) { count(FILTER); return 1; }
SEC("socket") int on_socket(struct __sk_buff *skb) { count(SOCKET); return -1; }
SEC("sk_reuseport") int reuseport(struct sk_reuseport_md *md) { count(REUSEPORT); return SK_PASS; }

char _license[] SEC("license") = "GPL";
