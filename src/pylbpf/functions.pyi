from __future__ import annotations

def addresses_of(
    pattern: bytes, *, addressed: bytes | None = None, available: bytes | None = None, symbols: bytes | None = None,
) -> list[int]: ...
