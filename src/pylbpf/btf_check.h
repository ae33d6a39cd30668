/* Whether types may be followed wherever they lead. See btf_check.c. */
#ifndef PYLBPF_BTF_CHECK_H
#define PYLBPF_BTF_CHECK_H

#include <bpf/btf.h>

/* Looks at the types from number `first` on, and at what they hold. 0; -EINVAL and a sentence in `problem`; -ENOMEM. */
int pylbpf_check_types(const struct btf *btf, unsigned int first, char *problem, size_t room);

#endif
