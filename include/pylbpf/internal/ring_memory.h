/* The memory of one ring buffer map, shared with the kernel, and how one walks through the records in it. */
#ifndef PYLBPF_RING_MEMORY_H
#define PYLBPF_RING_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/bpf.h>

#define PYLBPF_RING_AHEAD 1024	/* bytes */
#define PYLBPF_RING_LANE 256	/* records */

struct ring_memory {
	unsigned long *consumer;        /* where reading begins; only readers write it */
	const unsigned long *producer;  /* where writing goes on; only the kernel writes it */
	const char *data;               /* mapped twice in a row, so that no record is in two pieces */
	unsigned long size;             /* a power of 2 */
	uint64_t records, bytes, discarded;
};

/* A reader on its way: nothing of it is known to the kernel until ring_commit(). */
struct ring_walk {
	unsigned long position, end;
	uint64_t records, bytes, discarded;
};

struct ring_record {
	const char *data;
	uint32_t size;
};

/* Up to where the ring is filled. A second reader of the same map may have set the consumer to anything: whatever it is,
 * no one reads outside of the mapping. */
static inline void ring_begin(const struct ring_memory *ring, struct ring_walk *walk)
{
	walk->position = __atomic_load_n(ring->consumer, __ATOMIC_ACQUIRE) & ~7ul;
	walk->end = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);
	walk->records = walk->bytes = walk->discarded = 0;
	if (walk->end - walk->position > ring->size)
		walk->end = (long)(walk->end - walk->position) < 0 ? walk->position : walk->position + ring->size;
}

static inline unsigned long ring_rounded(uint32_t size)
{
	return ((unsigned long)size + BPF_RINGBUF_HDR_SZ + 7) & ~7ul;
}

/* The next record; it stays where it is. False at the end, and before a record that is reserved and not yet submitted. */
static inline bool ring_look(const struct ring_memory *ring, struct ring_walk *walk, struct ring_record *record)
{
	const char *header;
	uint32_t length;

	while (walk->position != walk->end) {
		header = ring->data + (walk->position & (ring->size - 1));
		length = __atomic_load_n((const uint32_t *)header, __ATOMIC_ACQUIRE);
		record->size = length & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
		if (length & BPF_RINGBUF_BUSY_BIT || ring_rounded(record->size) > walk->end - walk->position)
			return false;
		if (length & BPF_RINGBUF_DISCARD_BIT) {
			walk->position += ring_rounded(record->size);
			walk->discarded++;
			continue;
		}
		record->data = header + BPF_RINGBUF_HDR_SZ;
		/* Where the next records are is only known when this one's length is, so the processor does not run ahead. */
		__builtin_prefetch(header + PYLBPF_RING_AHEAD);
		return true;
	}
	return false;
}

/* Go on behind the record that ring_look() has shown. */
static inline void ring_step(struct ring_walk *walk, const struct ring_record *record)
{
	walk->position += ring_rounded(record->size);
	walk->records++;
	walk->bytes += record->size;
}

static inline uint32_t ring_unlike(const char *header, uint32_t size)
{
	return __atomic_load_n((const uint32_t *)header, __ATOMIC_RELAXED) ^ size;
}

/* How many records of one size lie in a row. What the next one's length is does not have to be known to find it, so the
 * processor reads many headers at a time, where ring_look() waits for each; and from four places at once it has more of
 * the memory on its way to it. What lies behind one of another length may be no header, but is memory of the ring. */
static inline size_t ring_run(const struct ring_memory *ring, const struct ring_walk *walk, uint32_t size, size_t most)
{
	const char *header = ring->data + (walk->position & (ring->size - 1));
	unsigned long stride = ring_rounded(size);
	size_t count = 0, room = (walk->end - walk->position) / stride;

	if (most > room)
		most = room;
	/* A length with a mark, busy or discarded, is no size. */
	while (most - count >= 4 * 16) {
		size_t lane = (most - count) / 4, at;
		unsigned long apart;
		uint32_t unlike = 0;

		if (lane > PYLBPF_RING_LANE)
			lane = PYLBPF_RING_LANE;
		apart = lane * stride;
		for (at = 0; at < lane; at++) {
			const char *first = header + at * stride;

			unlike |= ring_unlike(first, size) | ring_unlike(first + apart, size) |
				  ring_unlike(first + 2 * apart, size) | ring_unlike(first + 3 * apart, size);
		}
		if (unlike)
			break;
		header += 4 * apart;
		count += 4 * lane;
	}
	while (count < most && !ring_unlike(header, size)) {
		header += stride;
		count++;
	}
	/* What the headers are about is read after them. */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return count;
}

/* Go on behind so many records of one size. */
static inline void ring_steps(struct ring_walk *walk, uint32_t size, size_t count)
{
	walk->position += ring_rounded(size) * count;
	walk->records += count;
	walk->bytes += (uint64_t)size * count;
}

/* Give the kernel the room up to here; what was there must not be looked at any more. */
static inline void ring_commit(struct ring_memory *ring, struct ring_walk *walk)
{
	ring->records += walk->records;
	ring->bytes += walk->bytes;
	ring->discarded += walk->discarded;
	walk->records = walk->bytes = walk->discarded = 0;
	__atomic_store_n(ring->consumer, walk->position, __ATOMIC_RELEASE);
}

/* Whether a record waits, asked last before going to sleep. The kernel wakes a reader only if it sees that it has caught
 * up; without the barrier each of the two could miss what the other has just written, and epoll does not look again. */
static inline bool ring_waits(struct ring_memory *ring)
{
	struct ring_walk walk;
	struct ring_record record;
	bool found;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	ring_begin(ring, &walk);
	found = ring_look(ring, &walk, &record);
	if (walk.discarded) {
		ring_commit(ring, &walk);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	}
	return found;
}

#endif
