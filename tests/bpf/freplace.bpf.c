// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* An XDP program that asks a function what to do, and another answer for that function. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__noinline int decide(struct xdp_md *ctx)
{
	volatile int verdict = XDP_PASS;

	return verdict;
}

SEC("xdp") int asks(struct xdp_md *ctx) { return decide(ctx); }
SEC("?freplace/decide") int drops(struct xdp_md *ctx) { return XDP_DROP; }

char _license[] SEC("license") = "GPL";
