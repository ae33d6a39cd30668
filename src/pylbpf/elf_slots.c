/*
 * What fills the slots of map definitions are the relocations of section .maps. Whoever loads only some programs of an
 * object must know those that libbpf will look for, or hide the slots from it.
 */
#include "elf_slots.h"

#include <elf.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { IGNORED = 0x6fff4c03 }; /* SHT_LLVM_ADDRSIG, a type of section that libbpf passes over without a word */

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
enum { NATIVE = ELFDATA2LSB };
#else
enum { NATIVE = ELFDATA2MSB };
#endif

struct file {
	const unsigned char *data;
	size_t size;
	Elf64_Ehdr header;
	Elf64_Shdr names;
};

static bool get(const struct file *file, uint64_t offset, void *into, size_t length)
{
	if (offset > file->size || length > file->size - offset)
		return false;
	memcpy(into, file->data + offset, length);
	return true;
}

static bool get_section(const struct file *file, size_t index, Elf64_Shdr *section)
{
	return index < file->header.e_shnum &&
	       get(file, file->header.e_shoff + index * sizeof(*section), section, sizeof(*section));
}

static const char *text_at(const struct file *file, const Elf64_Shdr *strings, uint32_t offset)
{
	uint64_t at = strings->sh_offset + offset;
	if (offset >= strings->sh_size || at >= file->size || !memchr(file->data + at, 0, file->size - at))
		return "";
	return (const char *)file->data + at;
}

static bool begin(struct file *file, const unsigned char *data, size_t size)
{
	file->data = data;
	file->size = size;
	return get(file, 0, &file->header, sizeof(file->header)) && file->header.e_ident[EI_DATA] == NATIVE &&
	       get_section(file, file->header.e_shstrndx, &file->names);
}

static bool fills_slots(const struct file *file, const Elf64_Shdr *section)
{
	return section->sh_type == SHT_REL && strcmp(text_at(file, &file->names, section->sh_name), ".rel.maps") == 0;
}

const char *pylbpf_slot(const unsigned char *data, size_t size, size_t at)
{
	struct file file;
	Elf64_Shdr section, symbols, strings;
	Elf64_Rel relocation;
	Elf64_Sym symbol;
	size_t index, count;

	if (!begin(&file, data, size))
		return NULL;
	for (index = 0; get_section(&file, index, &section); index++) {
		if (!fills_slots(&file, &section))
			continue;
		count = section.sh_size / sizeof(relocation);
		if (at >= count) {
			at -= count;
			continue;
		}
		if (get(&file, section.sh_offset + at * sizeof(relocation), &relocation, sizeof(relocation)) &&
		    get_section(&file, section.sh_link, &symbols) && get_section(&file, symbols.sh_link, &strings) &&
		    get(&file, symbols.sh_offset + ELF64_R_SYM(relocation.r_info) * sizeof(symbol), &symbol, sizeof(symbol)))
			return text_at(&file, &strings, symbol.st_name);
		return "";
	}
	return NULL;
}

void pylbpf_hide_slots(unsigned char *data, size_t size)
{
	struct file file;
	Elf64_Shdr section;
	size_t index;

	if (!begin(&file, data, size))
		return;
	for (index = 0; get_section(&file, index, &section); index++) {
		if (!fills_slots(&file, &section))
			continue;
		section.sh_type = IGNORED;
		memcpy(data + file.header.e_shoff + index * sizeof(section), &section, sizeof(section));
	}
}
