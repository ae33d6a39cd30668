/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/*
 * For BPF programs: records that find no room in a ring buffer, counted.
 *
 *	struct {
 *		__uint(type, BPF_MAP_TYPE_RINGBUF);
 *		__uint(max_entries, 1 << 20);
 *	} events SEC(".maps");
 *
 *	PYLBPF_COUNT_DROPS(events);
 *
 *	event = pylbpf_ringbuf_reserve(events, sizeof(*event));
 *	if (!event)
 *		return 0;		// counted
 *	...
 *	bpf_ringbuf_submit(event, 0);
 *
 * obj.ring_buffer("events").stats().dropped is the count. It is a map of its
 * own, events_drops, with one number for each CPU.
 */
#ifndef PYLBPF_RINGBUF_BPF_H
#define PYLBPF_RINGBUF_BPF_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define PYLBPF_COUNT_DROPS(ring)				\
	struct {						\
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);	\
		__uint(max_entries, 1);				\
		__type(key, __u32);				\
		__type(value, __u64);				\
	} ring##_drops SEC(".maps")

/* One more record had no room. */
static __always_inline void pylbpf_ringbuf_dropped(void *drops)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(drops, &zero);

	if (count)
		*count += 1;
}

/* bpf_ringbuf_reserve(); NULL is counted. */
#define pylbpf_ringbuf_reserve(ring, size)					\
	({									\
		void *pylbpf_record = bpf_ringbuf_reserve(&(ring), size, 0);	\
										\
		if (!pylbpf_record)						\
			pylbpf_ringbuf_dropped(&ring##_drops);			\
		pylbpf_record;							\
	})

/* bpf_ringbuf_output(); a failure is counted. */
#define pylbpf_ringbuf_output(ring, data, size, flags)					\
	({										\
		long pylbpf_error = bpf_ringbuf_output(&(ring), data, size, flags);	\
											\
		if (pylbpf_error)							\
			pylbpf_ringbuf_dropped(&ring##_drops);				\
		pylbpf_error;								\
	})

#endif
