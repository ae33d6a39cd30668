"""Mirrors of libbpf's headers, to be cimported: ``from pylbpf.c cimport libbpf``."""
