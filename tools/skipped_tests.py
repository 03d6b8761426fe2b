#!/usr/bin/env python3
"""Lists the tests that were skipped, from ctest's report, and says whether that is acceptable.

A machine may lack an instruction set or the right to mount; then its tests are skipped, and say so. So are those that
wait for the cases that a script of tests/interop makes. Where the data of ../shared lies beside the repository in CI,
nothing else excuses a skipped test.

usage: tools/skipped_tests.py REPORT.xml        (ctest --output-junit)
"""
import os
import re
import sys
import xml.etree.ElementTree

EXCUSED = re.compile(r"\b(AVX|AMX|NEON|[Pp]rocessor|instruction sets?|needs root|only root|mount|sanitizers?|"
                     r"sparse files|FEWBITS_LONG|FEWBITS_\w+_CASES)\b")
# GoogleTest: "x_test.cc:7: Skipped", the reason, then the test's line. The end-to-end tests print it in one line.
SKIPPED = re.compile(r"(?:: Skipped\n(?P<reason>(?:(?!\[ ).*\n)*?))?\[  SKIPPED \] (?P<name>[\w./]+)(?P<rest>.*)")


def skipped_in(report):
    """(test, reason) of each; GoogleTest lists names a second time in its summary, without their time."""
    for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
        output = case.findtext("system-out") or ""
        for match in SKIPPED.finditer(output):
            reason = " ".join((match["reason"] or match["rest"].partition(": ")[2]).split())
            if reason or " ms)" in match["rest"]:
                yield f"{case.get('name')}: {match['name']}", reason or "no reason given"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    strict = os.environ.get("CI") == "true" and "FEWBITS_SHARED" in os.environ
    skipped = list(skipped_in(sys.argv[1]))
    unexcused = [(name, reason) for name, reason in skipped if not EXCUSED.search(reason)]
    for name, reason in skipped:
        print(f"skipped {name}: {reason}")
    print(f"{len(skipped)} tests skipped" if skipped else "no test skipped")
    sys.exit(1 if strict and unexcused else 0)


if __name__ == "__main__":
    main()
