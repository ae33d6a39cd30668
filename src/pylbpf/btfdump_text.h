/* A text that grows while libbpf prints into it. */
#ifndef PYLBPF_BTFDUMP_TEXT_H
#define PYLBPF_BTFDUMP_TEXT_H

#include <stdarg.h>
#include <stddef.h>

struct pylbpf_text {
	char *at;
	size_t length, room;
	int failed;                   /* there was no memory: what was printed is not complete */
};

/* A btf_dump_printf_fn_t; the context is a pylbpf_text. */
void pylbpf_text_print(void *context, const char *format, va_list arguments);

#endif
