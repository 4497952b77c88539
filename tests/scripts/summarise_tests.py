#!/usr/bin/env python3
"""Prints what ctest ran as Markdown tables: summarise_tests.py "TITLE=CTEST_JUNIT.xml" ...

For a GoogleTest binary the counts of its cases and the reasons of skipped ones; else the last line a test printed.
"""
import os
import re
import sys
import xml.etree.ElementTree as xml


def outcome(case):
    if case.find("failure") is not None or case.get("status") == "fail":
        return "FAILED"
    return "skipped" if case.find("skipped") is not None or case.get("status") == "notrun" else "passed"


def says(output):
    passed = re.search(r"\[  PASSED  \] (\d+) tests?", output)
    if not passed:
        lines = [line for line in output.splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""
    skipped = re.search(r"\[  SKIPPED \] (\d+) tests?", output)
    return f"{passed.group(1)} cases passed" + (f", {skipped.group(1)} skipped" if skipped else "")


def main():
    for argument in sys.argv[1:]:
        title, path = argument.split("=", 1)
        print(f"\n## {title}\n")
        if not os.path.exists(path):
            print("Not run.")
            continue
        print("| test | result | seconds | what it says |\n|---|---|---|---|")
        for case in xml.parse(path).getroot().iter("testcase"):
            output = case.findtext("system-out") or ""
            said = says(output).replace("|", "\\|")[:200]
            print(f"| {case.get('name')} | {outcome(case)} | {float(case.get('time') or 0):.1f} | {said} |")


if __name__ == "__main__":
    main()
