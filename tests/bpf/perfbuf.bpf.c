// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* A task that takes the name in `config` sends as many records as that says, of as many bytes, to the buffer of the CPU
 * where it runs. A record is its number, twice; what remains is 0. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum { NAME, COUNT, SIZE, NUMBER, REFUSED };
enum { MOST = 4096 };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 5);
	__type(key, __u32);
	__type(value, __u64);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} events SEC(".maps");

struct pair {
	__u64 number, again;
};

struct pair example;    /* keeps the type in BTF */
__u64 record[MOST / 8];

static __always_inline __u64 *setting(__u32 slot)
{
	return bpf_map_lookup_elem(&config, &slot);
}

SEC("raw_tp/task_rename")
int send(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 *name = setting(NAME), *count = setting(COUNT), *size = setting(SIZE), *number = setting(NUMBER);
	__u64 *refused = setting(REFUSED);
	__u64 taken = 0;

	if (!name || !count || !size || !number || !refused)
		return 0;
	bpf_probe_read_kernel(&taken, sizeof(taken), (void *)ctx->args[1]);
	if (taken != *name)
		return 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < 256; i++) {
		__u64 length = *size;

		if (i >= *count || length > MOST)
			break;
		record[0] = record[1] = *number;
		if (bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, record, length) == 0)
			*number += 1;
		else
			*refused += 1;
	}
	return 0;
}

char _license[] SEC("license") = "GPL";
