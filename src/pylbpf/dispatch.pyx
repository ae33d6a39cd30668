"""Records of several types in one ring, told apart by a member that all of them have at the same place."""
cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from .block cimport Block, Pool
from .feed cimport Feed, ring_record
from .record cimport RecordType, StructType, numpy, plain, prefix, record_type
from .recordbatch cimport RecordBatch, empty_batch

from .record import RecordError


@cython.final
cdef class TaggedType(RecordType):
    def __dealloc__(self):
        free(self.choices)

    cdef bint read_tag(self, const char *record, size_t size, int64_t *tag) noexcept nogil:
        """False if the record is too short for one."""
        cdef const char *at = record + self.offset
        cdef uint32_t four
        cdef uint16_t two
        if <size_t>(self.offset + self.size) > size:
            return False
        # Copied, because structures may be packed.
        if self.size == 4:
            memcpy(&four, at, 4)
            tag[0] = <int32_t>four if self.signed else <int64_t>four
        elif self.size == 1:
            tag[0] = (<const int8_t *>at)[0] if self.signed else <int64_t>(<const uint8_t *>at)[0]
        elif self.size == 2:
            memcpy(&two, at, 2)
            tag[0] = <int16_t>two if self.signed else <int64_t>two
        else:
            memcpy(tag, at, 8)
        return True

    cdef object make(self, Feed feed, const ring_record *record):
        return self.choose(feed, record).make(feed, record)

    cdef object remake(self, object before, Feed feed, const ring_record *record):
        return self.choose(feed, record).remake(before, feed, record)

    cdef RecordType choose(self, Feed feed, const ring_record *record):
        cdef RecordType type = None
        cdef int64_t tag = 0
        if self.read_tag(record.data, record.size, &tag):
            type = self.types.get(tag)
            what = f"{self.tag}={tag}, and dispatch knows {', '.join(map(str, self.types))}"
        else:
            what = f"{record.size} bytes, too few for {self.tag}"
        if type is None:
            type = self.others
        if type is None:
            raise RecordError(f"{prefix(feed)}a record has {what}", PyBytes_FromStringAndSize(record.data, record.size))
        return type

    cdef void classify(self, const char *start, const int *ends, Py_ssize_t count, int *chosen, size_t *counts,
                       size_t *sizes) noexcept nogil:
        """Find the type of each record, `self.count` for none of them; count records and bytes of each."""
        cdef Py_ssize_t at
        cdef int type
        cdef int size
        cdef int64_t tag
        for at in range(count):
            size = ends[at + 1] - ends[at]
            type = 0
            if self.read_tag(start + ends[at], size, &tag):
                while type < self.count and self.choices[type].tag != tag:
                    type += 1
                if type < self.count and self.choices[type].size and self.choices[type].size != size:
                    type = self.count
            else:
                type = self.count
            chosen[at] = type
            counts[type] += 1
            sizes[type] += size


cdef TaggedType tagged_type(object types, object tag, bint tail):
    """From {tag: type}; a type of None or bytes, and the tag None for all others, are for records as bytes."""
    cdef TaggedType made = TaggedType.__new__(TaggedType)
    cdef RecordType type
    made.types = {}
    made.tag = tag
    place = None
    cdef list pairs = list(types.items())
    made.choices = <Choice *>calloc(len(pairs) + 1, sizeof(Choice))
    if made.choices == NULL:
        raise MemoryError()
    for number, given in pairs:
        type = record_type(given, tail)
        if number is None:
            if isinstance(type, StructType):
                raise TypeError("records of other tags than those named are bytes: give None, or leave it out")
            made.others = type
            continue
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"a tag is a number or None, not {number!r}")
        if int(number) in made.types:
            raise ValueError(f"the tag {int(number)} is there twice")
        if isinstance(type, StructType):
            place = place_of(<StructType>type, tag, place)
        made.choices[made.count].tag = number
        made.choices[made.count].size = <int>(<StructType>type).size if plain(type) else 0
        made.types[int(number)] = type
        made.count += 1
    if place is None:
        raise ValueError("dispatch needs at least one type with members")
    made.offset = place[0]
    made.size = place[1].itemsize
    made.signed = place[1].kind == "i"
    return made


cdef tuple place_of(StructType type, object tag, object before):
    """Where the tag is: the same for all types."""
    fields = type.dtype.fields or {}
    if tag not in fields:
        raise ValueError(f"{type.name} has no member {tag!r} to tell it by")
    field, offset = fields[tag][:2]
    if field.kind not in "iu" or not field.isnative:
        raise TypeError(f"{tag!r} of {type.name} is a {field}, not an integer")
    if before is not None and before != (offset, field):
        raise ValueError(f"{tag!r} is not at the same place, or not of the same size, in all types")
    return offset, field


cdef void scatter(const char *start, const int *ends, Py_ssize_t count, const int *chosen, char **out,
                  int **out_ends) noexcept nogil:
    """Copy each record to where the next one of its type goes."""
    cdef Py_ssize_t at
    cdef int type, size
    for at in range(count):
        type = chosen[at]
        size = ends[at + 1] - ends[at]
        memcpy(out[type], start + ends[at], size)
        out[type] += size
        if out_ends[type] != NULL:
            out_ends[type][1] = out_ends[type][0] + size
            out_ends[type] += 1


cdef dict split(RecordBatch batch, TaggedType type, Pool pool):
    cdef int many = type.count + 1
    # For each record its type; for each type how many, how many bytes, and where the next one goes.
    cdef Block chosen = pool.take(batch.count * sizeof(int))
    cdef Block table = pool.take(many * 4 * sizeof(size_t))
    cdef size_t *counts = <size_t *>table.data
    cdef size_t *sizes = counts + many
    cdef char **out = <char **>(sizes + many)
    cdef int **out_ends = <int **>(out + many)
    cdef RecordBatch others
    cdef RecordType each
    cdef Block block
    cdef dict found = {}
    cdef int at = 0
    for at in range(many):
        counts[at] = sizes[at] = 0
    with nogil:
        type.classify(batch.start, batch.ends, batch.count, <int *>chosen.data, counts, sizes)
    at = 0
    for tag, kind in [*type.types.items(), (None, type.others)]:
        each = kind if kind is not None else RecordType.__new__(RecordType)
        out_ends[at] = NULL
        if plain(each):
            block = pool.take(sizes[at])
            out[at] = block.data
            dtype = (<StructType>each).dtype
            found[tag] = numpy().frombuffer(block, dtype, counts[at]) if counts[at] else numpy().empty(0, dtype)
        elif tag is not None or counts[at]:
            others = empty_batch(each, sizes[at], counts[at], pool)
            out[at] = <char *>others.start
            out_ends[at] = <int *>others.ends
            found[tag] = others
        at += 1
    with nogil:
        scatter(batch.start, batch.ends, batch.count, <const int *>chosen.data, out, out_ends)
    return found
