/* Whether libbpf can be trusted with a BPF object. See elf_check.c. */
#ifndef PYLBPF_ELF_CHECK_H
#define PYLBPF_ELF_CHECK_H

#include <stddef.h>

/* 0 if it can, else -LIBBPF_ERRNO__FORMAT or -LIBBPF_ERRNO__ENDIAN, and in `problem` a sentence about what is wrong. */
int pylbpf_check_object(const unsigned char *data, size_t size, char *problem, size_t room);

#endif
