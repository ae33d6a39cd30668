// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Types that attach neither by themselves nor by a link of their own. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

SEC("socket") int on_socket(struct __sk_buff *skb) { return skb->len; }
SEC("tc") int on_tc(struct __sk_buff *skb) { return TC_ACT_OK; }
SEC("sk_msg") int on_message(struct sk_msg_md *message) { return SK_PASS; }

char _license[] SEC("license") = "GPL";
