"""`python3 without_auxv.py PROGRAM ARGUMENTS`: runs a program that the kernel does not tell its auxiliary vector by prctl.

valgrind takes the vDSO away from what it runs and hides it in the vector it hands on. A program that asks the kernel instead
(PR_GET_AUXV, as rustix does) would read the vDSO where it no longer is. A filter answers EINVAL, and it looks where valgrind can help.
"""
import ctypes, os, platform, struct, sys

PRCTL = {"x86_64": 157, "aarch64": 167}
GET_AUXV, NO_NEW_PRIVILEGES, SECCOMP, FILTER = 0x41555856, 38, 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, EINVAL = 0x7FFF0000, 0x00050000 | 22


def main():
    number = PRCTL.get(platform.machine())
    if number:
        steps = [(LOAD, 0, 0, 0), (EQUAL, 0, 3, number), (LOAD, 0, 0, 16), (EQUAL, 0, 1, GET_AUXV), (RETURN, 0, 0, EINVAL),
                 (RETURN, 0, 0, ALLOW)]
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
        whole = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code)))
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        none = ctypes.c_ulong(0)
        if prctl(NO_NEW_PRIVILEGES, ctypes.c_ulong(1), none, none, none) or prctl(SECCOMP, ctypes.c_ulong(FILTER), whole, none, none):
            sys.exit(f"the filter was not taken: {os.strerror(ctypes.get_errno())}")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
