"""The verbs and the settings, as a person meets them."""
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import termios
import time

import httpx
import pytest

from conftest import BINARY, ROOT, need, write_script


def run(*arguments, code=0, environment=None, folder=None, **keywords):
    done = subprocess.run([BINARY, *arguments], capture_output=True, text=True, cwd=folder,
                          env=environment, timeout=300, **keywords)
    assert done.returncode == code, done.stderr
    return done


def test_settings_page_is_the_committed_one():
    page = run("inspect", "--print-settings").stdout
    assert page == (ROOT / "docs/reference/settings.md").read_text()


def test_api_page_is_the_committed_one():
    page = run("inspect", "--print-api").stdout
    assert page == (ROOT / "docs/reference/api.md").read_text()


def test_help_names_every_verb():
    text = run("--help").stdout
    for verb in ("serve", "compile", "generate", "chat", "bench", "eval", "inspect"):
        assert verb in text


@pytest.mark.parametrize("arguments", [["dance"], [], ["serve", "--nope"], ["serve", "--port"]])
def test_misuse_is_exit_code_2(arguments):
    run(*arguments, code=2)


@pytest.mark.parametrize("arguments, words", [
    (["serve", "nobody/nothing"], "Hub ids"),
    (["serve", "x", "--port", "99999"], "65535"),
    (["serve", "x", "--dtype", "int3"], "dtype"),
    (["serve", "x", "--tensor-parallel-degree", "8"], "use 1 or max"),
    (["generate", "x"], "--prompt"),
    (["generate", "x", "--prompt", "p", "--min-p", "1.5"], "min_p"),
    (["generate", "x", "--prompt", "p", "--repetition-penalty", "11"], "repetition_penalty"),
    (["compile", "x"], "x"),
    (["inspect", "--isa", "neon"], "isa"),
    (["inspect", "--kv-cache-dtype", "fp8"], "kv_cache_dtype is fp8; it must be one of auto, int8"),
])
def test_refusals_say_the_way_out(arguments, words, tmp_path):
    if arguments[0] == "serve":
        arguments = [*arguments, "--wait-model-loading"]
    done = run(*arguments, code=1, folder=tmp_path)
    assert words in done.stderr


PROPERTIES = """\
engine=MPI
option.use_custom_all_reduce=true \n\
option.model_id={model}
option.tensor_parallel_degree={degree}
option.output_formatter=json
option.max_rolling_batch_size=64
option.model_loading_timeout=3600
"""


@pytest.mark.parametrize("degree", ["1", "max"])
def test_the_originals_example_starts(serve, tmp_path, degree):
    model = write_script(tmp_path / "hello.json", [{"reply": "Hello"}])
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "serving.properties").write_text(PROPERTIES.format(model=model, degree=degree))
    server = serve(folder=folder)
    answer = httpx.post(server.url + "/invocations", json={"inputs": "x"})
    assert answer.text == '{"generated_text": "Hello"}'
    assert "model" in httpx.get(server.url + "/ping").json()
    log = server.log.read_text()
    assert "use_custom_all_reduce has no effect" in log


def test_the_originals_example_with_eight_ranks_is_refused(tmp_path):
    (tmp_path / "serving.properties").write_text(PROPERTIES.format(model="x", degree="8"))
    done = run("serve", code=1, folder=tmp_path)
    assert "serving.properties:4" in done.stderr and "use 1 or max" in done.stderr


def test_precedence_of_the_sources(serve, tmp_path):
    model = write_script(tmp_path / "hello.json", [{"reply": "Hello"}])
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "serving.properties").write_text(
        f"option.model_id={model}\noption.served_model_name=from-file\n")
    server = serve(folder=folder, environment={"OPTION_SERVED_MODEL_NAME": "from-environment"})
    assert [m["id"] for m in httpx.get(server.url + "/v1/models").json()["data"]] == ["from-file"]
    server = serve("--served-model-name", "from-flag", folder=folder)
    assert [m["id"] for m in httpx.get(server.url + "/v1/models").json()["data"]] == ["from-flag"]
    (folder / "serving.properties").unlink()
    server = serve(folder=folder, environment={"HF_MODEL_ID": model,
                                               "OPTION_SERVED_MODEL_NAME": "from-environment"})
    names = [m["id"] for m in httpx.get(server.url + "/v1/models").json()["data"]]
    assert names == ["from-environment"]


@pytest.fixture
def alone():
    """alone(FOLDER, VARIABLE=VALUE...): `tidemill serve` without arguments; its address when ready."""
    processes = []

    def start(folder, **variables):
        process = subprocess.Popen([BINARY, "serve"], cwd=folder, stderr=subprocess.PIPE, text=True,
                                   env={**os.environ, **variables,
                                        "SERVING_INFERENCE_ADDRESS": "http://127.0.0.1:0"})
        processes.append(process)
        address = None
        for line in process.stderr:
            if found := re.search(r"listening on (127\.0\.0\.1:\d+)", line):
                address = "http://" + found[1]
            if "is ready" in line:
                return address
        raise AssertionError("it ended")

    yield start
    for process in processes:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=40)


def test_serve_alone_takes_what_is_in_its_folder(alone, engines, tmp_path):
    folder = tmp_path / "Tiny-0.5B"
    shutil.copytree(need(ROOT / "tests/data/tiny/llama"), folder)
    url = alone(folder, SERVING_CACHE_DIR=str(engines))
    assert list(httpx.get(url + "/ping").json()) == ["Tiny-0.5B"]
    (folder / "serving.properties").write_text("option.max_model_len=99\nengine=MPI\n")
    url = alone(folder, SERVING_CACHE_DIR=str(engines), TENSOR_PARALLEL_DEGREE="1")
    assert httpx.get(url + "/v1/models").json()["data"][0]["max_model_len"] == 99


def test_serve_alone_takes_the_model_of_its_store(alone, engines, tmp_path):
    shutil.copytree(need(ROOT / "tests/data/tiny/llama"), tmp_path / "store/tiny")
    (tmp_path / "empty").mkdir()
    url = alone(tmp_path / "empty", SERVING_CACHE_DIR=str(engines),
                SERVING_MODEL_STORE=str(tmp_path / "store"), SERVING_LOAD_MODELS="ALL")
    assert list(httpx.get(url + "/ping").json()) == ["tiny"]
    url = alone(tmp_path / "empty", SERVING_CACHE_DIR=str(engines),
                SERVING_LOAD_MODELS=f"[test::MPI]=file:{tmp_path}/store/tiny")
    assert list(httpx.get(url + "/ping").json()) == ["test"]


def test_serve_takes_the_model_of_a_named_folders_file(serve, tmp_path):
    model = write_script(tmp_path / "hello.json", [{"reply": "Hello"}])
    folder = tmp_path / "settings"
    folder.mkdir()
    (folder / "serving.properties").write_text(f"option.model_id={model}\n")
    server = serve("--strict", folder)
    assert httpx.post(server.url + "/invocations", json={"inputs": "x"}).text == \
        '{"generated_text": "Hello"}'


def test_a_script_says_what_it_ignores(serve, tmp_path):
    model = write_script(tmp_path / "hello.json", [{"reply": "Hello"}])
    server = serve(model, "--max-model-len", "99")
    assert "max_model_len and kv_cache_bytes have no effect" in server.log.read_text()


def test_Z_6_unknown_settings_warn_with_the_nearest_name_or_stop_when_strict(serve, tmp_path):
    model = write_script(tmp_path / "hello.json", [{"reply": "Hello"}])
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "serving.properties").write_text(
        f"option.model_id={model}\noption.max_roling_batch_size=4\n")
    server = serve(folder=folder)
    assert "did you mean max_rolling_batch_size?" in server.log.read_text()
    done = run("serve", "--strict", code=1, folder=folder)
    assert "max_roling_batch_size" in done.stderr


def test_settings_that_come_later_are_refused_by_name(tmp_path):
    (tmp_path / "serving.properties").write_text("option.model_id=x\noption.adapters=a\n")
    done = run("serve", code=1, folder=tmp_path)
    assert "option.adapters is not supported yet" in done.stderr


def test_a_failed_model_is_told_by_ping_and_by_the_exit_code(serve, tmp_path):
    server = serve(str(tmp_path / "nothing"), ready=False)
    for _ in range(100):
        answer = httpx.get(server.url + "/ping")
        if answer.status_code == 500:
            break
    assert answer.status_code == 500 and "FAILED" in answer.text
    assert server.process.wait(20) == 1


def test_a_model_that_is_late_has_failed(serve, smollm2, tmp_path):
    server = serve(smollm2, "--cache-dir", tmp_path / "cache", "--model-loading-timeout", "0.05",
                   ready=False)
    assert server.process.wait(30) == 1
    assert "not ready after model_loading_timeout = 0.05 s" in server.log.read_text()
    assert not list((tmp_path / "cache/engines").glob(".*"))


def wait_for_compilation(process, cache):
    """Until weights are being written; the process must not end before."""
    deadline = time.monotonic() + 60
    while not list(cache.glob("engines/.*/rank0.weights")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("arguments, code", [
    (["serve", "--port", "0"], 0),
    (["serve", "--port", "0", "--wait-model-loading"], 0),
    (["generate", "--prompt", "x"], None),
    (["chat"], None),
])
@pytest.mark.timed
def test_S_4_a_signal_ends_a_compilation_and_leaves_nothing(smollm2, tmp_path, arguments, code, stop):
    process = subprocess.Popen([BINARY, *arguments, smollm2, "--cache-dir", tmp_path, "--threads", "1"],
                               stderr=subprocess.PIPE)
    wait_for_compilation(process, tmp_path)
    process.send_signal(stop)
    begun = time.monotonic()
    process.communicate(timeout=30)
    assert time.monotonic() - begun < 3
    assert process.returncode == (128 + stop if code is None else code)
    assert not list((tmp_path / "engines").iterdir())


def test_every_line_of_a_json_log_is_json(serve, engines):
    folder = need(ROOT / "tests/data/tiny/llama")
    server = serve(str(folder), "--cache-dir", str(engines), "--log-format", "json")
    server.stop()
    messages = [json.loads(line)["message"] for line in server.log.read_text().splitlines()]
    assert any(message.startswith("load took ") for message in messages)
    done = run("eval", folder, "--reference", folder, "--cache-dir", engines, "--log-level", "error")
    assert done.stderr == ""


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "llama-sharded"])
def test_tiny_checkpoints_agree_with_their_reference(engines, family):
    folder = need(ROOT / "tests/data/tiny" / family)
    done = run("eval", folder, "--reference", folder, "--dtype", "fp32", "--cache-dir", engines)
    assert "within the tolerances" in done.stdout


def test_a_comparison_is_json_when_asked(engines):
    folder = need(ROOT / "tests/data/tiny/llama")
    done = run("eval", folder, "--reference", folder, "--dtype", "fp32", "--cache-dir", engines, "--json")
    verdict = json.loads(done.stdout)
    assert verdict["within"] and verdict["prompts"][0]["equal_greedy"] == 24


WORDS = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"},
         "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 431}, "unk_token": "a"}}


def test_text_with_ids_beyond_the_model_is_not_scored(tmp_path):
    folder = tmp_path / "llama"
    shutil.copytree(need(ROOT / "tests/data/tiny/llama"), folder)  # it has ids 0 to 430
    (folder / "tokenizer.json").write_text(json.dumps(WORDS))
    text = tmp_path / "text"
    arguments = ("eval", folder, "--file", text, "--window", "4", "--cache-dir", tmp_path / "cache")
    text.write_text("a a a a")
    assert "over 3 tokens" in run(*arguments).stdout
    text.write_text("a b a a")
    assert "id 431" in run(*arguments, code=1).stderr


def test_a_checkpoint_without_tokenizer_serves_token_ids(serve, engines):
    folder = need(ROOT / "tests/data/tiny/llama")
    server = serve(str(folder), "--cache-dir", str(engines), "--dtype", "fp32")
    answer = httpx.post(server.url + "/v1/completions",
                        json={"prompt": [325], "max_tokens": 4, "temperature": 0})
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 4
    refused = httpx.post(server.url + "/v1/completions", json={"prompt": "text"})
    assert refused.status_code == 400 and "token ids" in refused.json()["error"]["message"]


def test_generate_reads_a_file_of_prompts(tmp_path):
    model = write_script(tmp_path / "hello.json", [{"when": "a", "reply": "A"}, {"reply": "B"}])
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "a"}\n{"ids": [98]}\n'
                       '{"messages": [{"role": "user", "content": "b"}]}\n')
    lines = run("generate", model, "--file", prompts).stdout.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["A", "B", "A"]


def test_generate_continues_a_plain_prompt(tmp_path):
    model = write_script(tmp_path / "hello.json", [{"when": "user", "reply": "chat"},
                                                   {"when": "sea", "reply": " is wide"}])
    assert run("generate", model, "--prompt", "the sea").stdout == " is wide\n"
    assert run("generate", "--chat", model, "--prompt", "the sea").stdout == "chat\n"
    answer = json.loads(run("generate", model, "--prompt", "the sea", "--json").stdout)
    assert answer["text"] == " is wide" and answer["finish_reason"] == "stop"


@pytest.mark.parametrize("line, words", [
    ('{"ids": [4294967394]}', "4294967394"),
    ('{"ids": [-1]}', "-1"),
    ('{"ids": ["a"]}', "integers"),
    ('{"prompt": 3}', "needs prompt"),
    ('{"prompt": "a", "max_new_tokens": "3"}', "max_new_tokens"),
    ('{"prompt": ', ""),
    ('{"prompt": ""}', ""),
])
def test_a_wrong_line_of_a_file_is_named_before_anything_is_computed(tmp_path, line, words):
    model = write_script(tmp_path / "hello.json", [{"reply": "B"}])
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "a"}\n' + line + "\n")
    done = run("generate", model, "--file", prompts, code=1)
    assert done.stdout == "" and f"{prompts}:2: " in done.stderr and words in done.stderr


def test_a_file_of_prompts_knows_no_queue(tmp_path):
    model = write_script(tmp_path / "slow.json", [{"reply": "abc", "delay_ms": 2}])
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "a"}\n' * 600)
    (tmp_path / "serving.properties").write_text(
        f"option.model_id={model}\njob_queue_size=1\nqueue_timeout=1\nrequest_timeout=1\n")
    done = run("generate", "--file", prompts, "--max-rolling-batch-size", "1", folder=tmp_path)
    assert len(done.stdout.splitlines()) == 600


def test_chat_answers_and_ends(tmp_path):
    model = write_script(tmp_path / "hello.json", [{"reply": "Hello!"}])
    done = run("chat", model, input="hi\nand again\n")
    assert done.stdout.count("Hello!") == 2


class Terminal:
    """A verb at a terminal of its own."""

    def __init__(self, *arguments):
        self.main, other = pty.openpty()
        self.process = subprocess.Popen([BINARY, *arguments], stdin=other, stdout=other,
                                        stderr=other, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(other)
        self.seen = ""

    def expect(self, text, seconds=20):
        """Reads until `text` has come; what came before it is forgotten."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.main], [], [], left)[0], self.seen
            self.seen += os.read(self.main, 65536).decode(errors="replace")
        self.seen = self.seen.split(text, 1)[1]

    def type(self, text):
        os.write(self.main, text.encode())

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.main)


@pytest.fixture
def terminal():
    opened = []

    def open_terminal(*arguments):
        opened.append(Terminal(*arguments))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


def test_ctrl_c_stops_the_answer_and_not_the_conversation(terminal, tmp_path):
    model = write_script(tmp_path / "hello.json", [
        {"when": "slow", "reply": "tick ", "repeat": 400, "delay_ms": 20}, {"reply": "Hello!"}])
    chat = terminal("chat", model)
    chat.expect("> ")
    chat.type("slow\n")
    chat.expect("tick tick")
    chat.type("\x03")
    chat.expect("\n> ", seconds=2)
    chat.type("\x03")
    chat.expect("Ctrl-D ends the conversation", seconds=2)
    chat.type("still there?\n")
    chat.expect("tick")  # its history holds "slow", so the same rule answers
    chat.type("\x03")
    chat.expect("\n> ", seconds=2)
    chat.type("\x04")
    assert chat.process.wait(5) == 0


def test_ctrl_c_stops_an_answer_that_has_not_begun(terminal, tmp_path):
    model = write_script(tmp_path / "hello.json", [{"reply": "Hello!"}], step_ms=4000)
    chat = terminal("chat", model)
    chat.expect("> ")
    chat.type("hi\n")
    time.sleep(0.3)
    chat.type("\x03")
    chat.expect("\n> ", seconds=2)
    assert chat.process.poll() is None


def test_a_turn_that_does_not_fit_is_dropped_and_chat_goes_on(tmp_path):
    model = write_script(tmp_path / "hello.json", [{"reply": "Hello!"}], max_model_len=200)
    done = run("chat", model, input="hi\n" + "x" * 300 + "\nhi\n")
    assert done.stdout.count("Hello!") == 2
    assert "200" in done.stdout.splitlines()[1]


def test_inspect_shows_machine_checkpoint_and_plan():
    folder = need(ROOT / "tests/data/tiny/llama-sharded")
    text = run("inspect", folder, "--threads", "3").stdout
    assert re.search(r"processor +(.*)", text)[1] in open("/proc/cpuinfo").read()
    assert re.search(r"workers +3 ", text)
    assert re.search(r"model\.layers\.\*\.mlp\.up_proj\.weight +2 x F32 +176 x 64", text)
    assert re.search(r"fits +yes", text)
    assert len(text.splitlines()) < 60


def test_inspect_plans_with_the_settings_of_serve(tmp_path):
    folder = need(ROOT / "tests/data/tiny/llama")

    def sheet(*arguments):
        return json.loads(run("inspect", folder, "--json", *arguments).stdout)

    plan = sheet()["memory_plan"]
    assert sheet()["network"]["positions"] == 256 and plan["fits"]
    short = sheet("--max-model-len", "64", "--max-rolling-batch-size", "4")["memory_plan"]
    assert short["kv_blocks"] == 8
    assert sheet("--dtype", "fp32")["memory_plan"]["weights_bytes"] > plan["weights_bytes"]
    assert not sheet("--kv-cache-bytes", str(10**14))["memory_plan"]["fits"]
    small = sheet("--kv-cache-dtype", "int8")["memory_plan"]
    assert (plan["kv_numbers"], small["kv_numbers"]) == ("bf16", "int8")
    assert small["kv_bytes"] < 0.6 * plan["kv_bytes"] and small["kv_blocks"] == plan["kv_blocks"]


def test_X_5_a_plan_that_does_not_fit_is_refused_with_its_table(engines):
    folder = need(ROOT / "tests/data/tiny/llama")
    done = run("chat", folder, "--cache-dir", engines, "--kv-cache-bytes", str(10**14), code=1)
    for word in ("available", "weights", "workspace", "KV cache", "Lower kv_cache_bytes"):
        assert word in done.stderr


def test_inspect_shows_the_calibration_and_keeps_it(tmp_path):
    cache = tmp_path / "cache"

    def calibration(setting="auto", *arguments):
        sheet = run("inspect", "--json", "--cache-dir", cache, "--calibration", setting, *arguments)
        return json.loads(sheet.stdout)["calibration"]

    assert set(calibration("off")) == {"origin"}
    assert set(calibration("auto", "--isa", "reference")) == {"origin"}
    measured = calibration()
    if set(measured) == {"origin"}:
        pytest.skip("nothing but the reference runs here")
    assert len(measured["products"]) == 8
    kept = list((cache / "calibration").glob("*.json"))
    if not kept:
        assert "beside others" in measured["origin"]
        return
    for setting in ["auto", kept[0]]:
        again = calibration(setting)
        assert again.pop("origin") == str(kept[0])
        assert again == {name: value for name, value in measured.items() if name != "origin"}
    kept[0].write_text(kept[0].read_text()[:-20])
    assert str(kept[0]) in run("inspect", "--calibration", kept[0], code=1).stderr
    assert calibration()["products"]


def test_compile_writes_an_engine_that_inspect_describes(tmp_path):
    folder = need(ROOT / "tests/data/tiny/llama")
    out = tmp_path / "engine"
    arguments = ["compile", folder, "--out", out, "--cache-dir", tmp_path / "cache"]
    assert f"{out}: compiled, bf16" in run(*arguments).stdout
    assert "was there already" in run(*arguments).stdout
    sheet = json.loads(run("inspect", out, "--json").stdout)
    assert sheet["engine"]["format"] == "bf16" and len(sheet["engine"]["weights_digest"]) == 64
    assert sheet["text"] == {"tokenizer": 0, "chat_template": False}
    assert {"name": "layers.*.qkv", "count": 2, "type": "bf16", "shape": [192, 64]} in sheet["tensors"]
    assert "compiled already" in run("compile", out, "--out", tmp_path / "other", code=1).stderr


def test_M_7_a_pickled_checkpoint_is_refused_with_the_way_out():
    folder = need(ROOT / "tests/data/tiny/llama-pickle-only")
    assert "safetensors" in run("inspect", folder, code=1).stderr
