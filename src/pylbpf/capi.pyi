_C_API: object  # PyCapsule of struct pylbpf_api, see pylbpf/pylbpf.h
