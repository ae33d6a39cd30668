// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * The floor of whole maps: the loops over libbpf's batch calls that a C program would have. Each function times itself
 * in nanoseconds of CPU time of the thread and returns 0 or -errno.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <bpf/bpf.h>

typedef int64_t ns;

static ns now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Keys and values of 8 bytes, n of each at most; into memory of the caller's. */
static int read_all(int fd, uint64_t *keys, uint64_t *values, uint32_t n, uint32_t chunk, uint32_t *count)
{
	uint64_t tokens[2], *in = NULL, *out = tokens;
	uint32_t done = 0, asked;
	int error = 0;

	while (!error && done < n) {
		asked = n - done < chunk ? n - done : chunk;
		error = bpf_map_lookup_batch(fd, in, out, keys + done, values + done, &asked, NULL);
		if (error && error != -ENOENT)
			return error;
		done += asked;
		in = out;
		out = tokens + (out == tokens);
	}
	*count = done;
	return 0;
}

/* Into fresh memory, as large as the map can be. */
int elements_read(int fd, uint32_t n, uint32_t chunk, ns *took, uint64_t *sum)
{
	uint64_t *keys, *values;
	uint32_t count = 0, i;
	ns start = now();
	int error = -ENOMEM;

	keys = malloc(n * sizeof(*keys));
	values = malloc(n * sizeof(*values));
	if (keys && values)
		error = read_all(fd, keys, values, n, chunk, &count);
	*took = now() - start;
	for (i = 0; i < count; i++)
		*sum += values[i];
	free(keys);
	free(values);
	return error;
}

int elements_read_into(int fd, uint64_t *keys, uint64_t *values, uint32_t n, uint32_t chunk, ns *took, uint32_t *count)
{
	ns start = now();
	int error = read_all(fd, keys, values, n, chunk, count);

	*took = now() - start;
	return error;
}

int elements_update(int fd, const uint64_t *keys, const uint64_t *values, uint32_t n, uint32_t chunk, ns *took)
{
	uint32_t done = 0, asked;
	ns start = now();
	int error = 0;

	while (!error && done < n) {
		asked = n - done < chunk ? n - done : chunk;
		error = bpf_map_update_batch(fd, keys + done, values + done, &asked, NULL);
		done += asked;
	}
	*took = now() - start;
	return error;
}

int elements_delete(int fd, const uint64_t *keys, uint32_t n, uint32_t chunk, ns *took)
{
	uint32_t done = 0, asked;
	ns start = now();
	int error = 0;

	while (!error && done < n) {
		asked = n - done < chunk ? n - done : chunk;
		error = bpf_map_delete_batch(fd, keys + done, &asked, NULL);
		done += asked;
	}
	*took = now() - start;
	return error;
}
