// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Programs whose sections mean nothing to libbpf. They touch no context and call only helpers that every program
 * type has, so a handler may make them whatever it likes. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define SLOTS 16

struct record {
	__u64 time;
	__u32 program; /* its slot in `hits` */
	__u32 cpu;
	__u64 total; /* runs of all programs so far */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} hits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} events SEC(".maps");

const volatile __u64 step = 1; /* .rodata: what one run adds */
__u32 recording = 1;           /* .data: whether records are written */
__u64 total;                   /* .bss: runs of all programs */

static __always_inline int hit(__u32 slot)
{
	__u64 *count = bpf_map_lookup_elem(&hits, &slot), one = step;
	struct record record = {};

	if (count)
		__sync_fetch_and_add(count, step);
	bpf_map_update_elem(&seen, &slot, &one, BPF_ANY);
	__sync_fetch_and_add(&total, 1);
	if (!recording)
		return 0;
	record.time = bpf_ktime_get_ns();
	record.program = slot;
	record.cpu = bpf_get_smp_processor_id();
	record.total = total;
	bpf_ringbuf_output(&events, &record, sizeof(record), 0);
	return 0;
}

SEC("sample")        int on_sample(void *ctx)    { return hit(0); }
SEC("probe/one")     int probe_one(void *ctx)    { return hit(1); }
SEC("probe/two")     int probe_two(void *ctx)    { return hit(2); }
SEC("probe/")        int probe_bare(void *ctx)   { return hit(3); }
SEC("event")         int on_event(void *ctx)     { return hit(4); }
SEC("event/x")       int on_event_x(void *ctx)   { return hit(5); }
SEC("eventful")      int on_eventful(void *ctx)  { return hit(6); }
SEC("?probe/off")    int probe_off(void *ctx)    { return hit(7); }
SEC("?nobody/knows") int nobody_knows(void *ctx) { return hit(8); }

char _license[] SEC("license") = "GPL";
