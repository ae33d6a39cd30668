"""What the kernel says about programs, maps, types and links: typed, as it was at one moment."""
import errno as _errno
import os as _os

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, ENOENT, errno
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from posix.unistd cimport close as close_fd

from .c cimport bpf, uapi
from .errors cimport fail
from .listing cimport text_of_link

from .errors import BpfError

cdef enum:
    NAME = 4096         # as long as a path can be


cdef void *room_for(size_t size) except NULL:
    cdef void *room = calloc(1, size)
    if room == NULL:
        raise MemoryError()
    return room


cdef object seconds(unsigned long long nanoseconds):
    return nanoseconds / 1e9


@cython.final
cdef class ProgramInfo:
    """What the kernel says about one program.

    ``id``, ``type`` (ProgramType), ``name`` (of at most 15 bytes), ``tag`` (hex), ``load_time`` (seconds after boot),
    ``uid`` of who loaded it, ``ifindex`` (0: not offloaded), ``netns_dev``, ``netns_ino``, ``gpl_compatible``, ``btf_id``,
    ``attach_btf_obj_id``, ``attach_btf_id``, ``verified_insns``, ``xlated_size`` and ``jited_size`` (bytes), ``run_cnt``,
    ``run_time_ns`` (both 0 unless stats_enabled()), ``recursion_misses``. These are of the moment of asking; ``map_ids``,
    ``xlated``, ``jited`` and ``line_info`` are fetched when they are asked for. struct bpf_prog_info of linux/bpf.h.
    """

    def __cinit__(self):
        self.raw = <uapi.bpf_prog_info *>room_for(sizeof(uapi.bpf_prog_info))

    def __dealloc__(self):
        free(self.raw)

    def __init__(self):
        raise TypeError("infos come from info() and from pylbpf.query")

    def __repr__(self):
        return f"<ProgramInfo {self.raw.id}: {self.name!r}, {self.type.name}>"

    @property
    def id(self):
        return self.raw.id

    @property
    def type(self):
        from .enums import ProgramType
        return ProgramType(<int>self.raw.type)

    @property
    def name(self):
        return self.raw.name.decode("utf-8", "surrogateescape")

    @property
    def tag(self):
        return (<const unsigned char *>self.raw.tag)[:8].hex()

    @property
    def load_time(self):
        return seconds(self.raw.load_time)

    @property
    def uid(self):
        return self.raw.created_by_uid

    @property
    def ifindex(self):
        return self.raw.ifindex

    @property
    def netns_dev(self):
        return self.raw.netns_dev

    @property
    def netns_ino(self):
        return self.raw.netns_ino

    @property
    def gpl_compatible(self):
        return self.raw.gpl_compatible != 0

    @property
    def btf_id(self):
        return self.raw.btf_id

    @property
    def attach_btf_obj_id(self):
        return self.raw.attach_btf_obj_id

    @property
    def attach_btf_id(self):
        return self.raw.attach_btf_id

    @property
    def verified_insns(self):
        return self.raw.verified_insns

    @property
    def xlated_size(self):
        return self.raw.xlated_prog_len

    @property
    def jited_size(self):
        return self.raw.jited_prog_len

    @property
    def run_cnt(self):
        return self.raw.run_cnt

    @property
    def run_time_ns(self):
        return self.raw.run_time_ns

    @property
    def recursion_misses(self):
        return self.raw.recursion_misses

    cdef int ask(self, uapi.bpf_prog_info *wanted) except -1:
        """Ask the kernel once more, with the arrays that are wanted."""
        cdef unsigned int length = sizeof(uapi.bpf_prog_info)
        cdef int fd, code
        if self.source is not None:
            fd = self.source.fileno()
        else:
            fd = bpf.bpf_prog_get_fd_by_id(self.raw.id)
            if fd < 0:
                fail(errno, "open program", f"id {self.raw.id}")
        code = bpf.bpf_obj_get_info_by_fd(fd, wanted, &length)
        if code < 0:
            code = -errno
        if self.source is None:
            close_fd(fd)
        if code < 0:
            fail(-code, "read info of program", f"id {self.raw.id}")
        if wanted.id != self.raw.id:
            fail(ENOENT, "read info of program", f"id {self.raw.id}")
        return 0

    @property
    def map_ids(self):
        """Numbers of the maps that the program uses, as a tuple."""
        cdef uapi.bpf_prog_info wanted
        cdef bytes array
        cdef unsigned int count = self.raw.nr_map_ids
        while count:
            array = PyBytes_FromStringAndSize(NULL, count * sizeof(uapi.__u32))
            memset(&wanted, 0, sizeof(wanted))
            wanted.nr_map_ids = count
            wanted.map_ids = <size_t>PyBytes_AS_STRING(array)
            self.ask(&wanted)
            if wanted.nr_map_ids <= count:
                return tuple([(<uapi.__u32 *>PyBytes_AS_STRING(array))[at] for at in range(wanted.nr_map_ids)])
            count = wanted.nr_map_ids       # one more was bound meanwhile
        return ()

    @property
    def xlated(self):
        """The instructions as the kernel runs them, bytes of 8 each; b"" without the right to see them."""
        cdef uapi.bpf_prog_info wanted
        cdef bytes code = PyBytes_FromStringAndSize(NULL, self.raw.xlated_prog_len)
        memset(&wanted, 0, sizeof(wanted))
        wanted.xlated_prog_len = self.raw.xlated_prog_len
        wanted.xlated_prog_insns = <size_t>PyBytes_AS_STRING(code)
        if wanted.xlated_prog_len:
            self.ask(&wanted)
        return code[:wanted.xlated_prog_len] if wanted.xlated_prog_insns else b""

    @property
    def jited(self):
        """The machine code of the program and its functions, one after the other; b"" without the right to see it."""
        cdef uapi.bpf_prog_info wanted
        cdef bytes code = PyBytes_FromStringAndSize(NULL, self.raw.jited_prog_len)
        memset(&wanted, 0, sizeof(wanted))
        wanted.jited_prog_len = self.raw.jited_prog_len
        wanted.jited_prog_insns = <size_t>PyBytes_AS_STRING(code)
        if wanted.jited_prog_len:
            self.ask(&wanted)
        return code[:wanted.jited_prog_len] if wanted.jited_prog_insns else b""

    @property
    def line_info(self):
        """Which line of the source instructions came from: (insn_off, file_name_off, line_off, line, column) each.

        ``insn_off`` counts the instructions of ``xlated``; the offsets are of strings in the BTF ``btf_id``.
        """
        cdef uapi.bpf_prog_info wanted
        cdef bytes records = PyBytes_FromStringAndSize(NULL, self.raw.nr_line_info * sizeof(uapi.bpf_line_info))
        cdef uapi.bpf_line_info *lines = <uapi.bpf_line_info *>PyBytes_AS_STRING(records)
        cdef unsigned int at
        memset(&wanted, 0, sizeof(wanted))
        wanted.nr_line_info = self.raw.nr_line_info
        wanted.line_info_rec_size = sizeof(uapi.bpf_line_info)
        wanted.line_info = <size_t>lines
        if not wanted.nr_line_info:
            return ()
        self.ask(&wanted)
        return tuple([(lines[at].insn_off, lines[at].file_name_off, lines[at].line_off, lines[at].line_col >> 10,
                       lines[at].line_col & 0x3ff)
                      for at in range(min(wanted.nr_line_info, self.raw.nr_line_info) if wanted.line_info else 0)])

    def _array(self, str which):
        """func_info, line_info, jited_ksyms, jited_func_lens or jited_line_info as bytes; b"" where there is none."""
        cdef uapi.bpf_prog_info wanted
        cdef bytes array
        cdef unsigned int count, size
        memset(&wanted, 0, sizeof(wanted))
        if which == "func_info":
            count, size = self.raw.nr_func_info, sizeof(uapi.bpf_func_info)
        elif which == "line_info":
            count, size = self.raw.nr_line_info, sizeof(uapi.bpf_line_info)
        elif which == "jited_ksyms":
            count, size = self.raw.nr_jited_ksyms, 8
        elif which == "jited_func_lens":
            count, size = self.raw.nr_jited_func_lens, 4
        else:
            count, size = self.raw.nr_jited_line_info, 8
        if not count:
            return b""
        array = PyBytes_FromStringAndSize(NULL, count * size)
        memset(PyBytes_AS_STRING(array), 0, count * size)
        if which == "func_info":
            wanted.nr_func_info, wanted.func_info_rec_size = count, size
            wanted.func_info = <size_t>PyBytes_AS_STRING(array)
        elif which == "line_info":
            wanted.nr_line_info, wanted.line_info_rec_size = count, size
            wanted.line_info = <size_t>PyBytes_AS_STRING(array)
        elif which == "jited_ksyms":
            wanted.nr_jited_ksyms = count
            wanted.jited_ksyms = <size_t>PyBytes_AS_STRING(array)
        elif which == "jited_func_lens":
            wanted.nr_jited_func_lens = count
            wanted.jited_func_lens = <size_t>PyBytes_AS_STRING(array)
        else:
            wanted.nr_jited_line_info, wanted.jited_line_info_rec_size = count, size
            wanted.jited_line_info = <size_t>PyBytes_AS_STRING(array)
        self.ask(&wanted)
        return array

    @property
    def functions(self):
        """The program and its functions, each a Function: ``name``, ``insn_off``, ``address`` and ``size`` of its machine code.

        ``name`` is that in the types, else the kernel's with a number; ``address`` 0 where the kernel hides it.
        """
        from .progcode import functions
        return functions(self)

    @property
    def lines(self):
        """``line_info`` with the source: a tuple of Line, each ``insn_off``, ``address``, ``file``, ``line``, ``column``, ``text``.

        ``address`` is that of the machine code, 0 where the kernel hides it or has none. Empty for programs without types.
        """
        from .progcode import source_lines
        return source_lines(self)

    def disassemble(self, *, bint jited=False, bint lines=False):
        """The instructions as the kernel runs them, as text, one a line; ``jited``: the machine code, by llvm-objdump.

        With ``lines`` each function has a heading, the lines of the source stand before what came of them, and calls have
        names. NotSupported without llvm-objdump, and where the kernel shows no machine code.
        """
        if jited:
            from .progcode import machine_text
            return machine_text(self, lines)
        if lines:
            from .progcode import xlated_text
            return xlated_text(self)
        from .disasm import disassemble
        return disassemble(self.xlated)


@cython.final
cdef class MapInfo:
    """What the kernel says about one map.

    ``id``, ``type`` (MapType), ``name`` (of at most 15 bytes), ``key_size``, ``value_size`` (bytes), ``max_entries``,
    ``flags`` (MapFlags), ``ifindex``, ``netns_dev``, ``netns_ino``, ``btf_id``, ``btf_key_type_id``,
    ``btf_value_type_id``, ``map_extra``. struct bpf_map_info of linux/bpf.h.
    """

    def __cinit__(self):
        self.raw = <uapi.bpf_map_info *>room_for(sizeof(uapi.bpf_map_info))

    def __dealloc__(self):
        free(self.raw)

    def __init__(self):
        raise TypeError("infos come from info() and from pylbpf.query")

    def __repr__(self):
        return f"<MapInfo {self.raw.id}: {self.name!r}, {self.type.name}>"

    @property
    def id(self):
        return self.raw.id

    @property
    def type(self):
        from .enums import MapType
        return MapType(<int>self.raw.type)

    @property
    def name(self):
        return self.raw.name.decode("utf-8", "surrogateescape")

    @property
    def key_size(self):
        return self.raw.key_size

    @property
    def value_size(self):
        return self.raw.value_size

    @property
    def max_entries(self):
        return self.raw.max_entries

    @property
    def flags(self):
        from .enums import MapFlags
        return MapFlags(self.raw.map_flags)

    @property
    def ifindex(self):
        return self.raw.ifindex

    @property
    def netns_dev(self):
        return self.raw.netns_dev

    @property
    def netns_ino(self):
        return self.raw.netns_ino

    @property
    def btf_id(self):
        return self.raw.btf_id

    @property
    def btf_key_type_id(self):
        return self.raw.btf_key_type_id

    @property
    def btf_value_type_id(self):
        return self.raw.btf_value_type_id

    @property
    def map_extra(self):
        return self.raw.map_extra


@cython.final
cdef class BtfInfo:
    """What the kernel says about one set of types.

    ``id``, ``name`` ("vmlinux", a module's, or "" for a program's), ``size`` (bytes), ``kernel_btf`` (whether it is the
    kernel's own or a module's). struct bpf_btf_info of linux/bpf.h.
    """

    def __cinit__(self):
        self.raw = <uapi.bpf_btf_info *>room_for(sizeof(uapi.bpf_btf_info))

    def __dealloc__(self):
        free(self.raw)

    def __init__(self):
        raise TypeError("infos come from pylbpf.query")

    def __repr__(self):
        return f"<BtfInfo {self.raw.id}: {self.name!r}, {self.raw.btf_size} bytes>"

    @property
    def id(self):
        return self.raw.id

    @property
    def size(self):
        return self.raw.btf_size

    @property
    def kernel_btf(self):
        return self.raw.kernel_btf != 0


cdef int ask(int fd, void *raw, unsigned int length, str kind) except -1:
    memset(raw, 0, length)
    if bpf.bpf_obj_get_info_by_fd(fd, raw, &length) < 0:
        fail(errno, "read info of", f"{kind} (descriptor {fd})")
    return 0


cdef ProgramInfo program_info(int fd, object source):
    cdef ProgramInfo info = ProgramInfo.__new__(ProgramInfo)
    ask(fd, info.raw, sizeof(info.raw[0]), "program")
    info.source = source
    return info


cdef MapInfo map_info(int fd):
    cdef MapInfo info = MapInfo.__new__(MapInfo)
    ask(fd, info.raw, sizeof(info.raw[0]), "map")
    return info


cdef BtfInfo btf_info(int fd):
    cdef BtfInfo info = BtfInfo.__new__(BtfInfo)
    cdef unsigned int length = sizeof(info.raw[0])
    cdef char name[NAME]
    name[0] = 0
    info.raw.name = <size_t>name
    info.raw.name_len = sizeof(name)
    if bpf.bpf_obj_get_info_by_fd(fd, info.raw, &length) < 0:
        fail(errno, "read info of", f"BTF (descriptor {fd})")
    info.name = name.decode("utf-8", "surrogateescape")
    return info


# Of struct bpf_link_info, by kind: where pointers to arrays are, the number of their elements, and how long those are.
cdef dict ARRAYS = {8: ((16, 40), 24), 12: ((24, 32, 40), 52)}


def read_link(int fd):
    """struct bpf_link_info as bytes, its text, and its arrays of 64-bit numbers as bytes."""
    cdef unsigned long long words[32]
    cdef char *raw = <char *>words
    cdef char text[NAME]
    cdef unsigned int length = sizeof(words)
    cdef unsigned int type, count
    cdef int again, pointer, size
    cdef bint named
    cdef bytes array
    cdef list arrays = []
    ask(fd, raw, sizeof(words), "link")
    text[0] = 0
    type = (<unsigned int *>raw)[0]
    named = text_of_link(raw, &pointer, &size)
    pointers, counter = ARRAYS.get(type, ((), 0))
    for again in range(8):
        count = (<unsigned int *>&raw[<int>counter])[0] if pointers else 0
        if not named and not count:
            break
        memset(raw, 0, sizeof(words))
        arrays = []
        if named:
            (<unsigned long long *>&raw[pointer])[0] = <size_t>text
            (<unsigned int *>&raw[size])[0] = sizeof(text)
        if pointers:
            (<unsigned int *>&raw[<int>counter])[0] = count
            for where in pointers if count else ():
                array = PyBytes_FromStringAndSize(NULL, count * 8)
                memset(PyBytes_AS_STRING(array), 0, count * 8)
                arrays.append(array)
                (<unsigned long long *>&raw[<int>where])[0] = <size_t>PyBytes_AS_STRING(array)
        length = sizeof(words)
        if bpf.bpf_obj_get_info_by_fd(fd, raw, &length) < 0:
            if errno == _errno.ENOSPC:
                continue
            if errno == _errno.EINVAL and again == 0 and type == 7:
                ask(fd, raw, sizeof(words), "link")       # a kernel that does not tell names
                named = False
                continue
            fail(errno, "read info of", f"link (descriptor {fd})")
        break
    return raw[:sizeof(words)], text.decode("utf-8", "surrogateescape"), arrays


cdef object info_by_id(str kind, unsigned int id):
    cdef int fd
    if kind == "program":
        fd = bpf.bpf_prog_get_fd_by_id(id)
    elif kind == "map":
        fd = bpf.bpf_map_get_fd_by_id(id)
    elif kind == "link":
        fd = bpf.bpf_link_get_fd_by_id(id)
    else:
        fd = bpf.bpf_btf_get_fd_by_id(id)
    if fd < 0:
        if errno == ENOENT or errno == EAGAIN:      # EAGAIN: only being made
            return None
        fail(errno, f"open {kind}", f"id {id}")
    try:
        if kind == "program":
            return program_info(fd, None)
        if kind == "map":
            return map_info(fd)
        if kind == "link":
            from .linkinfo import link_info
            return link_info(fd)
        return btf_info(fd)
    finally:
        close_fd(fd)
