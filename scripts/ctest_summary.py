#!/usr/bin/env python3
"""Turns ctest's JUnit files into one line: "N passed, N failed, N skipped", after the reasons of the skips.

usage: ctest_summary.py [--extra-failures N] [FILE...]
"""

import argparse
import collections
import re
import sys
import xml.etree.ElementTree as ET

# GoogleTest prints "file:line: Skipped" and the reason on the next lines; other tests print it as their last line.
GTEST_REASON = re.compile(r": Skipped\n(.*?)\n\n?\[ +SKIPPED", re.DOTALL)


def skip_reason(case):
    output = case.findtext("system-out") or ""
    gtest = GTEST_REASON.search(output)
    if gtest and gtest.group(1).strip():
        return " ".join(gtest.group(1).split())
    lines = [line.strip() for line in output.splitlines() if line.strip() and not line.startswith("[")]
    if ": Skipped" in output:
        return "no reason given"
    return lines[-1] if lines else "no reason given"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--extra-failures", type=int, default=0, help="checks outside ctest that failed")
    parser.add_argument("files", nargs="*", metavar="FILE")
    args = parser.parse_args()

    passed = 0
    failed = []
    skipped = collections.defaultdict(list)
    for path in args.files:
        for case in ET.parse(path).getroot().iter("testcase"):
            name = case.get("name")
            if case.find("failure") is not None or case.get("status") == "fail":
                failed.append(name)
            elif case.get("status") == "run":
                passed += 1
            elif case.get("status") == "disabled":
                skipped["disabled in the source"].append(name)
            elif case.find("skipped") is not None and "SKIP_" in case.find("skipped").get("message", ""):
                skipped[skip_reason(case)].append(name)
            else:  # not built, a dependency missing: nobody chose not to run it
                failed.append(name)

    for reason, names in sorted(skipped.items()):
        print(f"skipped {len(names)}: {reason} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
    for name in failed:
        print(f"failed: {name}")
    print(f"{passed} passed, {len(failed) + args.extra_failures} failed, {sum(map(len, skipped.values()))} skipped")
    return 1 if failed or args.extra_failures or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
