/* The part of a BTF that answers for some types. */
#ifndef PYLBPF_COREBTF_TRIM_H
#define PYLBPF_COREBTF_TRIM_H

#include "pylbpf/internal/corebtf_names.h"

/* All types with one of these names, and what they are made of, as a BTF of its own: `*result`, for free(). Notes at
 * each name whether there is one, and with a size. 0; -EINVAL if `data` is no sound BTF; -ENOMEM. */
int pylbpf_trim(const uint8_t *data, size_t size, struct pylbpf_names *names, uint8_t **result, size_t *result_size);

#endif
