// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * The floor of calls on many things at once: the loops that a C program would have. Each function times itself in
 * nanoseconds of wall time, for the kernel sleeps in much of it, returns 0 or -errno, and tells what it did. What
 * libbpf prints is dropped: of objects that are rejected that is a lot.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

typedef int64_t ns;

enum { TCX_INGRESS = 46 }; /* younger than some headers */

static ns now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int drop(enum libbpf_print_level level, const char *format, va_list arguments) { return 0; }

static libbpf_print_fn_t theirs;

void batch_begin(void) { theirs = libbpf_set_print(drop); }
void batch_end(void) { libbpf_set_print(theirs); }

/* Objects */

struct load_times {
	ns load, close;
	long loaded, programs;
};

/* Open and load one after the other; all stay loaded until the end. */
int batch_load(const char **paths, long n, struct load_times *times)
{
	struct bpf_object **objects = calloc(n, sizeof(*objects));
	struct bpf_program *program;
	ns start;
	long i;

	if (!objects)
		return -ENOMEM;
	start = now();
	for (i = 0; i < n; i++) {
		objects[i] = bpf_object__open_file(paths[i], NULL);
		if (objects[i] && bpf_object__load(objects[i])) {
			bpf_object__close(objects[i]);
			objects[i] = NULL;
		}
	}
	times->load = now() - start;
	for (i = 0; i < n; i++) {
		if (!objects[i])
			continue;
		times->loaded++;
		bpf_object__for_each_program(program, objects[i])
			times->programs += bpf_program__fd(program) >= 0;
	}
	start = now();
	for (i = 0; i < n; i++)
		bpf_object__close(objects[i]);
	times->close = now() - start;
	free(objects);
	return 0;
}

/* Verification */

struct verify_times {
	ns took;
	long refused, accepted, rejected;
};

/* A fresh object of which only the program of that number is loaded. */
static void verify_one(const char *path, long wanted, struct verify_times *times)
{
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	struct bpf_program *program;
	long i = 0;

	if (!object) {
		times->refused++;
		return;
	}
	bpf_object__for_each_program(program, object)
		bpf_program__set_autoload(program, i++ == wanted);
	if (bpf_object__load(object))
		times->rejected++;
	else
		times->accepted++;
	bpf_object__close(object);
}

/* Each object is opened once to see its programs, and once for each of these. */
int batch_verify(const char **paths, long n, struct verify_times *times)
{
	struct bpf_object *object;
	struct bpf_program *program;
	ns start = now();
	long i, j, programs;

	for (i = 0; i < n; i++) {
		object = bpf_object__open_file(paths[i], NULL);
		if (!object) {
			times->refused++;
			continue;
		}
		programs = 0;
		bpf_object__for_each_program(program, object)
			programs++;
		bpf_object__close(object);
		for (j = 0; j < programs; j++)
			verify_one(paths[i], j, times);
	}
	times->took = now() - start;
	return 0;
}

/* Links. The object is loaded before, and closed by its user. */

struct bpf_object *batch_open(const char *path, int *error)
{
	struct bpf_object *object = bpf_object__open_file(path, NULL);

	*error = object ? bpf_object__load(object) : -errno;
	if (object && *error) {
		bpf_object__close(object);
		object = NULL;
	}
	return object;
}

void batch_close(struct bpf_object *object) { bpf_object__close(object); }

struct link_times {
	ns attach, destroy;
	long links;
};

typedef struct bpf_link *attach_fn(struct bpf_program *program, int ifindex);

static struct bpf_link *by_section(struct bpf_program *program, int ifindex) { return bpf_program__attach(program); }
static struct bpf_link *to_xdp(struct bpf_program *program, int ifindex)
{
	return bpf_program__attach_xdp(program, ifindex);
}

static int attach_and_destroy(struct bpf_object *object, attach_fn *attach, const int *ifindexes, long n,
			      struct link_times *times)
{
	struct bpf_link **links = calloc(n, sizeof(*links));
	struct bpf_program *program;
	int error = 0, closing;
	long i = 0;
	ns start;

	if (!links)
		return -ENOMEM;
	start = now();
	bpf_object__for_each_program(program, object) {
		if (i == n)
			break;
		links[i] = attach(program, ifindexes ? ifindexes[i] : 0);
		if (!links[i]) {
			error = -errno;
			break;
		}
		i++;
	}
	times->attach = now() - start;
	times->links = i;
	start = now();
	while (i--) {
		closing = bpf_link__destroy(links[i]);
		error = error ?: closing;
	}
	times->destroy = now() - start;
	free(links);
	return error;
}

/* Each program to where its section says: tracepoints and iterators. */
int batch_links(struct bpf_object *object, long n, struct link_times *times)
{
	return attach_and_destroy(object, by_section, NULL, n, times);
}

/* Each program to an interface of its own. */
int batch_xdp(struct bpf_object *object, const int *ifindexes, long n, struct link_times *times)
{
	return attach_and_destroy(object, to_xdp, ifindexes, n, times);
}

/* The same with descriptors: libbpf has bpf_program__attach_tcx() since 1.3 only, the system call is all it adds to. */
int batch_tcx(struct bpf_object *object, const int *ifindexes, long n, struct link_times *times)
{
	int *fds = calloc(n, sizeof(*fds)), error = 0;
	struct bpf_program *program;
	long i = 0;
	ns start;

	if (!fds)
		return -ENOMEM;
	start = now();
	bpf_object__for_each_program(program, object) {
		if (i == n)
			break;
		fds[i] = bpf_link_create(bpf_program__fd(program), ifindexes[i], TCX_INGRESS, NULL);
		if (fds[i] < 0) {
			error = fds[i];
			break;
		}
		i++;
	}
	times->attach = now() - start;
	times->links = i;
	start = now();
	while (i--)
		close(fds[i]);
	times->destroy = now() - start;
	free(fds);
	return error;
}
