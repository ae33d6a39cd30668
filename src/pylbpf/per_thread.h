/* Variables of which each thread has its own. */
#ifndef PYLBPF_PER_THREAD_H
#define PYLBPF_PER_THREAD_H

/* glibc would make them when a thread first looks at one, and ends the process if there is no memory then; it keeps
 * a little room where they are there from the start, and found faster. Not all other libraries do. */
#include <features.h>
#ifdef __GLIBC__
#define PYLBPF_PER_THREAD static __thread __attribute__((tls_model("initial-exec")))
#else
#define PYLBPF_PER_THREAD static __thread
#endif

#endif
