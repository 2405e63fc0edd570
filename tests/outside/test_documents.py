"""What the documents say is what the program has."""
import json
import re
import subprocess
import sys

import httpx
import pytest

from conftest import ROOT

TABLE = ROOT / "scripts/robustness_table.py"


def table(*arguments, code=0):
    done = subprocess.run([sys.executable, TABLE, *map(str, arguments)], capture_output=True,
                          text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_every_row_has_a_test_and_every_id_a_row():
    assert table("--check") == "every row has its tests\n"


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


def literals():
    """Every string of the source, neighbours joined; placeholders as `...`."""
    pattern = re.compile(r'"(?:[^"\\\n]|\\.)*"(?:\s*"(?:[^"\\\n]|\\.)*")*')
    found = set()
    for path in (ROOT / "src").rglob("*"):
        if path.suffix not in (".cc", ".h", ".rs") or path.stem.endswith(("_test", "_bench")):
            continue
        for match in pattern.finditer(path.read_text()):
            text = "".join(re.findall(r'"((?:[^"\\\n]|\\.)*)"', match[0]))
            found.add(re.sub(r"\{[^}]*\}|%\w+", "...", text.replace('\\"', '"')))
    return found


def quoted_messages():
    """The code in the first cells of the tables of troubleshooting.md."""
    for line in (ROOT / "docs/troubleshooting.md").read_text().splitlines():
        cell = line.split("|")[1].strip() if line.startswith("| ") else ""
        if cell.startswith("`"):
            yield cell.strip("`")


def test_every_quoted_message_is_one_that_the_program_says():
    strings = literals()

    def is_said(message):
        pieces = [re.escape(piece.strip()) for piece in message.split("...")]
        pattern = re.compile(".*".join(pieces))
        return any(pattern.search(text) for text in strings)

    messages = list(quoted_messages())
    assert len(messages) > 40
    assert [message for message in messages if not is_said(message)] == []
    assert not is_said("a sentence that nobody wrote")


PROMQL = {"sum", "max", "rate", "by", "le", "histogram_quantile", "label_values"}


def names_in_query(expression):
    """The metrics of a query, and for each the labels that it names."""
    labels = set(re.findall(r"(\w+)=~?\"", expression))
    for group in re.findall(r"by \(([^)]*)\)", expression):
        labels |= {label.strip() for label in group.split(",")} - {"le"}
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|by \([^)]*\)|\"[^\"]*\"", " ", expression)
    names = set(re.findall(r"[a-zA-Z_][\w:]*", bare)) - PROMQL
    return names, labels


def test_the_board_asks_for_metrics_that_the_server_has(script_server):
    httpx.post(script_server.url + "/v1/completions", json={"prompt": "hello"})
    page = httpx.get(script_server.url + "/metrics").text
    samples = {}
    for line in page.splitlines():
        if sample := re.match(r"([a-zA-Z_:][\w:]*)(\{.*\})? ", line):
            samples.setdefault(sample[1], set()).update(re.findall(r"(\w+)=\"", sample[2] or ""))
    board = json.loads((ROOT / "docs/grafana.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    expressions += [each["query"]["query"].split(",")[0] for each in board["templating"]["list"]
                    if each["type"] == "query"]
    assert len(expressions) > 20
    for expression in expressions:
        names, labels = names_in_query(expression)
        assert names, expression
        for name in names:
            assert name in samples, f"{name} of {expression}"
            assert labels <= samples[name], f"{labels} of {expression}"
    for panel in board["panels"]:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24, panel["title"]


def test_times_of_the_picture_are_settings():
    picture = (ROOT / "docs/operations.md").read_text().split("```text\n")[1].split("```")[0]
    names = set(re.findall(r"\b\w+_(?:timeout|time|interval)\b", picture))
    settings = (ROOT / "src/settings/options.cc").read_text()
    assert len(names) >= 6
    assert [name for name in names if f'"{name}"' not in settings] == []


def test_links_between_documents_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"
