/*
 * Copies out of a BTF what libbpf can look at when it relocates for the types of some names.
 *
 * All types of these names become candidates, as in the whole: same kinds, same order, for libbpf compares them all
 * and refuses what is ambiguous. Of each is kept
 *   what lies in it: members and their types, elements, values of enums. Fields are found, and sizes and offsets
 *   computed, from nothing else, see bpf_core_match_member() and bpf_core_calc_field_relo() of libbpf. A pointer is a
 *   pointer there, whatever it points to, so it becomes a pointer to void;
 *   what it is compared by, see __bpf_core_types_are_compat(): this looks through typedefs, pointers, arrays and
 *   prototypes, and then at the kind only. Structs and enums met there are kept as empty ones without a name.
 * All integers are kept, they are few.
 * Nothing without one of the names becomes a candidate: either it has no name, or its name is not one of them.
 */
#include "corebtf_trim.h"

#include <errno.h>
#include <stdlib.h>

#include "corebtf_types.h"

enum {
	INSIDE = 1,                   /* a type is kept with what lies in it */
	COMPARED = 2,                 /* a type is kept with what it is compared by */
	MAX_CHAIN = 30,               /* typedefs and the like in a row; btf__resolve_size() gives up at 32 */
};

struct visit {
	uint32_t id, how;
};

struct string {
	uint32_t from, to;            /* offsets */
};

struct buffer {
	uint8_t *data;
	size_t size, room;
};

struct trim {
	struct pylbpf_types types;
	uint32_t *marks;              /* of each type: how it is kept; then its new number, if it is */
	struct visit *visits;         /* still to be made */
	uint32_t left, room;
	struct string *strings;       /* a hash table by `from`; 0 is free, as the empty string needs no entry */
	uint32_t string_count, string_mask;
	struct buffer body, text;     /* header and types; strings */
	const uint8_t *head;          /* of the original */
	size_t limit;                 /* a part of it can become larger than the whole, by strings that overlap, but not much */
	int error;
};

/* ---------------------------------------------------------------- what is kept */

static void want(struct trim *t, uint32_t id, uint32_t how)
{
	if (!id || t->error)
		return;
	if (id > t->types.count) {
		t->error = -EINVAL;
		return;
	}
	if (!(how &= ~t->marks[id]))
		return;
	if (t->left == t->room) {
		uint32_t room = t->room ? 2 * t->room : 1024;
		struct visit *visits = realloc(t->visits, room * sizeof(*visits));
		if (!visits) {
			t->error = -ENOMEM;
			return;
		}
		t->visits = visits;
		t->room = room;
	}
	t->marks[id] |= how;
	t->visits[t->left++] = (struct visit){id, how};
}

/* What a type is in the end, or its elements are; void if the chain is too long for libbpf. */
static const uint8_t *base_of(const struct pylbpf_types *types, uint32_t id, int elements)
{
	for (int steps = 0; steps < MAX_CHAIN; steps++) {
		const uint8_t *type = pylbpf_type(types, id);
		enum pylbpf_kind kind = pylbpf_kind(type);

		if (kind == PYLBPF_ARRAY && elements)
			id = pylbpf_u32(type + 12);
		else if (pylbpf_is_modifier(kind))
			id = pylbpf_u32(type + 8);
		else
			return type;
	}
	return pylbpf_type(types, 0);
}

static int has_size(const struct pylbpf_types *types, uint32_t id)
{
	enum pylbpf_kind kind = pylbpf_kind(base_of(types, id, 1));
	return kind != PYLBPF_VOID && kind != PYLBPF_FWD && kind != PYLBPF_FUNC_PROTO;
}

/* libbpf divides by the size of a bit field's type, whatever stands in this place. */
static void check_bit_field(struct trim *t, uint32_t id)
{
	const uint8_t *type = base_of(&t->types, id, 0);
	enum pylbpf_kind kind = pylbpf_kind_class(pylbpf_kind(type));

	if ((kind != PYLBPF_INT && kind != PYLBPF_ENUM) || !pylbpf_u32(type + 8))
		t->error = -EINVAL;
}

static void want_members(struct trim *t, const uint8_t *type)
{
	const uint8_t *item = type + PYLBPF_TYPE;
	int bit_fields = pylbpf_u32(type + 4) >> 31;

	if (pylbpf_u32(type + 8) > INT32_MAX) /* libbpf would take the size for an error */
		t->error = -EINVAL;
	for (uint32_t i = 0; i < pylbpf_items(type); i++, item += 12) {
		want(t, pylbpf_u32(item + 4), INSIDE);
		if (bit_fields && pylbpf_u32(item + 8) >> 24)
			check_bit_field(t, pylbpf_u32(item + 4));
	}
}

static void follow(struct trim *t, struct visit visit)
{
	const uint8_t *type = pylbpf_type(&t->types, visit.id), *item = type + PYLBPF_TYPE;
	enum pylbpf_kind kind = pylbpf_kind(type);

	switch (kind) {
	case PYLBPF_INT: case PYLBPF_FLOAT: case PYLBPF_FWD: case PYLBPF_ENUM: case PYLBPF_ENUM64:
		break;
	case PYLBPF_STRUCT: case PYLBPF_UNION:
		if (visit.how & INSIDE)
			want_members(t, type);
		break;
	case PYLBPF_ARRAY:
		want(t, pylbpf_u32(item), visit.how);
		want(t, pylbpf_u32(item + 4), INSIDE);
		break;
	case PYLBPF_PTR:
		if (visit.how & COMPARED)
			want(t, pylbpf_u32(type + 8), COMPARED);
		break;
	case PYLBPF_FUNC_PROTO:
		if (visit.how & COMPARED) {
			for (uint32_t i = 0; i < pylbpf_items(type); i++)
				want(t, pylbpf_u32(item + 8 * i + 4), COMPARED);
			want(t, pylbpf_u32(type + 8), COMPARED);
		}
		break;
	default:
		if (pylbpf_is_modifier(kind))
			want(t, pylbpf_u32(type + 8), visit.how);
		else /* libbpf would not know either what to do with it */
			t->error = -EINVAL;
	}
}

static void find_candidates(struct trim *t, struct pylbpf_names *names)
{
	for (uint32_t i = 0; i < names->count; i++)
		names->items[i].flags = PYLBPF_MISSING;
	for (uint32_t id = 1; id <= t->types.count; id++) {
		const uint8_t *type = pylbpf_type(&t->types, id);
		enum pylbpf_kind kind = pylbpf_kind(type);
		uint32_t name = pylbpf_u32(type);

		if (kind == PYLBPF_INT) /* the size of pointers is that of the first one named long, or ours: see btf_ptr_sz() */
			want(t, id, INSIDE);
		if (!name || !pylbpf_is_root(kind))
			continue;
		struct pylbpf_essence essence = pylbpf_essence(pylbpf_string(&t->types, name));
		struct pylbpf_name *found = pylbpf_names_find(names, &essence, pylbpf_kind_class(kind));
		if (!found)
			continue;
		found->flags &= ~PYLBPF_MISSING;
		if (kind == PYLBPF_TYPEDEF && !has_size(&t->types, id))
			found->flags |= PYLBPF_SIZELESS;
		want(t, id, INSIDE | COMPARED);
	}
}

/* ---------------------------------------------------------------- the new BTF */

static uint8_t *reserve(struct trim *t, struct buffer *buffer, size_t size)
{
	if (buffer->room - buffer->size < size) {
		size_t room = 2 * (buffer->size + size) + 4096;
		uint8_t *data = room > t->limit ? NULL : realloc(buffer->data, room);
		if (!data) {
			t->error = room > t->limit ? -EINVAL : -ENOMEM;
			return NULL;
		}
		buffer->data = data;
		buffer->room = room;
	}
	buffer->size += size;
	return buffer->data + buffer->size - size;
}

static void put(struct trim *t, uint32_t value)
{
	uint8_t *to = t->error ? NULL : reserve(t, &t->body, sizeof(value));
	if (to)
		memcpy(to, &value, sizeof(value));
}

static void put_bytes(struct trim *t, const uint8_t *from, size_t size)
{
	uint8_t *to = t->error ? NULL : reserve(t, &t->body, size);
	if (to)
		memcpy(to, from, size);
}

static struct string *string_slot(const struct trim *t, uint32_t from)
{
	uint32_t i = from * 2654435761u;
	struct string *slot;

	do
		slot = &t->strings[i++ & t->string_mask];
	while (slot->from && slot->from != from);
	return slot;
}

static int grow_strings(struct trim *t)
{
	struct string *before = t->strings;
	uint32_t slots = before ? t->string_mask + 1 : 0, mask = before ? 2 * slots - 1 : 4095;

	if (!(t->strings = calloc((size_t)mask + 1, sizeof(*t->strings)))) {
		t->strings = before;
		return t->error = -ENOMEM;
	}
	t->string_mask = mask;
	for (uint32_t i = 0; i < slots; i++)
		if (before[i].from)
			*string_slot(t, before[i].from) = before[i];
	free(before);
	return 0;
}

static void put_string(struct trim *t, uint32_t from)
{
	const char *text = t->types.strings + from;
	struct string *slot;
	size_t length;
	uint8_t *to;

	if (from >= t->types.string_size)
		t->error = -EINVAL;
	if (!from || t->error) {
		put(t, 0);
		return;
	}
	if ((!t->strings || t->string_count > t->string_mask / 2) && grow_strings(t))
		return;
	slot = string_slot(t, from);
	if (!slot->from) {
		*slot = (struct string){from, t->text.size};
		t->string_count++;
		length = strlen(text) + 1;
		if ((to = reserve(t, &t->text, length)))
			memcpy(to, text, length);
	}
	put(t, slot->to);
}

static void put_type(struct trim *t, uint32_t id, uint32_t how)
{
	put(t, id <= t->types.count && t->marks[id] & how ? t->marks[id] >> 2 : 0);
}

/* The 12 bytes, without name and items where only the kind matters. */
static void put_head(struct trim *t, const uint8_t *type, int whole)
{
	if (whole)
		put_string(t, pylbpf_u32(type));
	else
		put(t, 0);
	put(t, whole ? pylbpf_u32(type + 4) : pylbpf_u32(type + 4) & ~0xffffu);
}

static void put_copy(struct trim *t, uint32_t id)
{
	const uint8_t *type = pylbpf_type(&t->types, id), *item = type + PYLBPF_TYPE;
	enum pylbpf_kind kind = pylbpf_kind(type);
	uint32_t items = pylbpf_items(type), how = t->marks[id] & (INSIDE | COMPARED);
	int whole = how & INSIDE;

	switch (kind) {
	case PYLBPF_STRUCT: case PYLBPF_UNION:
		put_head(t, type, whole);
		put(t, pylbpf_u32(type + 8));
		for (uint32_t i = 0; whole && i < items; i++, item += 12) {
			put_string(t, pylbpf_u32(item));
			put_type(t, pylbpf_u32(item + 4), INSIDE);
			put(t, pylbpf_u32(item + 8));
		}
		break;
	case PYLBPF_ENUM: case PYLBPF_ENUM64:
		put_head(t, type, whole);
		put(t, pylbpf_u32(type + 8));
		for (uint32_t i = 0; whole && i < items; i++, item += kind == PYLBPF_ENUM ? 8 : 12) {
			put_string(t, pylbpf_u32(item));
			put_bytes(t, item + 4, kind == PYLBPF_ENUM ? 4 : 8);
		}
		break;
	case PYLBPF_FUNC_PROTO:
		whole = how & COMPARED;
		put_head(t, type, whole);
		put_type(t, whole ? pylbpf_u32(type + 8) : 0, COMPARED);
		for (uint32_t i = 0; whole && i < items; i++, item += 8) {
			put(t, 0);
			put_type(t, pylbpf_u32(item + 4), COMPARED);
		}
		break;
	case PYLBPF_ARRAY:
		put_head(t, type, 1);
		put(t, 0);
		put_type(t, pylbpf_u32(item), how);
		put_type(t, pylbpf_u32(item + 4), INSIDE);
		put(t, pylbpf_u32(item + 8));
		break;
	case PYLBPF_PTR:
		put_head(t, type, 1);
		put_type(t, how & COMPARED ? pylbpf_u32(type + 8) : 0, COMPARED);
		break;
	case PYLBPF_INT: case PYLBPF_FLOAT: case PYLBPF_FWD:
		put_head(t, type, 1);
		put_bytes(t, type + 8, kind == PYLBPF_INT ? 8 : 4);
		break;
	default: /* typedefs and the like */
		put_head(t, type, 1);
		put_type(t, pylbpf_u32(type + 8), how);
	}
}

static void put_all(struct trim *t)
{
	uint32_t number = 0, header[6];
	uint8_t *to;

	for (uint32_t id = 1; id <= t->types.count; id++)
		if (t->marks[id])
			t->marks[id] |= ++number << 2;
	/* The empty string, and more of it: an old libbpf may look there for the sign of a type that has none. */
	if (!reserve(t, &t->body, sizeof(header)) || !(to = reserve(t, &t->text, sizeof(number))))
		return;
	memset(to, 0, sizeof(number));
	for (uint32_t id = 1; id <= t->types.count && !t->error; id++)
		if (t->marks[id])
			put_copy(t, id);
	if (t->error)
		return;
	header[0] = pylbpf_u32(t->head); /* magic, version, flags */
	header[1] = sizeof(header);
	header[2] = 0;
	header[3] = header[4] = t->body.size - sizeof(header);
	header[5] = t->text.size;
	memcpy(t->body.data, header, sizeof(header));
	put_bytes(t, t->text.data, t->text.size);
}

/* ---------------------------------------------------------------- all of it */

int pylbpf_trim(const uint8_t *data, size_t size, struct pylbpf_names *names, uint8_t **result, size_t *result_size)
{
	struct trim t = {.head = data, .limit = 8 * size + 16384};

	*result = NULL;
	*result_size = 0;
	if ((t.error = pylbpf_types_read(&t.types, data, size)))
		return t.error;
	if (!(t.marks = calloc((size_t)t.types.count + 1, sizeof(*t.marks))))
		t.error = -ENOMEM;
	if (!t.error)
		find_candidates(&t, names);
	while (!t.error && t.left)
		follow(&t, t.visits[--t.left]);
	if (!t.error)
		put_all(&t);
	pylbpf_types_free(&t.types);
	free(t.marks);
	free(t.visits);
	free(t.strings);
	free(t.text.data);
	if (t.error) {
		free(t.body.data);
	} else {
		*result = t.body.data;
		*result_size = t.body.size;
	}
	return t.error;
}
