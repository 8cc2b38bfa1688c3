#!/usr/bin/env python3
"""Proves that the tests can fail: seeds one bug at a time into the library and expects one named test to notice.

usage: mutants.py [--build DIR] [--only N,N,...] [--jobs N]

tests/mutants.txt lists the bugs. For each one this script copies the mutated file beside the build, compiles the one
source file that holds or includes it, links the test that must fail with that object (in front of the library; instead of
the test's own where the source is the test's, as for headers that only tests compile), and runs the test. The tree itself is
never touched, and the build directory (default: build/cpu, which `make test` leaves) must be up to date for the test
binaries of the table. A mutant of code that this machine's processor cannot run is left out, and said so.

Exit 0: every mutant was killed. Exit 1, with a line for each: a mutant survived, did not compile, its text is no longer
in its file exactly once, or its test does not exist, is not one test, or fails without the mutation.
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIMEOUT_S = 120


class Broken(Exception):
    """A row of the table, or the build, is not usable."""


@dataclasses.dataclass
class Mutant:
    number: int
    what: str
    file: str = ""
    compiled_by: str = ""
    correct: str = ""
    mutated: str = ""
    binary: str = ""
    test: str = ""
    needs: tuple = ()  # flags of /proc/cpuinfo

    @property
    def is_compiled_by_test(self):
        return self.compiled_by.startswith("tests/")


def read_table(path):
    mutants = []
    for place, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("#") or not line.strip():
            continue
        key, _, value = line.partition(" ")
        if key == "mutant":
            number, _, what = value.partition(" ")
            mutants.append(Mutant(int(number), what))
        elif key == "file":
            mutants[-1].file, _, through = value.partition(" in ")
            mutants[-1].compiled_by = through or mutants[-1].file
        elif key in ("-", "+"):
            name = "correct" if key == "-" else "mutated"
            lines = getattr(mutants[-1], name)
            setattr(mutants[-1], name, lines + "\n" + value if lines else value)
        elif key == "test":
            mutants[-1].binary, _, mutants[-1].test = value.partition(" ")
        elif key == "needs":
            mutants[-1].needs = tuple(value.split())
        else:
            raise Broken(f"{path}:{place}: '{key}' is none of mutant, file, -, +, test, needs")
    numbers = [m.number for m in mutants]
    if len(set(numbers)) != len(numbers):
        raise Broken(f"{path}: a number is used twice")
    return mutants


def processor_flags():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def run(command, cwd):
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        return done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        return 124, f"longer than {TIMEOUT_S} s"


class Build:
    """The commands of an up-to-date ninja build."""

    def __init__(self, directory):
        self.directory = directory
        if not (directory / "build.ninja").exists():
            raise Broken(f"{directory} has no build.ninja; run: cmake --preset cpu && cmake --build --preset cpu")
        self.commands = {}

    def command_with(self, target, marker):
        if target not in self.commands:
            code, text = run(["ninja", "-t", "commands", target], self.directory)
            if code != 0:
                raise Broken(f"{target}: not a target of {self.directory}")
            self.commands[target] = text.splitlines()
        found = [c for c in self.commands[target] if marker in c]
        if len(found) != 1:
            raise Broken(f"{len(found)} commands with '{marker}' in the build of {target}, expected 1")
        return found[0]

    def compile_command(self, mutant, source, overlay, out):
        original = str(ROOT / mutant.compiled_by)
        target = f"bin/{mutant.binary}" if mutant.is_compiled_by_test else "megamoe"
        words = shlex.split(self.command_with(target, f" -c {original}"))
        words[words.index(original)] = str(source)
        words[words.index("-o") + 1] = str(out)
        for flag in ("-MF", "-MT"):
            at = words.index(flag)
            del words[at : at + 2]
        words.remove("-MD")
        first = next(i for i, word in enumerate(words) if word.startswith("-I"))
        # The overlay comes before the real headers; -O1 is later than the build's own level, and compiles faster.
        return words[:first] + [f"-I{overlay}/include", f"-I{overlay}/src"] + words[first:] + ["-O1", "-w"]

    def link_command(self, mutant, object_file, out):
        line = self.command_with(f"bin/{mutant.binary}", f"-o bin/{mutant.binary} ")
        words = [w for w in shlex.split(line) if w not in (":", "&&")]
        words[words.index("-o") + 1] = str(out)
        objects = [i for i, w in enumerate(words) if w.endswith(".o")]
        words.insert(objects[0], str(object_file))
        if mutant.is_compiled_by_test:
            name = pathlib.Path(mutant.compiled_by).name + ".o"
            words = [w for w in words if w == str(object_file) or pathlib.Path(w).name != name]
        return words


def matching_tests(binary, pattern):
    code, text = run([str(binary), "--gtest_list_tests", f"--gtest_filter={pattern}"], binary.parent)
    if code != 0:
        raise Broken(f"{binary.name} does not run")
    return [line for line in text.splitlines() if line.startswith("  ")]


def mutate(mutant):
    """The mutant's file, and how often the text to mutate is in the correct one; indentation does not matter."""
    pattern = r"\n\s*".join(re.escape(line) for line in mutant.correct.splitlines())
    return re.subn(pattern, lambda _: mutant.mutated, (ROOT / mutant.file).read_text())


@functools.cache
def fault_of_test(binary, test, work):
    """Why the test says nothing about a mutant, or None."""
    if not binary.exists():
        return f"{binary.name} is not built"
    tests = matching_tests(binary, test)
    if len(tests) != 1:
        return f"{binary.name} has {len(tests)} tests {test}, expected 1"
    code, text = run([str(binary), f"--gtest_filter={test}"], work)
    if code != 0:
        return f"{test} fails without the mutation:\n{text[-2000:]}"
    return None


def kill(build, mutant, work):
    """Returns a sentence why the mutant counts as alive, or None."""
    fault = fault_of_test(build.directory / "bin" / mutant.binary, mutant.test, work)
    if fault is not None:
        return fault

    mutated_text, places = mutate(mutant)
    if places != 1:
        return f"{mutant.file} holds the text to mutate {places} times, expected once"
    overlay = work / str(mutant.number)
    source = overlay / mutant.file
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(mutated_text)
    compiled = source if mutant.compiled_by == mutant.file else ROOT / mutant.compiled_by
    object_file, mutated = overlay / "mutated.o", overlay / mutant.binary
    code, text = run(build.compile_command(mutant, compiled, overlay, object_file), build.directory)
    if code != 0:
        return f"does not compile:\n{text[-2000:]}"
    code, text = run(build.link_command(mutant, object_file, mutated), build.directory)
    if code != 0:
        return f"does not link:\n{text[-2000:]}"
    code, text = run([str(mutated), f"--gtest_filter={mutant.test}"], work)
    mutated.unlink()
    return None if code != 0 else f"SURVIVED {mutant.test}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "cpu")
    parser.add_argument("--only", help="numbers, separated by commas")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    mutants = read_table(ROOT / "tests" / "mutants.txt")
    if arguments.only:
        asked = {int(n) for n in arguments.only.split(",")}
        mutants = [m for m in mutants if m.number in asked]
    flags = processor_flags()
    for mutant in [m for m in mutants if not flags.issuperset(m.needs)]:
        print(f"{mutant.number:3}  left out, this processor lacks {', '.join(set(mutant.needs) - flags)}: {mutant.what}")
        mutants.remove(mutant)
    build = Build(arguments.build.resolve())
    work = build.directory / "mutants"
    work.mkdir(exist_ok=True)

    alive = 0
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for mutant, reason in zip(mutants, pool.map(lambda m: kill(build, m, work), mutants)):
            alive += reason is not None
            print(f"{mutant.number:3}  {'killed' if reason is None else 'ALIVE '}  {mutant.what}", flush=True)
            if reason is not None:
                print(f"     {mutant.file}: {reason}", flush=True)
    print(f"{len(mutants) - alive} of {len(mutants)} mutants killed")
    return 1 if alive or not mutants else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Broken as broken:
        print(f"mutants.py: {broken}", file=sys.stderr)
        sys.exit(1)
