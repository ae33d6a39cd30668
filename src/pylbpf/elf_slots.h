/* The programs that map definitions hold in slots (__array(values, int (void *)) of a program array). See elf_slots.c. */
#ifndef PYLBPF_ELF_SLOTS_H
#define PYLBPF_ELF_SLOTS_H

#include <stddef.h>

/* The name that the at-th relocation of map definitions refers to, NULL after the last: of a program, or of an inner
 * map. For objects that pylbpf_check_object() found sound, in this machine's byte order; NULL at once for another. */
const char *pylbpf_slot(const unsigned char *data, size_t size, size_t at);

/* Make libbpf blind for these relocations: all slots are empty for it. */
void pylbpf_hide_slots(unsigned char *data, size_t size);

#endif
