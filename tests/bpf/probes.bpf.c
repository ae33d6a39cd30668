// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Probes of many functions at once, counted apart by their cookies. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline int count(void *ctx)
{
	__u32 slot = bpf_get_attach_cookie(ctx) & 15;
	__u64 *value = bpf_map_lookup_elem(&counts, &slot);

	if (value)
		__sync_fetch_and_add(value, 1);
	return 0;
}

/* Older libbpf does not know these sections: their types are set by the test. */
SEC("many/uprobes") int many_uprobes(void *ctx) { return count(ctx); }
SEC("many/kprobes") int many_kprobes(void *ctx) { return count(ctx); }
SEC("kprobe") int one_kprobe(void *ctx) { return count(ctx); }
SEC("ksyscall/nanosleep") int on_syscall(void *ctx) { return count(ctx); }

char _license[] SEC("license") = "GPL";
