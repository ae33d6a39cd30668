// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * The floor: what libbpf itself costs, called from C. Loaded into the benchmarks' process, where it shares libbpf,
 * kernel and the moment with the others. Each function times its own loops, in nanoseconds of CPU time of the
 * thread, returns 0 or -errno, and tells what it did, for the caller to check.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

typedef int64_t ns;

static ns now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static ns wall(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* The file of the libbpf in use. */
const char *floor_libbpf(void)
{
	Dl_info info;

	return dladdr((void *)bpf_object__open_mem, &info) ? info.dli_fname : "?";
}

/* libbpf has one print function for the process: while others than pylbpf run it is this, like libbpf's own. */
static int quiet(enum libbpf_print_level level, const char *format, va_list arguments)
{
	return level == LIBBPF_DEBUG ? 0 : vfprintf(stderr, format, arguments);
}

static libbpf_print_fn_t theirs;

void floor_begin(void) { theirs = libbpf_set_print(quiet); }
void floor_end(void) { libbpf_set_print(theirs); }

/*
 * Up to 1.2, taking back the last of the registered handlers leaves libbpf with a dangling array. So one stays, for a
 * section that nobody has.
 */
__attribute__((constructor)) static void keep_one_handler(void)
{
	libbpf_register_prog_handler("pylbpf.floor", BPF_PROG_TYPE_UNSPEC, 0, NULL);
}

/* Objects */

struct phases {
	ns open, load, attach, close;
};

struct effects {
	long programs, loaded, setup, prepare_load, attach;
};

static struct effects *counting;

static int on_setup(struct bpf_program *program, long cookie)
{
	counting->setup++;
	return 0;
}

static int on_prepare_load(struct bpf_program *program, struct bpf_prog_load_opts *opts, long cookie)
{
	counting->prepare_load++;
	return 0;
}

static int on_attach(const struct bpf_program *program, long cookie, struct bpf_link **link)
{
	counting->attach++;
	*link = NULL;
	return 0;
}

/* The same three, for other people's handlers, which count through the cookie. */
int floor_setup(struct bpf_program *program, long cookie) { ((struct effects *)cookie)->setup++; return 0; }
int floor_prepare_load(struct bpf_program *program, struct bpf_prog_load_opts *opts, long cookie)
{
	((struct effects *)cookie)->prepare_load++;
	return 0;
}
int floor_attach(const struct bpf_program *program, long cookie, struct bpf_link **link)
{
	((struct effects *)cookie)->attach++;
	*link = NULL;
	return 0;
}

int floor_open(const char *path, const void *data, size_t size, struct phases *times, struct effects *effects)
{
	struct bpf_object *object;
	struct bpf_program *program;
	ns start = now();

	object = path ? bpf_object__open_file(path, NULL) : bpf_object__open_mem(data, size, NULL);
	times->open = now() - start;
	if (!object)
		return -errno;
	bpf_object__for_each_program(program, object)
		effects->programs++;
	start = now();
	bpf_object__close(object);
	times->close = now() - start;
	return 0;
}

int floor_handlers(const char *path, const char *section, int type, int callbacks, struct phases *times,
		   struct effects *effects)
{
	LIBBPF_OPTS(libbpf_prog_handler_opts, opts);
	struct bpf_object *object;
	struct bpf_program *program;
	struct bpf_link *link;
	int id, error = 0;
	ns start;

	counting = effects;
	if (callbacks) {
		opts.prog_setup_fn = on_setup;
		opts.prog_prepare_load_fn = on_prepare_load;
		opts.prog_attach_fn = on_attach;
	}
	id = libbpf_register_prog_handler(section, type, 0, &opts);
	if (id < 0)
		return id;
	start = now();
	object = bpf_object__open_file(path, NULL);
	times->open = now() - start;
	if (!object) {
		error = -errno;
		goto out;
	}
	start = now();
	error = bpf_object__load(object);
	times->load = now() - start;
	bpf_object__for_each_program(program, object) {
		effects->programs++;
		effects->loaded += bpf_program__fd(program) >= 0;
	}
	if (!error && callbacks) {
		start = now();
		bpf_object__for_each_program(program, object) {
			/* No link is an error to libbpf; whether the callback came is counted. */
			link = bpf_program__attach(program);
			if (link || errno != EOPNOTSUPP)
				error = -EINVAL;
		}
		times->attach = now() - start;
	}
	start = now();
	bpf_object__close(object);
	times->close = now() - start;
out:
	libbpf_unregister_prog_handler(id);
	return error;
}

/* Instructions */

int floor_insns(const struct bpf_program *program, long times, ns *took, long *count)
{
	const struct bpf_insn *volatile insns;
	volatile size_t length;
	ns start = now();
	long i;

	for (i = 0; i < times; i++) {
		insns = bpf_program__insns(program);
		length = bpf_program__insn_cnt(program);
	}
	*took = now() - start;
	*count = insns ? length : 0;
	return 0;
}

/* A variable in memory, and the members of a type of the kernel */

int floor_variable(volatile uint32_t *at, long times, ns *read, ns *write, uint64_t *sum)
{
	ns start = now();
	long i;

	*sum = 0;
	for (i = 0; i < times; i++)
		*sum += *at;
	*read = now() - start;
	start = now();
	for (i = 0; i < times; i++)
		*at = i;
	*write = now() - start;
	return 0;
}

static long walk(const struct btf *btf, int id)
{
	const struct btf_type *type = btf__type_by_id(btf, id);
	long count = 0;
	int i;

	while (btf_is_mod(type) || btf_is_typedef(type) || btf_is_array(type))
		type = btf__type_by_id(btf, btf_is_array(type) ? btf_array(type)->type : type->type);
	if (!btf_is_composite(type))
		return 0;
	for (i = 0; i < btf_vlen(type); i++) {
		if (btf__resolve_size(btf, btf_members(type)[i].type) < 0)
			return -EINVAL;
		count += 1 + walk(btf, btf_members(type)[i].type);
	}
	return count;
}

int floor_members(const char *name, ns *load, ns *find, long *count)
{
	ns start = now();
	struct btf *btf = btf__load_vmlinux_btf();
	int id;

	*load = now() - start;
	if (!btf)
		return -errno;
	start = now();
	id = btf__find_by_name_kind(btf, name, BTF_KIND_STRUCT);
	*count = id < 0 ? id : walk(btf, id);
	*find = now() - start;
	btf__free(btf);
	return *count < 0 ? *count : 0;
}

/* Maps: keys 0..n-1, values key + 1, of 8 bytes each */

struct map_times {
	ns update, lookup, delete;
	uint64_t sum;
};

int floor_map(int fd, uint64_t n, struct map_times *times)
{
	uint64_t key, value;
	int error;
	ns start = now();

	for (key = 0; key < n; key++) {
		value = key + 1;
		error = bpf_map_update_elem(fd, &key, &value, BPF_ANY);
		if (error)
			return error;
	}
	times->update = now() - start;
	start = now();
	for (key = 0; key < n; key++) {
		error = bpf_map_lookup_elem(fd, &key, &value);
		if (error)
			return error;
		times->sum += value;
	}
	times->lookup = now() - start;
	start = now();
	for (key = 0; key < n; key++) {
		error = bpf_map_delete_elem(fd, &key);
		if (error)
			return error;
	}
	times->delete = now() - start;
	return 0;
}

/* Look up n keys of 8 bytes, with values of any size. */
int floor_values(int fd, uint64_t n, ns *took)
{
	char value[256];
	uint64_t key;
	int error = 0;
	ns start = now();

	for (key = 0; key < n && !error; key++)
		error = bpf_map_lookup_elem(fd, &key, value);
	*took = now() - start;
	return error;
}

/* From key to key through a map of keys and values of 8 bytes. */
int floor_walk(int fd, ns *took, long *count)
{
	uint64_t key, value, *last = NULL;
	int error;
	ns start = now();

	while (!(error = bpf_map_get_next_key(fd, last, &key))) {
		error = bpf_map_lookup_elem(fd, &key, &value);
		if (error)
			return error;
		last = &key;
		++*count;
	}
	*took = now() - start;
	return error == -ENOENT ? 0 : error;
}

/* Ring buffers */

int floor_run(int program_fd, int times)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	int error = 0;

	while (!error && times--)
		error = bpf_prog_test_run_opts(program_fd, &opts);
	return error ? error : -(int)opts.retval;
}

struct drained {
	long records, bytes;
	char *copy;
	uint64_t sum;
};

int floor_count_record(void *context, void *data, size_t size)
{
	struct drained *drained = context;

	drained->records++;
	drained->bytes += size;
	return 0;
}

static int copy_record(void *context, void *data, size_t size)
{
	struct drained *drained = context;

	memcpy(drained->copy + drained->bytes, data, size);
	drained->records++;
	drained->bytes += size;
	return 0;
}

static int sum_record(void *context, void *data, size_t size)
{
	struct drained *drained = context;

	drained->sum += ((uint64_t *)data)[0];
	drained->records++;
	drained->bytes += size;
	return 0;
}

/* As many records as come in some seconds, each copied over the last one. */
static int last_record(void *context, void *data, size_t size)
{
	struct drained *drained = context;

	memcpy(drained->copy, data, size);
	drained->records++;
	drained->bytes += size;
	return 0;
}

int floor_consume(int map_fd, char *copy, ns length, struct drained *drained)
{
	struct ring_buffer *ring = ring_buffer__new(map_fd, last_record, drained, NULL);
	ns end = wall() + length;
	int code = 0;

	if (!ring)
		return -errno;
	drained->copy = copy;
	while (code >= 0 && wall() < end)
		code = ring_buffer__poll(ring, 10);
	if (code >= 0)
		code = ring_buffer__consume(ring);
	ring_buffer__free(ring);
	return code < 0 ? code : 0;
}

int floor_drain(int map_fd, char *copy, int sum, ns *took, struct drained *drained)
{
	struct ring_buffer *ring = ring_buffer__new(
		map_fd, copy ? copy_record : sum ? sum_record : floor_count_record, drained, NULL);
	int code;
	ns start;

	if (!ring)
		return -errno;
	drained->copy = copy;
	start = now();
	code = ring_buffer__consume(ring);
	*took = now() - start;
	ring_buffer__free(ring);
	return code < 0 ? code : 0;
}

/* Links */

int floor_links(const struct bpf_program *program, long n, ns *attach, ns *destroy)
{
	struct bpf_link **links = calloc(n, sizeof(*links));
	int error = 0;
	long i, made;
	ns start;

	if (!links)
		return -ENOMEM;
	start = now();
	for (made = 0; made < n; made++) {
		links[made] = bpf_program__attach_iter(program, NULL);
		if (!links[made]) {
			error = -errno;
			break;
		}
	}
	*attach = now() - start;
	start = now();
	for (i = 0; i < made; i++)
		error = bpf_link__destroy(links[i]) ?: error;
	*destroy = now() - start;
	free(links);
	return error;
}
