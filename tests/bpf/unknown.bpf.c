// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* A section that nobody knows, not even optional. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("nobody/knows") int nobody_knows(void *ctx) { return 0; }

char _license[] SEC("license") = "GPL";
