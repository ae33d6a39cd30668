/* A text that grows while libbpf prints into it. */
#include "btfdump_text.h"

#include <stdio.h>
#include <stdlib.h>

enum { LIMIT = 1 << 28 };

static int grow(struct pylbpf_text *text, size_t more)
{
	size_t room = text->room ? text->room : 4096;
	char *grown;

	while (room - text->length <= more)
		room *= 2;
	if (room == text->room)
		return 0;
	grown = room > LIMIT ? NULL : realloc(text->at, room);
	if (!grown)
		return -1;
	text->at = grown;
	text->room = room;
	return 0;
}

void pylbpf_text_print(void *context, const char *format, va_list arguments)
{
	struct pylbpf_text *text = context;
	va_list again;
	int length;

	if (text->failed || (text->failed = grow(text, 0)))
		return;
	va_copy(again, arguments);
	length = vsnprintf(text->at + text->length, text->room - text->length, format, arguments);
	if (length >= 0 && (size_t)length >= text->room - text->length) {
		text->failed = grow(text, length);
		if (!text->failed)
			vsnprintf(text->at + text->length, text->room - text->length, format, again);
	}
	va_end(again);
	if (length < 0)
		text->failed = -1;
	if (!text->failed)
		text->length += length;
}
