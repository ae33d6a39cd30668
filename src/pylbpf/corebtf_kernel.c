/* The kernel's BTF as a file, and a file in memory for a part of it. */
#define _GNU_SOURCE
#include "pylbpf/internal/corebtf_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8
#endif

/* ---------------------------------------------------------------- the kernel's */

static int read_all(int fd, unsigned char *data, size_t size)
{
	for (size_t have = 0; have < size;) {
		ssize_t got = read(fd, data + have, size - have);
		if (got == 0)
			return -EIO;
		if (got < 0 && errno != EINTR)
			return -errno;
		have += got > 0 ? got : 0;
	}
	return 0;
}

int pylbpf_kernel_open(struct pylbpf_kernel *kernel)
{
	int fd = open(PYLBPF_KERNEL_BTF, O_RDONLY | O_CLOEXEC), error = 0;
	struct stat status;
	struct statfs system;
	void *data = MAP_FAILED;

	*kernel = (struct pylbpf_kernel){0};
	if (fd < 0)
		return -errno;
	if (fstat(fd, &status) || fstatfs(fd, &system)) {
		error = -errno;
	} else if (!S_ISREG(status.st_mode) || !status.st_size) {
		error = -EINVAL;
	} else {
		/* Since 6.16 the kernel maps it. Any other file might be cut meanwhile, and then raise SIGBUS. */
		if ((unsigned long)system.f_type == SYSFS_MAGIC)
			data = mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		kernel->mapped = data != MAP_FAILED;
		if (!kernel->mapped && !(data = malloc(status.st_size)))
			error = -ENOMEM;
		else if (!kernel->mapped && (error = read_all(fd, data, status.st_size)))
			free(data);
		kernel->data = error ? NULL : data;
		kernel->size = error ? 0 : status.st_size;
	}
	close(fd);
	return error;
}

void pylbpf_kernel_close(struct pylbpf_kernel *kernel)
{
	if (kernel->mapped)
		munmap((void *)kernel->data, kernel->size);
	else
		free((void *)kernel->data);
	*kernel = (struct pylbpf_kernel){0};
}

/* ---------------------------------------------------------------- a file in memory */

static int write_all(int fd, const char *data, size_t size)
{
	while (size) {
		ssize_t done = write(fd, data, size);
		if (done < 0 && errno != EINTR)
			return -errno;
		data += done > 0 ? done : 0;
		size -= done > 0 ? done : 0;
	}
	return 0;
}

static int is_same(const struct pylbpf_memory *memory, const struct stat *status)
{
	return status->st_dev == memory->device && status->st_ino == memory->inode;
}

/* Whether the path leads to the file: there may be no /proc, or not ours. */
static int check_path(const struct pylbpf_memory *memory)
{
	struct stat status;
	int fd = open(memory->path, O_RDONLY | O_CLOEXEC), error;

	if (fd < 0)
		return -errno;
	error = fstat(fd, &status) ? -errno : is_same(memory, &status) ? 0 : -EBADF;
	close(fd);
	return error;
}

/* Older C libraries have no function for it. */
static int memory_file(unsigned int flags)
{
	return syscall(SYS_memfd_create, "pylbpf-btf", flags);
}

int pylbpf_memory_open(struct pylbpf_memory *memory, const void *data, size_t size)
{
	struct stat status = {0};
	int error, fd = memory_file(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	memory->fd = -1;
	if (fd < 0 && errno == EINVAL) /* before 6.3 */
		fd = memory_file(MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd >= 0 && fd < 3) { /* somebody closed the standard files, and may open them anew at any time */
		int higher = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		close(fd);
		fd = higher;
	}
	if (fd < 0)
		return -errno;
	error = fstat(fd, &status) ? -errno : write_all(fd, data, size);
	memory->fd = fd;
	memory->device = status.st_dev;
	memory->inode = status.st_ino;
	snprintf(memory->path, sizeof(memory->path), "/proc/self/fd/%d", fd);
	if (!error)
		error = check_path(memory);
	if (error)
		pylbpf_memory_close(memory);
	else
		fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	return error;
}

/* Only if it still is the descriptor of this file: whoever becomes a daemon closes them all. */
void pylbpf_memory_close(struct pylbpf_memory *memory)
{
	struct stat status;

	if (memory->fd >= 0 && !fstat(memory->fd, &status) && is_same(memory, &status))
		close(memory->fd);
	memory->fd = -1;
}
