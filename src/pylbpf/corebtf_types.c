/* Where the types of a BTF begin. */
#include "corebtf_types.h"

#include <errno.h>
#include <stdlib.h>

/* What follows the 12 bytes of a type: bytes, and bytes for each item. */
static const struct { uint8_t fixed, item; } tails[PYLBPF_KINDS] = {
	[PYLBPF_INT] = {4, 0}, [PYLBPF_ARRAY] = {12, 0}, [PYLBPF_STRUCT] = {0, 12}, [PYLBPF_UNION] = {0, 12},
	[PYLBPF_ENUM] = {0, 8}, [PYLBPF_FUNC_PROTO] = {0, 8}, [PYLBPF_VAR] = {4, 0}, [PYLBPF_DATASEC] = {0, 12},
	[PYLBPF_DECL_TAG] = {4, 0}, [PYLBPF_ENUM64] = {0, 12},
};

int pylbpf_types_read(struct pylbpf_types *types, const uint8_t *data, size_t size)
{
	uint32_t header, type_offset, type_size, string_offset, string_size;
	uint16_t magic;

	*types = (struct pylbpf_types){0};
	if (size < PYLBPF_BTF_HEADER || size > UINT32_MAX)
		return -EINVAL;
	memcpy(&magic, data, sizeof(magic));
	header = pylbpf_u32(data + 4);
	type_offset = pylbpf_u32(data + 8), type_size = pylbpf_u32(data + 12);
	string_offset = pylbpf_u32(data + 16), string_size = pylbpf_u32(data + 20);
	if (magic != PYLBPF_BTF_MAGIC || header < PYLBPF_BTF_HEADER || header > size ||
	    (uint64_t)type_offset + type_size > size - header ||
	    (uint64_t)string_offset + string_size > size - header || !string_size)
		return -EINVAL;
	types->data = data + header + type_offset;
	types->strings = (const char *)data + header + string_offset;
	types->string_size = string_size;
	if (types->strings[0] || types->strings[string_size - 1])
		return -EINVAL;

	uint32_t *starts = malloc((type_size / PYLBPF_TYPE + 1) * sizeof(*starts)), count = 0, at = 0;
	if (!starts)
		return -ENOMEM;
	while (at < type_size) {
		enum pylbpf_kind kind = type_size - at < PYLBPF_TYPE ? PYLBPF_VOID : pylbpf_kind(types->data + at);
		size_t length = PYLBPF_TYPE;

		if (kind == PYLBPF_VOID || kind >= PYLBPF_KINDS)
			break;
		length += tails[kind].fixed + (size_t)tails[kind].item * pylbpf_items(types->data + at);
		if (length > type_size - at)
			break;
		starts[count++] = at;
		at += length;
	}
	types->starts = starts;
	types->count = count;
	if (at < type_size) {
		pylbpf_types_free(types);
		return -EINVAL;
	}
	return 0;
}

void pylbpf_types_free(struct pylbpf_types *types)
{
	free(types->starts);
	types->starts = NULL;
	types->count = 0;
}
