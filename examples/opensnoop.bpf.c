// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Each file that is opened, or could not be: openat(2) and openat2(2). */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* The records of the tracepoints, as their files "format" say. */
struct enter {
	__u64 common;
	__u64 number;
	__u64 args[6];
};

struct leave {
	__u64 common;
	__u64 number;
	long result;
};

struct started {
	const char *path;
	__u64 flags;
};

struct event {
	__u32 pid, uid;
	int result;
	__u32 flags;
	char comm[16];
	char path[256];
};

const struct event *unused;	/* puts the type into BTF */

struct settings {
	__u32 pid;
	__u32 failed;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u64);
	__type(value, struct started);
} opening SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

static __always_inline int begin(__u64 path, __u64 flags)
{
	struct started started = { (const char *)path, flags };
	__u64 thread = bpf_get_current_pid_tgid();
	__u32 zero = 0;
	struct settings *wanted = bpf_map_lookup_elem(&settings, &zero);

	if (wanted && (!wanted->pid || wanted->pid == thread >> 32))
		bpf_map_update_elem(&opening, &thread, &started, 0);
	return 0;
}

static __always_inline int end(long result)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct started *started = bpf_map_lookup_elem(&opening, &thread);
	__u32 zero = 0;
	struct settings *wanted = bpf_map_lookup_elem(&settings, &zero);
	struct event *event;

	if (!started)
		return 0;
	if (wanted && (!wanted->failed || result < 0) && (event = bpf_ringbuf_reserve(&events, sizeof(*event), 0))) {
		event->pid = thread >> 32;
		event->uid = bpf_get_current_uid_gid();
		event->result = result;
		event->flags = started->flags;
		bpf_get_current_comm(event->comm, sizeof(event->comm));
		__builtin_memset(event->path, 0, sizeof(event->path));
		bpf_probe_read_user_str(event->path, sizeof(event->path), started->path);
		bpf_ringbuf_submit(event, 0);
	}
	bpf_map_delete_elem(&opening, &thread);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_openat")
int enter_openat(struct enter *ctx)
{
	return begin(ctx->args[1], ctx->args[2]);
}

SEC("tracepoint/syscalls/sys_enter_openat2")
int enter_openat2(struct enter *ctx)
{
	__u64 flags = 0;	/* the first member of struct open_how */

	bpf_probe_read_user(&flags, sizeof(flags), (void *)ctx->args[2]);
	return begin(ctx->args[1], flags);
}

SEC("tracepoint/syscalls/sys_exit_openat")
int exit_openat(struct leave *ctx)
{
	return end(ctx->result);
}

SEC("tracepoint/syscalls/sys_exit_openat2")
int exit_openat2(struct leave *ctx)
{
	return end(ctx->result);
}

char _license[] SEC("license") = "GPL";
