// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* The floor of what the system is asked: programs run by hand, and all programs of the kernel looked at. See floor.c. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

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

static ns wall(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Of libbpf 1.3, whose header may be older. */
typedef struct bpf_link *(*attach_uprobe_multi)(const struct bpf_program *, pid_t, const char *, const char *, const void *);

/* Attach to all functions f... of a library, or with a probe's name to all places of that; and detach. */
int floor_wildcard(const struct bpf_program *program, const char *path, const char *probe, ns *attach, ns *destroy)
{
	attach_uprobe_multi multi = (attach_uprobe_multi)dlsym(RTLD_DEFAULT, "bpf_program__attach_uprobe_multi");
	struct bpf_link *link;
	ns start = wall();
	int error;

	link = probe ? bpf_program__attach_usdt(program, 0, path, "pylbpf", probe, NULL) : multi(program, 0, path, "f*", NULL);
	if (!link)
		return -errno;
	*attach = wall() - start;
	start = wall();
	error = bpf_link__destroy(link);
	*destroy = wall() - start;
	return error;
}

/* Attach to the functions of the kernel that a pattern means, or names or addresses tell; and detach. */
int floor_functions(const struct bpf_program *program, const char *pattern, const char **names, const unsigned long *addresses,
		    size_t count, ns *attach, ns *destroy)
{
	LIBBPF_OPTS(bpf_kprobe_multi_opts, opts, .syms = names, .addrs = addresses, .cnt = count);
	struct bpf_link *link;
	ns start = wall();
	int error;

	link = bpf_program__attach_kprobe_multi_opts(program, pattern, &opts);
	if (!link)
		return -errno;
	*attach = wall() - start;
	start = wall();
	error = bpf_link__destroy(link);
	*destroy = wall() - start;
	return error;
}

/* Attach to a cgroup, and detach, many times. */
int floor_cgroup(const struct bpf_program *program, int cgroup, long times, ns *took)
{
	ns start = now();

	for (long i = 0; i < times; i++) {
		struct bpf_link *link = bpf_program__attach_cgroup(program, cgroup);

		if (!link)
			return -errno;
		if (bpf_link__destroy(link))
			return -errno;
	}
	*took = now() - start;
	return 0;
}
