#!/usr/bin/env python3
"""Checks that folders depend one way, as ARCHITECTURE.md draws them.

usage: check_layers.py [ROOT]        prints one line for each include that breaks a rule; exit 1 if there is any
       check_layers.py --self-test   plants one violation of each rule in a temporary tree and expects to see it
"""

import pathlib
import re
import sys
import tempfile

# A folder under src/ may include itself and every folder to its left.
LAYERS = ["base", "formats", "layout", "quant", "routing", "moe", "backends", "parallel", "checkpoint", "capi"]

# Public headers by name, below include/megamoe/: a folder, or the words before the first "_" or ".".
# A header with a new name is added here, beside the layer that implements it.
PUBLIC = {
    "error": "base",
    "buffer": "base",
    "host_device": "base",
    "tensor": "base",
    "formats": "formats",
    "layout": "layout",
    "quant": "quant",
    "routing": "routing",
    "moe": "moe",
    "host_call": "moe",
    "moe_block": "checkpoint",  # a layer as a checkpoint has it, router and shared experts included
    "backend": "moe",
    "backends": "moe",
    "device": "backends",
    "checkpoint": "checkpoint",
    "tensor_file": "checkpoint",
    "prepared_file": "checkpoint",
    "prepared_cache": "checkpoint",
    "cuda_ops": "backends",
}

SOURCES = {".h", ".cc", ".cuh", ".cu"}
INCLUDE = re.compile(r'^\s*#\s*(?:include|define\s+HWY_TARGET_INCLUDE)\s*["<]([^">]+)[">]')


class Unknown(Exception):
    pass


def layer_of(path):
    """base..capi for a file of the library ("src/quant/x.cc", "include/megamoe/quant.h"), else None."""
    parts = path.split("/")
    if parts[0] == "src":
        if parts[1] not in LAYERS:
            raise Unknown(f"src/{parts[1]} has no place in the order; add it to LAYERS in scripts/check_layers.py")
        return parts[1]
    if parts[:2] == ["include", "megamoe"]:
        key = parts[2] if len(parts) > 3 else parts[2].split(".")[0]
        for name in (key, key.split("_")[0]):
            if name in PUBLIC:
                return PUBLIC[name]
        raise Unknown(f"public header megamoe/{'/'.join(parts[2:])} has no layer; add it to PUBLIC in scripts/check_layers.py")
    return None


def backend_of(path):
    parts = path.split("/")
    return parts[2] if parts[:2] == ["src", "backends"] and len(parts) > 3 else None


def resolve(root, source, name):
    """Path of an included file inside the project, or None for a header of somebody else."""
    parent = str(pathlib.PurePosixPath(source).parent)
    for place in (parent, "include", "src", "tests", "cli", "."):
        if (root / place / name).is_file():
            return (root / place / name).resolve().relative_to(root.resolve()).as_posix()
    if name.startswith("megamoe/") or name.split("/")[0] in LAYERS:
        raise Unknown(f"{name} names no file of the project")
    return None


def broken_rule(source, target):
    """The sentence about `source` including `target`, or None where it may."""
    in_library = target.startswith(("src/", "include/"))
    if source.startswith("tests/oracle/") and in_library:
        return "tests/oracle shares nothing with what it judges: no src/, no megamoe/"
    if source.startswith(("cli/", "examples/")) and target.startswith("src/"):
        return f"{source.split('/')[0]} uses the public headers only"
    layer = layer_of(source)
    if layer is None:
        return None
    if not in_library:
        return f"the library may not include {target.split('/')[0]}"
    if source.startswith("include/") and target.startswith("src/"):
        return "public headers include public headers only"
    other = layer_of(target)
    if LAYERS.index(other) > LAYERS.index(layer):
        return f"{layer} may not depend on {other} ({' < '.join(LAYERS)})"
    if backend_of(source) and backend_of(target) and backend_of(source) != backend_of(target):
        return f"backend {backend_of(source)} may not include backend {backend_of(target)}"
    return None


def check(root):
    """Every violation below `root`, as "file:line: sentence"."""
    root = pathlib.Path(root)
    found = []
    for top in ("include", "src", "cli", "tests", "bench", "fuzz", "examples"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix not in SOURCES:
                continue
            source = path.relative_to(root).as_posix()
            try:
                layer_of(source)
            except Unknown as error:
                found.append(f"{source}:1: {error}")
                continue
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                try:
                    target = resolve(root, source, match.group(1))
                    rule = target and broken_rule(source, target)
                except Unknown as error:
                    rule = str(error)
                if rule:
                    found.append(f"{source}:{number}: includes {match.group(1)}: {rule}")
    return found


# name of the case: (file, its include, the words that must come back, or None where it is allowed)
PLANTED = {
    "down": ("src/quant/a.cc", "formats/f.h", None),
    "own folder": ("src/formats/b.cc", "f.h", None),
    "public below": ("src/quant/c.cc", "megamoe/error.h", None),
    "somebody else's": ("src/quant/d.cc", "hwy/highway.h", None),
    "tests see all": ("tests/moe/e.cc", "formats/f.h", None),
    "up": ("src/formats/g.cc", "quant/q.h", "formats may not depend on quant"),
    "public up": ("include/megamoe/error.h", "megamoe/quant.h", "base may not depend on quant"),
    "public to internal": ("include/megamoe/quant.h", "formats/f.h", "public headers include public headers only"),
    "backend to backend": ("src/backends/cpu/h.cc", "backends/reference/r.h", "backend cpu may not include backend reference"),
    "missing file": ("src/backends/cpu/i.cc", "moe/missing.h", "names no file"),
    "oracle": ("tests/oracle/j.cc", "megamoe/error.h", "shares nothing"),
    "cli": ("cli/k.cc", "formats/f.h", "public headers only"),
    "tests from library": ("src/quant/l.cc", "oracle/o.h", "may not include tests"),
    "new header": ("include/megamoe/novel.h", "vector", "add it to PUBLIC"),
    "new folder": ("src/novel/m.cc", "vector", "add it to LAYERS"),
    "no folder": ("src/n.cc", "vector", "add it to LAYERS"),
}


def self_test():
    failures = 0
    for name, (source, include, words) in PLANTED.items():
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for path in ("src/formats/f.h", "src/quant/q.h", "src/backends/reference/r.h", "tests/oracle/o.h",
                         "include/megamoe/error.h", "include/megamoe/quant.h"):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text("#pragma once\n")
            (root / source).parent.mkdir(parents=True, exist_ok=True)
            (root / source).write_text(f'#pragma once\n#include "{include}"\n')
            found = check(root)
            right = len(found) == 1 and words in found[0] and found[0].startswith(f"{source}:") if words else not found
            if not right:
                failures += 1
                print(f"{name}: expected {words or 'no complaint'}, got {found}")
    print(f"self-test: {len(PLANTED)} cases, {failures} wrong")
    return failures


def main():
    if sys.argv[1:] == ["--self-test"]:
        return 1 if self_test() else 0
    found = check(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent)
    print("\n".join(found) if found else "layers: every include follows the order")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
