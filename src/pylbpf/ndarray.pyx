"""numpy arrays over memory of ours, made by numpy's own C function.

frombuffer() and ndarray() take microseconds, which is what hundreds of records take. numpy is needed neither to build
nor to import: its table of functions is found when the first array is made.
"""
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport Py_INCREF

ctypedef object (*new_array_t)(PyObject *type, PyObject *dtype, int dimensions, Py_ssize_t *shape, Py_ssize_t *strides,
                               void *data, int flags, PyObject *like)
ctypedef int (*set_base_t)(PyObject *array, PyObject *base) except -1

cdef enum:
    # Places in numpy's table, which only ever grows.
    ARRAY_TYPE = 2              # PyArray_Type
    NEW_ARRAY = 94              # PyArray_NewFromDescr
    SET_BASE = 282              # PyArray_SetBaseObject
    WRITABLE = 0x0400           # NPY_ARRAY_WRITEABLE

cdef PyObject *array_type = NULL
cdef new_array_t new_array = NULL
cdef set_base_t set_base = NULL


cdef int find_functions() except -1:
    global array_type, new_array, set_base
    cdef void **functions
    try:
        from numpy._core._multiarray_umath import _ARRAY_API as table
    except ImportError:         # numpy 1
        from numpy.core._multiarray_umath import _ARRAY_API as table
    functions = <void **>PyCapsule_GetPointer(table, NULL)
    set_base = <set_base_t>functions[SET_BASE]
    array_type = <PyObject *>functions[ARRAY_TYPE]
    new_array = <new_array_t>functions[NEW_ARRAY]
    return 0


cdef object array_over(object base, const void *data, Py_ssize_t count, Py_ssize_t stride, object dtype, bint writable):
    if new_array == NULL:
        find_functions()
    Py_INCREF(dtype)            # both functions take a reference for their own
    array = new_array(array_type, <PyObject *>dtype, 1, &count, &stride, <void *>data, WRITABLE if writable else 0, NULL)
    Py_INCREF(base)
    set_base(<PyObject *>array, <PyObject *>base)
    return array
