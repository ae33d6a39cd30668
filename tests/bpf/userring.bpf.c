// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* A task that takes the name in `config` makes the program drain `commands`, with the flags there. Of each sample it
 * sends on to `seen`: how long it is, how many there were, its first bytes and its last. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum { NAME, FLAGS, RESULT };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 4096);
} commands SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} seen SEC(".maps");

struct sight {
	__u32 length;
	__u32 number;
	__u8 first[16];
	__u8 last;
} sight;

static __always_inline __u64 *setting(__u32 slot)
{
	return bpf_map_lookup_elem(&config, &slot);
}

/* bpf_dynptr_size() is younger than user ring buffers: the length is what can be read, found bit by bit, in memory
 * whose contents the verifier does not follow. */
static long look(struct bpf_dynptr *sample, void *ctx)
{
	volatile __u32 *found = &sight.length;
	__u32 length;
	__u8 byte;

	*found = 0;
#pragma clang loop unroll(disable)
	for (int bit = 24; bit >= 0; bit--) {
		__u32 more = *found | 1 << bit;

		if (bpf_dynptr_read(&byte, 1, sample, more - 1, 0) == 0)
			*found = more;
	}
	length = *found;
	sight.last = 0;
	if (length)
		bpf_dynptr_read(&sight.last, 1, sample, length - 1, 0);
	__builtin_memset(sight.first, 0, sizeof(sight.first));
	if (length >= sizeof(sight.first))
		bpf_dynptr_read(sight.first, sizeof(sight.first), sample, 0, 0);
	else if (length >= 8)
		bpf_dynptr_read(sight.first, 8, sample, 0, 0);
	bpf_ringbuf_output(&seen, &sight, sizeof(sight), 0);
	sight.number++;
	return 0;
}

SEC("raw_tp/task_rename")
int drain(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 *name = setting(NAME), *flags = setting(FLAGS), *result = setting(RESULT);
	__u64 taken = 0;

	if (!name || !flags || !result)
		return 0;
	bpf_probe_read_kernel(&taken, sizeof(taken), (void *)ctx->args[1]);
	if (taken != *name)
		return 0;
	*result = bpf_user_ringbuf_drain(&commands, look, NULL, *flags);
	return 0;
}

char _license[] SEC("license") = "GPL";
