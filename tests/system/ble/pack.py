"""Writes a directory as a cpio archive of the kind the kernel unpacks (newc) to stdout: directories, files, links.

    python3 pack.py DIRECTORY >archive
"""

import os
import stat
import sys


def entry(out, number, name, mode, body):
    """One entry: everything belongs to root, and nothing has a time."""
    raw = name.encode() + b"\0"
    fields = [number, mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(raw), 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + raw
    for part in (head, body):
        out.write(part)
        out.write(b"\0" * (-len(part) % 4))


def main(root):
    out = sys.stdout.buffer
    number = 0
    for directory, directories, files in os.walk(root):
        directories.sort()
        for name in [*directories, *sorted(files)]:
            path = os.path.join(directory, name)
            mode = os.lstat(path).st_mode
            body = b""
            if stat.S_ISLNK(mode):
                body = os.readlink(path).encode()
            elif stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    body = file.read()
            number += 1
            entry(out, number, os.path.relpath(path, root), mode, body)
    entry(out, 0, "TRAILER!!!", 0, b"")


if __name__ == "__main__":
    main(sys.argv[1])
