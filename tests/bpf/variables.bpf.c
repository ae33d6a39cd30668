// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Global variables of all types, in all sections, and externs. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "types.h"

__u8 u8 = 1;
__u16 u16 = 2;
__u32 u32 = 3;
__u64 u64 = 4;
__s8 s8 = -1;
__s16 s16 = -2;
__s32 s32 = -3;
__s64 s64 = -4;
bool on = true;
float single = 0.5;
double ratio = 2.25;
enum color color = GREEN;
enum negative negative = MINUS;
__int128 wide = -5;
void *pointer = (void *)0x1234;
char text[16] = "hello";
char texts[2][8] = { "one", "two" };
__u32 numbers[8] = { 1, 2, 3 };
int grid[2][3];
struct event event = { .when = 7, .version = { 1, 2 } };
struct event events[2];
struct bits bits = { .low = 5, .negative = -3 };
union number number = { .word = 0x01020304 };

const volatile __u32 limit = 10;
const volatile char title[8] = "const";
const volatile struct { __u32 a, b; } fixed = { 1, 2 };
__s64 tuned SEC(".data.tuned") = -5;
__u64 zeroed SEC(".bss.extra");
__u64 long_one SEC(".bss.long_name_of_one"); /* of which libbpf cuts the names */
__u64 long_two SEC(".bss.long_name_of_two");
const volatile __u64 table[2] SEC(".rodata.table") = { 1, 2 };
static volatile __u32 hidden SEC(".data.hidden") = 77;
static volatile __u32 hidden_array[2] SEC(".data.hidden") = { 1, 2 };
__u32 sums[4] SEC(".data.sums");

extern int LINUX_KERNEL_VERSION __kconfig;
extern bool CONFIG_BPF_SYSCALL __kconfig __weak;
extern const void bpf_prog_put __ksym __weak;

SEC("raw_tp/task_rename")
int run(void *ctx)
{
	static __u32 calls;
	static volatile __u32 twice SEC(".data.tuned") = 1;

	calls++;
	u8 += limit;
	u64 += u32 + tuned + table[1] + fixed.b + hidden + hidden_array[1] + twice + zeroed;
	s64--;
	numbers[7] = calls;
	event.pid = LINUX_KERNEL_VERSION;
	grid[1][2] = CONFIG_BPF_SYSCALL + (&bpf_prog_put != 0);
	event.comm[0] = title[0];
	events[1].when = s8 + s16 + s32 + u16 + on + color + negative + bits.low + number.word + text[0] + texts[1][0];
	sums[3] = pointer && wide;
	return 0;
}

static __u32 twins SEC(".data.tuned") = 1;

SEC("raw_tp/task_rename")
int again(void *ctx)
{
	static volatile __u32 twins SEC(".data.hidden") = 2;

	return twins;
}

char _license[] SEC("license") = "GPL";
