"""What a process that reads strangers' documents may do: count in its own memory, for a while.

All of it on Linux; elsewhere only the bounds on memory and time.

The process calls `enter` once it has loaded all that it needs. From then on it can open no file and no socket, start
no process and look into no other one, and it is killed when it takes too much time or memory.
"""

import ctypes
import platform
import struct
import sys

_DENIED: dict[str, tuple[int | None, int | None]] = {
    # files
    "open": (2, None),
    "openat": (257, 56),
    "openat2": (437, 437),
    "open_by_handle_at": (304, 265),
    "creat": (85, None),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "mount": (165, 40),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "io_uring_setup": (425, 425),
    # network
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    # processes, others' memory, the kernel
    "clone": (56, 220),
    "clone3": (435, 435),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "mq_open": (240, 180),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
}
"""System calls, and their numbers on x86-64 and on 64-bit ARM.
https://github.com/torvalds/linux/blob/master/arch/x86/entry/syscalls/syscall_64.tbl and
https://github.com/torvalds/linux/blob/master/include/uapi/asm-generic/unistd.h"""
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""By `platform.machine`: the column above, and the number by which filters know it."""

_LOAD, _JUMP_EQUAL, _JUMP_FROM, _RETURN = 0x20, 0x15, 0x35, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, …|JGE|K, BPF_RET|K
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050001  # refuse: EPERM
_NO_NEW_PRIVILEGES, _SECCOMP, _DIE_WITH_PARENT, _FILTER = 38, 22, 1, 2
_X32 = 0x40000000
"""From here on, system calls of x86 have other numbers."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def limit(memory: int, seconds: int) -> None:
    """Bound this process: `memory` in bytes beyond what its libraries take, `seconds` of processor time.

    Nothing is written to disk, and no core is left behind.
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - there is none on Windows

    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CPU, seconds),
        # Linux counts all private writable memory here, what is mapped included.
        (resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS, memory),
    ):
        try:
            resource.setrlimit(what, (most, most))
        except (ValueError, OSError):  # macOS knows, but does not take, some of them
            continue


def enter() -> bool:
    """Give up files, network and other processes. Returns whether the system could be told to hold us to it."""
    known = _ARCHITECTURES.get(platform.machine())
    if sys.platform != "linux" or known is None:
        return False
    column, architecture = known
    calls = [number for numbers in _DENIED.values() if (number := numbers[column]) is not None]
    steps = [_step(_LOAD, 4), _step(_JUMP_EQUAL, architecture, 1, 0), _step(_RETURN, _KILL), _step(_LOAD, 0)]
    steps += [_step(_JUMP_FROM, _X32, len(calls) + 1, 0)]
    steps += [_step(_JUMP_EQUAL, call, len(calls) - place, 0) for place, call in enumerate(calls)]
    steps += [_step(_RETURN, _ALLOW), _step(_RETURN, _REFUSE)]
    program = _Program(len(steps), b"".join(steps))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_DIE_WITH_PARENT, 9, 0, 0, 0)
    alone = libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    return alone and bool(libc.prctl(_SECCOMP, _FILTER, ctypes.byref(program), 0, 0) == 0)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
