// SPDX-License-Identifier: GPL-2.0
/* Two congestion controls of one name, as one can take the place of the other, and their calls counted. */
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct sock;
struct ack_sample;

struct tcp_congestion_ops {
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
	char name[16];
} __attribute__((preserve_access_index));

__u64 first_calls, second_calls;

SEC("struct_ops/first_ssthresh") int BPF_PROG(first_ssthresh, struct sock *sk) { first_calls++; return 2; }
SEC("struct_ops/first_avoid") void BPF_PROG(first_avoid, struct sock *sk, __u32 ack, __u32 acked) { first_calls++; }
SEC("struct_ops/first_undo") int BPF_PROG(first_undo, struct sock *sk) { first_calls++; return 2; }
SEC("struct_ops/second_ssthresh") int BPF_PROG(second_ssthresh, struct sock *sk) { second_calls++; return 2; }
SEC("struct_ops/second_avoid") void BPF_PROG(second_avoid, struct sock *sk, __u32 ack, __u32 acked) { second_calls++; }
SEC("struct_ops/second_undo") int BPF_PROG(second_undo, struct sock *sk) { second_calls++; return 2; }

SEC(".struct_ops.link") struct tcp_congestion_ops first = {
	.ssthresh = (void *)first_ssthresh, .cong_avoid = (void *)first_avoid, .undo_cwnd = (void *)first_undo,
	.name = "pylbpf_test",
};

SEC(".struct_ops.link") struct tcp_congestion_ops second = {
	.ssthresh = (void *)second_ssthresh, .cong_avoid = (void *)second_avoid, .undo_cwnd = (void *)second_undo,
	.name = "pylbpf_test",
};

char LICENSE[] SEC("license") = "GPL";
