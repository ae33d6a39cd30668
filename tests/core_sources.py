"""Objects with CO-RE relocations of every kind, and the types of a kernel that has a shape for each of them."""
from __future__ import annotations

# Types that stand in for a kernel's. A global of each makes the compiler write it down.
KERNEL = r"""
#define KEEP(type, name) type name##_kept = {0}
#define __type_tag(name) __attribute__((btf_type_tag(name)))

struct hidden;
enum small { SMALL_A = 1, SMALL_B = 5, SMALL_FLAVOR___x = 9 };
struct leaf { short x; signed char y; };
struct plain {
	long before;
	int number;
	unsigned int count;
	char name[16];
	struct leaf leaf;
	struct leaf *pointer;
	void (*call)(struct leaf *);
	double real;
};
struct bits { unsigned char low : 3, high : 5; int sign : 7; unsigned long long wide : 40; _Bool flag : 1; };
struct deep {
	int head;
	struct {
		int one;
		union {
			long two;
			struct { short three; struct { int four; }; };
		};
	};
	union { struct leaf first; int second; } named;
};
struct lists { struct leaf leaves[5]; int grid[3][4]; struct plain *pointers[2]; char tail[]; };
struct twice { int same; int other; };
struct twice___else { int same; long pad; int other; };
struct thrice { long size; };
struct thrice___b { long size; };
struct thrice___c { int size; };
struct odd___name____x { int a; };
union mixed { int whole; struct { short low, high; } parts; };
struct tagged { int __type_tag("user") *there; int *const volatile here; };
struct chained { struct chained *next, **prev; };
struct holder { const struct leaf constant; volatile int changing; };
typedef struct { int counter; } count_t;
typedef count_t counts_t;
typedef const volatile counts_t vcounts_t;
typedef struct hidden hidden_t;
typedef struct leaf leaf_t;
typedef leaf_t leaves_t[3];
typedef leaf_t *leaf_pointer_t;
typedef int number_t;
typedef number_t *const *numbers_t;
typedef int (*callback_t)(struct plain *, enum small *, void (*)(long, union mixed *));
typedef int proto_t(int, leaf_t *);
typedef void (*nothing_t)(void);
typedef struct hidden *(*maker_t)(struct hidden *, ...);
enum negative { NEGATIVE = -3, POSITIVE = 3 };
enum large { LARGE = 0x123456789abcULL, LITTLE = 2 };
enum { NAMELESS = 77 };
typedef enum { IN_TYPEDEF = 11, ALSO = 12 } enum_t;
struct with_enums { enum small small; enum large large; enum_t nameless; enum negative negative; };

KEEP(struct plain, plain);
KEEP(struct bits, bits);
KEEP(struct deep, deep);
KEEP(struct lists, lists);
KEEP(struct twice, twice);
KEEP(struct twice___else, twice_else);
KEEP(struct thrice, thrice);
KEEP(struct thrice___b, thrice_b);
KEEP(struct thrice___c, thrice_c);
KEEP(struct odd___name____x, odd);
KEEP(union mixed, mixed);
KEEP(struct tagged, tagged);
KEEP(struct chained, chained);
KEEP(struct holder, holder);
KEEP(count_t, count);
KEEP(counts_t, counts);
vcounts_t vcounts_kept;
KEEP(hidden_t *, hidden);
KEEP(leaf_t, leaf);
leaves_t leaves_kept;
KEEP(leaf_pointer_t, leaf_pointer);
KEEP(number_t, number);
KEEP(numbers_t, numbers);
KEEP(callback_t, callback);
KEEP(proto_t *, proto);
KEEP(nothing_t, nothing);
KEEP(maker_t, maker);
KEEP(enum small, small);
KEEP(enum negative, negative);
KEEP(enum large, large);
KEEP(enum_t, enum_t);
KEEP(struct with_enums, with_enums);
"""

HEAD = r"""
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#define CORE __attribute__((preserve_access_index))
#define ADD(what) do { __u64 value_ = (what); asm volatile("" : "+r"(value_)); sum += value_; } while (0)
#define OFFSET(type, field) __builtin_preserve_field_info(((type *)0)->field, BPF_FIELD_BYTE_OFFSET)
#define SIZE(type, field) __builtin_preserve_field_info(((type *)0)->field, BPF_FIELD_BYTE_SIZE)
#define EXISTS(type, field) __builtin_preserve_field_info(((type *)0)->field, BPF_FIELD_EXISTS)
#define SIGNED(type, field) __builtin_preserve_field_info(((type *)0)->field, BPF_FIELD_SIGNED)
#define LSHIFT(type, field) __builtin_preserve_field_info(((type *)0)->field, BPF_FIELD_LSHIFT_U64)
#define RSHIFT(type, field) __builtin_preserve_field_info(((type *)0)->field, BPF_FIELD_RSHIFT_U64)
#define ALL(type, field) do { \
	ADD(OFFSET(type, field)); ADD(SIZE(type, field)); ADD(EXISTS(type, field)); ADD(SIGNED(type, field)); \
	ADD(LSHIFT(type, field)); ADD(RSHIFT(type, field)); } while (0)
char _license[] SEC("license") = "GPL";
"""


def program(types: str, statements: str) -> str:
    """An object of these types, with one program; `sum` takes what it finds."""
    return f"""{HEAD}
{types}
SEC("raw_tp/task_rename") int entry(__u64 *ctx)
{{
	__u64 sum = 0;
{statements}
	return sum & 1;
}}
"""


# What libbpf relocates against the types above, or says why it does not.
AGAINST_KERNEL = {
    "fields": program(
        "struct leaf { int x; } CORE;"
        "struct plain { int number, count; char name[8]; struct leaf leaf; struct leaf *pointer; void (*call)(void);"
        " } CORE;",
        "ALL(struct plain, number); ALL(struct plain, count); ADD(OFFSET(struct plain, name)); ADD(SIZE(struct plain,"
        " name)); ADD(EXISTS(struct plain, pointer)); ADD(OFFSET(struct plain, pointer)); ADD(OFFSET(struct plain, call));"
        " ADD(OFFSET(struct plain, leaf.x)); ADD(SIZE(struct plain, leaf)); ADD(OFFSET(struct plain, name[3]));",
    ),
    "loads": program(
        "struct plain { unsigned int count; unsigned long number; struct plain *pointer; } CORE;",
        "struct plain *p = (void *)ctx[0]; if (EXISTS(struct plain, count)) { ADD(BPF_CORE_READ(p, count));"
        " ADD((long)BPF_CORE_READ(p, pointer, pointer)); }",
    ),
    "real": program("struct plain { double real; } CORE;", "ADD(OFFSET(struct plain, real)); ADD(SIZE(struct plain, real));"),
    "bits": program(
        "struct bits { unsigned char low : 2; int sign : 5; unsigned char high : 1; _Bool flag : 1;"
        " unsigned long long wide : 33; } CORE;",
        "ALL(struct bits, low); ALL(struct bits, high); ALL(struct bits, sign); ALL(struct bits, flag);"
        " ALL(struct bits, wide);"
        "struct bits *p = (void *)ctx[0]; ADD(BPF_CORE_READ_BITFIELD_PROBED(p, low));",
    ),
    "bits that are none": program("struct plain { int number : 4; } CORE;", "ALL(struct plain, number);"),
    "no bits that are": program("struct bits { int low; } CORE;", "ALL(struct bits, low);"),
    "deep": program(
        "struct deep { int two; int four; short three; int one; union { struct { short x; } first; int second; } named; }"
        " CORE;",
        "ALL(struct deep, one); ALL(struct deep, two); ALL(struct deep, three); ALL(struct deep, four);"
        " ADD(OFFSET(struct deep, named.first.x)); ADD(OFFSET(struct deep, named.second));",
    ),
    "deep in ours": program(
        "struct deep { struct { union { int four; struct { int one; }; }; }; } CORE;",
        "ALL(struct deep, one); ALL(struct deep, four);",
    ),
    "flavors": program(
        "struct plain___old { int number; } CORE; struct plain___new { int count; } CORE;"
        "struct plain___none { int gone; } CORE; struct twice___mine { int same; } CORE;",
        "ALL(struct plain___old, number); ALL(struct plain___new, count); ADD(EXISTS(struct plain___none, gone));"
        "if (EXISTS(struct plain___none, gone)) ADD(OFFSET(struct plain___none, gone));"
        "ALL(struct twice___mine, same);",
    ),
    "odd name": program(
        "struct odd___name____x { int a; } CORE; struct odd___here { int a; } CORE; struct odd___name____x___y { int a; }"
        " CORE; struct ___plain { int a; } CORE; struct plain___ { int number; } CORE; struct plain____x { int number; }"
        " CORE;",
        "ADD(EXISTS(struct odd___name____x, a)); ADD(EXISTS(struct odd___here, a));"
        " ADD(EXISTS(struct odd___name____x___y, a)); ADD(EXISTS(struct ___plain, a));"
        " ADD(EXISTS(struct plain___, number)); ADD(EXISTS(struct plain____x, number));",
    ),
    "lists": program(
        "struct leaf { signed char y; } CORE;"
        "struct lists { struct leaf leaves[9]; int grid[3][9]; void *pointers[2]; char tail[]; } CORE;",
        "ADD(OFFSET(struct lists, leaves[4].y)); ADD(SIZE(struct lists, leaves)); ADD(OFFSET(struct lists, grid[2][3]));"
        "ADD(OFFSET(struct lists, grid[1])); ADD(SIZE(struct lists, grid)); ADD(OFFSET(struct lists, pointers[1]));"
        "ADD(OFFSET(struct lists, tail[100])); ADD(SIZE(struct lists, grid[1]));",
    ),
    "behind the end": program(
        "struct leaf { signed char y; } CORE; struct lists { struct leaf leaves[9]; } CORE;",
        "ADD(EXISTS(struct lists, leaves[4].y)); ADD(EXISTS(struct lists, leaves[5].y));"
        "if (EXISTS(struct lists, leaves[5].y)) ADD(OFFSET(struct lists, leaves[5].y));",
    ),
    "elements of roots": program(
        "struct leaf { short x; } CORE; typedef struct leaf leaf_t;",
        "ADD(__builtin_preserve_field_info(((struct leaf *)0)[2].x, BPF_FIELD_BYTE_OFFSET));"
        "ADD(__builtin_preserve_field_info(((leaf_t *)0)[3].x, BPF_FIELD_BYTE_OFFSET));",
    ),
    "ambiguous field": program("struct twice { int other; } CORE;", "ADD(OFFSET(struct twice, other));"),
    "ambiguous size": program("struct thrice { long size; } CORE;", "ADD(SIZE(struct thrice, size));"),
    "ambiguous type": program("struct thrice { long size; };", "ADD(bpf_core_type_size(struct thrice));"),
    "ambiguous and refined": program(
        "struct thrice { long size; } CORE; struct twice { int same, other; } CORE;",
        "ADD(OFFSET(struct thrice, size)); ADD(OFFSET(struct twice, same)); ADD(EXISTS(struct twice, other));",
    ),
    "missing field": program("struct plain { int gone; } CORE;", "ADD(OFFSET(struct plain, gone));"),
    "missing type": program("struct gone { int field; } CORE;", "ADD(OFFSET(struct gone, field));"),
    "missing and guarded": program(
        "struct gone { int field; } CORE; struct plain { int gone; } CORE; enum gone_e { GONE = 1 };"
        "enum small { SMALL_A, SMALL_GONE }; typedef int gone_t;",
        "ADD(EXISTS(struct gone, field)); if (EXISTS(struct gone, field)) ADD(OFFSET(struct gone, field));"
        "ADD(EXISTS(struct plain, gone)); ADD(bpf_core_type_exists(struct gone)); ADD(bpf_core_type_size(struct gone));"
        "ADD(bpf_core_enum_value_exists(enum gone_e, GONE)); ADD(bpf_core_type_exists(gone_t));"
        "ADD(bpf_core_enum_value_exists(enum small, SMALL_GONE)); ADD(bpf_core_enum_value_exists(enum small, SMALL_A));",
    ),
    "other kinds": program(
        "union plain { int number; } CORE; struct mixed { int whole; } CORE; struct small { int a; } CORE;"
        "enum plain_e { X }; typedef int plain_t; struct bits { void *sign; } CORE;",
        "ADD(EXISTS(union plain, number)); ADD(EXISTS(struct mixed, whole)); ADD(bpf_core_type_exists(struct small));"
        "ADD(bpf_core_type_exists(struct plain_t)); ADD(EXISTS(struct bits, sign));",
    ),
    "incompatible fields": program(
        "struct plain { int name; int number[4]; struct { int x; } *before; int leaf; void *count; float real; } CORE;"
        "struct with_enums { int small; enum other { O } large; enum { P } negative; } CORE;",
        "ADD(EXISTS(struct plain, name)); ADD(EXISTS(struct plain, number)); ADD(EXISTS(struct plain, before));"
        "ADD(EXISTS(struct plain, leaf)); ADD(EXISTS(struct plain, count)); ADD(EXISTS(struct plain, real));"
        "ADD(EXISTS(struct with_enums, small)); ADD(EXISTS(struct with_enums, large));"
        "ADD(EXISTS(struct with_enums, negative));",
    ),
    "unions": program(
        "union mixed { struct { short high; } parts; int whole; } CORE;",
        "ALL(union mixed, parts.high); ALL(union mixed, whole); ADD(bpf_core_type_size(union mixed));",
    ),
    "qualified": program(
        "struct leaf { short x; } CORE; struct tagged { int *there; int *here; } CORE;"
        "struct holder { struct leaf constant; int changing; } CORE; struct chained { void *prev; int *next; } CORE;",
        "ADD(OFFSET(struct tagged, there)); ADD(SIZE(struct tagged, here)); ADD(OFFSET(struct holder, constant.x));"
        "ALL(struct holder, changing); ADD(OFFSET(struct chained, prev)); ADD(OFFSET(struct chained, next));",
    ),
    "typedef roots": program(
        "typedef struct { long counter; } CORE count_t; typedef struct { int counter; } CORE counts_t;"
        "typedef struct { int counter; } CORE vcounts_t; typedef struct { short x; } CORE leaf_t;",
        "ALL(count_t, counter); ALL(counts_t, counter); ALL(vcounts_t, counter); ALL(leaf_t, x);",
    ),
    "typedef of what is hidden": program("typedef struct { int field; } CORE hidden_t;", "ADD(EXISTS(hidden_t, field));"),
    "types": program(
        "struct plain { int a; }; typedef struct plain leaf_t; typedef struct { int a; } count_t; union mixed { int a; };"
        "typedef int number_t; struct hidden; typedef struct hidden hidden_t; enum small { SMALL_A };"
        "typedef struct plain leaves_t[7]; typedef unsigned long *numbers_t; struct leaf; typedef struct leaf *leaf_pointer_t;",
        "ADD(bpf_core_type_exists(struct plain)); ADD(bpf_core_type_size(struct plain)); ADD(bpf_core_type_exists(leaf_t));"
        "ADD(bpf_core_type_size(leaf_t)); ADD(bpf_core_type_exists(count_t)); ADD(bpf_core_type_size(count_t));"
        "ADD(bpf_core_type_size(union mixed)); ADD(bpf_core_type_exists(number_t)); ADD(bpf_core_type_size(number_t));"
        "ADD(bpf_core_type_size(enum small)); ADD(bpf_core_type_exists(enum small)); ADD(bpf_core_type_exists(leaves_t));"
        "ADD(bpf_core_type_size(leaves_t)); ADD(bpf_core_type_exists(numbers_t)); ADD(bpf_core_type_exists(leaf_pointer_t));"
    ),
    "types behind pointers": program(
        "typedef int ****numbers_t; typedef int *number_t; union leaf { int a; }; typedef union leaf *leaf_pointer_t;"
        "typedef int *count_t;",
        "ADD(bpf_core_type_exists(numbers_t)); ADD(bpf_core_type_exists(number_t));"
        "ADD(bpf_core_type_exists(leaf_pointer_t)); ADD(bpf_core_type_exists(count_t));",
    ),
    "prototypes": program(
        "struct x { int a; }; union y { int a; }; enum z { Z }; typedef struct x x_t;"
        "typedef int (*callback_t)(struct x *, enum z *, void (*)(long, union y *)); typedef void (*nothing_t)(void);"
        "typedef int proto_t(int, x_t *);",
        "ADD(bpf_core_type_exists(callback_t)); ADD(bpf_core_type_size(callback_t)); ADD(bpf_core_type_exists(nothing_t));"
        "ADD(bpf_core_type_exists(proto_t));",
    ),
    "other prototypes": program(
        "struct x { int a; }; enum z { Z }; typedef int (*callback_t)(struct x *, enum z *, void (*)(long, struct x *));"
        "typedef void (*nothing_t)(int); typedef struct x *(*maker_t)(struct x *, int);",
        "ADD(bpf_core_type_exists(callback_t)); ADD(bpf_core_type_exists(nothing_t)); ADD(bpf_core_type_exists(maker_t));",
    ),
    "size of a prototype": program("typedef int proto_t(int, void *);", "ADD(bpf_core_type_exists(proto_t));"),
    "enum values": program(
        "enum small { SMALL_B = 1, SMALL_A = 2, SMALL_FLAVOR___y = 3 }; enum negative { NEGATIVE, POSITIVE };"
        "enum large { LITTLE, LARGE = 1ULL << 40 }; typedef enum { ALSO } enum_t;",
        "ADD(bpf_core_enum_value(enum small, SMALL_A)); ADD(bpf_core_enum_value(enum small, SMALL_B));"
        "ADD(bpf_core_enum_value(enum small, SMALL_FLAVOR___y)); ADD(bpf_core_enum_value(enum negative, NEGATIVE));"
        "ADD(bpf_core_enum_value(enum large, LARGE)); ADD(bpf_core_enum_value(enum large, LITTLE));"
        "ADD(bpf_core_enum_value(enum_t, ALSO)); ADD(bpf_core_enum_value_exists(enum_t, ALSO));",
    ),
    "enum of another width": program(
        "enum large { LITTLE }; enum small { SMALL_A = 1ULL << 40 };",
        "ADD(bpf_core_enum_value(enum large, LITTLE)); ADD(bpf_core_enum_value(enum small, SMALL_A));"
        "ADD(bpf_core_type_size(enum small));",
    ),
    "missing enum value": program("enum small { SMALL_GONE };", "ADD(bpf_core_enum_value(enum small, SMALL_GONE));"),
    "enum fields": program(
        "enum small { S }; enum large { L }; enum negative { N };"
        "struct with_enums { enum small small; enum large large; enum { Q } nameless; enum negative negative; } CORE;",
        "ALL(struct with_enums, small); ALL(struct with_enums, large); ALL(struct with_enums, nameless);"
        "ALL(struct with_enums, negative);",
    ),
    "own numbers": program("struct nowhere { int a; };", "ADD(bpf_core_type_id_local(struct nowhere));"),
}

# What needs the kernel's whole BTF, and the words that say so.
PLAIN = {
    "number of a type": (
        program("struct plain { int number; };", "ADD(bpf_core_type_id_kernel(struct plain));"),
        "asks for the number of a kernel type",
    ),
    "matching type": (
        program("struct plain { int number; };", "ADD(bpf_core_type_matches(struct plain));"),
        "matches in all its parts",
    ),
    "type without a name": (
        program("struct plain { int number; };", "ADD(__builtin_preserve_field_info(((struct { int a; } CORE *)0)->a, BPF_FIELD_EXISTS));"),
        "a type without a name",
    ),
    "float": (program("typedef float number_t;", "ADD(bpf_core_type_exists(number_t));"), "a type of an unusual kind"),
    "float behind a pointer": (
        program("typedef float *numbers_t;", "ADD(bpf_core_type_exists(numbers_t));"), "a type of an unusual kind",
    ),
    "pointers without end": (
        program("typedef int " + "*" * 20 + "numbers_t;", "ADD(bpf_core_type_exists(numbers_t));"),
        "a type of an unusual kind",
    ),
    "steps without end": (
        program("struct plain {" + " struct {" * 20 + " int number;" + " } s;" * 20 + " } CORE;",
                f"ADD(EXISTS(struct plain, {'s.' * 20}number));"),
        "an access of too many steps",
    ),
    "name without end": (
        program(f"struct {'long' * 150} {{ int a; }} CORE;", f"ADD(EXISTS(struct {'long' * 150}, a));"),
        "a type whose name is too long",
    ),
}

# What libbpf finds in the types of a kernel that runs.
AGAINST_RUNNING = {
    "task": program(
        "struct list_head { void *next; } CORE; struct mm_struct { unsigned long start_code; } CORE;"
        "struct task_struct { int pid, tgid; char comm[16]; struct mm_struct *mm; struct list_head tasks; } CORE;"
        "struct task_struct___old { long state; } CORE; struct task_struct___new { unsigned int __state; } CORE;",
        "struct task_struct *t = (void *)ctx[0]; ADD(BPF_CORE_READ(t, pid)); ADD(BPF_CORE_READ(t, mm, start_code));"
        "if (bpf_core_field_exists(struct task_struct___old, state)) ADD(OFFSET(struct task_struct___old, state));"
        "else ADD(OFFSET(struct task_struct___new, __state)); ADD(OFFSET(struct task_struct, comm[3]));"
        "ALL(struct task_struct, tgid); ADD(OFFSET(struct task_struct, tasks.next)); ADD(SIZE(struct task_struct, comm));",
    ),
    "network": program(
        "struct net { int inum; } CORE; typedef struct { struct net *net; } CORE possible_net_t;"
        "struct sock_common { unsigned short skc_num, skc_family; possible_net_t skc_net; __u32 skc_daddr; } CORE;"
        "struct sock { struct sock_common __sk_common; unsigned char sk_protocol; } CORE;"
        "struct sk_buff { unsigned int len; unsigned char pkt_type : 3; unsigned char cloned : 1; } CORE;",
        "ADD(OFFSET(struct sock, __sk_common.skc_num)); ADD(OFFSET(struct sock, __sk_common.skc_net.net));"
        "ADD(OFFSET(struct sock, __sk_common.skc_daddr)); ADD(EXISTS(struct sock, sk_protocol));"
        "ALL(struct sk_buff, len); ALL(struct sk_buff, pkt_type); ALL(struct sk_buff, cloned);",
    ),
    "traces": program(
        "typedef void (*btf_trace_sched_switch)(void *, _Bool, void *, void *); typedef int (*initcall_t)(void);"
        "typedef void (*btf_trace_none)(void *); struct trace_event_raw_sched_switch { int prev_pid; } CORE;",
        "ADD(bpf_core_type_exists(btf_trace_sched_switch)); ADD(bpf_core_type_exists(btf_trace_none));"
        "ADD(bpf_core_type_exists(initcall_t)); ADD(EXISTS(struct trace_event_raw_sched_switch, prev_pid));",
    ),
    "enums": program(
        "enum bpf_func_id___x { BPF_FUNC_map_lookup_elem___x, BPF_FUNC_ringbuf_output___x }; enum pid_type { PIDTYPE_TGID, X };"
        "enum zone_type { ZONE_NORMAL };",
        "ADD(bpf_core_enum_value(enum bpf_func_id___x, BPF_FUNC_ringbuf_output___x));"
        "ADD(bpf_core_enum_value_exists(enum pid_type, X)); ADD(bpf_core_enum_value(enum pid_type, PIDTYPE_TGID));"
        "ADD(bpf_core_enum_value(enum zone_type, ZONE_NORMAL));",
    ),
    "many of one name": program(
        "struct workspace { int level; } CORE; struct console { int flags; } CORE; typedef unsigned char u8;"
        "struct elf_note_info { int size; } CORE;",
        "ADD(EXISTS(struct workspace, level)); ADD(EXISTS(struct console, flags)); ADD(bpf_core_type_size(u8));"
        "ADD(EXISTS(struct elf_note_info, size)); ADD(bpf_core_type_exists(struct workspace));",
    ),
    "ambiguous here": program("struct workspace { int level; } CORE;", "ADD(bpf_core_type_size(struct workspace));"),
    "typedefs": program(
        "typedef struct { int counter; } CORE atomic_t; typedef struct { unsigned val; } CORE kuid_t;"
        "struct cred { kuid_t uid; } CORE; typedef struct { long seq; } CORE seqcount_t;",
        "ADD(OFFSET(atomic_t, counter)); ADD(OFFSET(kuid_t, val)); ADD(OFFSET(struct cred, uid.val));"
        "ADD(bpf_core_type_size(kuid_t)); ADD(EXISTS(seqcount_t, seq));",
    ),
    "missing here": program("struct task_struct { int gone; } CORE;", "ADD(OFFSET(struct task_struct, gone));"),
    "missing here and guarded": program(
        "struct gone { int field; } CORE; struct task_struct { int gone; } CORE;",
        "if (EXISTS(struct gone, field)) ADD(OFFSET(struct gone, field)); ADD(EXISTS(struct task_struct, gone));"
        "ADD(bpf_core_type_exists(struct gone));",
    ),
}
