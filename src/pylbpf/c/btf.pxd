# SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
# Mirror of <bpf/btf.h> up to 1.8; see libbpf.pxd. Where C has a struct and a function of
# one name (btf_array, btf_enum, ...), the function keeps it and the struct is struct_<name>.

from pylbpf.c.uapi cimport (
    __s32, __s64, __u8, __u16, __u32, __u64, btf_func_linkage, btf_member, btf_param, btf_type, btf_var_secinfo,
    btf_array as struct_btf_array, btf_decl_tag as struct_btf_decl_tag, btf_enum as struct_btf_enum,
    btf_enum64 as struct_btf_enum64, btf_var as struct_btf_var,
)

cdef extern from "<stdarg.h>" nogil:
    ctypedef struct va_list:
        pass

cdef extern from "pylbpf/compat.h" nogil:
    const char *BTF_ELF_SEC
    const char *BTF_EXT_ELF_SEC
    const char *MAPS_ELF_SEC

    enum btf_endianness:
        BTF_LITTLE_ENDIAN
        BTF_BIG_ENDIAN

    enum btf_fwd_kind:
        BTF_FWD_STRUCT
        BTF_FWD_UNION
        BTF_FWD_ENUM

    struct btf:
        pass
    struct btf_ext:
        pass
    struct btf_dump:
        pass

    ctypedef void (*btf_dump_printf_fn_t)(void *ctx, const char *fmt, va_list args) noexcept nogil

    void btf__free(btf *btf)
    btf *btf__new(const void *data, __u32 size)
    btf *btf__new_split "pylbpf_compat_btf__new_split"(const void *data, __u32 size, btf *base_btf)
    btf *btf__new_empty()
    btf *btf__new_empty_split(btf *base_btf)
    btf *btf__new_empty_opts "pylbpf_compat_btf__new_empty_opts"(btf_new_opts *opts)
    int btf__distill_base "pylbpf_compat_btf__distill_base"(const btf *src_btf, btf **new_base_btf,
            btf **new_split_btf)
    btf *btf__parse(const char *path, btf_ext **btf_ext)
    btf *btf__parse_split(const char *path, btf *base_btf)
    btf *btf__parse_elf(const char *path, btf_ext **btf_ext)
    btf *btf__parse_elf_split(const char *path, btf *base_btf)
    btf *btf__parse_raw(const char *path)
    btf *btf__parse_raw_split(const char *path, btf *base_btf)
    btf *btf__load_vmlinux_btf()
    btf *btf__load_module_btf(const char *module_name, btf *vmlinux_btf)
    btf *btf__load_from_kernel_by_id(__u32 id)
    btf *btf__load_from_kernel_by_id_split(__u32 id, btf *base_btf)
    int btf__load_into_kernel(btf *btf)
    __s32 btf__find_by_name(const btf *btf, const char *type_name)
    __s32 btf__find_by_name_kind(const btf *btf, const char *type_name, __u32 kind)
    __u32 btf__type_cnt(const btf *btf)
    const btf *btf__base_btf(const btf *btf)
    const btf_type *btf__type_by_id(const btf *btf, __u32 id)
    size_t btf__pointer_size(const btf *btf)
    int btf__set_pointer_size(btf *btf, size_t ptr_sz)
    btf_endianness btf__endianness(const btf *btf)
    int btf__set_endianness(btf *btf, btf_endianness endian)
    __s64 btf__resolve_size(const btf *btf, __u32 type_id)
    int btf__resolve_type(const btf *btf, __u32 type_id)
    int btf__align_of(const btf *btf, __u32 id)
    int btf__fd(const btf *btf)
    void btf__set_fd(btf *btf, int fd)
    const void *btf__raw_data(const btf *btf, __u32 *size)
    const char *btf__name_by_offset(const btf *btf, __u32 offset)
    const char *btf__str_by_offset(const btf *btf, __u32 offset)

    btf_ext *btf_ext__new(const __u8 *data, __u32 size)
    void btf_ext__free(btf_ext *btf_ext)
    const void *btf_ext__raw_data "pylbpf_compat_btf_ext__raw_data"(const btf_ext *btf_ext, __u32 *size)
    btf_endianness btf_ext__endianness "pylbpf_compat_btf_ext__endianness"(const btf_ext *btf_ext)
    int btf_ext__set_endianness "pylbpf_compat_btf_ext__set_endianness"(btf_ext *btf_ext,
            btf_endianness endian)

    int btf__find_str(btf *btf, const char *s)
    int btf__add_str(btf *btf, const char *s)
    int btf__add_type(btf *btf, const btf *src_btf, const btf_type *src_type)
    int btf__add_btf(btf *btf, const btf *src_btf)
    int btf__add_int(btf *btf, const char *name, size_t byte_sz, int encoding)
    int btf__add_float(btf *btf, const char *name, size_t byte_sz)
    int btf__add_ptr(btf *btf, int ref_type_id)
    int btf__add_array(btf *btf, int index_type_id, int elem_type_id, __u32 nr_elems)
    int btf__add_struct(btf *btf, const char *name, __u32 sz)
    int btf__add_union(btf *btf, const char *name, __u32 sz)
    int btf__add_field(btf *btf, const char *name, int field_type_id, __u32 bit_offset, __u32 bit_size)
    int btf__add_enum(btf *btf, const char *name, __u32 bytes_sz)
    int btf__add_enum_value(btf *btf, const char *name, __s64 value)
    int btf__add_enum64(btf *btf, const char *name, __u32 bytes_sz, bint is_signed)
    int btf__add_enum64_value(btf *btf, const char *name, __u64 value)
    int btf__add_fwd(btf *btf, const char *name, btf_fwd_kind fwd_kind)
    int btf__add_typedef(btf *btf, const char *name, int ref_type_id)
    int btf__add_volatile(btf *btf, int ref_type_id)
    int btf__add_const(btf *btf, int ref_type_id)
    int btf__add_restrict(btf *btf, int ref_type_id)
    int btf__add_type_tag(btf *btf, const char *value, int ref_type_id)
    int btf__add_type_attr "pylbpf_compat_btf__add_type_attr"(btf *btf, const char *value, int ref_type_id)
    int btf__add_func(btf *btf, const char *name, btf_func_linkage linkage, int proto_type_id)
    int btf__add_func_proto(btf *btf, int ret_type_id)
    int btf__add_func_param(btf *btf, const char *name, int type_id)
    int btf__add_var(btf *btf, const char *name, int linkage, int type_id)
    int btf__add_datasec(btf *btf, const char *name, __u32 byte_sz)
    int btf__add_datasec_var_info(btf *btf, int var_type_id, __u32 offset, __u32 byte_sz)
    int btf__add_decl_tag(btf *btf, const char *value, int ref_type_id, int component_idx)
    int btf__add_decl_attr "pylbpf_compat_btf__add_decl_attr"(btf *btf, const char *value, int ref_type_id,
            int component_idx)

    struct btf_new_opts "pylbpf_btf_new_opts":
        size_t sz
        btf *base_btf
        bint add_layout

    struct btf_dedup_opts:
        size_t sz
        btf_ext *btf_ext
        bint force_collisions

    int btf__dedup(btf *btf, const btf_dedup_opts *opts)
    int btf__relocate "pylbpf_compat_btf__relocate"(btf *btf, const btf *base_btf)

    struct btf_permute_opts "pylbpf_btf_permute_opts":
        size_t sz
        btf_ext *btf_ext

    int btf__permute "pylbpf_compat_btf__permute"(btf *btf, __u32 *id_map, __u32 id_map_cnt,
            const btf_permute_opts *opts)

    struct btf_dump_opts:
        size_t sz

    btf_dump *btf_dump__new(const btf *btf, btf_dump_printf_fn_t printf_fn, void *ctx,
            const btf_dump_opts *opts)
    void btf_dump__free(btf_dump *d)
    int btf_dump__dump_type(btf_dump *d, __u32 id)

    struct btf_dump_emit_type_decl_opts:
        size_t sz
        const char *field_name
        int indent_level
        bint strip_mods

    int btf_dump__emit_type_decl(btf_dump *d, __u32 id, const btf_dump_emit_type_decl_opts *opts)

    struct btf_dump_type_data_opts "pylbpf_btf_dump_type_data_opts":
        size_t sz
        const char *indent_str
        int indent_level
        bint compact
        bint skip_names
        bint emit_zeroes
        bint emit_strings

    int btf_dump__dump_type_data "pylbpf_compat_btf_dump__dump_type_data"(btf_dump *d, __u32 id,
            const void *data, size_t data_sz, const btf_dump_type_data_opts *opts)

    __u16 btf_kind(const btf_type *t)
    __u16 btf_vlen(const btf_type *t)
    bint btf_kflag(const btf_type *t)
    bint btf_is_void(const btf_type *t)
    bint btf_is_int(const btf_type *t)
    bint btf_is_ptr(const btf_type *t)
    bint btf_is_array(const btf_type *t)
    bint btf_is_struct(const btf_type *t)
    bint btf_is_union(const btf_type *t)
    bint btf_is_composite(const btf_type *t)
    bint btf_is_enum(const btf_type *t)
    bint btf_is_enum64(const btf_type *t)
    bint btf_is_fwd(const btf_type *t)
    bint btf_is_typedef(const btf_type *t)
    bint btf_is_volatile(const btf_type *t)
    bint btf_is_const(const btf_type *t)
    bint btf_is_restrict(const btf_type *t)
    bint btf_is_mod(const btf_type *t)
    bint btf_is_func(const btf_type *t)
    bint btf_is_func_proto(const btf_type *t)
    bint btf_is_var(const btf_type *t)
    bint btf_is_datasec(const btf_type *t)
    bint btf_is_float(const btf_type *t)
    bint btf_is_decl_tag(const btf_type *t)
    bint btf_is_type_tag(const btf_type *t)
    bint btf_is_any_enum(const btf_type *t)
    bint btf_kind_core_compat(const btf_type *t1, const btf_type *t2)
    __u8 btf_int_encoding(const btf_type *t)
    __u8 btf_int_offset(const btf_type *t)
    __u8 btf_int_bits(const btf_type *t)
    struct_btf_array *btf_array(const btf_type *t)
    struct_btf_enum *btf_enum(const btf_type *t)
    struct_btf_enum64 *btf_enum64(const btf_type *t)
    __u64 btf_enum64_value(const struct_btf_enum64 *e)
    btf_member *btf_members(const btf_type *t)
    __u32 btf_member_bit_offset(const btf_type *t, __u32 member_idx)
    __u32 btf_member_bitfield_size(const btf_type *t, __u32 member_idx)
    btf_param *btf_params(const btf_type *t)
    struct_btf_var *btf_var(const btf_type *t)
    btf_var_secinfo *btf_var_secinfos(const btf_type *t)
    struct_btf_decl_tag *btf_decl_tag(const btf_type *t)
