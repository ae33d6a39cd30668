// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Externs that libbpf fills in from the kernel's configuration. */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

extern int LINUX_KERNEL_VERSION __kconfig;
extern bool CONFIG_BPF_SYSCALL __kconfig __weak;
extern int CONFIG_PYLBPF_NOT_THERE __kconfig __weak;

__u32 kernel_version;
__u32 has_bpf, not_there;

SEC("raw_tp/task_rename")
int run(void *ctx)
{
	kernel_version = LINUX_KERNEL_VERSION;
	has_bpf = CONFIG_BPF_SYSCALL;
	not_there = CONFIG_PYLBPF_NOT_THERE;
	return 0;
}

char _license[] SEC("license") = "GPL";
