// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Two programs for each way to attach: the first counts in slot 0, the second in slot 1. Tests load the two that they want. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

static __always_inline int count(__u32 slot, int result)
{
	__u64 *value = bpf_map_lookup_elem(&counts, &slot);

	if (value)
		__sync_fetch_and_add(value, 1);
	return result;
}

#define BOTH(name, section, result)                              \
	SEC(section) int name##_0(void *ctx) { return count(0, result); } \
	SEC(section) int name##_1(void *ctx) { return count(1, result); }

BOTH(kprobe, "?kprobe", 0)
BOTH(kprobe_multi, "?every/kprobe_multi", 0)
BOTH(kprobe_session, "?every/kprobe_session", 0)
BOTH(ksyscall, "?ksyscall/clock_nanosleep", 0)
BOTH(uprobe, "?uprobe", 0)
BOTH(uprobe_multi, "?every/uprobe_multi", 0)
BOTH(uprobe_session, "?every/uprobe_session", 0)
BOTH(tracepoint, "?tp/task/task_rename", 0)
BOTH(raw_tp, "?raw_tp/task_rename", 0)
BOTH(tp_btf, "?tp_btf/task_rename", 0)
BOTH(fentry, "?fentry/do_nanosleep", 0)
BOTH(fexit, "?fexit/do_nanosleep", 0)
BOTH(fmod_ret, "?fmod_ret/security_file_open", 0)
BOTH(fsession, "?every/fsession", 0)
BOTH(lsm, "?lsm/file_open", 0)
BOTH(lsm_cgroup, "?lsm_cgroup/socket_create", 1)
BOTH(iter, "?iter/task", 0)
BOTH(perf_event, "?perf_event", 0)

BOTH(xdp, "?xdp", XDP_PASS)
BOTH(tcx, "?every/tcx", -1)
BOTH(netkit, "?every/netkit", -1)
BOTH(netfilter, "?every/netfilter", 1)
BOTH(sk_lookup, "?sk_lookup", SK_PASS)
BOTH(flow_dissector, "?flow_dissector", BPF_OK)
BOTH(sk_msg, "?sk_msg", SK_PASS)
BOTH(sk_skb, "?sk_skb/stream_verdict", SK_PASS)

BOTH(egress, "?cgroup_skb/egress", 1)
BOTH(ingress, "?cgroup_skb/ingress", 1)
BOTH(sock_create, "?cgroup/sock_create", 1)
BOTH(sock_release, "?cgroup/sock_release", 1)
BOTH(bind4, "?cgroup/bind4", 1)
BOTH(post_bind4, "?cgroup/post_bind4", 1)
BOTH(connect4, "?cgroup/connect4", 1)
BOTH(sendmsg4, "?cgroup/sendmsg4", 1)
BOTH(recvmsg4, "?cgroup/recvmsg4", 1)
BOTH(getsockname4, "?cgroup/getsockname4", 1)
BOTH(getpeername4, "?cgroup/getpeername4", 1)
BOTH(setsockopt, "?cgroup/setsockopt", 1)
BOTH(getsockopt, "?cgroup/getsockopt", 1)
BOTH(sockops, "?sockops", 1)
BOTH(dev, "?cgroup/dev", 1)
BOTH(sysctl, "?cgroup/sysctl", 1)

char _license[] SEC("license") = "GPL";
