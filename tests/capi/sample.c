/* An extension module that uses all of pylbpf/pylbpf.h; C11 and C++17. */
#define PY_SSIZE_T_CLEAN
#include <pylbpf/pylbpf.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

static const struct pylbpf_api *pylbpf;
static long seen_setup, seen_attach;

/* ---- Out of Python objects */

static PyObject *names(PyObject *self, PyObject *args)
{
	PyObject *object, *program, *map, *link;
	struct bpf_object *obj;
	struct bpf_program *prog;
	struct bpf_map *m;
	struct bpf_link *l;

	(void)self;
	if (!PyArg_ParseTuple(args, "OOOO", &object, &program, &map, &link))
		return NULL;
	if (!(obj = pylbpf->object(object)) || !(prog = pylbpf->program(program)) ||
	    !(m = pylbpf->map(map)) || !(l = pylbpf->link(link)))
		return NULL;
	return Py_BuildValue("sssi", bpf_object__name(obj), bpf_program__name(prog), bpf_map__name(m), bpf_link__fd(l));
}

/* ---- Into Python objects */

static PyObject *open_object(PyObject *self, PyObject *args)
{
	const char *data, *name;
	Py_ssize_t size;
	int load;
	struct bpf_object_open_opts opts;
	struct bpf_object *obj;
	struct bpf_program *prog;
	PyObject *made;

	(void)self;
	if (!PyArg_ParseTuple(args, "y#si", &data, &size, &name, &load))
		return NULL;
	memset(&opts, 0, sizeof(opts));
	opts.sz = sizeof(opts);
	opts.object_name = name;
	obj = bpf_object__open_mem(data, (size_t)size, &opts);
	if (!obj)
		return PyErr_SetFromErrno(PyExc_OSError);
	bpf_object__for_each_program(prog, obj)
		bpf_program__set_type(prog, BPF_PROG_TYPE_RAW_TRACEPOINT);
	if (load && bpf_object__load(obj)) {
		PyErr_SetFromErrno(PyExc_OSError);
		bpf_object__close(obj);
		return NULL;
	}
	made = pylbpf->wrap_object(obj, load == 1);
	if (!made)
		bpf_object__close(obj);
	return made;
}

static PyObject *first(PyObject *self, PyObject *object)
{
	struct bpf_object *obj = pylbpf->object(object);
	PyObject *program, *map;

	(void)self;
	if (!obj)
		return NULL;
	program = pylbpf->wrap_program(object, bpf_object__next_program(obj, NULL));
	if (!program)
		return NULL;
	map = pylbpf->wrap_map(object, bpf_object__next_map(obj, NULL));
	if (!map) {
		Py_DECREF(program);
		return NULL;
	}
	return Py_BuildValue("NN", program, map);
}

static PyObject *stranger(PyObject *self, PyObject *args)
{
	PyObject *object, *program;
	struct bpf_program *prog;

	(void)self;
	if (!PyArg_ParseTuple(args, "OO", &object, &program) || !(prog = pylbpf->program(program)))
		return NULL;
	return pylbpf->wrap_program(object, prog);
}

static PyObject *attach(PyObject *self, PyObject *args)
{
	PyObject *program, *of = NULL, *made;
	struct bpf_program *prog;
	struct bpf_link *link;
	const char *name;

	(void)self;
	if (!PyArg_ParseTuple(args, "Os|O", &program, &name, &of) || !(prog = pylbpf->program(program)))
		return NULL;
	link = bpf_program__attach_raw_tracepoint(prog, name);
	if (!link)
		return PyErr_SetFromErrno(PyExc_OSError);
	made = pylbpf->wrap_link(link, of ? of : program);
	if (!made)
		bpf_link__destroy(link);
	return made;
}

static PyObject *attach_struct_ops(PyObject *self, PyObject *args)
{
	PyObject *map, *of, *made;
	struct bpf_map *ops;
	struct bpf_link *link;

	(void)self;
	if (!PyArg_ParseTuple(args, "OO", &map, &of) || !(ops = pylbpf->map(map)))
		return NULL;
	link = bpf_map__attach_struct_ops(ops);
	if (!link)
		return PyErr_SetFromErrno(PyExc_OSError);
	made = pylbpf->wrap_link(link, of);
	if (!made)
		bpf_link__destroy(link);
	return made;
}

/* ---- Handlers */

static int on_setup(struct bpf_program *prog, long cookie)
{
	(void)prog;
	seen_setup += cookie;
	return 0;
}

static int on_prepare_load(struct bpf_program *prog, struct bpf_prog_load_opts *opts, long cookie)
{
	(void)prog;
	(void)cookie;
	return opts->sz ? 0 : -EINVAL;
}

static int on_attach(const struct bpf_program *prog, long cookie, struct bpf_link **link)
{
	seen_attach += cookie;
	*link = bpf_program__attach_raw_tracepoint(prog, "task_rename");
	return *link ? 0 : -errno;
}

static PyObject *register_handler(PyObject *self, PyObject *args)
{
	char room[sizeof(struct pylbpf_handler) + 16];
	struct pylbpf_handler *handler = (struct pylbpf_handler *)(void *)room;
	Py_ssize_t size = sizeof(struct pylbpf_handler);
	int rest = 0;

	(void)self;
	memset(room, 0, sizeof(room));
	if (!PyArg_ParseTuple(args, "z|lini", &handler->section, &handler->cookie, &handler->autoload, &size, &rest))
		return NULL;
	handler->size = (size_t)size;
	handler->program_type = BPF_PROG_TYPE_RAW_TRACEPOINT;
	handler->priority = 5;
	handler->setup = on_setup;
	handler->prepare_load = on_prepare_load;
	handler->attach = on_attach;
	room[sizeof(room) - 1] = (char)rest;
	return pylbpf->register_handler(handler);
}

static PyObject *seen(PyObject *self, PyObject *none)
{
	(void)self;
	(void)none;
	return Py_BuildValue("ll", seen_setup, seen_attach);
}

static PyObject *sizes(PyObject *self, PyObject *none)
{
	(void)self;
	(void)none;
	return Py_BuildValue("nn", (Py_ssize_t)pylbpf->size, (Py_ssize_t)sizeof(*pylbpf));
}

/* ---- What nobody should do: one function, with NULL or a thing of Python, and with NULL for what C makes. */

static PyObject *misuse(PyObject *self, PyObject *args)
{
	const char *what;
	PyObject *thing = NULL;
	const void *found;

	(void)self;
	if (!PyArg_ParseTuple(args, "s|O", &what, &thing))
		return NULL;
	if (!strcmp(what, "wrap_object"))
		return pylbpf->wrap_object(NULL, 0);
	if (!strcmp(what, "wrap_program"))
		return pylbpf->wrap_program(thing, NULL);
	if (!strcmp(what, "wrap_map"))
		return pylbpf->wrap_map(thing, NULL);
	if (!strcmp(what, "wrap_object_again"))
		return pylbpf->wrap_object(pylbpf->object(thing), 1);
	if (!strcmp(what, "wrap_link_again"))
		return pylbpf->wrap_link(pylbpf->link(thing), NULL);
	if (!strcmp(what, "wrap_link"))
		return pylbpf->wrap_link(NULL, thing);
	if (!strcmp(what, "register_handler"))
		return pylbpf->register_handler(NULL);
	if (!strcmp(what, "object"))
		found = pylbpf->object(thing);
	else if (!strcmp(what, "program"))
		found = pylbpf->program(thing);
	else if (!strcmp(what, "map"))
		found = pylbpf->map(thing);
	else
		found = pylbpf->link(thing);
	return found ? PyLong_FromVoidPtr((void *)found) : NULL;
}

static PyMethodDef methods[] = {
	{"names", names, METH_VARARGS, NULL},
	{"open_object", open_object, METH_VARARGS, NULL},
	{"first", first, METH_O, NULL},
	{"stranger", stranger, METH_VARARGS, NULL},
	{"attach", attach, METH_VARARGS, NULL},
	{"attach_struct_ops", attach_struct_ops, METH_VARARGS, NULL},
	{"register_handler", register_handler, METH_VARARGS, NULL},
	{"misuse", misuse, METH_VARARGS, NULL},
	{"seen", seen, METH_NOARGS, NULL},
	{"sizes", sizes, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "sample", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_sample(void)
{
	pylbpf = pylbpf_import();
	if (!pylbpf)
		return NULL;
	return PyModule_Create(&module);
}
