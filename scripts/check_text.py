#!/usr/bin/env python3
"""Checks the tracked text files: UTF-8, no trailing whitespace, no tabs in C++, no paths of somebody's machine.

What .gitattributes calls binary is not text. Prints "file:line: sentence" and exits 1 if anything is found;
exits 77 (ctest: skipped) where git cannot say what is tracked.
"""

import pathlib
import re
import subprocess
import sys

CPP = {".h", ".cc", ".cuh", ".cu"}
# An absolute path below a folder that holds people's or a job's files: it works on one machine only.
MACHINE_PATH = re.compile(r"(?<![\w.}>-])/(?:home|Users|root|work|workspace|mnt|media|scratch)/\w")


def git(root, *args, stdin=None):
    return subprocess.run(["git", "-C", root, *args], input=stdin, check=True, capture_output=True).stdout


def text_files(root):
    names = git(root, "ls-files", "-z")
    attributes = git(root, "check-attr", "--stdin", "-z", "binary", stdin=names).decode().split("\0")
    for name, value in zip(attributes[0::3], attributes[2::3]):
        path = root / name
        if value != "set" and path.is_file() and not path.is_symlink():
            yield name, path


def complaints(name, data):
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        yield data[:error.start].count(b"\n") + 1, "not UTF-8 (a binary file is declared in .gitattributes)"
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip():
            yield number, "trailing whitespace"
        if "\t" in line and pathlib.PurePath(name).suffix in CPP:
            yield number, "a tab; C++ is indented with spaces"
        match = MACHINE_PATH.search(line)
        if match:
            yield number, "a path of one machine: " + line[match.start():].split()[0]


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    try:
        files = list(text_files(root))
    except (OSError, subprocess.CalledProcessError) as error:
        print("text: git cannot say which files are tracked:", (getattr(error, "stderr", b"") or b"").decode() or error)
        return 77
    found = [f"{name}:{number}: {sentence}"
             for name, path in files for number, sentence in complaints(name, path.read_bytes())]
    print("\n".join(found) if found else "text: clean")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
