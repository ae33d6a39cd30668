/*
 * libbpf and libelf were not written for hostile input: a truncated, bit-flipped or forged object can make them read
 * and write out of bounds, loop or divide by zero. This looks at every object first.
 *
 * What libbpf, in every version since 1.1, notices by itself and refuses in good order is refused here only where that
 * makes a better sentence. What it opens must pass, so where it shrugs (debug sections, BTF that nothing needs) so do
 * we. Each check beyond the plain bounds names the function of libbpf that relies on it without asking.
 *
 * Headers and tables are read once, instructions and debug information never.
 */
#include "elf_check.h"

#include <bpf/libbpf.h>
#include <elf.h>
#include <endian.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef EM_BPF
#define EM_BPF 247
#endif

enum {
	INSN = 8,
	LDIMM64 = 0x18,               /* the one instruction that takes two slots */
	MAX_CHAIN = 256,              /* typedefs, qualifiers and array dimensions in a row */
	MAX_RESOLVE = 32,             /* where btf__resolve_size() gives up */
	MAX_KCONFIG = 1 << 20,        /* bytes of one __kconfig variable; the kernel's strings end at 4096 */
	MAX_ACCESS = 1024,            /* characters of "0:1:2"; libbpf stops at 64 numbers */
	MAX_MEMBERS = 1024,           /* of what describes a map or is a struct_ops map */
	MAX_SUBPROGRAMS = 1 << 14,    /* the kernel allows 256 in a program; libbpf calls itself for each */
	MAP_TYPE_STRUCT_OPS = 26,
	FEW_TYPES = 1500,             /* need no allocation */
};
static const uint64_t MAX_CODE = 1 << 30; /* libbpf copies each function, and they may overlap */

struct section {
	uint32_t name, type, link, info;
	uint64_t flags, offset, size, entry;
};

struct types {
	const uint8_t *at;            /* the type section */
	const uint32_t *starts;       /* where each type begins in it, from id 1 */
	const char *strings;
	uint32_t string_size, count;  /* count: types, void not among them */
	bool swap;
};

struct object {
	const uint8_t *data;
	size_t size;
	char *problem;
	size_t room;
	bool swap;                    /* the file's byte order is not ours */
	const uint8_t *table;         /* of sections */
	size_t count;
	const char *names;
	uint64_t names_size;
	size_t symtab, btf, btf_ext, maps, jumptables;
	bool struct_ops;
	uint64_t symbols, externs;
};

static __attribute__((cold, noinline, format(printf, 2, 3))) int fail(struct object *o, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(o->problem, o->room, format, arguments);
	va_end(arguments);
	return -LIBBPF_ERRNO__FORMAT;
}

static inline uint16_t u16(const void *at, bool swap)
{
	uint16_t value;
	memcpy(&value, at, sizeof(value));
	return swap ? __builtin_bswap16(value) : value;
}

static inline uint32_t u32(const void *at, bool swap)
{
	uint32_t value;
	memcpy(&value, at, sizeof(value));
	return swap ? __builtin_bswap32(value) : value;
}

static inline uint64_t u64(const void *at, bool swap)
{
	uint64_t value;
	memcpy(&value, at, sizeof(value));
	return swap ? __builtin_bswap64(value) : value;
}

#define FIELD(type, bits, at, member, swap) u##bits((at) + offsetof(type, member), swap)

static inline struct section section(const struct object *o, size_t index)
{
	const uint8_t *at = o->table + index * sizeof(Elf64_Shdr);
	return (struct section){
		.name = FIELD(Elf64_Shdr, 32, at, sh_name, o->swap), .type = FIELD(Elf64_Shdr, 32, at, sh_type, o->swap),
		.link = FIELD(Elf64_Shdr, 32, at, sh_link, o->swap), .info = FIELD(Elf64_Shdr, 32, at, sh_info, o->swap),
		.flags = FIELD(Elf64_Shdr, 64, at, sh_flags, o->swap), .offset = FIELD(Elf64_Shdr, 64, at, sh_offset, o->swap),
		.size = FIELD(Elf64_Shdr, 64, at, sh_size, o->swap), .entry = FIELD(Elf64_Shdr, 64, at, sh_entsize, o->swap),
	};
}

static const char *name_of(const struct object *o, size_t index)
{
	uint32_t name = section(o, index).name;
	return name < o->names_size ? o->names + name : "";
}

static bool starts(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_struct_ops(const char *name)
{
	name += *name == '?';
	return strcmp(name, ".struct_ops") == 0 || strcmp(name, ".struct_ops.link") == 0;
}

static bool is_code(const struct section *s)
{
	return s->type == SHT_PROGBITS && s->flags & SHF_EXECINSTR && s->size;
}

/* ---------------------------------------------------------------- ELF header */

static int check_header(struct object *o)
{
	if (o->size < sizeof(Elf64_Ehdr)) /* libelf asks for less */
		return fail(o, "not an ELF file: %zu bytes are too few for its header", o->size);
	if (memcmp(o->data, ELFMAG, SELFMAG))
		return fail(o, "not an ELF file: it begins with %02x %02x %02x %02x",
			    o->data[0], o->data[1], o->data[2], o->data[3]);
	if (o->data[EI_CLASS] != ELFCLASS64)
		return fail(o, "not a 64-bit ELF file: its class is %d", o->data[EI_CLASS]);
	if (o->data[EI_DATA] != ELFDATA2LSB && o->data[EI_DATA] != ELFDATA2MSB) {
		fail(o, "unknown byte order %d in the ELF header", o->data[EI_DATA]);
		return -LIBBPF_ERRNO__ENDIAN;
	}
	if (o->data[EI_VERSION] != EV_CURRENT)
		return fail(o, "unknown ELF version %d", o->data[EI_VERSION]);
	o->swap = (o->data[EI_DATA] == ELFDATA2LSB) != (__BYTE_ORDER == __LITTLE_ENDIAN);
	return 0;
}

static int check_section_table(struct object *o)
{
	uint64_t offset = FIELD(Elf64_Ehdr, 64, o->data, e_shoff, o->swap);
	uint16_t entry = FIELD(Elf64_Ehdr, 16, o->data, e_shentsize, o->swap);
	size_t names = FIELD(Elf64_Ehdr, 16, o->data, e_shstrndx, o->swap);

	o->count = FIELD(Elf64_Ehdr, 16, o->data, e_shnum, o->swap);
	if (!offset)
		return fail(o, "it has no section table");
	if (entry != sizeof(Elf64_Shdr))
		return fail(o, "entries of the section table have %d bytes, not %zu", entry, sizeof(Elf64_Shdr));
	if (offset > o->size || o->size - offset < sizeof(Elf64_Shdr))
		return fail(o, "the section table begins at byte %llu, the file ends at %zu",
			    (unsigned long long)offset, o->size);
	o->table = o->data + offset;
	if (!o->count) /* too many for 16 bits */
		o->count = section(o, 0).size;
	if (names == SHN_XINDEX)
		names = section(o, 0).link;
	if (o->count > (o->size - offset) / sizeof(Elf64_Shdr))
		return fail(o, "the section table, %zu entries from byte %llu on, ends behind the file's %zu bytes",
			    o->count, (unsigned long long)offset, o->size);
	if (!names || names >= o->count)
		return fail(o, "section names are in section %zu, there are %zu sections", names, o->count);

	struct section s = section(o, names);
	if (s.type != SHT_STRTAB || !s.size || s.offset > o->size ||
	    s.size > o->size - s.offset)
		return fail(o, "section %zu does not hold the section names", names);
	o->names = (const char *)o->data + s.offset;
	o->names_size = s.size;
	if (o->names[s.size - 1])
		return fail(o, "the section names do not end in NUL");
	return 0;
}

/* ---------------------------------------------------------------- sections */

/* libbpf takes the last of several sections of one name, and so do we. */
static int note_name(struct object *o, const struct section *s, size_t index, const char *name)
{
	if (strcmp(name, ".BTF") == 0 || strcmp(name, ".BTF.ext") == 0) {
		if (s->type != SHT_PROGBITS)
			return fail(o, "section %zu (%s) has the type %u, not PROGBITS", index, name, s->type);
		if (s->size > UINT32_MAX)
			return fail(o, "section %zu (%s) has more than 4 GiB", index, name);
		*(name[4] ? &o->btf_ext : &o->btf) = index;
	} else if (strcmp(name, ".maps") == 0) {
		o->maps = index;
	} else if (strcmp(name, ".jumptables") == 0) {
		o->jumptables = index;
	} else if (is_struct_ops(name)) {
		o->struct_ops = true;
	} else if ((starts(name, ".data") || starts(name, ".rodata") || starts(name, ".bss")) && s->size > UINT32_MAX) {
		/* bpf_object__init_internal_map(): the size of the map is 32 bits, that of the copy is not */
		return fail(o, "section %zu (%s) has more than 4 GiB", index, name);
	}
	return 0;
}

static int check_sections(struct object *o)
{
	for (size_t i = 0; i < o->count; i++) {
		struct section s = section(o, i);

		if (s.type != SHT_NOBITS && s.size && (s.offset > o->size || s.size > o->size - s.offset))
			return fail(o, "section %zu (%.40s), %llu bytes from byte %llu on, ends behind the file's %zu bytes",
				    i, name_of(o, i), (unsigned long long)s.size, (unsigned long long)s.offset, o->size);
		if (!i)
			continue;
		if (s.name >= o->names_size)
			return fail(o, "the name of section %zu is at byte %u of %llu of names",
				    i, s.name, (unsigned long long)o->names_size);
		if (s.type == SHT_SYMTAB) {
			if (o->symtab)
				return fail(o, "it has two symbol tables, sections %zu and %zu", o->symtab, i);
			o->symtab = i;
		}
		const char *name = o->names + s.name;
		/* libelf takes the first bytes for a header, and turns them round in a file of the other byte order */
		if (s.flags & SHF_COMPRESSED && !starts(name, ".debug"))
			return fail(o, "section %zu (%.40s) is compressed", i, name);
		if (name[0] == '.' || name[0] == '?') {
			int err = note_name(o, &s, i, name);
			if (err)
				return err;
		}
	}
	return 0;
}

/* ---------------------------------------------------------------- symbols */

static inline int
check_function(struct object *o, const char *name, uint64_t value, uint64_t size, const struct section *in)
{
	const char *where = o->names + in->name;

	/* bpf_object__add_programs() of 1.1: the sum may overflow */
	if (value > in->size || size > in->size - value)
		return fail(o, "function '%.60s', %llu bytes from byte %llu on, ends behind the %llu of section %.40s",
			    name, (unsigned long long)size, (unsigned long long)value, (unsigned long long)in->size, where);
	if (!size || size % INSN || value % INSN)
		return fail(o, "function '%.60s' in section %.40s is not made of whole instructions: "
			    "%llu bytes from byte %llu on", name, where, (unsigned long long)size, (unsigned long long)value);
	/* bpf_object__relocate_data() and bpf_core_patch_insn() take the second slot for granted */
	if (o->data[in->offset + value + size - INSN] == LDIMM64)
		return fail(o, "function '%.60s' in section %.40s ends in the middle of a 64-bit load", name, where);
	return 0;
}

static int check_symbols(struct object *o)
{
	struct section table = section(o, o->symtab);

	if (table.entry != sizeof(Elf64_Sym) || table.size % sizeof(Elf64_Sym))
		return fail(o, "the symbol table, section %zu, has %llu bytes in entries of %llu", o->symtab,
			    (unsigned long long)table.size, (unsigned long long)table.entry);
	if (!table.link || table.link >= o->count)
		return fail(o, "symbol names are in section %u, there are %zu sections", table.link, o->count);

	struct section names = section(o, table.link), in = {.type = SHT_NULL};
	if (names.type != SHT_STRTAB || !names.size || o->data[names.offset + names.size - 1])
		return fail(o, "section %u (%.40s) does not hold symbol names", table.link, name_of(o, table.link));
	if (!table.size)
		return 0;

	const char *strings = (const char *)o->data + names.offset;
	const uint8_t *at = o->data + table.offset;
	uint64_t code = 0, subprograms = 0;
	uint16_t current = 0;
	bool is_text = false;

	o->symbols = table.size / sizeof(Elf64_Sym);
	for (uint64_t i = 0; i < o->symbols; i++, at += sizeof(Elf64_Sym)) {
		uint32_t name = FIELD(Elf64_Sym, 32, at, st_name, o->swap);
		uint16_t index = FIELD(Elf64_Sym, 16, at, st_shndx, o->swap);
		uint64_t value = FIELD(Elf64_Sym, 64, at, st_value, o->swap);
		uint64_t size = FIELD(Elf64_Sym, 64, at, st_size, o->swap);
		int type = ELF64_ST_TYPE(at[offsetof(Elf64_Sym, st_info)]), err;

		if (name >= names.size)
			return fail(o, "the name of symbol %llu is at byte %u of %llu of names",
				    (unsigned long long)i, name, (unsigned long long)names.size);
		/* btf_fixup_datasec() looks for the name only; init_struct_ops_maps() adds offset and size in 32 bits */
		if (type == STT_OBJECT && o->struct_ops && value > INT32_MAX)
			return fail(o, "symbol %llu ('%.60s') is at byte %llu of section %u",
				    (unsigned long long)i, strings + name, (unsigned long long)value, index);
		if (index == SHN_UNDEF) {
			o->externs += type == STT_NOTYPE;
			continue;
		}
		if (index >= o->count) {
			if (index >= SHN_LORESERVE)
				continue;
			return fail(o, "symbol %llu ('%.60s') is in section %u, there are %zu sections",
				    (unsigned long long)i, strings + name, index, o->count);
		}
		if (index != current) {
			in = section(o, current = index);
			const char *where = o->names + in.name;
			is_text = where[0] == '.' && strcmp(where, ".text") == 0;
		}
		if (type == STT_FUNC && is_code(&in)) {
			if ((err = check_function(o, strings + name, value, size, &in)))
				return err;
			code += size;
			subprograms += is_text;
		}
		/* create_jt_map(): offset + size in 32 bits */
		if (index == o->jumptables && (value > in.size || size > in.size - value))
			return fail(o, "symbol %llu ('%.60s'), %llu bytes from byte %llu on, ends behind the %llu "
				    "of section %u (.jumptables)", (unsigned long long)i, strings + name, (unsigned long long)size,
				    (unsigned long long)value, (unsigned long long)in.size, index);
	}
	if (code > MAX_CODE)
		return fail(o, "its %llu symbols make functions of %llu bytes altogether",
			    (unsigned long long)o->symbols, (unsigned long long)code);
	/* bpf_object__reloc_code() calls itself for each subprogram that another calls */
	if (subprograms > MAX_SUBPROGRAMS)
		return fail(o, "it has %llu subprograms, more than %d", (unsigned long long)subprograms, MAX_SUBPROGRAMS);
	return 0;
}

/* ---------------------------------------------------------------- relocations */

static bool describes_maps(const char *name)
{
	return strcmp(name, ".maps") == 0 || is_struct_ops(name);
}

static bool ignored_by_libbpf(const char *name)
{
	return starts(name, ".debug_") || starts(name, ".rel.debug_") || strcmp(name, ".rel.BTF") == 0 ||
	       strcmp(name, ".rel.BTF.ext") == 0;
}

static int check_relocations(struct object *o, size_t index)
{
	struct section s = section(o, index);
	const char *name = name_of(o, index);

	if (ignored_by_libbpf(name))
		return 0;
	if (s.entry != sizeof(Elf64_Rel) || s.size % sizeof(Elf64_Rel))
		return fail(o, "the relocations in section %zu (%.40s) have %llu bytes in entries of %llu", index, name,
			    (unsigned long long)s.size, (unsigned long long)s.entry);
	if (s.info >= o->count)
		return fail(o, "section %zu (%.40s) relocates section %u, there are %zu sections", index, name, s.info, o->count);

	struct section target = section(o, s.info);
	if (!(target.flags & SHF_EXECINSTR) && !describes_maps(name_of(o, s.info)) &&
	    !(starts(name, ".rel") && describes_maps(name + strlen(".rel"))))
		return 0;
	/* bpf_object__collect_prog_relos() of 1.1: libelf has no data if the size does not suit another type */
	if (target.type != SHT_PROGBITS)
		return fail(o, "section %zu (%.40s) relocates section %u (%.40s), whose type %u is not PROGBITS",
			    index, name, s.info, name_of(o, s.info), target.type);

	for (uint64_t i = 0; i < s.size; i += sizeof(Elf64_Rel)) {
		const uint8_t *at = o->data + s.offset + i;
		uint64_t offset = FIELD(Elf64_Rel, 64, at, r_offset, o->swap);
		uint64_t symbol = ELF64_R_SYM(FIELD(Elf64_Rel, 64, at, r_info, o->swap));

		if (symbol >= o->symbols)
			return fail(o, "section %zu (%.40s) refers to symbol %llu, there are %llu", index, name,
				    (unsigned long long)symbol, (unsigned long long)o->symbols);
		/* bpf_object__collect_map_relos(): offset + 8 may overflow */
		if (target.size < 8 || offset > target.size - 8)
			return fail(o, "section %zu (%.40s) relocates byte %llu of the %llu of section %u (%.40s)", index, name,
				    (unsigned long long)offset, (unsigned long long)target.size, s.info, name_of(o, s.info));
	}
	return 0;
}

/* ---------------------------------------------------------------- BTF types */

enum kind {
	UNKNOWN, INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR,
	DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64, KINDS,
};

#define BIT(kind) (1u << (kind))
#define MODIFIERS (BIT(TYPEDEF) | BIT(VOLATILE) | BIT(CONST) | BIT(RESTRICT) | BIT(TYPE_TAG))
#define CHAINS (MODIFIERS | BIT(ARRAY))
#define SIZED (BIT(INT) | BIT(STRUCT) | BIT(UNION) | BIT(ENUM) | BIT(ENUM64) | BIT(FLOAT) | BIT(DATASEC))

/* What follows the 12 bytes of a type, and where names and types stand in it. */
static const struct layout {
	uint8_t refers;               /* the third word of the 12 bytes is a type, not a size */
	uint8_t extra;                /* bytes, then vlen times */
	uint8_t item;                 /* bytes: a name first, if */
	uint8_t named, typed;         /* and a type at this byte + 1 */
} layouts[KINDS] = {
	[INT] = {.extra = 4}, [PTR] = {.refers = 1}, [ARRAY] = {.extra = 12},
	[STRUCT] = {.item = 12, .named = 1, .typed = 5}, [UNION] = {.item = 12, .named = 1, .typed = 5},
	[ENUM] = {.item = 8, .named = 1}, [TYPEDEF] = {.refers = 1}, [VOLATILE] = {.refers = 1}, [CONST] = {.refers = 1},
	[RESTRICT] = {.refers = 1}, [FUNC] = {.refers = 1}, [FUNC_PROTO] = {.refers = 1, .item = 8, .named = 1, .typed = 5},
	[VAR] = {.refers = 1, .extra = 4}, [DATASEC] = {.item = 12, .typed = 1}, [DECL_TAG] = {.refers = 1, .extra = 4},
	[TYPE_TAG] = {.refers = 1}, [ENUM64] = {.item = 12, .named = 1},
};

static inline uint32_t larger(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static inline enum kind kind_of(uint32_t info)
{
	return info >> 24 & 0x1f;
}

/* The type that follows the known one at `at`, or NULL; `names` and `ids` become the largest that were met. */
static inline __attribute__((always_inline)) const uint8_t *
pass(const uint8_t *at, const uint8_t *end, bool swap, uint32_t *names, uint32_t *ids)
{
	uint32_t info = u32(at + 4, swap), vlen = info & 0xffff;
	enum kind kind = kind_of(info);
	const struct layout *layout = &layouts[kind];
	const uint8_t *item = at + 12 + layout->extra;
	if ((size_t)(end - at) < 12 + layout->extra + (size_t)vlen * layout->item)
		return NULL;
	*names = larger(*names, u32(at, swap));
	if (layout->refers)
		*ids = larger(*ids, u32(at + 8, swap));
	if (kind == ARRAY)
		*ids = larger(*ids, larger(u32(at + 12, swap), u32(at + 16, swap)));
	if (!layout->item)
		return item;

	uint32_t name = *names, id = *ids;
	const uint8_t *last = item + (size_t)vlen * layout->item;
	if (layout->named && layout->typed)
		for (; item < last; item += layout->item) {
			name = larger(name, u32(item, swap));
			id = larger(id, u32(item + 4, swap));
		}
	else if (layout->named)
		for (; item < last; item += layout->item)
			name = larger(name, u32(item, swap));
	else
		for (; item < last; item += layout->item)
			id = larger(id, u32(item, swap));
	*names = name;
	*ids = id;
	return last;
}

static inline const uint8_t *type_at(const struct types *t, uint32_t id)
{
	static const uint8_t nothing[12];
	return id ? t->at + t->starts[id - 1] : nothing;
}

static inline enum kind kind_at(const struct types *t, uint32_t id)
{
	return kind_of(u32(type_at(t, id) + 4, t->swap));
}

static inline uint32_t referred(const struct types *t, uint32_t id)
{
	return u32(type_at(t, id) + 8, t->swap);
}

static const char *type_name(const struct types *t, uint32_t id)
{
	return t->strings + u32(type_at(t, id), t->swap);
}

/* What skip_mods_and_typedefs() of libbpf does; that it comes to an end was checked. */
static uint32_t base_of(const struct types *t, uint32_t id)
{
	while (MODIFIERS & BIT(kind_at(t, id)))
		id = referred(t, id);
	return id;
}

/* As btf__resolve_size(), with the type that it ends at; -1 where that returns an error. */
static int64_t size_of(const struct types *t, uint32_t id, uint32_t *base)
{
	uint64_t elements = 1, size;

	for (int depth = 0; depth < MAX_RESOLVE; depth++) {
		const uint8_t *at = type_at(t, id);
		enum kind kind = kind_of(u32(at + 4, t->swap));

		if (kind == ARRAY) {
			elements *= u32(at + 20, t->swap);
			if (elements > UINT32_MAX)
				return -1;
			id = u32(at + 12, t->swap);
		} else if ((MODIFIERS | BIT(VAR) | BIT(DECL_TAG)) & BIT(kind)) {
			id = u32(at + 8, t->swap);
		} else {
			*base = id;
			if (kind == PTR)
				size = 8;
			else if (SIZED & BIT(kind))
				size = u32(at + 8, t->swap);
			else
				return -1;
			size *= elements;
			return size > UINT32_MAX ? -1 : (int64_t)size;
		}
	}
	return -1;
}

/* ---------------------------------------------------------------- what sections hold, according to BTF */

/* bpf_object__init_kern_struct_ops_maps() takes any map of this type for one that came from .struct_ops. */
static int check_map(struct object *o, const struct types *t, uint32_t var)
{
	uint32_t definition = base_of(t, referred(t, var));
	const uint8_t *at = type_at(t, definition), *member = at + 12;
	uint32_t members = u32(at + 4, t->swap) & 0xffff;

	if (kind_at(t, definition) != STRUCT)
		return 0;
	if (members > MAX_MEMBERS)
		return fail(o, "map '%.60s' in .maps is described by %u members", type_name(t, var), members);
	for (; members; members--, member += 12) {
		uint32_t id = base_of(t, u32(member + 4, t->swap));
		if (kind_at(t, id) != PTR || kind_at(t, id = referred(t, id)) != ARRAY)
			continue;
		if (u32(type_at(t, id) + 20, t->swap) == MAP_TYPE_STRUCT_OPS &&
		    strcmp(t->strings + u32(member, t->swap), "type") == 0)
			return fail(o, "map '%.60s' in .maps has the type STRUCT_OPS, which only .struct_ops can have",
				    type_name(t, var));
	}
	return 0;
}

/* bpf_object__collect_externs() lays them out in an int, and returns a size of 2 GiB as if it were an error. */
static int check_kconfig(struct object *o, const struct types *t, uint32_t var)
{
	uint32_t base = 0;
	int64_t size = size_of(t, referred(t, var), &base);
	enum kind kind = kind_at(t, base);

	/* btf__align_of() calls itself for members of structs */
	if (size <= 0 || size > MAX_KCONFIG || !((BIT(INT) | BIT(ENUM) | BIT(ENUM64)) & BIT(kind)))
		return fail(o, "__kconfig variable '%.60s' (BTF type %u) is no number, enum or string", type_name(t, var), var);
	/* set_kcfg_value_tri() writes an int */
	if (kind == ENUM64 && referred(t, base) < 4)
		return fail(o, "__kconfig variable '%.60s' (BTF type %u) is too small", type_name(t, var), var);
	if (o->externs > (uint64_t)INT32_MAX / 2 / (uint64_t)(size + 8))
		return fail(o, "__kconfig variable '%.60s' (BTF type %u) has %lld bytes, and there are %llu undefined symbols",
			    type_name(t, var), var, (long long)size, (unsigned long long)o->externs);
	return 0;
}

/* init_struct_ops_maps() adds offset and size in 32 bits; bpf_map__init_kern_struct_ops() reads and
 * bpf_object__collect_st_ops_relos() writes members wherever they are. */
static int check_struct_ops(struct object *o, const struct types *t, uint32_t var, uint32_t offset)
{
	uint32_t id = base_of(t, referred(t, var)), size = referred(t, id), info = u32(type_at(t, id) + 4, t->swap), base;
	const uint8_t *member = type_at(t, id) + 12;

	if (kind_of(info) != STRUCT)
		return 0;
	if (offset > INT32_MAX || size > INT32_MAX || (info & 0xffff) > MAX_MEMBERS)
		return fail(o, "struct_ops variable '%.60s' (BTF type %u) has %u bytes from byte %u on and %u members",
			    type_name(t, var), var, size, offset, info & 0xffff);
	for (uint32_t left = info & 0xffff; left; left--, member += 12) {
		uint32_t bits = u32(member + 8, t->swap);
		int64_t length = size_of(t, u32(member + 4, t->swap), &base);

		if (info >> 31 && bits >> 24)
			return fail(o, "member '%.60s' of struct_ops variable '%.60s' (BTF type %u) is a bit field",
				    t->strings + u32(member, t->swap), type_name(t, var), var);
		if ((int64_t)(bits / 8) + (length < 0 ? 0 : length) > size)
			return fail(o, "member '%.60s' of struct_ops variable '%.60s' (BTF type %u) ends behind the struct",
				    t->strings + u32(member, t->swap), type_name(t, var), var);
	}
	return 0;
}

static int check_datasec(struct object *o, const struct types *t, uint32_t id)
{
	const uint8_t *at = type_at(t, id), *item = at + 12;
	const char *name = type_name(t, id);
	bool kconfig = strcmp(name, ".kconfig") == 0, maps = strcmp(name, ".maps") == 0, struct_ops = is_struct_ops(name);
	int err = 0;

	for (uint32_t left = u32(at + 4, t->swap) & 0xffff; left && !err; left--, item += 12) {
		uint32_t var = u32(item, t->swap);
		enum kind kind = kind_at(t, var);

		/* bpf_object__collect_externs() and others write into what they take for a variable */
		if (kind != VAR && (kind != FUNC || kconfig))
			return fail(o, "BTF type %u (section %.40s) holds type %u, which is no variable", id, name, var);
		if (kind != VAR)
			continue;
		if (kconfig)
			err = check_kconfig(o, t, var);
		else if (maps)
			err = check_map(o, t, var);
		else if (struct_ops)
			err = check_struct_ops(o, t, var, u32(item + 4, t->swap));
	}
	return err;
}

/* ---------------------------------------------------------------- BTF, second look */

/* skip_mods_and_typedefs() follows them to the end. */
static int check_chain(struct object *o, const struct types *t, uint32_t id)
{
	uint32_t next = id;

	for (int steps = 0; steps < MAX_CHAIN; steps++) {
		const uint8_t *at = type_at(t, next);
		enum kind kind = kind_of(u32(at + 4, t->swap));
		if (!(CHAINS & BIT(kind)))
			return 0;
		next = u32(at + (kind == ARRAY ? 12 : 8), t->swap);
	}
	return fail(o, "BTF type %u (%.60s) is a circle of typedefs, qualifiers or arrays, or a chain of more than %d",
		    id, type_name(t, id), MAX_CHAIN);
}

/* bpf_core_calc_field_relo() divides by the size of a bit field's type. */
static int check_bit_fields(struct object *o, const struct types *t, uint32_t id)
{
	const uint8_t *at = type_at(t, id), *member = at + 12;

	for (uint32_t left = u32(at + 4, t->swap) & 0xffff; left; left--, member += 12)
		if (u32(member + 8, t->swap) >> 24 && !referred(t, base_of(t, u32(member + 4, t->swap))))
			return fail(o, "bit field '%.60s' of BTF type %u (%.60s) is of a type without size",
				    t->strings + u32(member, t->swap), id, type_name(t, id));
	return 0;
}

static int check_type(struct object *o, const struct types *t, uint32_t id)
{
	uint32_t kind = kind_at(t, id);

	switch (kind) {
	case FUNC: /* bpf_object__collect_externs() of 1.1 writes into its parameters */
		if (kind_at(t, referred(t, id)) == FUNC_PROTO)
			return 0;
		return fail(o, "BTF type %u (function %.60s) refers to type %u, which is no prototype",
			    id, type_name(t, id), referred(t, id));
	case DATASEC:
		return check_datasec(o, t, id);
	default:
		return check_bit_fields(o, t, id);
	}
}

static int say_which(struct object *o, const struct types *t, const uint8_t *end)
{
	const uint8_t *at = t->at;

	for (uint32_t id = 1; id <= t->count; id++) {
		uint32_t name = 0, ref = 0;
		at = pass(at, end, t->swap, &name, &ref);
		if (name >= t->string_size)
			return fail(o, "BTF type %u has a name at byte %u of %u of strings", id, name, t->string_size);
		if (ref > t->count)
			return fail(o, "BTF type %u refers to type %u, the last one is %u", id, ref, t->count);
	}
	return 0;
}

/* BTF that libbpf will drop, saying so; the object opens without it if nothing needs it. */
static int dropped(struct object *o, bool *usable, const char *why)
{
	*usable = false;
	if (o->maps || o->struct_ops)
		return fail(o, "%s, and the object needs it", why);
	return 0;
}

/* `ids` has room for two numbers for each type: the first half says where it begins, the second which to look at
 * again, from its left end chains of types, which others are going to follow, and from its right end all else. */
static inline __attribute__((always_inline)) int
check_types(struct object *o, struct types *t, uint32_t length, uint32_t *ids, uint32_t capacity, bool *usable,
	    bool swap)
{
	const uint8_t *at = t->at, *end = at + length;
	uint32_t *chains = ids + capacity, *chain = chains, *others = chains + capacity, *other = others;
	uint32_t count = 0, largest_name = 0, largest_id = 0;
	int err;

	while (at < end) {
		const uint8_t *type = at;
		uint32_t info = end - at < 12 ? 0 : u32(at + 4, swap);
		enum kind kind = kind_of(info);

		if (kind >= KINDS) { /* a newer libbpf may know it */
			*usable = false;
			return 0;
		}
		if (kind == UNKNOWN || !(at = pass(type, end, swap, &largest_name, &largest_id)))
			return dropped(o, usable, ".BTF has a type that is cut off or of no kind");
		ids[count++] = type - t->at;
		if ((CHAINS | BIT(FUNC)) & BIT(kind)) {
			/* Most often it refers to one that is known already, and right, or harmless. */
			uint32_t next = u32(type + (kind == ARRAY ? 12 : 8), swap);
			uint32_t known = next - 1 < count ? BIT(kind_of(u32(t->at + ids[next - 1] + 4, swap))) : 0;
			if (kind == FUNC && !(known & BIT(FUNC_PROTO)))
				*--other = count;
			else if (kind != FUNC && (!known || known & CHAINS))
				*chain++ = count;
		} else if (kind == DATASEC || (info >> 31 && (kind == STRUCT || kind == UNION))) {
			*--other = count;
		}
	}
	t->count = count;
	if (largest_name >= t->string_size || largest_id > t->count)
		return say_which(o, t, end);
	while (chain > chains)
		if ((err = check_chain(o, t, *--chain)))
			return err;
	for (; other < others; other++)
		if ((err = check_type(o, t, *other)))
			return err;
	return 0;
}

/* ---------------------------------------------------------------- .BTF.ext */

/* bpf_core_parse_spec() reads signed numbers and compares them with upper bounds only. */
static bool harmless_access(const char *text)
{
	int digits = 0, length = 0;

	for (; text[length] && length < MAX_ACCESS; length++) {
		digits = text[length] >= '0' && text[length] <= '9' ? digits + 1 : 0;
		if (text[length] == '-' || digits > 9)
			return false;
	}
	return length < MAX_ACCESS;
}

static int check_records(struct object *o, const struct types *t, const char *what, const uint8_t *at, uint32_t length,
			 bool swap, bool *usable)
{
	static const char *const shared = "the %s of .BTF.ext %s";
	char why[80];
	const uint8_t *end = at + length;
	bool core = what[0] == 'C', functions = what[0] == 'f';
	uint32_t least = functions ? 8 : 16, size = length < 4 ? 0 : u32(at, swap);

	if (size < least || size % 4 || length == 4 || (swap && size != least)) {
		snprintf(why, sizeof(why), shared, what, "have the wrong size");
		return dropped(o, usable, why);
	}
	for (at += 4; at < end;) {
		uint32_t records = end - at < 8 ? 0 : u32(at + 4, swap);
		if (!records || (uint64_t)records * size > (uint64_t)(end - at) - 8) {
			snprintf(why, sizeof(why), shared, what, "are cut off");
			return dropped(o, usable, why);
		}
		if (u32(at, swap) >= t->string_size)
			return fail(o, "the %s of .BTF.ext are for a section whose name is at byte %u of %u of strings",
				    what, u32(at, swap), t->string_size);
		if (!core && !functions) {
			at += 8 + (uint64_t)records * size;
			continue;
		}
		for (at += 8; records; records--, at += size) {
			if (u32(at + 4, swap) > t->count)
				return fail(o, "the %s of .BTF.ext refer to BTF type %u, the last one is %u",
					    what, u32(at + 4, swap), t->count);
			if (!core)
				continue;
			uint32_t access = u32(at + 8, swap);
			if (access >= t->string_size)
				return fail(o, "the %s of .BTF.ext have an access at byte %u of %u of strings",
					    what, access, t->string_size);
			if (!harmless_access(t->strings + access))
				return fail(o, "the %s of .BTF.ext have the access '%.40s'", what, t->strings + access);
		}
	}
	return 0;
}

static int check_btf_ext(struct object *o, const struct types *t)
{
	static const char *const what[] = {"function infos", "line infos", "CO-RE relocations"};
	struct section s = section(o, o->btf_ext);
	const uint8_t *at = o->data + (s.size ? s.offset : 0);
	bool swap, usable = true;
	uint32_t header, spans[3][2];

	if (s.size < 8 || at[2] != 1 || at[3] || (u16(at, false) != 0xeb9f && u16(at, true) != 0xeb9f))
		return dropped(o, &usable, ".BTF.ext has no valid header");
	swap = u16(at, false) != 0xeb9f;
	header = u32(at + 4, swap);
	if (header < 24 || header >= s.size)
		return dropped(o, &usable, ".BTF.ext has no valid header");
	if (header % 4) /* records are read as they lie behind it */
		return fail(o, "the header of .BTF.ext has %u bytes, no multiple of 4", header);
	for (int i = 0; i < (header < 32 ? 2 : 3); i++) {
		uint32_t offset = u32(at + 8 + 8 * i, swap), length = u32(at + 12 + 8 * i, swap);

		spans[i][0] = offset, spans[i][1] = length;
		if (!length)
			continue;
		if (offset % 4 || (uint64_t)header + offset + length > s.size)
			return dropped(o, &usable, ".BTF.ext is cut off");
		int err = check_records(o, t, what[i], at + header + offset, length, swap, &usable);
		if (err || !usable)
			return err;
		/* btf_ext_bswap_info(): what is swapped twice is no longer what was checked */
		for (int j = 0; swap && j < i; j++)
			if (spans[j][1] && offset < (uint64_t)spans[j][0] + spans[j][1] &&
			    spans[j][0] < (uint64_t)offset + length)
				return fail(o, "the %s and %s of .BTF.ext overlap", what[j], what[i]);
	}
	return 0;
}

/* ---------------------------------------------------------------- .BTF */

static int check_btf(struct object *o)
{
	struct section s = section(o, o->btf);
	const uint8_t *at = o->data + (s.size ? s.offset : 0);
	bool usable = true;

	if (s.size < 24 || (u16(at, false) != 0xeb9f && u16(at, true) != 0xeb9f))
		return dropped(o, &usable, ".BTF has no valid header");

	bool swap = u16(at, false) != 0xeb9f;
	uint32_t header = u32(at + 4, swap), type_offset = u32(at + 8, swap), type_length = u32(at + 12, swap);
	uint64_t string_offset = u32(at + 16, swap), string_length = u32(at + 20, swap);

	if (header > s.size || (swap && header != 24))
		return dropped(o, &usable, ".BTF has no valid header");
	if (header < 24) /* libbpf corrects types in place: these could be the header */
		return fail(o, "the header of .BTF has %u bytes, less than 24", header);
	if (header % 4) /* records are read as they lie behind it */
		return fail(o, "the header of .BTF has %u bytes, no multiple of 4", header);
	if (type_offset % 4 || (uint64_t)type_offset + type_length > string_offset ||
	    string_offset + string_length > s.size - header)
		return dropped(o, &usable, ".BTF is cut off or its parts overlap");

	struct types t = {
		.at = at + header + type_offset, .strings = (const char *)at + header + string_offset,
		.string_size = string_length, .swap = swap,
	};
	if (!string_length || string_length > INT32_MAX || t.strings[0] || t.strings[string_length - 1])
		return dropped(o, &usable, "the strings of .BTF do not begin and end in NUL");

	uint32_t few[2 * FEW_TYPES], *ids = few, capacity = type_length / 12;
	if (capacity > FEW_TYPES) {
		ids = malloc(2 * sizeof(*ids) * (size_t)capacity);
		if (!ids)
			return fail(o, "no memory to check its %u bytes of BTF types", type_length);
	}
	t.starts = ids;
	int err = swap ? check_types(o, &t, type_length, ids, capacity, &usable, true)
		       : check_types(o, &t, type_length, ids, capacity, &usable, false);
	if (!err && usable && o->btf_ext)
		err = check_btf_ext(o, &t);
	if (ids != few)
		free(ids);
	return err;
}

/* ---------------------------------------------------------------- all of it */

int pylbpf_check_object(const unsigned char *data, size_t size, char *problem, size_t room)
{
	struct object o = {.data = data, .size = size, .problem = problem, .room = room};
	int err;

	if ((err = check_header(&o)))
		return err;
	/* Not for BPF at all: libbpf says so before it looks at more. */
	uint16_t machine = FIELD(Elf64_Ehdr, 16, data, e_machine, o.swap);
	if (FIELD(Elf64_Ehdr, 16, data, e_type, o.swap) != ET_REL || (machine != EM_NONE && machine != EM_BPF))
		return 0;
	if ((err = check_section_table(&o)) || (err = check_sections(&o)))
		return err;
	if (!o.symtab) /* libbpf stops here as well */
		return 0;
	if ((err = check_symbols(&o)))
		return err;
	for (size_t i = 1; i < o.count; i++)
		if (FIELD(Elf64_Shdr, 32, o.table + i * sizeof(Elf64_Shdr), sh_type, o.swap) == SHT_REL &&
		    (err = check_relocations(&o, i)))
			return err;
	return o.btf ? check_btf(&o) : 0;
}
