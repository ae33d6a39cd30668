/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/* Types that tests compare with what a C compiler makes of them. stdbool.h and linux/types.h come first. */

enum color { RED, GREEN = 5, BLUE };
enum big { SMALL, HUGE = 0x123456789abcdefULL };
enum negative { MINUS = -3, PLUS = 3 };
typedef int (*callback_t)(int, const char *);
typedef struct { __u16 major, minor; } version_t;
struct outside;

struct event {
	__u64 when;
	__u32 pid;
	__s16 delta;
	__u8 flags;
	bool ok;
	char comm[16];
	unsigned char raw[4];
	enum color color;
	version_t version;
	double ratio;
	float share;
	const volatile __s8 tiny;
	void *next;
};

struct bits {
	__u32 low : 3, : 2, mid : 11;
	__s32 negative : 5;
	__u8 after;
	__u64 wide : 40;
	__u64 rest : 24;
	bool yes : 1;
	enum color color : 4;
	__u16 last;
};

struct packed {
	__u8 a;
	__u32 b;
	__u16 c : 9;
	__u64 d : 33;
	__u8 e;
} __attribute__((packed));

union number {
	__u8 byte;
	__u32 word;
	__u64 longer;
	struct { __u16 lo, hi; } halves;
	struct { __u32 first, second; };
};

struct flexible {
	__u32 count;
	struct { __u16 key; char name[6]; } items[];
};

struct holder {
	union {
		__u32 x;
		struct { __u16 y, z; };
		struct { __u32 f : 7, g : 25; };
	};
	struct { int inner; } named;
	__u8 filler;
	union number numbers[2];
	__int128 huge;
} __attribute__((aligned(32)));

struct arrays {
	int grid[3][4];
	char names[5][8];
	char one[1];
	version_t versions[2][2];
	void *pointers[3];
	enum color colors[2];
	__u8 none[0];
	bool flags[3];
};

struct tree {
	struct tree *left, *right;
	__u32 depth;
	callback_t call;
	struct { struct tree *up; const struct event *event; } links;
};

struct empty {};
