// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
#include "pylbpf/internal/mapbatch_distinct.h"

#include <stdlib.h>
#include <string.h>

static uint64_t hash(const char *key, size_t size)
{
	uint64_t sum = 0x9e3779b97f4a7c15ull, word;

	for (; size >= 8; key += 8, size -= 8) {
		memcpy(&word, key, 8);
		sum = (sum ^ word) * 0xff51afd7ed558ccdull;
		sum ^= sum >> 32;
	}
	if (size) {
		word = 0;
		memcpy(&word, key, size);
		sum = (sum ^ word) * 0xff51afd7ed558ccdull;
		sum ^= sum >> 32;
	}
	return sum ^ sum >> 29;
}

/* The slot of this key, or the free one where it belongs. */
static uint32_t *find(const struct pylbpf_distinct *seen, const char *keys, size_t key_size, const char *key)
{
	size_t at = hash(key, key_size) & seen->mask;

	while (seen->slots[at] && memcmp(keys + (seen->slots[at] - 1) * key_size, key, key_size))
		at = (at + 1) & seen->mask;
	return &seen->slots[at];
}

/* Room for `count` keys, half of it free. */
static int reserve(struct pylbpf_distinct *seen, const char *keys, size_t key_size, size_t known, size_t count)
{
	struct pylbpf_distinct larger = { .mask = 63 };
	size_t i;

	if (seen->slots && count <= seen->mask / 2)
		return 1;
	while (count > larger.mask / 2)
		larger.mask = larger.mask * 2 + 1;
	larger.slots = calloc(larger.mask + 1, sizeof(*larger.slots));
	if (!larger.slots || count >= UINT32_MAX) {
		free(larger.slots);
		return 0;
	}
	for (i = 0; i < known; i++)
		*find(&larger, keys, key_size, keys + i * key_size) = i + 1;
	free(seen->slots);
	*seen = larger;
	return 1;
}

size_t pylbpf_distinct_add(struct pylbpf_distinct *seen, char *keys, size_t key_size, char *values, size_t value_size,
			   size_t known, size_t more)
{
	size_t i, end = known + more;
	uint32_t *slot;

	if (!reserve(seen, keys, key_size, known, end))
		return SIZE_MAX;
	for (i = known; i < end; i++) {
		slot = find(seen, keys, key_size, keys + i * key_size);
		if (*slot) {
			memcpy(values + (*slot - 1) * value_size, values + i * value_size, value_size);
			continue;
		}
		if (i != known) {
			memcpy(keys + known * key_size, keys + i * key_size, key_size);
			memcpy(values + known * value_size, values + i * value_size, value_size);
		}
		*slot = ++known;
	}
	return known;
}

int pylbpf_distinct_has(const struct pylbpf_distinct *seen, const char *keys, size_t key_size, const char *key)
{
	return seen->slots && *find(seen, keys, key_size, key);
}

void pylbpf_distinct_free(struct pylbpf_distinct *seen)
{
	free(seen->slots);
	seen->slots = NULL;
}
