#!/usr/bin/env python3
"""Which tests prove which row of scripts/robustness_rows.txt, and how they ended last.

  scripts/robustness_table.py [REPORT.xml ...]           the table, as docs/robustness.md holds it
  scripts/robustness_table.py --check [REPORT.xml ...]   exit code 1 when a row that is not for later
                                                         has no test, a test carries an unknown id,
                                                         or a row has a failed test or none that ran
  scripts/robustness_table.py --check-ids                unknown ids alone

Reports are JUnit files; scripts/test.sh leaves them in build-test/reports. Without them the column
says nothing. A test carries ids at the beginning of its name: TEST(HttpBody, H_3_...), def
test_H_3_..., id="H_3_..." of a parameter, also several: K_2_K_3_... An invariant is spelled I15_.
"""
import argparse
import collections
import pathlib
import re
import sys
import xml.etree.ElementTree as xml

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROWS = pathlib.Path(__file__).resolve().parent / "robustness_rows.txt"

# Rules of the APIs have ids of two letters; this table is not about them.
API_RULES = set("CO ER SS RE MO CM CH TL SO TG KV GE HE ME TO".split())
ONE_ID = r"(?:[A-Z]{1,2}_\d+|I\d+)(?=_)"
IDS = re.compile(rf"{ONE_ID}(?:_{ONE_ID})*")
GTEST = re.compile(r"\bTEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\s*\)")
PYTEST = re.compile(r"^\s*def (test_\w+)\(", re.MULTILINE)
PARAMETER = re.compile(rf"\bid=[\"']({ONE_ID}_[^\"']*)[\"']")

Row = collections.namedtuple("Row", "section id later title")
Test = collections.namedtuple("Test", "name file ids")


def read_rows(path=ROWS):
    rows, section = [], ""
    for line in path.read_text().splitlines():
        if line.startswith("== "):
            section = line[3:]
        elif line and not line.startswith("#"):
            row_id, rest = line.split(None, 1)
            later = rest.startswith("later ")
            rows.append(Row(section, row_id, later, rest.removeprefix("later").strip()))
    return rows


def ids_of(name):
    """K_2_I15_Something: K-2 and I15. Of rules of the APIs: none."""
    found = IDS.match(name)
    ids = re.findall(ONE_ID, found[0] + "_") if found else []
    return [each.replace("_", "-") for each in ids if each.split("_")[0] not in API_RULES]


def tests_under(root):
    tests = []
    for path in sorted((root / "src").rglob("*_test.cc")):
        for suite, name in GTEST.findall(path.read_text()):
            tests.append(Test(f"{suite}.{name}", path.relative_to(root), ids_of(name)))
    for path in sorted((root / "tests").rglob("test_*.py")):
        text = path.read_text()
        for name in PYTEST.findall(text):
            tests.append(Test(name, path.relative_to(root), ids_of(name.removeprefix("test_"))))
        for name in PARAMETER.findall(text):
            tests.append(Test(f"[{name}]", path.relative_to(root), ids_of(name)))
    return [test for test in tests if test.ids]


def result_of(case):
    kinds = {child.tag for child in case}
    if kinds & {"failure", "error"} or case.get("status") == "fail":
        return "failed"
    return "skipped" if "skipped" in kinds or case.get("status") == "notrun" else "passed"


def read_results(reports):
    """Name as in Test -> the worst result of its cases."""
    order = ["skipped", "passed", "failed"]
    results = {}
    for report in reports:
        for case in xml.parse(report).getroot().iter("testcase"):
            for name in names_in(case.get("name", "")):
                results[name] = max(results.get(name, "skipped"), result_of(case), key=order.index)
    return results


def names_in(name):
    """server.Every/HttpBody.H_3_Name/avx2 and test_H_3_name[x-H_4_y] as tests are called in code."""
    if name.startswith("test_"):
        function, _, parameter = name.partition("[")
        return [function] + [f"[{parameter}"] * bool(parameter)
    parts = name.split(".")
    if len(parts) < 2:
        return [name]
    return [f"{parts[-2].split('/')[-1]}.{parts[-1].split('/')[0]}"]


def last_result(tests, results):
    if not results or not tests:
        return ""
    seen = [results.get(test.name) for test in tests]
    if "failed" in seen:
        return "failed"
    if "passed" not in seen:
        return "skipped" if "skipped" in seen else "not run"
    return "passed" if set(seen) == {"passed"} else "passed, not all run"


def table(rows, by_id, results):
    lines = [
        "# Robustness", "",
        "Printed by `scripts/robustness_table.py build-test/reports/*.xml` after `scripts/test.sh`:",
        "each promise, the tests that carry its id, and how they ended last.", ""]
    section = None
    for row in rows:
        if row.section != section:
            section = row.section
            lines += ["", f"## {section}", "", "| id | promise | tests | last result |",
                      "|---|---|---|---|"]
        tests = by_id.get(row.id, [])
        names = "<br>".join(f"`{test.name}`" for test in tests)
        state = last_result(tests, results)
        if not tests:
            names = "later work" if row.later else "**none yet**"
        lines.append(f"| {row.id} | {row.title} | {names} | {state} |")
    return "\n".join(lines) + "\n"


def problems_of(rows, tests, by_id, results, ids_only):
    known = {row.id for row in rows}
    found = [f"{test.file}: {test.name} carries {each}, which no row has"
             for test in tests for each in test.ids if each not in known]
    if ids_only:
        return found
    for row in rows:
        if not row.later and row.id not in by_id:
            found.append(f"{row.id} has no test: {row.title}")
        elif last_result(by_id.get(row.id), results) in ("failed", "skipped", "not run"):
            found.append(f"{row.id}: {last_result(by_id[row.id], results)}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reports", nargs="*", type=pathlib.Path, help="JUnit files")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--check-ids", action="store_true")
    parser.add_argument("--root", type=pathlib.Path, default=ROOT, help="tree to scan")
    arguments = parser.parse_args()
    rows, tests = read_rows(), tests_under(arguments.root)
    by_id = collections.defaultdict(list)
    for test in tests:
        for each in test.ids:
            by_id[each].append(test)
    results = read_results(arguments.reports)
    if not (arguments.check or arguments.check_ids):
        print(table(rows, by_id, results), end="")
        return 0
    found = problems_of(rows, tests, by_id, results, arguments.check_ids)
    print("\n".join(found) if found else "every row has its tests")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
