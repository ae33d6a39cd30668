/* Where the kernel's BTF comes from, and where a part of it goes. */
#ifndef PYLBPF_COREBTF_KERNEL_H
#define PYLBPF_COREBTF_KERNEL_H

#include <stddef.h>

#define PYLBPF_KERNEL_BTF "/sys/kernel/btf/vmlinux"

struct pylbpf_kernel {
	const unsigned char *data;
	size_t size;
	int mapped;
};

/* The BTF of the kernel that runs, for a short while; 0 or -errno. */
int pylbpf_kernel_open(struct pylbpf_kernel *kernel);
void pylbpf_kernel_close(struct pylbpf_kernel *kernel);

struct pylbpf_memory {                /* a file that has no place in any file system, */
	int fd;
	unsigned long device, inode;
	char path[32];                /* but this path in this process, and in its children that keep the descriptor */
};

/* Puts the bytes into such a file, which nobody can change any more; 0 or -errno. */
int pylbpf_memory_open(struct pylbpf_memory *memory, const void *data, size_t size);
void pylbpf_memory_close(struct pylbpf_memory *memory);

#endif
