/* A set of names of types, as a hash table that only grows. */
#include "pylbpf/internal/corebtf_names.h"

#include <stdlib.h>
#include <string.h>

enum { LONGEST = 4096 };              /* bytes of a name that can matter: nobody asks for one so long */

struct pylbpf_essence pylbpf_essence(const char *text)
{
	struct pylbpf_essence essence = {.text = text};
	uint32_t hash = 2166136261u, before = 0, start = 0, run = 0, i;

	/* As libbpf's bpf_core_essential_name_len(): exactly three underscores, with something else on both sides. */
	for (i = 0; text[i] && i < LONGEST; i++) {
		if (text[i] == '_') {
			if (!run++)
				start = i, before = hash;
		} else {
			if (run == 3 && start)
				essence.length = start, essence.hash = before;
			run = 0;
		}
		hash = (hash ^ (uint8_t)text[i]) * 16777619u;
	}
	if (!essence.length)
		essence.length = i, essence.hash = hash;
	return essence;
}

/* The slot where it is, or where it belongs. */
static uint32_t *slot_of(const struct pylbpf_names *names, const struct pylbpf_essence *name, uint8_t kind)
{
	for (uint32_t i = name->hash;; i++) {
		uint32_t *slot = &names->slots[i & names->mask];
		const struct pylbpf_name *item;

		if (!*slot)
			return slot;
		item = &names->items[*slot - 1];
		if (item->hash == name->hash && item->kind == kind && item->length == name->length &&
		    memcmp(names->text + item->at, name->text, name->length) == 0)
			return slot;
	}
}

struct pylbpf_name *
pylbpf_names_find(const struct pylbpf_names *names, const struct pylbpf_essence *name, uint8_t kind)
{
	uint32_t number = names->slots ? *slot_of(names, name, kind) : 0;
	return number ? &names->items[number - 1] : NULL;
}

/* Twice the room for items, and four slots for each. */
static int grow(struct pylbpf_names *names)
{
	uint32_t room = names->room ? 2 * names->room : 32, mask = 4 * room - 1;
	struct pylbpf_name *items;
	uint32_t *slots;

	if (room > 1 << 24 || !(items = realloc(names->items, room * sizeof(*items))))
		return -1;
	names->items = items;
	if (!(slots = calloc((size_t)mask + 1, sizeof(*slots))))
		return -1;
	free(names->slots);
	names->slots = slots;
	names->mask = mask;
	names->room = room;
	for (uint32_t number = 1; number <= names->count; number++) {
		uint32_t i = items[number - 1].hash;
		while (slots[i & mask])
			i++;
		slots[i & mask] = number;
	}
	return 0;
}

static int add_text(struct pylbpf_names *names, const struct pylbpf_essence *name)
{
	size_t needed = (size_t)names->text_size + name->length;

	if (needed > names->text_room) {
		size_t room = needed < 512 ? 1024 : 2 * needed;
		char *text = room > UINT32_MAX ? NULL : realloc(names->text, room);
		if (!text)
			return -1;
		names->text = text;
		names->text_room = room;
	}
	memcpy(names->text + names->text_size, name->text, name->length);
	names->text_size = needed;
	return 0;
}

int pylbpf_names_add(struct pylbpf_names *names, const struct pylbpf_essence *name, uint8_t kind)
{
	uint32_t *slot;

	if (names->count == names->room && grow(names))
		return -1;
	slot = slot_of(names, name, kind);
	if (!*slot) {
		if (add_text(names, name))
			return -1;
		names->items[names->count] = (struct pylbpf_name){
			.hash = name->hash, .at = names->text_size - name->length, .length = name->length, .kind = kind,
		};
		*slot = ++names->count;
	}
	return 0;
}

static struct pylbpf_essence essence_of(const struct pylbpf_names *names, const struct pylbpf_name *item)
{
	return (struct pylbpf_essence){.length = item->length, .hash = item->hash, .text = names->text + item->at};
}

int pylbpf_names_merge(struct pylbpf_names *names, const struct pylbpf_names *more)
{
	for (uint32_t i = 0; i < more->count; i++) {
		struct pylbpf_essence name = essence_of(more, &more->items[i]);
		if (pylbpf_names_add(names, &name, more->items[i].kind))
			return -1;
	}
	return 0;
}

int pylbpf_names_include(const struct pylbpf_names *names, const struct pylbpf_names *some, uint8_t unless)
{
	for (uint32_t i = 0; i < some->count; i++) {
		struct pylbpf_essence name = essence_of(some, &some->items[i]);
		const struct pylbpf_name *found = pylbpf_names_find(names, &name, some->items[i].kind);
		if (!found || found->flags & unless)
			return 0;
	}
	return 1;
}

void pylbpf_names_free(struct pylbpf_names *names)
{
	free(names->items);
	free(names->slots);
	free(names->text);
	*names = (struct pylbpf_names){0};
}
