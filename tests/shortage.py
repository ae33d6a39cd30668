"""A malloc that fails when it is told to, for libbpf and pylbpf alone, in another process."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import objects
from handling import compile_c, environment

# Whoever asks is known by where malloc returns to. What libraries take from the C library by other ways, as by strdup(),
# and what Python takes, is there always.
SOURCE = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

static struct { const char *from, *to; } callers[256];
static int known;
static long left = -1, asked; /* how many allocations succeed before one fails, -1: all */
static int once;

static int note(struct dl_phdr_info *info, size_t size, void *unused)
{
	if (!strstr(info->dlpi_name, "libbpf.so") && !strstr(info->dlpi_name, "pylbpf/"))
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &info->dlpi_phdr[i];
		if (part->p_type != PT_LOAD || !(part->p_flags & PF_X) || known == 256)
			continue;
		callers[known].from = (const char *)info->dlpi_addr + part->p_vaddr;
		callers[known].to = callers[known].from + part->p_memsz;
		known++;
	}
	return 0;
}

/* From so many allocations on all fail, or only that one. */
int run_short(long after, int only_one)
{
	known = 0;
	dl_iterate_phdr(note, NULL);
	once = only_one;
	__atomic_store_n(&asked, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&left, after, __ATOMIC_SEQ_CST);
	return known;
}

/* All succeed again. How many there were meanwhile. */
long enough(void)
{
	__atomic_store_n(&left, -1, __ATOMIC_SEQ_CST);
	return asked;
}

static int fails(const char *caller)
{
	long after = __atomic_load_n(&left, __ATOMIC_SEQ_CST), number;

	if (after < 0)
		return 0;
	for (int i = 0; i < known; i++) {
		if (caller < callers[i].from || caller >= callers[i].to)
			continue;
		number = __atomic_fetch_add(&asked, 1, __ATOMIC_SEQ_CST);
		if (once ? number != after : number < after)
			return 0;
		errno = ENOMEM;
		return 1;
	}
	return 0;
}

void *malloc(size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *block, size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(block, size);
}
"""

BEGIN = """
import ctypes, sys
shortage = ctypes.CDLL(None)
shortage.run_short.argtypes = [ctypes.c_long, ctypes.c_int]
shortage.enough.restype = ctypes.c_long
"""


def run(script: str, *arguments: object) -> str:
    """What a script prints that may call shortage.run_short() and shortage.enough()."""
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("malloc: sanitizers have one of their own")
    library = objects.cache_dir() / "shortage.so"
    if not library.exists() or library.stat().st_mtime < Path(__file__).stat().st_mtime:
        compile_c(SOURCE, library)
    done = subprocess.run([sys.executable, "-c", BEGIN + script, *map(str, arguments)], text=True, check=False,
                          env={**environment(), "LD_PRELOAD": str(library)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, (done.returncode, done.stdout[-1000:], done.stderr[-3000:])
    return done.stdout
