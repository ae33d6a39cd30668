// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Types of all kinds, as values of variables. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "types.h"

struct event last;
struct bits bits;
struct packed packed;
union number number;
struct flexible flexible;
struct holder holder;
struct arrays arrays;
struct tree tree;
struct empty empty;
enum color color = GREEN;
enum big big = HUGE;
enum negative negative = MINUS;
callback_t callback;
struct outside *outside;

SEC("raw_tp/task_rename")
int touch(void *ctx)
{
	last.pid = bits.low + packed.b + number.word + flexible.count + holder.x + arrays.grid[1][2] + tree.depth;
	return color + big + negative + (callback != 0) + (outside != 0) + sizeof(empty);
}

char _license[] SEC("license") = "GPL";
