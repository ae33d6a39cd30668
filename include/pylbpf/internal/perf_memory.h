/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/* The memory of one perf buffer, as the kernel shares it: a page of positions, and the events behind it. */
#ifndef PYLBPF_PERF_MEMORY_H
#define PYLBPF_PERF_MEMORY_H

#include <linux/perf_event.h>
#include <stdint.h>
#include <string.h>

struct perf_memory {
	struct perf_event_mmap_page *page;
	const char *data;
	uint64_t size;		/* in bytes, a power of 2 */
	char *scratch;		/* 64 KiB: for events that wrap around */
	uint64_t records;	/* what was consumed so far */
	uint64_t bytes;
	uint64_t lost;
	uint64_t others;
};

/* How far a reader has come, and how far it may go: what came later is for the next one. */
struct perf_walk {
	uint64_t position;
	uint64_t end;
	uint64_t records;
	uint64_t bytes;
	uint64_t lost;
	uint64_t others;
};

enum perf_kind { PERF_SAMPLE, PERF_LOST, PERF_OTHER };

struct perf_event {
	enum perf_kind kind;
	const struct perf_event_header *header;
	const char *data;	/* of a sample */
	uint32_t size;
	uint64_t lost;
};

static inline void perf_begin(const struct perf_memory *memory, struct perf_walk *walk)
{
	memset(walk, 0, sizeof(*walk));
	walk->position = memory->page->data_tail;	/* nobody else writes it */
	/* What lies before the head was written before it. */
	walk->end = __atomic_load_n(&memory->page->data_head, __ATOMIC_ACQUIRE);
}

static inline int perf_waits(const struct perf_memory *memory)
{
	return __atomic_load_n(&memory->page->data_head, __ATOMIC_ACQUIRE) != memory->page->data_tail;
}

/* The next event; 0 at the end. `raw`: samples are of any form, not just the bytes that a program sent. */
static inline int perf_look(const struct perf_memory *memory, struct perf_walk *walk, int raw, struct perf_event *event)
{
	uint64_t at = walk->position & (memory->size - 1);
	const struct perf_event_header *header = (const void *)(memory->data + at);
	uint16_t size;
	const char *start;

	if (walk->position == walk->end)
		return 0;
	/* A header lies at a multiple of its size, so it never wraps around. */
	size = header->size;
	if (size < sizeof(*header) || size > walk->end - walk->position || size % sizeof(*header)) {
		/* Somebody else has moved the tail: there is no way to find the next one. */
		walk->position = walk->end;
		walk->others++;
		return 0;
	}
	if (at + size > memory->size) {
		memcpy(memory->scratch, memory->data + at, memory->size - at);
		memcpy(memory->scratch + memory->size - at, memory->data, size - (memory->size - at));
		header = (const void *)memory->scratch;
	}
	start = (const char *)header;
	event->header = header;
	event->kind = PERF_OTHER;
	event->data = start;
	event->size = size;
	if (header->type == PERF_RECORD_LOST && size >= 24) {
		event->kind = PERF_LOST;
		memcpy(&event->lost, start + 16, sizeof(event->lost));
	} else if (header->type == PERF_RECORD_SAMPLE) {
		event->kind = PERF_SAMPLE;
		if (!raw && size >= 12) {
			memcpy(&event->size, start + 8, sizeof(event->size));
			event->data = start + 12;
			if (event->size > size - 12u)
				event->size = size - 12u;
		}
	}
	return 1;
}

static inline void perf_step(struct perf_walk *walk, const struct perf_event *event)
{
	walk->position += event->header->size;
	if (event->kind == PERF_SAMPLE) {
		walk->records++;
		walk->bytes += event->size;
	} else if (event->kind == PERF_LOST) {
		walk->lost += event->lost;
	} else {
		walk->others++;
	}
}

/* Give the room back to the kernel, and count. */
static inline void perf_commit(struct perf_memory *memory, struct perf_walk *walk)
{
	memory->records += walk->records;
	memory->bytes += walk->bytes;
	memory->lost += walk->lost;
	memory->others += walk->others;
	walk->records = walk->bytes = walk->lost = walk->others = 0;
	/* What was read was read before that. */
	__atomic_store_n(&memory->page->data_tail, walk->position, __ATOMIC_RELEASE);
}

#endif
