// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* How long block devices take: from issue (or insertion into the queue) to completion, in microseconds. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "log2.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u64);
	__type(value, __u64);
} started SEC(".maps");	/* the request -> when */

static __always_inline int begin(__u64 request, __u64 flags)
{
	__u64 now = bpf_ktime_get_ns();

	bpf_map_update_elem(&started, &request, &now, flags);
	return 0;
}

/* With --queued only: what was inserted is not begun again by its issue. */
SEC("tp_btf/block_rq_insert")
int on_insert(__u64 *ctx)
{
	return begin(ctx[0], BPF_ANY);
}

SEC("tp_btf/block_rq_issue")
int on_issue(__u64 *ctx)
{
	return begin(ctx[0], BPF_NOEXIST);
}

SEC("tp_btf/block_rq_complete")
int on_complete(__u64 *ctx)
{
	__u64 request = ctx[0];
	__u64 *since = bpf_map_lookup_elem(&started, &request);

	if (since) {
		count((bpf_ktime_get_ns() - *since) / 1000);
		bpf_map_delete_elem(&started, &request);
	}
	return 0;
}

char _license[] SEC("license") = "GPL";
