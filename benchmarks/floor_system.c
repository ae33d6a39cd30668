// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* The floor of what the system is asked: programs run by hand, and all programs of the kernel looked at. See floor.c. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <bpf/bpf.h>

typedef int64_t ns;

static ns now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Run a program on a packet that many times, each in a call of its own; -errno, or the last return value. */
long floor_test_run(int program, const void *packet, uint32_t size, long times, ns *took)
{
	char out[8192];
	ns start = now();
	long value = 0;

	for (long i = 0; i < times; i++) {
		LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet, .data_size_in = size, .data_out = out,
			    .data_size_out = sizeof(out));

		if (bpf_prog_test_run_opts(program, &opts))
			return -errno;
		value = opts.retval;
	}
	*took = now() - start;
	return value;
}

/* Look at all programs; how many, and the sum of their numbers. */
long floor_programs(uint64_t *sum, ns *took)
{
	ns start = now();
	uint32_t id = 0;
	long count = 0;

	*sum = 0;
	while (bpf_prog_get_next_id(id, &id) == 0) {
		struct bpf_prog_info info;
		uint32_t size = sizeof(info);
		int fd = bpf_prog_get_fd_by_id(id);

		if (fd < 0)
			continue;
		memset(&info, 0, sizeof(info));
		if (bpf_obj_get_info_by_fd(fd, &info, &size) == 0) {
			count++;
			*sum += info.id;
		}
		close(fd);
	}
	*took = now() - start;
	return count;
}
