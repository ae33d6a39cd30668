// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* The programs of `python -m pylbpf demo`. Compiled by: tools/bpfcc.py --ident src/pylbpf/demo/demo.bpf.c
 *
 * To libbpf the sections sample/, watch and call mean nothing, and raw_tp/sched_switch means something else: the
 * handlers in handlers.py say what becomes of them. They also put numbers in the place of the PATCH()es, right
 * before the kernel sees the code; so one object serves every architecture, and a program carries its settings as
 * constants, at no cost when it runs.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define PATCH(marker) ({ __u32 number_; asm volatile("%0 = " #marker : "=w"(number_)); number_; })
#define SLOT     PATCH(0x51070001) /* the program's place in `counts`, and its number in the records */
#define NOT_ME   PATCH(0x51070002) /* the process that shows the records: not to be shown itself */
#define SYSCALL  PATCH(0x51070003) /* the number of a system call on this machine */
#define ARGUMENT PATCH(0x51070004) /* where in struct pt_regs the argument of interest is */
#define LENGTH   PATCH(0x51070005) /* how much is read from there; 0: a string */
#define ONE_IN   PATCH(0x51070006) /* every which event becomes a record */

struct record {
	__u64 time; /* nanoseconds of CLOCK_MONOTONIC */
	__u32 slot;
	__u32 cpu;
	__u32 pid;
	__u32 uid;
	char comm[16];
	char data[80];
};

struct count {
	__u64 hits; /* runs */
	__u64 sent; /* records */
	__u64 lost; /* records that the ring had no room for */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, struct count);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

static __always_inline struct count *hit(void)
{
	__u32 slot = SLOT;
	struct count *count = bpf_map_lookup_elem(&counts, &slot);

	if (count)
		count->hits++;
	return count;
}

/* Not inlined: libbpf appends a copy to each program that calls it, and each copy gets its own numbers. */
static __noinline int send(struct count *count, const void *user, __u32 length)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct record *record;

	if (!count || !id || id >> 32 == NOT_ME)
		return 0;
	record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);
	if (!record) {
		count->lost++;
		return 0;
	}
	count->sent++;
	record->time = bpf_ktime_get_ns();
	record->slot = SLOT;
	record->cpu = bpf_get_smp_processor_id();
	record->pid = id >> 32;
	record->uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	record->data[0] = 0;
	if (user && length)
		bpf_probe_read_user(record->data, length < sizeof(record->data) ? length : sizeof(record->data), user);
	else if (user)
		bpf_probe_read_user_str(record->data, sizeof(record->data), user);
	bpf_ringbuf_submit(record, 0);
	return 0;
}

/* A perf event on every CPU, so many times a second: who is running? */
SEC("sample/99")
int on_cpu(void *ctx)
{
	return send(hit(), 0, 0);
}

/* A process is over. */
SEC("watch")
int on_exit(void *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();

	if ((__u32)id != id >> 32) /* only a thread of it */
		return 0;
	return send(hit(), 0, 0);
}

/* All system calls are counted... */
SEC("call")
int every_call(struct bpf_raw_tracepoint_args *ctx)
{
	hit();
	return 0;
}

/* ...and of these each use is shown, with what its caller says. */
static __always_inline int on_call(struct bpf_raw_tracepoint_args *ctx)
{
	const char *registers = (const char *)ctx->args[0];
	const void *argument = 0;

	if ((__u32)ctx->args[1] != SYSCALL)
		return 0;
	bpf_probe_read_kernel(&argument, sizeof(argument), registers + ARGUMENT);
	return send(hit(), argument, LENGTH);
}

SEC("call/execve")   int execve(struct bpf_raw_tracepoint_args *ctx)   { return on_call(ctx); }
SEC("call/openat")   int openat(struct bpf_raw_tracepoint_args *ctx)   { return on_call(ctx); }
SEC("call/unlinkat") int unlinkat(struct bpf_raw_tracepoint_args *ctx) { return on_call(ctx); }
SEC("call/connect")  int connect(struct bpf_raw_tracepoint_args *ctx)  { return on_call(ctx); }
SEC("?call/ptrace")  int ptrace(struct bpf_raw_tracepoint_args *ctx)   { return on_call(ctx); }

/* A CPU goes from one task to another; `current` is still the old one. */
SEC("raw_tp/sched_switch")
int on_switch(void *ctx)
{
	struct count *count = hit();

	if (!count || count->hits % ONE_IN)
		return 0;
	return send(count, 0, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
