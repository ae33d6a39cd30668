// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Which functions of libbpf are called, but not by itself: for calls.py. Each probe's cookie is the number of its function. */
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define FUNCTIONS 1024

const volatile __u64 code_begin, code_size;	/* of libbpf, in the process that is watched */
__u8 called[FUNCTIONS];

SEC("uprobe")
int call(struct pt_regs *ctx)
{
	__u64 number = bpf_get_attach_cookie(ctx);
	__u64 caller = 0;

	/* At a function's first instruction this is where the return address is: x86 keeps it on the stack. */
	bpf_probe_read_user(&caller, sizeof(caller), (void *)PT_REGS_RET(ctx));
	if (number < FUNCTIONS && caller - code_begin >= code_size)
		called[number] = 1;
	return 0;
}

char _license[] SEC("license") = "GPL";
