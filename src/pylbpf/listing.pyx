"""All things of one kind that the kernel has, looked at in one go without the GIL."""
from libc.errno cimport EAGAIN, ENOENT, ENOMEM, errno
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset, strlen
from posix.unistd cimport close as close_fd

from .c cimport bpf

cdef enum:
    # enum bpf_link_type
    RAW_TRACEPOINT = 1
    ITER = 4
    PERF_EVENT = 7
    KPROBE_MULTI = 8
    UPROBE_MULTI = 12

    LONGEST = 4096      # as long as a path can be


cdef int following(Kind kind, unsigned int *id) noexcept nogil:
    if kind == PROGRAMS:
        return bpf.bpf_prog_get_next_id(id[0], id)
    if kind == MAPS:
        return bpf.bpf_map_get_next_id(id[0], id)
    if kind == LINKS:
        return bpf.bpf_link_get_next_id(id[0], id)
    return bpf.bpf_btf_get_next_id(id[0], id)


cdef int open_one(Kind kind, unsigned int id) noexcept nogil:
    if kind == PROGRAMS:
        return bpf.bpf_prog_get_fd_by_id(id)
    if kind == MAPS:
        return bpf.bpf_map_get_fd_by_id(id)
    if kind == LINKS:
        return bpf.bpf_link_get_fd_by_id(id)
    return bpf.bpf_btf_get_fd_by_id(id)


cdef bint text_of_link(const char *raw, int *pointer, int *length) noexcept nogil:
    cdef unsigned int type = (<const unsigned int *>raw)[0]
    if type == PERF_EVENT:
        pointer[0] = 24
        length[0] = 32
        return 1 <= (<const unsigned int *>raw)[4] <= 5     # of a function, a file, a tracepoint
    pointer[0] = 16
    length[0] = 48 if type == UPROBE_MULTI else 24
    return type == RAW_TRACEPOINT or type == ITER or type == UPROBE_MULTI


cdef int keep_text(Listing *found, Item *item, const char *text) noexcept nogil:
    cdef size_t length = strlen(text) + 1
    cdef size_t room = found.text_room
    cdef char *grown
    if found.written + length > room:
        room = 2 * room + LONGEST
        grown = <char *>realloc(found.texts, room)
        if grown == NULL:
            return -ENOMEM
        found.texts = grown
        found.text_room = room
    memcpy(found.texts + found.written, text, length)
    item.text = found.written
    found.written += length
    return 0


cdef int look_at(Kind kind, int fd, Listing *found, Item *item) noexcept nogil:
    cdef char text[LONGEST]
    cdef char *raw = <char *>item.raw
    cdef unsigned int size = sizeof(item.raw)
    cdef int pointer, length
    memset(item, 0, sizeof(item[0]))
    item.text = NO_TEXT
    text[0] = 0
    if kind == TYPES:
        # struct bpf_btf_info: the name's pointer comes after btf, btf_size and id.
        item.raw[2] = <size_t>text
        (<unsigned int *>raw)[6] = sizeof(text)
    if bpf.bpf_obj_get_info_by_fd(fd, raw, &size) < 0:
        return -errno
    if kind == TYPES:
        return keep_text(found, item, text)
    if kind != LINKS:
        return 0
    if (<unsigned int *>raw)[0] == KPROBE_MULTI or (<unsigned int *>raw)[0] == UPROBE_MULTI:
        item.late = True
    elif text_of_link(raw, &pointer, &length):
        memset(raw, 0, sizeof(item.raw))
        (<unsigned long long *>(raw + pointer))[0] = <size_t>text
        (<unsigned int *>(raw + length))[0] = sizeof(text)
        size = sizeof(item.raw)
        if bpf.bpf_obj_get_info_by_fd(fd, raw, &size) == 0:
            return keep_text(found, item, text)
        item.late = True
    return 0


cdef int list_all(Kind kind, Listing *found) noexcept nogil:
    cdef unsigned int id = 0
    cdef Item *grown
    cdef int fd, code
    memset(found, 0, sizeof(found[0]))
    while following(kind, &id) == 0:
        fd = open_one(kind, id)
        if fd < 0:
            if errno == ENOENT or errno == EAGAIN:      # it went away meanwhile, or is only being made
                continue
            return -errno
        if found.count == found.room:
            found.room = 2 * found.room + 64
            grown = <Item *>realloc(found.items, found.room * sizeof(Item))
            if grown == NULL:
                close_fd(fd)
                return -ENOMEM
            found.items = grown
        code = look_at(kind, fd, found, &found.items[found.count])
        close_fd(fd)
        if code < 0:
            return code
        if found.items[found.count].late:
            # So that it can be found again: late ones have lost what they knew.
            (<unsigned int *>found.items[found.count].raw)[1] = id
        found.count += 1
    return 0 if errno == ENOENT else -errno


cdef void free_listing(Listing *found) noexcept nogil:
    free(found.items)
    free(found.texts)
    memset(found, 0, sizeof(found[0]))
