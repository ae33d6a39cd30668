/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/*
 * Callbacks of a native handler.
 *
 * pylbpf.NativeHandler(section, setup=..., prepare_load=..., attach=...) takes
 * functions of these types, as PyCapsule, ctypes or cffi function pointer, numba
 * cfunc or address. They are libbpf's own callback types (struct
 * libbpf_prog_handler_opts), so a function written for
 * libbpf_register_prog_handler() works unchanged.
 *
 * All of them
 * - run without the GIL, on whatever thread opens, loads or attaches, possibly
 *   on several at once: touch no Python object without PyGILState_Ensure();
 * - must not open, load, attach or close the object they are called for; the
 *   setters and attach functions of `prog` are what they are there for;
 * - return 0, or a negative errno (-1 ... -4095), which fails the call that
 *   they were called from and becomes a pylbpf.BpfError;
 * - get the `cookie` given to NativeHandler.
 */
#ifndef PYLBPF_HANDLER_H
#define PYLBPF_HANDLER_H

#ifdef __cplusplus
extern "C" {
#endif

struct bpf_program;
struct bpf_prog_load_opts;      /* <bpf/bpf.h> has its fields */
struct bpf_link;

/*
 * During open, once for each program of a matching section, also for those that
 * are not loaded automatically. The type, attach type and flags declared by the
 * handler are set. A positive result is success.
 */
typedef int (*pylbpf_setup_fn)(struct bpf_program *prog, long cookie);

/*
 * Right before the program is loaded; its instructions are final. `opts` holds
 * what BPF_PROG_LOAD will be given and may be changed, but for the log fields;
 * it is as long as opts->sz says. What it is made to point to must live until
 * the load is over. A positive result is success.
 */
typedef int (*pylbpf_prepare_load_fn)(struct bpf_program *prog,
				      struct bpf_prog_load_opts *opts, long cookie);

/*
 * When the program is attached. Store a new link in *link, which pylbpf then
 * owns, or leave it NULL: the program has no automatic attach. Any result but 0
 * is an error, and a link stored all the same is destroyed.
 */
typedef int (*pylbpf_attach_fn)(const struct bpf_program *prog, long cookie,
				struct bpf_link **link);

#ifdef __cplusplus
}
#endif

#endif
