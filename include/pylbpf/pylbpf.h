/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/*
 * pylbpf for C and C++: the bpf_object, bpf_program, bpf_map and bpf_link inside
 * Python objects, Python objects around what C has made, and native handlers.
 *
 *	static const struct pylbpf_api *pylbpf;
 *
 *	pylbpf = pylbpf_import();       in the module's init function
 *	if (!pylbpf)
 *		return NULL;
 *
 * Every function is called with the GIL held, and fails with NULL and a Python
 * exception. Compile with the folder that pylbpf.get_include() names, link with
 * pylbpf.get_library_dirs() and get_libraries(): only the libbpf that pylbpf uses
 * may touch its pointers, and pylbpf_import() refuses any other. That of a wheel is
 * found at run time only if pylbpf was imported before the module.
 */
#ifndef PYLBPF_PYLBPF_H
#define PYLBPF_PYLBPF_H

#include <Python.h>
#include <stddef.h>
#include <bpf/libbpf.h>
#include <pylbpf/handler.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A native handler: zero it, set `size` to sizeof(struct pylbpf_handler), then what is needed. */
struct pylbpf_handler {
	size_t size;
	const char *section;            /* "abc", "abc/", "abc+"; NULL: what nothing else matches */
	int program_type;               /* enum bpf_prog_type */
	int expected_attach_type;       /* enum bpf_attach_type */
	unsigned int program_flags;     /* added to the program's */
	int autoload;                   /* 1: yes, -1: no, 0: as the section says */
	int priority;
	int reserved;                   /* zero */
	long cookie;
	pylbpf_setup_fn setup;          /* each may be NULL; the code must stay loaded */
	pylbpf_prepare_load_fn prepare_load;
	pylbpf_attach_fn attach;
};

struct pylbpf_api {
	/* Of the struct as pylbpf has it; it only grows at its end. See PYLBPF_API_HAS. */
	size_t size;

	/*
	 * What is inside a pylbpf.Object, Program, Map, Link: borrowed. The pointer is
	 * good as long as the caller holds the Python object, nobody closes it or its
	 * Object, and no other thread works on the same Object: use it before the GIL
	 * is given up, or own the only reference. ValueError if it is closed, TypeError
	 * for anything else, for NULL too, for a Map that is of no Object, and for a Link
	 * that libbpf has no bpf_link for (from_id(), link_create()).
	 */
	struct bpf_object *(*object)(PyObject *object);
	struct bpf_program *(*program)(PyObject *program);
	struct bpf_map *(*map)(PyObject *map);
	struct bpf_link *(*link)(PyObject *link);

	/*
	 * A new pylbpf.Object that owns `object` and closes it. `loaded` says whether
	 * bpf_object__load() was done. On failure the caller still owns it. Open and wrap it
	 * without giving up the GIL between; handlers of pylbpf are not called for it, and
	 * overrides cannot be added before it is closed. It cannot be reopened or loaded by
	 * several threads. ValueError for one that was wrapped before, or that object() has given.
	 */
	PyObject *(*wrap_object)(struct bpf_object *object, int loaded);

	/* A new Program or Map for one of the Object's own; it keeps the Object's bpf_object alive. */
	PyObject *(*wrap_program)(PyObject *object, struct bpf_program *program);
	PyObject *(*wrap_map)(PyObject *object, struct bpf_map *map);

	/*
	 * A new Link that owns `link` and destroys it. `program` is the Program or Map
	 * that it is of, or NULL or None; if given, the link goes when its Object is
	 * closed. It must be given for USDT, and for struct_ops maps without BPF_F_LINK. On
	 * failure the caller still owns it. ValueError for one that was wrapped before, or
	 * that link() has given.
	 */
	PyObject *(*wrap_link)(struct bpf_link *link, PyObject *program);

	/* As pylbpf.register(NativeHandler(...)): a new Registration. `handler` is not needed afterwards. */
	PyObject *(*register_handler)(const struct pylbpf_handler *handler);

	/* The libbpf that pylbpf uses, to be compared with one's own. */
	const char *(*libbpf_version_string)(void);
};

/* Whether the pylbpf that runs is new enough for a member that came after libbpf_version_string. */
#define PYLBPF_API_HAS(api, member) \
	((api)->size >= offsetof(struct pylbpf_api, member) + sizeof((api)->member))

/* The functions, or NULL and ImportError. The result is never freed. */
static inline const struct pylbpf_api *pylbpf_import(void)
{
	PyObject *room = PyImport_ImportModule("pylbpf.capi");
	const struct pylbpf_api *api;

	if (!room)
		return NULL;
	Py_DECREF(room);
	api = (const struct pylbpf_api *)PyCapsule_Import("pylbpf.capi._C_API", 0);
	if (!api)
		return NULL;
	if (!PYLBPF_API_HAS(api, libbpf_version_string)) {
		PyErr_SetString(PyExc_ImportError, "pylbpf is older than the header this module was compiled with");
		return NULL;
	}
	if (api->libbpf_version_string != libbpf_version_string) {
		PyErr_Format(PyExc_ImportError, "this module uses another libbpf (%s) than pylbpf (%s): compile and link it "
			     "with what pylbpf.get_include(), get_library_dirs() and get_libraries() say",
			     libbpf_version_string(), api->libbpf_version_string());
		return NULL;
	}
	return api;
}

#ifdef __cplusplus
}
#endif

#endif
