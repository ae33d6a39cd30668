/* A set of names of types, each with its kind. */
#ifndef PYLBPF_COREBTF_NAMES_H
#define PYLBPF_COREBTF_NAMES_H

#include <stddef.h>
#include <stdint.h>

enum {                                /* of a name */
	PYLBPF_MISSING = 1,           /* the kernel has no type of this name and kind */
	PYLBPF_SIZELESS = 2,          /* it has one without size: a typedef of what is only declared */
};

struct pylbpf_name {
	uint32_t hash, at, length;    /* at: in the text of the set */
	uint8_t kind, flags;
};

struct pylbpf_names {                 /* all zero: empty */
	struct pylbpf_name *items;
	uint32_t *slots;              /* a hash table of numbers of items, from 1 */
	char *text;
	uint32_t count, room, mask, text_size, text_room;
};

/* A name without its flavor, which is what follows the last "___": what libbpf finds types by. */
struct pylbpf_essence {
	uint32_t length, hash;
	const char *text;
};

/* `text` has to end in NUL. */
struct pylbpf_essence pylbpf_essence(const char *text);

/* The item, or NULL if there is none. */
struct pylbpf_name *
pylbpf_names_find(const struct pylbpf_names *names, const struct pylbpf_essence *name, uint8_t kind);

/* Adds it if it is not there; -1 if there is no memory. */
int pylbpf_names_add(struct pylbpf_names *names, const struct pylbpf_essence *name, uint8_t kind);

/* Adds all of another set, without their flags; -1 if there is no memory. */
int pylbpf_names_merge(struct pylbpf_names *names, const struct pylbpf_names *more);

/* Whether all of `some` are there, none of them with a flag of `unless`. */
int pylbpf_names_include(const struct pylbpf_names *names, const struct pylbpf_names *some, uint8_t unless);

void pylbpf_names_free(struct pylbpf_names *names);

#endif
