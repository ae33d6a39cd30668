/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/* A histogram whose slot n counts values from 2^n up to 2^(n+1) - 1; slot 0 has 0 too. */
#ifndef LOG2_BPF_H
#define LOG2_BPF_H

enum { SLOTS = 32 };

struct histogram {
	__u64 slots[SLOTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct histogram);
} histogram SEC(".maps");

static __always_inline __u32 slot_of(__u64 value)
{
	__u32 slot = 0;

	if (value >> 32)
		return SLOTS - 1;
	for (int shift = 16; shift; shift >>= 1)
		if (value >> shift) {
			value >>= shift;
			slot += shift;
		}
	return slot;
}

static __always_inline void count(__u64 value)
{
	__u32 zero = 0;
	struct histogram *here = bpf_map_lookup_elem(&histogram, &zero);
	__u32 slot = slot_of(value);

	if (here && slot < SLOTS)
		here->slots[slot]++;
}

#endif
