// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Sections that are libbpf's own; handlers of the same name replace what libbpf would do with them. All but the
 * first are optional: what cannot be loaded here can still be opened, or made into something else. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline int count(__u32 slot)
{
	__u64 *value = bpf_map_lookup_elem(&counts, &slot);

	if (value)
		__sync_fetch_and_add(value, 1);
	return 0;
}

SEC("raw_tp/task_rename")      int raw_tp(void *ctx)         { return count(0); }
SEC("?raw_tp/sys_enter")       int raw_tp_noisy(void *ctx)   { return count(1); }
SEC("?raw_tp.w/task_rename")   int raw_tp_writable(void *ctx) { return count(2); }
SEC("?kprobe/do_nanosleep")    int kprobe(void *ctx)         { return count(3); }
SEC("?xdp")                    int xdp(void *ctx)            { return 2 + count(4); }
SEC("?xdp.frags")              int xdp_frags(void *ctx)      { return 2 + count(5); }
SEC("?xdp/devmap")             int xdp_devmap(void *ctx)     { return 2 + count(6); }
SEC("?tp_btf/sched_switch")    int tp_btf(void *ctx)         { return count(7); }
SEC("?iter/task")              int iter(void *ctx)           { return count(8); }
SEC("?iter.s/task")            int iter_sleepable(void *ctx) { return count(9); }
SEC("?tp/task/task_rename")    int tracepoint(void *ctx)     { return count(10); }
SEC("?fentry/do_nanosleep")    int fentry(void *ctx)         { return count(11); }
SEC("?lsm.s/bpf")              int lsm_sleepable(void *ctx)  { return count(12); }
SEC("?usdt")                   int usdt(void *ctx)           { return count(13); }
SEC("?perf_event")             int perf_event(void *ctx)     { return count(14); }
SEC("?cgroup_skb/egress")      int cgroup_egress(void *ctx)  { return 1 + count(15); }

char _license[] SEC("license") = "GPL";
