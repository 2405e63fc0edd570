"""bench without --url: its cells, its grid and its kernels, as lines and as a document."""
import json
import subprocess

import pytest

from conftest import BINARY, ROOT, write_script

pytestmark = pytest.mark.measured
TINY = ROOT / "tests/data/tiny/llama"
CELL = ["tokens_per_second", "call_ms", "share", "share_of_memory", "share_of_arithmetic"]


def bench(*arguments, code=0):
    done = subprocess.run([BINARY, "bench", *map(str, arguments)], capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def document(tmp_path, *arguments):
    done = bench(TINY, "--json", "--cache-dir", tmp_path, "--kv-cache-bytes", "16777216",
                 "--cell-seconds", "0.1", *arguments)
    return json.loads(done.stdout)


def check(cell):
    """Numbers that can be, whatever the machine."""
    for name in CELL:
        assert 0 < cell[name]["min"] <= cell[name]["median"] <= cell[name]["max"], (name, cell)
    assert cell["share"]["median"] >= 0.999 * cell["share_of_memory"]["min"]
    assert cell["bound_by"] in ("memory", "arithmetic")
    assert 1 <= cell["rounds"] <= 9 and 0 <= cell["dropped_rounds"] <= cell["rounds"]
    assert cell["probe"]["gb_per_second"]["median"] > 0.1
    assert all(rate > 0.1 for rate in cell["probe"]["gflop_per_second"].values())


def test_cells_are_a_document_with_machine_probes_and_shares(tmp_path):
    result = document(tmp_path, "--concurrency", "1,3", "--prompt-tokens", "20")
    assert (result["schema"], result["kind"]) == ("tidemill-bench/1", "cells")
    for key in ("vendor", "processor", "isa", "threads"):
        assert result["machine"][key]
    assert result["program"]["name"] == "tidemill" and result["model"]["name"] == "llama"
    assert result["left_out"] == [] or all(cell["reason"] for cell in result["left_out"])
    names = [(cell["phase"], cell["concurrency"], cell["context"]) for cell in result["cells"]]
    assert ("prefill", 1, 20) in names and ("prefill", 3, 20) in names
    for cell in result["cells"]:
        check(cell)
        if cell["phase"] == "decode":
            assert cell["mean_context"] >= 20


def test_a_decode_cell_measures_all_its_sequences_together(tmp_path):
    result = document(tmp_path, "--concurrency", "1,2", "--prompt-tokens", "4", "--decode-tokens",
                      "36", "--max-model-len", max_positions())
    decode = {cell["concurrency"]: cell for cell in result["cells"] if cell["phase"] == "decode"}
    left_out = {cell["concurrency"]: cell["reason"] for cell in result["left_out"]}
    assert set(decode) | set(left_out) == {1, 2}
    for cell in decode.values():
        check(cell)
        slowest = cell["concurrency"] * 1000 / cell["call_ms"]["max"]
        assert cell["tokens_per_second"]["min"] == pytest.approx(slowest)
    for reason in left_out.values():
        assert "max_model_len" in reason


def max_positions():
    return json.loads((TINY / "config.json").read_text())["max_position_embeddings"]


def test_the_grid_says_which_cells_it_leaves_out_and_why(tmp_path):
    result = document(tmp_path, "--grid")
    assert result["kind"] == "grid"
    asked = ([("prefill", 1, n) for n in (128, 512, 2048, 8192)]
             + [("decode", c, n) for n in (128, 1024, 4096) for c in (1, 4, 16, 64)])
    seen = [(cell["phase"], cell["concurrency"], cell["context"])
            for cell in result["cells"] + result["left_out"]]
    longest = max_positions()
    fitting = [(phase, count, n - (phase == "prefill" and n == longest))
               for phase, count, n in asked]
    assert sorted(seen) == sorted(fitting)
    assert all(str(longest) in cell["reason"] or "blocks" in cell["reason"]
               or "cell_seconds" in cell["reason"] for cell in result["left_out"])


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """The kernels' document of a model of floats, and of integers: half a minute each."""
    cache = tmp_path_factory.mktemp("cache")
    return {name: document(cache, "--kernels", *flags)
            for name, flags in [("floats", []), ("integers", ["--quantize", "int8"])]}


def test_kernels_are_those_of_a_step_on_the_models_own_shapes(kernels):
    result = kernels["floats"]
    lines = {(line["kernel"], line["rows"]): line for line in result["kernels"]}
    for product in ("qkv", "output", "gate_up", "down", "head"):
        for rows in (1, 4, 16, 64, 256):
            line = lines[product, rows]
            check(line)
            assert line["format"] == ("bf16" if result["model"]["format"] == "bf16" else "f32")
    threads = result["machine"]["threads"]
    for name, rows in [("rms_norm", 1), ("choose_greedy", 1), ("choose_top_k_top_p", 1),
                       ("embed", 16), ("plan_attention", 16), ("rotate_and_store", 16),
                       ("final_norm", 16), ("section", threads), ("barrier", threads)]:
        assert lines[name, rows]["call_ms"]["median"] > 0 and "share" not in lines[name, rows]


def test_what_a_step_is_beside_products_and_attention_is_the_sum_of_its_parts(kernels):
    result = kernels["integers"]
    lines = {(line["kernel"], line["rows"]): line for line in result["kernels"]}
    layers = result["model"]["layers"]
    assert [rest["sequences"] for rest in result["rest_of_steps"]] == [1, 16]
    for rest in result["rest_of_steps"]:
        times = {part["kernel"]: part["times"] for part in rest["parts"]}
        assert times["rms_norm"] == 2 * layers and times["quantize_attended"] == layers
        for part in rest["parts"]:
            is_section = part["kernel"] == "section"
            rows = result["machine"]["threads"] if is_section else rest["sequences"]
            line = lines[part["kernel"], rows]
            assert part["us"] == pytest.approx(1000 * line["call_ms"]["median"])
        total = sum(part["times"] * part["us"] for part in rest["parts"])
        assert rest["us"] == pytest.approx(total)
        assert rest["share"] == pytest.approx(total / rest["limit_us"])
        assert rest["meetings"] == 10 * layers + 4


@pytest.mark.parametrize("numbers, of_head", [("floats", 1), ("integers", 2)])
def test_a_heads_input_of_sixteen_bits_is_multiplied_twice(kernels, numbers, of_head):
    result = kernels[numbers]
    config = json.loads((TINY / "config.json").read_text())
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    lines = {line["kernel"]: line for line in result["kernels"] if line["rows"] == 4}
    for name, weights, parts in [("head", hidden * vocabulary, of_head),
                                 ("down", hidden * config["intermediate_size"], 1)]:
        line = lines[name]
        operations = line["gflop_per_second"]["max"] * 1e6 * line["call_ms"]["min"]
        assert operations == pytest.approx(2 * 4 * weights * parts), name
    assert result["model"]["head_operations"] == 2 * hidden * vocabulary * of_head


def test_lines_for_people(tmp_path):
    done = bench(TINY, "--cache-dir", tmp_path, "--kv-cache-bytes", "16777216", "--cell-seconds",
                 "0", "--concurrency", "1", "--prompt-tokens", "8")
    assert "of limit" in done.stdout and "\nprefill " in done.stdout
    assert "\ndecode " in done.stdout


@pytest.mark.parametrize("arguments, words", [
    (["--grid", "--kernels"], "grid does nothing with kernels"),
    (["--grid", "--concurrency", "2"], "concurrency does nothing with grid"),
    (["--kernels", "--decode-tokens", "2"], "decode_tokens does nothing with kernels"),
    (["--grid", "--url", "http://127.0.0.1:1"], "grid does nothing with url"),
])
def test_flags_that_do_not_go_together_are_refused(arguments, words):
    done = bench(TINY, *arguments, code=1)
    assert words in done.stderr and done.stdout == ""


@pytest.mark.parametrize("flags", [[], ["--grid"], ["--kernels"]])
def test_a_script_has_nothing_to_measure(tmp_path, flags):
    model = write_script(tmp_path / "tide.json", [{"when": "*", "reply": "x"}])
    done = bench(model, *flags, code=1)
    assert "a script has nothing to measure" in done.stderr
