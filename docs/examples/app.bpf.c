// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Programs in sections that libbpf does not know: handlers say what they are. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct record {
	__u32 pid;
	__u32 what; /* the program's slot in `counts` */
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline int tell(__u32 what)
{
	__u64 *count = bpf_map_lookup_elem(&counts, &what);
	struct record *record;

	if (count)
		__sync_fetch_and_add(count, 1);
	record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);
	if (!record)
		return 0;
	record->pid = bpf_get_current_pid_tgid() >> 32;
	record->what = what;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	bpf_ringbuf_submit(record, 0);
	return 0;
}

/* A raw tracepoint, named after the slash. */
SEC("on/sched_process_exec") int on_exec(void *ctx) { return tell(0); }
SEC("on/sched_process_exit") int on_exit(void *ctx) { return tell(1); }

/* Not loaded unless a handler wants it: so many samples a second, on every CPU. */
SEC("?sample/99") int on_cpu(void *ctx) { return tell(2); }

/* One event in 0x5eed is told; a handler puts another number there, right before the load. */
SEC("?tuned/sched_process_exec")
int one_in_many(void *ctx)
{
	__u32 slot = 3, many;
	__u64 *count = bpf_map_lookup_elem(&counts, &slot);

	asm volatile("%0 = 0x5eed" : "=r"(many));
	if (!count || __sync_fetch_and_add(count, 1) % many)
		return 0;
	return tell(4);
}

char _license[] SEC("license") = "Dual BSD/GPL";
