"""What the documents say is what the program has."""
import pathlib
import subprocess
import sys

import pytest

from conftest import ROOT

TABLE = ROOT / "scripts/robustness_table.py"


def table(*arguments, code=0):
    done = subprocess.run([sys.executable, TABLE, *map(str, arguments)], capture_output=True,
                          text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_no_test_carries_an_id_that_no_row_has():
    assert table("--check-ids") == "every row has its tests\n"


@pytest.fixture
def tree(tmp_path):
    """A tree with three tests, and a report of two."""
    source = tmp_path / "src/server"
    source.mkdir(parents=True)
    (source / "http_test.cc").write_text(
        "TEST(HttpBody, H_3_AtTheByte) {}\nTEST_P(Every, K_2_K_3_Cut) {}\n"
        "TEST(Openai, CO_5_IsARuleOfTheApi) {}\nTEST(Pool, I15_Balance) {}\n")
    outside = tmp_path / "tests/outside"
    outside.mkdir(parents=True)
    (outside / "test_x.py").write_text(
        "@pytest.mark.parametrize('x', [pytest.param(1, id='H_5_bare')])\n"
        "def test_S_1_idle(x): pass\n")
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuite><testcase name="server.HttpBody.H_3_AtTheByte" status="run"/>'
        '<testcase name="server.All/Every.K_2_K_3_Cut/avx2" status="run"/>'
        '<testcase name="server.All/Every.K_2_K_3_Cut/avx512" status="fail"><failure/></testcase>'
        '<testcase name="test_S_1_idle[H_5_bare]"><skipped/></testcase></testsuite>')
    return tmp_path


def test_the_table_names_tests_and_their_last_results(tree):
    lines = {line.split("|")[1].strip(): line
             for line in table("--root", tree, tree / "report.xml").splitlines()
             if line.startswith("| ")}
    assert "`HttpBody.H_3_AtTheByte` | passed |" in lines["H-3"]
    assert "`Every.K_2_K_3_Cut` | failed |" in lines["K-2"] and "| failed |" in lines["K-3"]
    assert "`[H_5_bare]` | skipped |" in lines["H-5"] and "`test_S_1_idle`" in lines["S-1"]
    assert "`Pool.I15_Balance` | not run |" in lines["I15"]
    assert "**none yet**" in lines["H-1"] and "later work" in lines["R-1"]


def test_rows_without_tests_and_ids_without_rows_are_problems(tree):
    said = table("--root", tree, "--check", tree / "report.xml", code=1)
    assert "H-1 has no test" in said and "K-2: failed" in said and "I15: not run" in said
    assert "R-1" not in said and "H-3" not in said
    (tree / "tests/outside/test_y.py").write_text("def test_H_99_nobody_knows(): pass\n")
    said = table("--root", tree, "--check-ids", code=1)
    assert "test_H_99_nobody_knows carries H-99" in said
