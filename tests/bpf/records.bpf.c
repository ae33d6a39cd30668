// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Records on request: of one size, of every size, typed, discarded, and such that stay unsubmitted for a while. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum { PLAIN, MIXED, TYPED, HELD };

struct request {
	__u64 first;            /* number of the first record */
	__u64 sent;             /* how many there are */
	__u32 count;
	__u32 size;             /* of plain records */
	__u32 flags;
	__u32 mode;
	__u32 ring;             /* 0 or 1 */
	__u32 every;            /* one of so many typed ones is discarded, 0 for none */
};

struct open_event {
	__u32 type;
	__u32 pid;
	__u64 number;
	char comm[16];
};

struct exit_event {
	__u32 type;
	__s32 code;
	__u64 number;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps"), others SEC(".maps");

struct scratch {
	char bytes[1 << 17];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/* How long a held record is: until the value is not 0. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} release SEC(".maps");

/* So that BTF has them. */
const struct open_event *open_event_type __attribute__((unused));
const struct exit_event *exit_event_type __attribute__((unused));

static __always_inline __u32 size_of(__u64 number)
{
	return 8 + ((number * 2654435761u) >> 13) % 700;
}

static __always_inline long send(struct request *request, __u64 number, void *bytes)
{
	struct open_event *open;
	struct exit_event *exit;
	__u32 size = request->size;
	void *dropped;

	if (request->mode == TYPED) {
		if (number % 3) {
			open = bpf_ringbuf_reserve(&events, sizeof(*open), 0);
			if (!open)
				return 1;
			open->type = 0;
			open->pid = number * 2;
			open->number = number;
			__builtin_memcpy(open->comm, "comm\0\0\0\0\0\0\0\0\0\0\0\0", 16);
			bpf_ringbuf_submit(open, request->flags);
		} else {
			exit = bpf_ringbuf_reserve(&events, sizeof(*exit), 0);
			if (!exit)
				return 1;
			exit->type = 1;
			exit->code = -(__s32)number;
			exit->number = number;
			bpf_ringbuf_submit(exit, request->flags);
		}
		return 0;
	}
	if (request->every && number % request->every == 0) {
		dropped = bpf_ringbuf_reserve(&events, 24, 0);
		if (!dropped)
			return 1;
		bpf_ringbuf_discard(dropped, BPF_RB_NO_WAKEUP);
	}
	if (request->mode == MIXED) {
		size = size_of(number);
		*(__u64 *)bytes = number;
	} else if (size >= 8) {
		*(__u64 *)bytes = number;
	}
	asm volatile("" : "+r"(size));  /* the verifier does not see what the compiler knows */
	if (size > sizeof(struct scratch))
		return 1;
	if (request->ring)
		return bpf_ringbuf_output(&others, bytes, size, request->flags);
	return bpf_ringbuf_output(&events, bytes, size, request->flags);
}

struct sending {
	struct request request;
	void *bytes;
};

static long send_next(__u32 i, struct sending *sending)
{
	if (send(&sending->request, sending->request.first + i, sending->bytes))
		return 1;
	sending->request.sent++;
	return 0;
}

static long wait_for_release(__u32 i, void *context)
{
	__u32 slot = 0;
	volatile __u64 *value = bpf_map_lookup_elem(&release, &slot);

	return !value || *value;
}

static long wait_longer(__u32 i, void *context)
{
	return bpf_loop(1 << 23, wait_for_release, 0, 0) < 1 << 23;
}

SEC("syscall") int hold(struct request *request)
{
	__u32 slot = 1;
	__u64 one = 1;
	__u64 *record = bpf_ringbuf_reserve(&events, 8, 0);

	if (!record)
		return 1;
	*record = request->first;
	bpf_map_update_elem(&release, &slot, &one, BPF_ANY);
	bpf_loop(500, wait_longer, 0, 0);
	if (request->every)
		bpf_ringbuf_discard(record, 0);
	else
		bpf_ringbuf_submit(record, 0);
	return 0;
}

SEC("syscall") int emit(struct request *request)
{
	__u32 zero = 0;
	struct sending sending = { .request = *request };

	sending.bytes = bpf_map_lookup_elem(&scratch, &zero);
	if (!sending.bytes)
		return 1;
	bpf_loop(request->count, send_next, &sending, 0);
	request->sent = sending.request.sent;
	return 0;
}

char _license[] SEC("license") = "GPL";
