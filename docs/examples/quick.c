/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/* A native handler of "on/<tracepoint>": the cookie is the length of "on/". */
#include <errno.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <pylbpf/handler.h>

int quick_prepare_load(struct bpf_program *prog, struct bpf_prog_load_opts *opts, long cookie)
{
	opts->prog_flags |= BPF_F_TEST_RND_HI32;
	return 0;
}

int quick_attach(const struct bpf_program *prog, long cookie, struct bpf_link **link)
{
	*link = bpf_program__attach_raw_tracepoint(prog, bpf_program__section_name(prog) + cookie);
	return *link ? 0 : -errno;
}

/* The compiler now checks that the functions are what pylbpf expects. */
static const pylbpf_prepare_load_fn prepare_load __attribute__((unused)) = quick_prepare_load;
static const pylbpf_attach_fn attach __attribute__((unused)) = quick_attach;
