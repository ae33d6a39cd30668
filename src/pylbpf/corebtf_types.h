/* BTF as it lies in memory: where each type begins. */
#ifndef PYLBPF_COREBTF_TYPES_H
#define PYLBPF_COREBTF_TYPES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum pylbpf_kind {
	PYLBPF_VOID, PYLBPF_INT, PYLBPF_PTR, PYLBPF_ARRAY, PYLBPF_STRUCT, PYLBPF_UNION, PYLBPF_ENUM, PYLBPF_FWD,
	PYLBPF_TYPEDEF, PYLBPF_VOLATILE, PYLBPF_CONST, PYLBPF_RESTRICT, PYLBPF_FUNC, PYLBPF_FUNC_PROTO, PYLBPF_VAR,
	PYLBPF_DATASEC, PYLBPF_FLOAT, PYLBPF_DECL_TAG, PYLBPF_TYPE_TAG, PYLBPF_ENUM64, PYLBPF_KINDS,
};

enum { PYLBPF_BTF_MAGIC = 0xeb9f, PYLBPF_BTF_HEADER = 24, PYLBPF_TYPE = 12 };

struct pylbpf_types {
	const uint8_t *data;          /* the types */
	const char *strings;          /* end in NUL */
	uint32_t *starts;             /* where type 1, 2, ... begins in the data */
	uint32_t count, string_size;
};

/* 0; -EINVAL if it is no BTF of this machine's byte order or a type is of no known kind or cut off; -ENOMEM. What the
 * types refer to, names and other types, was not checked. */
int pylbpf_types_read(struct pylbpf_types *types, const uint8_t *data, size_t size);
void pylbpf_types_free(struct pylbpf_types *types);

static inline uint32_t pylbpf_u32(const uint8_t *at)
{
	uint32_t value;
	memcpy(&value, at, sizeof(value));
	return value;
}

/* The 12 bytes of a type, with what follows them; void if there is no such type. */
static inline const uint8_t *pylbpf_type(const struct pylbpf_types *types, uint32_t id)
{
	static const uint8_t nothing[PYLBPF_TYPE];
	return id - 1 < types->count ? types->data + types->starts[id - 1] : nothing;
}

static inline enum pylbpf_kind pylbpf_kind(const uint8_t *type)
{
	return (enum pylbpf_kind)(pylbpf_u32(type + 4) >> 24 & 0x1f);
}

static inline uint32_t pylbpf_items(const uint8_t *type)
{
	return pylbpf_u32(type + 4) & 0xffff;
}

static inline const char *pylbpf_string(const struct pylbpf_types *types, uint32_t offset)
{
	return offset < types->string_size ? types->strings + offset : "";
}

/* An alias or a qualifier, which CO-RE looks through. */
static inline int pylbpf_is_modifier(enum pylbpf_kind kind)
{
	return kind == PYLBPF_TYPEDEF || kind == PYLBPF_VOLATILE || kind == PYLBPF_CONST || kind == PYLBPF_RESTRICT ||
	       kind == PYLBPF_TYPE_TAG;
}

/* Any enum is as good as any other. */
static inline enum pylbpf_kind pylbpf_kind_class(enum pylbpf_kind kind)
{
	return kind == PYLBPF_ENUM64 ? PYLBPF_ENUM : kind;
}

/* Kinds of types that can be looked for by their name. */
static inline int pylbpf_is_root(enum pylbpf_kind kind)
{
	return kind == PYLBPF_INT || kind == PYLBPF_STRUCT || kind == PYLBPF_UNION || kind == PYLBPF_ENUM ||
	       kind == PYLBPF_FWD || kind == PYLBPF_TYPEDEF || kind == PYLBPF_ENUM64;
}

#endif
