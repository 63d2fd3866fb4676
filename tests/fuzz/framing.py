"""Several byte strings in one: a fuzzer knows one input only."""

import itertools


def join(*parts: bytes) -> bytes:
    """Each part with its length before it; the last one goes to the end."""
    framed = itertools.chain.from_iterable((len(part).to_bytes(3, "little"), part) for part in parts[:-1])
    return b"".join(framed) + parts[-1]


def split(data: bytes, count: int) -> list[bytes]:
    """``count`` parts of whatever it is: lengths beyond the end mean the end."""
    parts = []
    for _ in range(count - 1):
        end = 3 + int.from_bytes(data[:3], "little")
        parts.append(data[3:end])
        data = data[end:]
    return [*parts, data]
