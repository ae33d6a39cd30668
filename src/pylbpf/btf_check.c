/*
 * BTF is a graph, and libbpf walks it by recursion and believes its numbers: btf__align_of() and btf_dump call
 * themselves for every member, parameter and pointer, and read data where members say that it is. A circle, a chain of
 * thousands or an offset out of nowhere is found here, once for all types, so that nobody else has to be careful.
 *
 * Two ways lead from a type to others. What lies inside of it, its members and elements, has a size and an end: no type
 * holds itself. What is needed to write it down in C is more: pointers and prototypes are followed too, but not to a
 * struct that has a name, for that name is enough.
 */
#include "btf_check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	MAX_HEIGHT = 250,             /* types one inside the other; the kernel has 20 or so */
	MAX_PADDING = 1 << 26,        /* bits between and behind members, which btf_dump writes in words */
};
static const uint64_t MAX_PARTS = 1 << 24;  /* of one type, arrays as one: btf__align_of() asks each */

enum state { UNKNOWN, OPEN, DONE };

struct found {
	uint8_t state[3];             /* inside; written in C, and so behind a pointer */
	uint8_t height[3];
	uint32_t parts;
};
enum { INSIDE, WRITTEN, POINTED };

struct check {
	const struct btf *btf;
	struct found *found;
	uint32_t count;               /* types with void */
	char *problem;
	size_t room;
};

static __attribute__((cold, format(printf, 2, 3))) int fail(struct check *c, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(c->problem, c->room, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

static const struct btf_type *type_at(const struct check *c, uint32_t id)
{
	return btf__type_by_id(c->btf, id);
}

static const char *name_of(const struct check *c, uint32_t id)
{
	const char *name = btf__str_by_offset(c->btf, type_at(c, id)->name_off);
	return name && *name ? name : "without name";
}

/* ---------------------------------------------------------------- numbers */

static int check_name(struct check *c, uint32_t id, uint32_t offset)
{
	return btf__str_by_offset(c->btf, offset) ? 0 : fail(c, "type %u has a name at byte %u, behind the strings", id, offset);
}

static int check_id(struct check *c, uint32_t id, uint32_t other)
{
	return other < c->count ? 0 : fail(c, "type %u (%.60s) refers to type %u, the last one is %u", id, name_of(c, id), other,
					   c->count - 1);
}

/* Names, and numbers of other types. */
static int check_numbers(struct check *c, uint32_t id)
{
	const struct btf_type *t = type_at(c, id);
	uint32_t left = btf_vlen(t);
	int err = check_name(c, id, t->name_off);

	switch (btf_kind(t)) {
	case BTF_KIND_INT: case BTF_KIND_FWD: case BTF_KIND_FLOAT:
		break;
	case BTF_KIND_ARRAY:
		err = err ?: check_id(c, id, btf_array(t)->type);
		return err ?: check_id(c, id, btf_array(t)->index_type);
	case BTF_KIND_STRUCT: case BTF_KIND_UNION:
		for (const struct btf_member *m = btf_members(t); left && !err; left--, m++)
			err = check_name(c, id, m->name_off) ?: check_id(c, id, m->type);
		break;
	case BTF_KIND_ENUM:
		for (const struct btf_enum *e = btf_enum(t); left && !err; left--, e++)
			err = check_name(c, id, e->name_off);
		break;
	case BTF_KIND_ENUM64:
		for (const struct btf_enum64 *e = btf_enum64(t); left && !err; left--, e++)
			err = check_name(c, id, e->name_off);
		break;
	case BTF_KIND_FUNC_PROTO:
		err = err ?: check_id(c, id, t->type);
		for (const struct btf_param *p = btf_params(t); left && !err; left--, p++)
			err = check_name(c, id, p->name_off) ?: check_id(c, id, p->type);
		break;
	case BTF_KIND_DATASEC:
		for (const struct btf_var_secinfo *v = btf_var_secinfos(t); left && !err; left--, v++)
			err = check_id(c, id, v->type);
		break;
	default:
		return err ?: check_id(c, id, t->type);
	}
	return err;
}

/* ---------------------------------------------------------------- what refers to what */

static bool is_composite(const struct btf_type *t)
{
	return btf_kind(t) == BTF_KIND_STRUCT || btf_kind(t) == BTF_KIND_UNION;
}

/* The type that `t` refers to at place `i`, and how; false if there are no more. */
static bool next(const struct btf_type *t, int way, uint32_t i, uint32_t *id, int *how)
{
	*how = way;
	switch (btf_kind(t)) {
	case BTF_KIND_PTR:
		*how = POINTED;
		*id = t->type;
		return way != INSIDE && i == 0;
	case BTF_KIND_ARRAY:
		*how = way == INSIDE ? INSIDE : WRITTEN;
		*id = btf_array(t)->type;
		return i == 0;
	case BTF_KIND_STRUCT: case BTF_KIND_UNION:
		if (i >= btf_vlen(t) || (way == POINTED && t->name_off))
			return false;
		*how = way == INSIDE ? INSIDE : WRITTEN;
		*id = btf_members(t)[i].type;
		return true;
	case BTF_KIND_FUNC_PROTO:
		if (way == INSIDE || i > btf_vlen(t))
			return false;
		*id = i ? btf_params(t)[i - 1].type : t->type;
		return true;
	case BTF_KIND_DATASEC:
		*id = i < btf_vlen(t) ? btf_var_secinfos(t)[i].type : 0;
		return way == INSIDE && i < btf_vlen(t);
	case BTF_KIND_TYPEDEF: case BTF_KIND_VOLATILE: case BTF_KIND_CONST: case BTF_KIND_RESTRICT: case BTF_KIND_TYPE_TAG:
		*id = t->type;
		return i == 0;
	case BTF_KIND_VAR: case BTF_KIND_DECL_TAG:
		*id = t->type;
		return way == INSIDE && i == 0 && btf_kind(t) == BTF_KIND_VAR;
	default:
		return false;
	}
}

static int follow(struct check *c, uint32_t id, int way, int depth)
{
	struct found *found = &c->found[id];
	const struct btf_type *t = type_at(c, id);
	uint64_t parts = 1;
	uint32_t other;
	int height = 0, how, err;

	if (found->state[way] == DONE)
		return 0;
	if (found->state[way] == OPEN)
		return fail(c, way == INSIDE ? "type %u (%.60s) is inside of itself" : "type %u (%.60s) is declared by itself",
			    id, name_of(c, id));
	if (depth > MAX_HEIGHT)
		return fail(c, "more than %d types are one inside the other, the last one is %u (%.60s)", MAX_HEIGHT, id,
			    name_of(c, id));
	found->state[way] = OPEN;
	for (uint32_t i = 0; next(t, way, i, &other, &how); i++) {
		if ((err = follow(c, other, how, depth + 1)))
			return err;
		if (c->found[other].height[how] >= height)
			height = c->found[other].height[how] + 1;
		if (way == INSIDE)
			parts += c->found[other].parts;
	}
	/* A type that was followed before may be high in itself, and be found again far down. */
	if (height > MAX_HEIGHT)
		return fail(c, "type %u (%.60s) holds more than %d types one inside the other", id, name_of(c, id), MAX_HEIGHT);
	if (parts > MAX_PARTS)
		return fail(c, "type %u (%.60s) has more than %llu parts", id, name_of(c, id), (unsigned long long)MAX_PARTS);
	found->state[way] = DONE;
	found->height[way] = height;
	if (way == INSIDE)
		found->parts = parts;
	return 0;
}

/* ---------------------------------------------------------------- sizes */

/* Variables, sections, tags and enums that are only declared have a size but no alignment, and btf_dump divides by that of
 * members and elements. */
static bool has_alignment(const struct check *c, uint32_t id)
{
	const struct btf_type *t = type_at(c, id);

	while (btf_is_mod(t) || btf_is_typedef(t) || btf_is_array(t))
		t = type_at(c, btf_is_array(t) ? btf_array(t)->type : t->type);
	return !btf_is_var(t) && !btf_is_datasec(t) && !btf_is_decl_tag(t) && (!btf_is_any_enum(t) || t->size);
}

static int check_members(struct check *c, uint32_t id)
{
	const struct btf_type *t = type_at(c, id);
	int64_t end = 0, padding = 0;

	for (uint32_t i = 0; i < btf_vlen(t); i++) {
		const struct btf_member *m = &btf_members(t)[i];
		int64_t offset = btf_member_bit_offset(t, i), bits = btf_member_bitfield_size(t, i);
		int64_t size = btf__resolve_size(c->btf, m->type);

		if (size < 0)
			return fail(c, "member '%.60s' of type %u (%.60s) is of type %u, which has no size",
				    btf__str_by_offset(c->btf, m->name_off), id, name_of(c, id), m->type);
		if (!has_alignment(c, m->type))
			return fail(c, "member '%.60s' of type %u (%.60s) is of type %u, which is none of a value",
				    btf__str_by_offset(c->btf, m->name_off), id, name_of(c, id), m->type);
		if (bits > 128 || bits > 8 * size)
			return fail(c, "member '%.60s' of type %u (%.60s) has %lld bits of %lld bytes",
				    btf__str_by_offset(c->btf, m->name_off), id, name_of(c, id), (long long)bits, (long long)size);
		padding += offset > end ? offset - end : 0;
		/* Bit fields without kflag, as old compilers have them, tell their bits by their type; those are checked there. */
		end = offset + (bits ? bits : offset % 8 ? 1 : 8 * size);
		if (end > 8 * (int64_t)t->size)
			return fail(c, "member '%.60s' of type %u (%.60s) ends at bit %lld, the type at byte %u",
				    btf__str_by_offset(c->btf, m->name_off), id, name_of(c, id), (long long)end, t->size);
	}
	if (btf_is_struct(t))
		padding += 8 * (int64_t)t->size - end;
	if (padding > MAX_PADDING)
		return fail(c, "type %u (%.60s) is nearly empty: %lld bits are in no member", id, name_of(c, id),
			    (long long)padding);
	return 0;
}

static int check_size(struct check *c, uint32_t id)
{
	const struct btf_type *t = type_at(c, id);
	uint32_t size = t->size;

	switch (btf_kind(t)) {
	case BTF_KIND_INT:
		if (!size || size > 16 || size & (size - 1) || btf_int_offset(t) + btf_int_bits(t) > 8 * size)
			return fail(c, "integer %u (%.60s) has %u bits from bit %u on in %u bytes", id, name_of(c, id),
				    btf_int_bits(t), btf_int_offset(t), size);
		return 0;
	case BTF_KIND_ENUM: case BTF_KIND_ENUM64:
		if (!size && !btf_vlen(t)) /* only declared */
			return 0;
		if (!size || size > 8 || size & (size - 1))
			return fail(c, "enum %u (%.60s) has %u bytes", id, name_of(c, id), size);
		return 0;
	case BTF_KIND_FLOAT:
		if (!size || size > 16)
			return fail(c, "float %u (%.60s) has %u bytes", id, name_of(c, id), size);
		return 0;
	case BTF_KIND_ARRAY: /* btf_dump visits every element */
		if (!has_alignment(c, id))
			return fail(c, "array %u has elements of type %u, which is none of a value", id, btf_array(t)->type);
		if (btf_array(t)->nelems > 1 << 16 && btf__resolve_size(c->btf, btf_array(t)->type) == 0)
			return fail(c, "array %u has %u elements without size", id, btf_array(t)->nelems);
		return 0;
	default:
		return is_composite(t) ? check_members(c, id) : 0;
	}
}

int pylbpf_check_types(const struct btf *btf, unsigned int first, char *problem, size_t room)
{
	struct check c = {.btf = btf, .count = btf__type_cnt(btf), .problem = problem, .room = room};
	int err = 0;

	c.found = calloc(c.count, sizeof(*c.found));
	if (!c.found)
		return -ENOMEM;
	for (uint32_t id = first; id < c.count && !err; id++)
		err = check_numbers(&c, id);
	for (uint32_t id = first; id < c.count && !err; id++) {
		for (int way = INSIDE; way <= POINTED && !err; way++)
			err = follow(&c, id, way, 0);
		err = err ?: check_size(&c, id);
	}
	free(c.found);
	return err;
}
