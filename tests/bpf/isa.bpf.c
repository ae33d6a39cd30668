// Instructions of every form, for the disassembler's tests. The programs compile and open; they are not meant to load.
// cpu: v4, so clang 18 or newer; what an older clang lacks is left out by its own feature macros.

#define SEC(name) __attribute__((section(name), used))
#define NOINLINE __attribute__((noinline))

typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long long s64;
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

struct packet {
	u32 len;
	u32 mark;
};

char _license[] SEC("license") = "GPL";

struct {
	int (*type)[2]; // an array
	int (*max_entries)[4];
	u32 *key;
	u64 *value;
} table SEC(".maps");

static void *(*const lookup)(void *map, const void *key) = (void *)1;
static u64 (*const ktime_ns)(void) = (void *)5;
static u32 (*const random_u32)(void) = (void *)7;

u64 wide[8];
u32 words[8];
u16 halves[8];
u8 bytes[8];
volatile s32 sink;
u64 (*volatile indirect)(u64);

SEC("socket")
int arithmetic64(struct packet *ctx)
{
	u64 a = ktime_ns(), b = random_u32();

	wide[0] = a + b;
	wide[1] = a - b * 3;
	wide[2] = a / (b | 1);
	wide[3] = a % (b | 1);
	wide[4] = (a & b) | (a ^ 0x1234567);
	wide[5] = a << (b & 63);
	wide[6] = a >> (b & 63);
	wide[7] = (u64)((s64)a >> (b & 63));
	wide[0] += -wide[1];
	wide[1] = a / 7 + a % 9;
	wide[2] = 0x123456789abcdef0ULL ^ a;
	wide[3] = a == ~0ULL ? 0xffffffff80000000ULL : 0x80000000ULL;
	return 0;
}

SEC("socket")
int arithmetic32(struct packet *ctx)
{
	u32 a = random_u32(), b = ctx->len;

	words[0] = a + b;
	words[1] = a - b * 5;
	words[2] = a / (b | 1);
	words[3] = a % (b | 1);
	words[4] = (a & b) | (a ^ 0x7654321);
	words[5] = a << (b & 31);
	words[6] = a >> (b & 31);
	words[7] = (u32)((s32)a >> (b & 31));
	words[0] += -words[1];
	words[1] = a / 7 + a % 9;
	return 0;
}

SEC("socket")
int all_arithmetic(struct packet *ctx)
{
	asm volatile("r1 = 1; r2 = r1; r1 = -r1;"
		     "r1 += r2; r1 -= r2; r1 *= r2; r1 /= r2; r1 %%= r2; r1 s/= r2; r1 s%%= r2;"
		     "r1 |= r2; r1 &= r2; r1 ^= r2; r1 <<= r2; r1 >>= r2; r1 s>>= r2;"
		     "r1 += -1; r1 *= 3; r1 /= 4; r1 %%= 5; r1 s/= -6; r1 s%%= 7;"
		     "r1 |= 8; r1 &= -9; r1 ^= 10; r1 <<= 11; r1 >>= 12; r1 s>>= 13;"
		     "r1 = (s8)r2; r1 = (s16)r2; r1 = (s32)r2" ::: "r1", "r2");
	asm volatile("w1 = 1; w2 = w1; w1 = -w1;"
		     "w1 += w2; w1 -= w2; w1 *= w2; w1 /= w2; w1 %%= w2; w1 s/= w2; w1 s%%= w2;"
		     "w1 |= w2; w1 &= w2; w1 ^= w2; w1 <<= w2; w1 >>= w2; w1 s>>= w2;"
		     "w1 += -1; w1 *= 3; w1 /= 4; w1 %%= 5; w1 s/= -6; w1 s%%= 7;"
		     "w1 |= 8; w1 &= -9; w1 ^= 10; w1 <<= 11; w1 >>= 12; w1 s>>= 13;"
		     "w1 = (s8)w2; w1 = (s16)w2" ::: "r1", "r2");
	asm volatile("r1 = 0x123456789abcdef0 ll; r1 = -1 ll; r1 = 0xffffffff ll; r1 = -0x80000000" ::: "r1");
	return 0;
}

SEC("socket")
int signed_division(struct packet *ctx)
{
	s64 a = ktime_ns(), b = (s32)random_u32();
	s32 c = ctx->len, d = ctx->mark;

	wide[0] = a / (b | 1);
	wide[1] = a % (b | 1);
	wide[2] = a / -7 + a % 11;
	words[0] = c / (d | 1);
	words[1] = c % (d | 1);
	words[2] = c / -7 + c % 11;
	return 0;
}

SEC("socket")
int sign_extension(struct packet *ctx)
{
	s64 a = ktime_ns();
	s32 b = random_u32();

	wide[0] = (s8)a;
	wide[1] = (s16)a;
	wide[2] = (s32)a;
	words[0] = (s8)b;
	words[1] = (s16)b;
	wide[3] = *(volatile s8 *)&bytes[3];
	wide[4] = *(volatile s16 *)&halves[5];
	wide[5] = *(volatile s32 *)&words[7];
	return 0;
}

SEC("socket")
int memory(struct packet *ctx)
{
	volatile u64 stack[4];

	stack[0] = 1;
	stack[1] = ctx->len;
	*(volatile u32 *)&stack[2] = ctx->mark;
	*(volatile u16 *)&stack[3] = 7;
	*(volatile u8 *)((long)&stack[3] + 3) = -1;
	bytes[0] = halves[1];
	halves[2] = words[3];
	words[4] = wide[5];
	*(volatile u32 *)&words[5] = 0xfffffffe;
	*(volatile u64 *)&wide[6] = -2;
	return stack[0] + stack[3];
}

SEC("socket")
int byte_order(struct packet *ctx)
{
	u64 a = ktime_ns();

	halves[0] = __builtin_bswap16(a);
	words[0] = __builtin_bswap32(a);
	wide[0] = __builtin_bswap64(a);
	asm volatile("%0 = be16 %0; %0 = be32 %0; %0 = be64 %0" : "+r"(a));
	asm volatile("%0 = le16 %0; %0 = le32 %0; %0 = le64 %0" : "+r"(a));
	asm volatile("%0 = bswap16 %0; %0 = bswap32 %0; %0 = bswap64 %0" : "+r"(a));
	return a;
}

SEC("socket")
int jumps(struct packet *ctx)
{
	asm volatile("r1 = 1; r2 = 2;"
		     "if r1 == r2 goto +0; if r1 != r2 goto +0; if r1 > r2 goto +0; if r1 >= r2 goto +0;"
		     "if r1 < r2 goto +0; if r1 <= r2 goto +0; if r1 s> r2 goto +0; if r1 s>= r2 goto +0;"
		     "if r1 s< r2 goto +0; if r1 s<= r2 goto +0; if r1 & r2 goto +0;"
		     "if r1 == 1 goto +0; if r1 != -1 goto +0; if r1 > 3 goto +0; if r1 >= 0x7fffffff goto +0;"
		     "if r1 < 5 goto +0; if r1 <= 6 goto +0; if r1 s> -7 goto +0; if r1 s>= 8 goto +0;"
		     "if r1 s< -9 goto +0; if r1 s<= 10 goto +0; if r1 & 0x40 goto +0;" ::: "r1", "r2");
	asm volatile("w1 = 1; w2 = 2;"
		     "if w1 == w2 goto +0; if w1 != w2 goto +0; if w1 > w2 goto +0; if w1 >= w2 goto +0;"
		     "if w1 < w2 goto +0; if w1 <= w2 goto +0; if w1 s> w2 goto +0; if w1 s>= w2 goto +0;"
		     "if w1 s< w2 goto +0; if w1 s<= w2 goto +0; if w1 & w2 goto +0;"
		     "if w1 == 1 goto +0; if w1 != -1 goto +0; if w1 > 3 goto +0; if w1 >= 0x7fffffff goto +0;"
		     "if w1 < 5 goto +0; if w1 <= 6 goto +0; if w1 s> -7 goto +0; if w1 s>= 8 goto +0;"
		     "if w1 s< -9 goto +0; if w1 s<= 10 goto +0; if w1 & 0x40 goto +0;" ::: "r1", "r2");
	asm volatile("goto +1; goto +1; goto -2; gotol +1; gotol +1; gotol -2" ::: "memory");
	return 0;
}

SEC("socket")
int switches(struct packet *ctx)
{
	u32 sum = 0;

	for (u32 i = 0; i < (ctx->len & 15); i++) {
		switch (random_u32()) {
		case 1: sum += 17; break;
		case 50: sum ^= ctx->mark; break;
		case 9000: sum <<= 3; break;
		default: sum--;
		}
		if ((s32)sum < -5 || sum > 1000000)
			break;
	}
	return sum;
}

SEC("socket")
int atomics64(struct packet *ctx)
{
	u64 a = ktime_ns();

	__sync_fetch_and_add(&wide[0], a);
	__sync_fetch_and_or(&wide[1], a);
	__sync_fetch_and_and(&wide[2], a);
	__sync_fetch_and_xor(&wide[3], a);
	a += __sync_fetch_and_add(&wide[4], a);
	a += __sync_fetch_and_or(&wide[5], a);
	a += __sync_fetch_and_and(&wide[6], a);
	a += __sync_fetch_and_xor(&wide[7], a);
	a += __sync_lock_test_and_set(&wide[0], a);
	a += __sync_val_compare_and_swap(&wide[1], a, 5);
	asm volatile("lock *(u64 *)(%0 + 8) += %1; lock *(u64 *)(%0 + 8) |= %1;"
		     "lock *(u64 *)(%0 + 8) &= %1; lock *(u64 *)(%0 + 8) ^= %1" :: "r"(wide), "r"(a) : "memory");
	return a;
}

SEC("socket")
int atomics32(struct packet *ctx)
{
	u32 a = random_u32();

	a += __sync_fetch_and_add(&words[4], a);
	a += __sync_fetch_and_or(&words[5], a);
	a += __sync_fetch_and_and(&words[6], a);
	a += __sync_fetch_and_xor(&words[7], a);
	a += __sync_lock_test_and_set(&words[0], a);
	a += __sync_val_compare_and_swap(&words[1], a, 5);
	asm volatile("lock *(u32 *)(%0 + 4) += %1; lock *(u32 *)(%0 + 4) |= %1;"
		     "lock *(u32 *)(%0 + 4) &= %1; lock *(u32 *)(%0 + 4) ^= %1" :: "r"(words), "w"(a) : "memory");
	return a;
}

#ifdef __BPF_FEATURE_LOAD_ACQ_STORE_REL
SEC("socket")
int ordered(struct packet *ctx)
{
	u64 a = __atomic_load_n(&wide[1], __ATOMIC_ACQUIRE);
	u32 b = __atomic_load_n(&words[2], __ATOMIC_ACQUIRE);

	b += __atomic_load_n(&halves[3], __ATOMIC_ACQUIRE);
	b += __atomic_load_n(&bytes[4], __ATOMIC_ACQUIRE);
	__atomic_store_n(&wide[0], a, __ATOMIC_RELEASE);
	__atomic_store_n(&words[1], b, __ATOMIC_RELEASE);
	__atomic_store_n(&halves[2], b, __ATOMIC_RELEASE);
	__atomic_store_n(&bytes[3], b, __ATOMIC_RELEASE);
	return 0;
}
#endif

#ifdef __BPF_FEATURE_MAY_GOTO
SEC("socket")
int bounded_loop(struct packet *ctx)
{
	asm volatile("may_goto +2; may_goto +0; goto -3" ::: "memory");
	return 0;
}
#endif

#ifdef __BPF_FEATURE_ADDR_SPACE_CAST
SEC("socket")
int address_spaces(struct packet *ctx)
{
	asm volatile("r1 = 0; r1 = addr_space_cast(r1, 0, 1); r2 = addr_space_cast(r1, 1, 0)" ::: "r1", "r2");
	return 0;
}
#endif

#ifdef __BPF_FEATURE_GOTOX
SEC("socket")
int indirect_jump(struct packet *ctx)
{
	asm volatile("r1 = 0; gotox r1" ::: "r1");
	return 0;
}
#endif

SEC("socket")
int packet_access(struct packet *ctx)
{
	u64 sum;

	asm volatile("r6 = %1; r7 = 3;"
		     "r0 = *(u8 *)skb[14]; r0 = *(u16 *)skb[12]; r0 = *(u32 *)skb[26];"
		     "r0 = *(u8 *)skb[r7]; r0 = *(u16 *)skb[r7]; r0 = *(u32 *)skb[r7];"
		     "%0 = r0" : "=r"(sum) : "r"(ctx) : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7");
	return sum;
}

static NOINLINE u64 local(u64 x)
{
	sink = x;
	return x * 3;
}

NOINLINE u64 global(u64 x)
{
	return local(x) + 1;
}

SEC("socket")
int calls(struct packet *ctx)
{
	u32 key = 1;
	u64 *value = lookup(&table, &key);

	if (value)
		*value += global(ctx->len);
	return local(ctx->mark) + indirect(5);
}
