/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/* Which keys of an array of keys have been there before: a walk from key to key may begin anew. */
#ifndef PYLBPF_MAPBATCH_DISTINCT_H
#define PYLBPF_MAPBATCH_DISTINCT_H

#include <stddef.h>
#include <stdint.h>

struct pylbpf_distinct {
	uint32_t *slots;	/* 1 + the number of a key, 0 for none */
	size_t mask;		/* slots - 1 */
};

/*
 * `keys` has `known` distinct keys, then `more` new ones, and `values` what belongs to them. Closes the gaps that keys
 * leave which are there already: the value that was read last stays. Returns how many keys are left, SIZE_MAX for
 * want of memory.
 */
size_t pylbpf_distinct_add(struct pylbpf_distinct *seen, char *keys, size_t key_size, char *values, size_t value_size,
			   size_t known, size_t more);
/* Whether this key is among the `keys`. */
int pylbpf_distinct_has(const struct pylbpf_distinct *seen, const char *keys, size_t key_size, const char *key);
void pylbpf_distinct_free(struct pylbpf_distinct *seen);

#endif
