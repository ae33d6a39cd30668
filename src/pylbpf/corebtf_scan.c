/*
 * Finds out what an object's CO-RE relocations look for.
 *
 * Relocated against a part of the kernel's BTF an object has to become the same, bit by bit, and if that fails the
 * words have to be the same. What makes libbpf tell a number of a kernel type, in an instruction or in an error, is
 * therefore left to the whole BTF, and so is all that is odd.
 */
#include "pylbpf/internal/corebtf_scan.h"

#include <elf.h>
#include <endian.h>
#include <stdbool.h>
#include <stdlib.h>

#include "corebtf_types.h"

#ifndef EM_BPF
#define EM_BPF 247
#endif

enum {
	INSN = 8,
	MAX_NAME = 511,               /* bytes; the kernel's own are shorter */
	MAX_STEPS = 16,               /* of one access, as p->a.b[2]; libbpf stops at 64, anonymous structs included */
	MAX_DEPTH = 16,               /* pointers, arrays and prototypes in a row; libbpf stops at 32 */
	MAX_PARTS = 256,              /* types that a type is made of */
	MAX_NAMES = 4096,
};

enum relocation {                     /* enum bpf_core_relo_kind */
	FIELD_RSHIFT_U64 = 5, TYPE_ID_LOCAL, TYPE_ID_TARGET, TYPE_EXISTS, TYPE_SIZE, ENUMVAL_EXISTS, ENUMVAL_VALUE,
	TYPE_MATCHES, RELOCATIONS,
};

struct object {
	const uint8_t *data;
	size_t size;
	const uint8_t *table;         /* of sections */
	size_t count;
	const char *names;
	uint64_t names_size;
};

struct part {
	const uint8_t *at;
	uint64_t size;
};

/* ---------------------------------------------------------------- ELF */

static Elf64_Shdr section(const struct object *o, size_t index)
{
	Elf64_Shdr s;
	memcpy(&s, o->table + index * sizeof(s), sizeof(s));
	if (s.sh_type != SHT_NOBITS && (s.sh_offset > o->size || s.sh_size > o->size - s.sh_offset))
		s.sh_type = SHT_NULL;
	return s;
}

static bool read_header(struct object *o)
{
	Elf64_Ehdr header;

	if (o->size < sizeof(header))
		return false;
	memcpy(&header, o->data, sizeof(header));
	if (memcmp(header.e_ident, ELFMAG, SELFMAG) || header.e_ident[EI_CLASS] != ELFCLASS64 ||
	    header.e_ident[EI_DATA] != (__BYTE_ORDER == __LITTLE_ENDIAN ? ELFDATA2LSB : ELFDATA2MSB) ||
	    header.e_type != ET_REL || (header.e_machine != EM_BPF && header.e_machine != EM_NONE) ||
	    header.e_shentsize != sizeof(Elf64_Shdr) || !header.e_shoff || header.e_shoff > o->size ||
	    o->size - header.e_shoff < sizeof(Elf64_Shdr))
		return false;
	o->table = o->data + header.e_shoff;

	Elf64_Shdr first = section(o, 0);
	size_t names = header.e_shstrndx == SHN_XINDEX ? first.sh_link : header.e_shstrndx;
	o->count = header.e_shnum ? header.e_shnum : first.sh_size;
	if (o->count > (o->size - header.e_shoff) / sizeof(Elf64_Shdr) || names >= o->count)
		return false;

	Elf64_Shdr s = section(o, names);
	if (s.sh_type != SHT_STRTAB || !s.sh_size || o->data[s.sh_offset + s.sh_size - 1])
		return false;
	o->names = (const char *)o->data + s.sh_offset;
	o->names_size = s.sh_size;
	return true;
}

static const char *name_of(const struct object *o, const Elf64_Shdr *s)
{
	return s->sh_name < o->names_size ? o->names + s->sh_name : "";
}

/* What stands at the beginning of a map's life: symbols in the section, or the section itself. With a question mark
 * neither programs nor maps are made unless somebody asks for them. */
static bool holds_maps(const char *name)
{
	return strcmp(name, ".maps") == 0 || strcmp(name, ".struct_ops") == 0 || strcmp(name, ".struct_ops.link") == 0;
}

static bool is_map(const char *name)
{
	static const char *const prefixes[] = {".data", ".rodata", ".bss"};

	for (int i = 0; i < 3; i++) {
		size_t length = strlen(prefixes[i]);
		if (strncmp(name, prefixes[i], length) == 0 && (!name[length] || name[length] == '.'))
			return true;
	}
	return false;
}

/* Whether each of its functions is going to be a program. Those of struct_ops are loaded for a map only. */
static bool holds_programs(const char *name)
{
	return *name != '?' && strcmp(name, ".text") && strncmp(name, "struct_ops", strlen("struct_ops"));
}

static bool is_code(const Elf64_Shdr *s)
{
	return s->sh_type == SHT_PROGBITS && s->sh_flags & SHF_EXECINSTR;
}

static void count_symbols(const struct object *o, const Elf64_Shdr *table, struct pylbpf_scan *scan)
{
	Elf64_Half current = SHN_UNDEF;
	bool programs = false, maps = false;

	for (uint64_t i = 0; i < table->sh_size / sizeof(Elf64_Sym); i++) {
		Elf64_Sym symbol;
		memcpy(&symbol, o->data + table->sh_offset + i * sizeof(symbol), sizeof(symbol));
		if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx >= o->count)
			continue;
		if (symbol.st_shndx != current) {
			Elf64_Shdr s = section(o, current = symbol.st_shndx);
			programs = is_code(&s) && holds_programs(name_of(o, &s));
			maps = holds_maps(name_of(o, &s));
		}
		scan->programs += programs && ELF64_ST_TYPE(symbol.st_info) == STT_FUNC;
		scan->maps += maps && ELF64_ST_TYPE(symbol.st_info) == STT_OBJECT;
	}
}

/* Counts, and finds BTF: of several sections of one name libbpf takes the last, and so do we. */
static void read_sections(const struct object *o, struct pylbpf_scan *scan, struct part *btf, struct part *ext)
{
	bool counted = false;

	for (size_t i = 1; i < o->count; i++) {
		Elf64_Shdr s = section(o, i);
		const char *name = name_of(o, &s);

		if (is_code(&s)) {
			scan->insns += s.sh_size / INSN;
		} else if (s.sh_type == SHT_SYMTAB && !counted) {
			count_symbols(o, &s, scan);
			counted = true;
		}
		if (strcmp(name, ".BTF") == 0)
			*btf = s.sh_type == SHT_PROGBITS ? (struct part){o->data + s.sh_offset, s.sh_size} : (struct part){0};
		else if (strcmp(name, ".BTF.ext") == 0)
			*ext = s.sh_type == SHT_PROGBITS ? (struct part){o->data + s.sh_offset, s.sh_size} : (struct part){0};
		else if (is_map(name))
			scan->maps += s.sh_size > 0;
	}
}

/* ---------------------------------------------------------------- relocations */

/* Whether libbpf can compare the type with any other one without an error that names the other's number: such errors
 * are for types that are nested too deep, or of kinds that are not compared. */
static bool comparable(const struct pylbpf_types *types, uint32_t id, int depth, int *parts)
{
	while (--*parts > 0 && depth > 0) {
		const uint8_t *type = pylbpf_type(types, id);
		enum pylbpf_kind kind = pylbpf_kind(type);

		switch (kind) {
		case PYLBPF_VOID: case PYLBPF_INT: case PYLBPF_STRUCT: case PYLBPF_UNION: case PYLBPF_ENUM: case PYLBPF_ENUM64:
		case PYLBPF_FWD:
			return true;
		case PYLBPF_PTR:
			depth--;
			id = pylbpf_u32(type + 8);
			break;
		case PYLBPF_ARRAY:
			depth--;
			id = pylbpf_u32(type + 12);
			break;
		case PYLBPF_FUNC_PROTO:
			depth--;
			for (uint32_t i = 0; i < pylbpf_items(type); i++)
				if (!comparable(types, pylbpf_u32(type + 16 + 8 * i), depth, parts))
					return false;
			id = pylbpf_u32(type + 8);
			break;
		default:
			if (!pylbpf_is_modifier(kind))
				return false;
			id = pylbpf_u32(type + 8);
		}
	}
	return false;
}

static const char *
read_relocation(const struct pylbpf_types *types, const uint8_t *at, uint8_t *done, struct pylbpf_scan *scan)
{
	uint32_t root = pylbpf_u32(at + 4), relocation = pylbpf_u32(at + 12);
	const char *access = pylbpf_string(types, pylbpf_u32(at + 8)), *name;
	const uint8_t *type = pylbpf_type(types, root);
	enum pylbpf_kind kind = pylbpf_kind(type);
	bool fields = relocation <= FIELD_RSHIFT_U64;
	int parts = MAX_PARTS, steps = 0;

	if (relocation >= RELOCATIONS)
		return "it has a CO-RE relocation of an unknown kind";
	scan->kinds |= 1u << relocation;
	if (relocation == TYPE_ID_LOCAL)
		return NULL;
	if (relocation == TYPE_ID_TARGET)
		return "it asks for the number of a kernel type";
	if (relocation == TYPE_MATCHES)
		return "it asks whether a kernel type matches in all its parts";
	for (; *access; access++)
		if (*access == ':' && ++steps == MAX_STEPS)
			return "it has an access of too many steps";
	if (root - 1 >= types->count)
		return "it refers to a type that is not there";
	if (done[root] & (fields ? 2 : 1))
		return NULL;
	done[root] |= fields ? 2 : 1;

	name = pylbpf_string(types, pylbpf_u32(type));
	if (!*name)
		return "it refers to a type without a name";
	if (strnlen(name, MAX_NAME + 1) > MAX_NAME)
		return "it refers to a type whose name is too long";
	if (!pylbpf_is_root(kind) || (!fields && !comparable(types, root, MAX_DEPTH, &parts)))
		return "it refers to a type of an unusual kind";
	if (scan->names.count == MAX_NAMES)
		return "it refers to too many types";
	struct pylbpf_essence essence = pylbpf_essence(name);
	if (pylbpf_names_add(&scan->names, &essence, pylbpf_kind_class(kind)))
		return "there is no memory";
	return NULL;
}

/* All records of the part of .BTF.ext that holds CO-RE relocations; those that libbpf would read. */
static const char *
read_records(const struct pylbpf_types *types, struct part records, uint8_t *done, struct pylbpf_scan *scan)
{
	const uint8_t *at = records.at, *end = at + records.size;
	uint32_t size = records.size < 4 ? 0 : pylbpf_u32(at);
	const char *plain = NULL;

	if (size < 16)
		return "its .BTF.ext is damaged";
	for (at += 4; at < end;) {
		uint32_t count = end - at < 8 ? 0 : pylbpf_u32(at + 4);

		if (!count || (uint64_t)count * size > (uint64_t)(end - at) - 8)
			return "its .BTF.ext is damaged";
		scan->relocations += count;
		for (at += 8; count; count--, at += size) {
			const char *problem = read_relocation(types, at, done, scan);
			plain = plain ? plain : problem;
		}
	}
	return plain;
}

static void count_kconfig(const struct pylbpf_types *types, struct pylbpf_scan *scan)
{
	for (uint32_t id = types->count; id; id--) {
		const uint8_t *type = pylbpf_type(types, id);
		if (pylbpf_kind(type) == PYLBPF_DATASEC &&
		    strcmp(pylbpf_string(types, pylbpf_u32(type)), ".kconfig") == 0) {
			scan->maps++;
			return;
		}
	}
}

/* The CO-RE relocations in .BTF.ext; NULL if there are none. */
static const char *find_relocations(struct part ext, struct part *found)
{
	uint16_t magic;
	uint32_t header;

	*found = (struct part){0};
	if (!ext.size)
		return NULL;
	if (ext.size < 24 || ext.size > UINT32_MAX)
		return "its .BTF.ext is damaged";
	memcpy(&magic, ext.at, sizeof(magic));
	header = pylbpf_u32(ext.at + 4);
	if (magic != PYLBPF_BTF_MAGIC || header < 24 || header > ext.size)
		return "its .BTF.ext is damaged";
	if (header < 32)
		return NULL;
	*found = (struct part){NULL, pylbpf_u32(ext.at + 28)};
	uint32_t offset = pylbpf_u32(ext.at + 24);
	if (found->size && (uint64_t)offset + found->size > ext.size - header)
		return "its .BTF.ext is damaged";
	found->at = found->size ? ext.at + header + offset : NULL;
	return NULL;
}

/* ---------------------------------------------------------------- all of it */

void pylbpf_scan(const unsigned char *data, size_t size, struct pylbpf_scan *scan)
{
	struct object o = {.data = data, .size = size};
	struct part btf = {0}, ext = {0}, records;
	struct pylbpf_types types;
	uint8_t *done;

	*scan = (struct pylbpf_scan){0};
	if (!read_header(&o)) {
		scan->plain = "it is no BPF object for this machine";
		return;
	}
	read_sections(&o, scan, &btf, &ext);
	if ((scan->plain = find_relocations(ext, &records)) || !records.size)
		return;
	if (pylbpf_types_read(&types, btf.at, btf.size)) {
		scan->plain = "its .BTF is damaged";
		return;
	}
	done = calloc((size_t)types.count + 1, 1);
	scan->plain = done ? read_records(&types, records, done, scan) : "there is no memory";
	free(done);
	count_kconfig(&types, scan);
	pylbpf_types_free(&types);
}

void pylbpf_scan_free(struct pylbpf_scan *scan)
{
	pylbpf_names_free(&scan->names);
}
