#!/usr/bin/env python3
"""What a JUnit report says, for scripts/test.sh.

  scripts/test_report.py REPORT.xml [FAILURES.txt]

Prints "PASSED FAILED"; a test that was skipped is neither, and a report that cannot be read is one
failure. The names of what failed and the last lines each of them wrote are added to FAILURES.txt.
"""
import pathlib
import sys
import xml.etree.ElementTree as xml

LAST_LINES = 40


def said(case):
    """What a test that failed wrote; ctest and pytest keep it in different places."""
    parts = [part.text or part.get("message") or ""
             for tag in ("failure", "error", "system-out", "system-err") for part in case.iter(tag)]
    return "\n".join(parts).strip().splitlines()


def main():
    report = pathlib.Path(sys.argv[1])
    try:
        cases = list(xml.parse(report).getroot().iter("testcase"))
    except (xml.ParseError, OSError) as error:
        cases, failures = [], [f"FAILED: {report}: {error}"]
    else:
        failures = []
    passed = failed = 0
    for case in cases:
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
            names = dict.fromkeys((case.get("classname", ""), case.get("name", "")))
            lines = said(case)[-LAST_LINES:]
            failures.append("\n    ".join(["FAILED: " + " ".join(names), *lines]))
        elif case.find("skipped") is None:
            passed += 1
    print(passed, failed if cases else 1)
    if not cases and not failures:
        failures.append(f"FAILED: {report}: no test ran")
    if failures and len(sys.argv) > 2:
        with open(sys.argv[2], "a", encoding="utf-8") as to:
            to.write("\n".join(failures) + "\n")


if __name__ == "__main__":
    main()
