// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* A task that takes the name in `config` sends as many records as that says, in turn to each of two rings, with or
 * without a wake-up. A record is its number, and that again. What other processes do has no effect. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum { NAME, COUNT, FLAGS, NUMBER };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} even SEC(".maps"), odd SEC(".maps");

static __always_inline __u64 *setting(__u32 slot)
{
	return bpf_map_lookup_elem(&config, &slot);
}

SEC("raw_tp/task_rename")
int send(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 *name = setting(NAME), *count = setting(COUNT), *flags = setting(FLAGS), *number = setting(NUMBER);
	__u64 record[2] = {};

	if (!name || !count || !flags || !number)
		return 0;
	bpf_probe_read_kernel(record, sizeof(record[0]), (void *)ctx->args[1]);
	if (record[0] != *name)
		return 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < 256; i++) {
		if (i >= *count)
			break;
		record[0] = record[1] = *number;
		if (*number & 1)
			bpf_ringbuf_output(&odd, record, sizeof(record), *flags);
		else
			bpf_ringbuf_output(&even, record, sizeof(record), *flags);
		*number += 1;
	}
	return 0;
}

char _license[] SEC("license") = "GPL";
