"""What scripts make of bench's documents: tables, plots, and a judgement."""
import copy
import json
import subprocess
import sys
import xml.etree.ElementTree as xml

import pytest

from conftest import ROOT

TABLES = ROOT / "scripts/performance_tables.py"
FLOORS = ROOT / "scripts/performance_floors.py"
GRID = ROOT / "tests/data/bench/grid.json"
KERNELS = ROOT / "tests/data/bench/kernels.json"


def run(script, *arguments, code=0):
    done = subprocess.run([sys.executable, script, *map(str, arguments)], capture_output=True,
                          text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_tables_hold_every_cell_and_what_was_left_out(tmp_path):
    run(TABLES, "--out", tmp_path, GRID, KERNELS)
    tables = (tmp_path / "tables.md").read_text()
    assert "| 4 | 1024 | 340 | 11.76 ms | 34 GB/s, 0.46 T/s | 0.80 | 0.30 | **0.80** (0.75-0.82) | " \
           "9 / 1 / 2 |" in tables
    assert "| 64 | 4096 | left out: its prompts alone take some 187 s; cell_seconds is 120 |" in tables
    assert "| `attention of 1024` | bf16 | 16 |" in tables
    assert "| `rms_norm` | bf16 | 1 | 0.20 |  |  |  | 9 / 0 / 0 |" in tables
    assert "SmolLM2 bf16, avx512" in tables and "AMD EPYC" in tables


def test_what_a_step_is_beside_products_and_attention_is_a_table(tmp_path):
    document = json.loads(KERNELS.read_text())
    document["rest_of_steps"] = [{
        "sequences": 16, "context": 512, "us": 110.4, "limit_us": 11040.0, "share": 0.01,
        "meetings": 304, "meeting_us": 0.45,
        "parts": [{"kernel": "embed", "times": 1, "us": 20.4},
                  {"kernel": "rms_norm", "times": 60, "us": 1.5}]}]
    (tmp_path / "kernels.json").write_text(json.dumps(document))
    run(TABLES, "--out", tmp_path, tmp_path / "kernels.json")
    assert "| 16 | 512 | 110 | 11040 | **1.0 %** | 1 x `embed` 20.40, 60 x `rms_norm` 1.50 | " \
           "304 x 0.45 |" in (tmp_path / "tables.md").read_text()


def test_plots_are_svg_with_a_line_and_its_limit(tmp_path):
    run(TABLES, "--out", tmp_path, GRID)
    plots = sorted(path.name for path in tmp_path.glob("*.svg"))
    assert plots == ["decode-1024.svg", "prefill.svg", "step-1.svg"]
    tables = (tmp_path / "tables.md").read_text()
    assert all(f"]({name})" in tables for name in plots)
    root = xml.parse(tmp_path / "decode-1024.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    words = [element.text for element in root.iter(space + "text")]
    assert "SmolLM2 bf16, avx512" in words and "limit of SmolLM2 bf16, avx512" in words
    assert [element for element in root.iter(space + "path") if element.get("stroke-dasharray")]
    circles = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter(space + "circle")]
    assert len(circles) == 3 and all(0 < x < 640 and 0 < y < 360 for x, y in circles)
    assert circles == sorted(circles) and circles[0][1] > circles[-1][1]  # faster is higher


def test_several_documents_are_lines_of_one_plot(tmp_path):
    other = json.loads(GRID.read_text())
    other["model"]["format"] = "int8<&>"
    (tmp_path / "other.json").write_text(json.dumps(other))
    run(TABLES, "--out", tmp_path, GRID, tmp_path / "other.json")
    words = [e.text for e in xml.parse(tmp_path / "prefill.svg").getroot().iter()]
    assert "SmolLM2 bf16, avx512" in words and "SmolLM2 int8<&>, avx512" in words


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "other.json").write_text('{"schema": "else"}')
    assert "schema is else" in run(TABLES, "--out", tmp_path, tmp_path / "other.json", code=1).stderr


@pytest.fixture
def judge(tmp_path):
    """The judgement of a grid whose decode of four is changed, by a floor of its own."""
    def judged(floor=0.4, code=0, vendor="AuthenticAMD", **changes):
        document = json.loads(GRID.read_text())
        document["cells"] = [copy.deepcopy(cell) for cell in document["cells"]
                             if (cell["phase"], cell["concurrency"]) == ("decode", 4)]
        document["cells"][0].update(changes)
        (tmp_path / "document.json").write_text(json.dumps(document))
        (tmp_path / "floors.json").write_text(json.dumps({
            "schema": "tidemill-floors/1",
            "floors": {f"avx512/{vendor}": {"bf16": {"decode 4": floor}}}}))
        return run(FLOORS, "--document", tmp_path / "document.json", "--floors",
                   tmp_path / "floors.json", code=code).stdout
    return judged


def test_a_share_below_its_floor_fails(judge):
    assert "decode 4: 0.80 of the limit, above its floor of 0.40" in judge()
    assert "BELOW its floor of 0.90" in judge(floor=0.9, code=1)


@pytest.mark.parametrize("changes, reason", [
    ({"vendor": "GenuineIntel"}, "no floor for avx512/AuthenticAMD"),
    ({"dropped_rounds": 5}, "5 of 9 rounds had probes that differ"),
    ({"rounds": 2, "dropped_rounds": 0}, "rounds had probes that differ"),
    ({"cpu_share": 0.96}, "its threads had 0.96 of their cores"),
    ({"share_of_arithmetic": None}, "arithmetic was not probed"),
])
def test_what_cannot_be_judged_is_recorded(judge, changes, reason):
    said = judge(floor=0.9, **changes)
    assert "recorded only" in said and reason in said


def test_floors_are_half_of_what_was_measured(tmp_path):
    recorded = json.loads(run(FLOORS, "--document", GRID, "--record").stdout)
    assert recorded["avx512/AuthenticAMD"]["bf16"]["decode 4"] == 0.4


@pytest.fixture
def fake_bench(tmp_path):
    """A program that measures nothing and says what it was told to quantise."""
    program = tmp_path / "bench.py"
    program.write_text(f"""#!{sys.executable}
import json, sys
document = json.load(open({str(GRID)!r}))
document["cells"] = [cell for cell in document["cells"]
                     if (cell["phase"], cell["concurrency"]) == ("decode", 4)]
flags = sys.argv
if "--quantize" in flags:
    document["model"]["format"] = flags[flags.index("--quantize") + 1]
print(json.dumps(document))
""")
    program.chmod(0o755)
    return program


def test_each_format_is_judged_by_floors_of_its_own(tmp_path, fake_bench):
    def judged(w8a8, code):
        (tmp_path / "floors.json").write_text(json.dumps({
            "schema": "tidemill-floors/1",
            "floors": {"avx512/AuthenticAMD": {"bf16": {"decode 4": 0.4},
                                               "w8a8": {"decode 4": w8a8}}}}))
        return run(FLOORS, "--binary", fake_bench, "model", "--formats", "bf16,int8,int4",
                   "--floors", tmp_path / "floors.json", code=code).stdout
    said = judged(0.5, 0)
    assert "bf16:\ndecode 4: 0.80 of the limit, above its floor of 0.40" in said
    assert "w8a8:\ndecode 4: 0.80 of the limit, above its floor of 0.50" in said
    assert "int4:\ndecode 4: 0.80 of the limit, recorded only: no floor" in said
    assert "once more:" in judged(0.9, 1)  # one that fails is enough


def test_floors_of_several_formats_are_one_table(fake_bench):
    said = run(FLOORS, "--binary", fake_bench, "model", "--formats", "bf16,int4", "--record").stdout
    assert set(json.loads(said)["avx512/AuthenticAMD"]) == {"bf16", "int4"}


@pytest.mark.parametrize("flags", [[], ["--record"]])
def test_what_was_measured_is_saved(tmp_path, fake_bench, flags):
    run(FLOORS, "--binary", fake_bench, "model", "--formats", "int4", "--save",
        tmp_path / "saved.json", *flags)
    saved = json.loads((tmp_path / "saved.json").read_text())
    assert saved["model"]["format"] == "int4" and len(saved["cells"]) == 1


def test_one_file_does_not_hold_several_formats(tmp_path):
    said = run(FLOORS, "model", "--formats", "bf16,int4", "--save", tmp_path / "saved.json",
               code=2).stderr
    assert "--save keeps one document, and --formats names 2: give one format at a time" in said
    assert not (tmp_path / "saved.json").exists()


def test_a_format_that_is_not_known_is_refused():
    said = run(FLOORS, "model", "--formats", "bf16,int3", code=2).stderr
    assert "int3: it must be some of bf16, int8, int4" in said


def test_the_floors_of_the_tree_are_shares():
    floors = json.loads((ROOT / "tests/floors.json").read_text())
    assert floors["schema"] == "tidemill-floors/1" and floors["floors"]
    for formats in floors["floors"].values():
        for cells in formats.values():
            assert all(0 < floor < 1 for floor in cells.values())
