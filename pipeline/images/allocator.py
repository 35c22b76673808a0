"""The allocator of the process: large blocks go back to the system as soon as they are freed."""

import ctypes
import sys

# mallopt(3), malloc.h of glibc.
_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1024 * 1024


def return_freed_memory() -> None:
    """Have glibc give each block of 1 MiB and more a mapping of its own, which ends when the block is freed.

    By default, the first freed mapping raises that threshold, up to 32 MiB; smaller blocks then come from heaps, one
    for each thread, and what is freed there mostly stays with the process. Pillow's blocks have 16 MiB: a few
    conversions would leave a process at a multiple of what it needs. Setting the threshold fixes it: mallopt(3).

    Other allocators (musl, macOS, Windows) are left as they are.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
