/* What an object is going to cost, and what it wants to know about the kernel's types. */
#ifndef PYLBPF_COREBTF_SCAN_H
#define PYLBPF_COREBTF_SCAN_H

#include "pylbpf/internal/corebtf_names.h"

struct pylbpf_scan {
	size_t insns;                 /* in all executable sections */
	size_t programs;              /* that are loaded if nobody decides otherwise */
	size_t maps;                  /* that are made, at least so many */
	size_t relocations;           /* CO-RE relocations */
	uint32_t kinds;               /* of relocations: 1 << enum bpf_core_relo_kind */
	const char *plain;            /* why only the kernel's whole BTF will do, a static text; NULL if a part will */
	struct pylbpf_names names;    /* of the types that relocations begin with; in part only, if `plain` */
};

/* Reads an object that pylbpf_check_object() let pass, but trusts nothing. Where it cannot read on, `plain` says so.
 * What it holds is to be given back with pylbpf_scan_free(). */
void pylbpf_scan(const unsigned char *data, size_t size, struct pylbpf_scan *scan);
void pylbpf_scan_free(struct pylbpf_scan *scan);

#endif
