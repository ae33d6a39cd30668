// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* TCP connections when they end: who, between which addresses, how many bytes, how long. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#define KERNEL __attribute__((preserve_access_index))

enum { AF_INET = 2, AF_INET6 = 10 };
enum { SYN_SENT = 2, SYN_RECV = 3, FIN_WAIT1 = 4, CLOSE = 7, LAST_ACK = 9 };

struct in6_addr {
	__u8 bytes[16];
};

struct sock_common {
	__u32 skc_daddr, skc_rcv_saddr;
	__u16 skc_dport;
	__u16 skc_family;
	struct in6_addr skc_v6_daddr, skc_v6_rcv_saddr;
} KERNEL;

struct sock {
	struct sock_common __sk_common;
} KERNEL;

struct inet_sock {
	__u16 inet_sport;
} KERNEL;

struct tcp_sock {
	__u64 bytes_received, bytes_acked;
} KERNEL;

struct birth {
	__u64 time;
	__u32 pid;
	char comm[16];
};

struct event {
	__u64 duration, sent, received;
	__u32 pid;
	__u16 local_port, remote_port;
	__u32 family;
	char comm[16];
	__u8 local[16], remote[16];
};

const struct event *unused;	/* puts the type into BTF */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u64);
	__type(value, struct birth);
} births SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

SEC("tp_btf/inet_sock_set_state")
int on_state(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	struct tcp_sock *tcp = (struct tcp_sock *)ctx[0];
	struct inet_sock *inet = (struct inet_sock *)ctx[0];
	int state = ctx[2];
	__u64 key = ctx[0], now = bpf_ktime_get_ns();
	struct birth *known = bpf_map_lookup_elem(&births, &key), birth = {};
	struct event *event;

	if (state < FIN_WAIT1) {
		if (known)
			birth = *known;
		birth.time = now;
	}
	/* Whose the socket is can be told where its owner runs: when it connects, and when it closes. */
	if (state == SYN_SENT || state == LAST_ACK || state == FIN_WAIT1) {
		if (state != SYN_SENT) {
			if (!known)
				return 0;
			birth = *known;
		}
		if (!birth.pid) {
			birth.pid = bpf_get_current_pid_tgid() >> 32;
			bpf_get_current_comm(birth.comm, sizeof(birth.comm));
		}
	}
	if (birth.time)
		bpf_map_update_elem(&births, &key, &birth, 0);
	if (state != CLOSE || !known)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (event) {
		event->duration = now - known->time;
		event->received = BPF_CORE_READ(tcp, bytes_received);
		event->sent = BPF_CORE_READ(tcp, bytes_acked);
		event->pid = known->pid;
		__builtin_memcpy(event->comm, known->comm, sizeof(event->comm));
		event->family = sk->__sk_common.skc_family;
		event->local_port = bpf_ntohs(BPF_CORE_READ(inet, inet_sport));
		event->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
		__builtin_memset(event->local, 0, sizeof(event->local));
		__builtin_memset(event->remote, 0, sizeof(event->remote));
		if (event->family == AF_INET6) {
			BPF_CORE_READ_INTO(&event->local, sk, __sk_common.skc_v6_rcv_saddr);
			BPF_CORE_READ_INTO(&event->remote, sk, __sk_common.skc_v6_daddr);
		} else {
			*(__u32 *)event->local = sk->__sk_common.skc_rcv_saddr;
			*(__u32 *)event->remote = sk->__sk_common.skc_daddr;
		}
		bpf_ringbuf_submit(event, 0);
	}
	bpf_map_delete_elem(&births, &key);
	return 0;
}

char _license[] SEC("license") = "GPL";
