"""Models, caches and disks that change, vanish or are full; starts and ends without residue."""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import httpx
import pytest

from conftest import BINARY, ROOT, write_script

TINY = ROOT / "tests/data/tiny/llama"


def run(*arguments, code=0, wrapped=()):
    done = subprocess.run([*wrapped, BINARY, *map(str, arguments)], capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(TINY, folder)
    return folder


def compile_to(model, out, code=0, **keywords):
    return run("compile", model, "--out", out, "--dtype", "fp32", "--cache-dir",
               out.parent / "cache", code=code, **keywords)


def small_disk(folder, kib, command):
    """The command, in a mount namespace of its own in which `folder` is a disk of that size."""
    mount = f"mount -t tmpfs -o size={kib}k none {folder} && exec \"$@\""
    return ["unshare", "-rm", "sh", "-c", mount, "sh", *map(str, command)]


@pytest.fixture
def full_disk(tmp_path):
    """full_disk(COMMAND): runs it where that folder has 64 KiB."""
    folder = tmp_path / "full"
    folder.mkdir()
    probe = subprocess.run(small_disk(folder, 64, ["true"]), capture_output=True, text=True)
    if probe.returncode != 0:
        pytest.skip(f"no mount namespaces here: {probe.stderr}")
    return folder


def test_the_originals_names_and_what_the_cache_holds_are_told(model, serve, tmp_path):
    for name in ("bitsandbytes", "bitsandbytes4", "bitsandbytes8"):
        run("inspect", model, "--quantize", name, "--cache-dir", tmp_path / "cache")
    server = serve(model, "--quantize", "bitsandbytes8", "--kv-cache-dtype", "int8", "--cache-dir",
                   tmp_path / "cache")
    page = httpx.get(server.url + "/metrics").text
    assert re.search(r'vllm:cache_config_info{.*cache_dtype="int8"', page)
    assert "has no effect" not in server.log.read_text()


def test_activations_of_16_bits_beside_floats_are_said_to_do_nothing(model, serve, tmp_path):
    server = serve(model, "--activations", "int16", "--cache-dir", tmp_path / "cache")
    assert "activations=int16 has no effect" in server.log.read_text()


def memory_folders():
    return sorted(name for name in os.listdir("/dev/shm") if name.startswith("tidemill"))


def listing(command, folder):
    """What the command leaves in the folder, as seen inside its namespace."""
    return ["sh", "-c", "\"$@\"; code=$?; find " + str(folder) + " -name '*.weights' -o -name "
            "'*.compiling' >&2; exit $code", "sh", *map(str, command)]


def test_X_1_a_full_disk_ends_a_compile_with_what_is_needed_and_free(model, full_disk):
    done = subprocess.run(
        small_disk(full_disk, 64, listing(
            [BINARY, "compile", model, "--out", full_disk / "engine", "--dtype", "fp32",
             "--cache-dir", full_disk / "cache"], full_disk)),
        capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "MB are free, the engine takes" in done.stderr
    assert ".weights" not in done.stderr and ".compiling" not in done.stderr


def test_X_1_without_room_for_the_cache_a_model_is_served_from_memory(model, full_disk, tmp_path):
    question = ["eval", model, "--reference", TINY, "--dtype", "fp32", "--cache-dir"]
    before = memory_folders()
    whole = run(*question, tmp_path / "cache")
    done = subprocess.run(
        small_disk(full_disk, 64, listing([BINARY, *question, full_disk / "cache"], full_disk)),
        capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == whole.stdout
    assert "compiled into memory for this run only" in done.stderr
    assert ".weights" not in done.stderr and ".compiling" not in done.stderr
    assert memory_folders() == before


@pytest.mark.timed
def test_X_1_what_a_killed_process_left_in_memory_is_removed_by_the_next(model, tmp_path):
    folder = pathlib.Path(f"/dev/shm/tidemill-{os.geteuid()}")
    left = folder / "engines" / ".abandoned.compiling"
    left.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    (left / "rank0.weights").write_bytes(b"some memory")
    run("eval", model, "--reference", TINY, "--cache-dir", tmp_path / "cache")
    assert not left.exists()


def test_X_2_a_compile_killed_at_any_moment_leaves_nothing_or_a_whole_engine(model, tmp_path):
    """Thirty instants spread over a compile; the next start finds none or a whole one."""
    whole = tmp_path / "whole"
    begin = time.monotonic()
    compile_to(model, whole)
    duration = time.monotonic() - begin
    expected = (whole / "rank0.weights").read_bytes()
    for instant in range(30):
        out = tmp_path / "engine"
        process = subprocess.Popen(
            [BINARY, "compile", model, "--out", out, "--dtype", "fp32", "--cache-dir",
             tmp_path / "cache"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(duration * (instant + 1) / 30)
        process.kill()
        process.wait()
        if out.exists():
            assert (out / "rank0.weights").read_bytes() == expected
            run("eval", out, "--reference", TINY, "--cache-dir", tmp_path / "cache")
            shutil.rmtree(out)
    compile_to(model, tmp_path / "engine")
    assert (tmp_path / "engine/rank0.weights").read_bytes() == expected
    assert not list(tmp_path.glob("*.compiling")), "what was left is gone"


@pytest.mark.parametrize("damage, words", [
    ("missing", "tensors are missing"), ("truncated", "model.safetensors"), ("folder", "model.safetensors")])
def test_M_1_a_model_that_is_not_whole_is_refused_by_name(model, tmp_path, damage, words):
    weights = model / "model.safetensors"
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        weights.unlink()
        weights.mkdir()
    message = compile_to(model, tmp_path / "engine", code=1).stderr
    assert words in message and not (tmp_path / "engine").exists()


def test_M_2_a_missing_model_folder_is_named(tmp_path):
    message = compile_to(tmp_path / "nowhere", tmp_path / "engine", code=1).stderr
    assert "nowhere" in message and "no such file or folder" in message


def test_a_read_only_model_folder_is_enough(model, tmp_path):
    for path in [*model.iterdir(), model]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        before = sorted(path.name for path in model.iterdir())
        compile_to(model, tmp_path / "engine")
        assert sorted(path.name for path in model.iterdir()) == before
    finally:
        model.chmod(0o755)


def complete(server):
    answer = httpx.post(server.url + "/v1/completions", timeout=60,
                        json={"prompt": [1, 2, 3], "max_tokens": 4, "temperature": 0,
                              "logprobs": 1})
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["logprobs"]


def test_M_2_a_model_that_changes_or_goes_while_it_runs_changes_nothing(serve, model, tmp_path):
    server = serve(str(model), "--cache-dir", str(tmp_path / "cache"), "--dtype", "fp32")
    before = complete(server)
    (model / "model.safetensors").write_bytes(b"other")
    (model / "config.json").write_text("{}")
    assert complete(server) == before
    shutil.rmtree(model)
    assert complete(server) == before
    assert server.stop() == 0


def test_M_2_an_engine_that_is_cut_while_it_runs_is_an_error_and_not_a_crash(
        serve, model, tmp_path):
    server = serve(str(model), "--cache-dir", str(tmp_path / "cache"), "--dtype", "fp32",
                   "--weight-memory", "mapped")
    complete(server)
    engine, = (tmp_path / "cache/engines").iterdir()
    os.truncate(engine / "rank0.weights", 4096)
    answer = httpx.post(server.url + "/v1/completions", timeout=60,
                        json={"prompt": [1, 2, 3], "max_tokens": 4})
    assert answer.status_code >= 500 and answer.json()["error"]["message"]
    assert "I/O error" in server.log.read_text()
    assert server.process.poll() is None
    assert httpx.get(server.url + "/ping").status_code == 500


def gives_huge_pages():
    enabled = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return enabled.exists() and bool({"[always]", "[madvise]"} & set(enabled.read_text().split()))


needs_huge_pages = pytest.mark.skipif(not gives_huge_pages(), reason="no huge pages here")


@pytest.mark.parametrize("memory", [
    "auto", pytest.param("huge_pages", marks=needs_huge_pages)])
def test_weights_say_the_same_wherever_they_are(serve, model, tmp_path, memory):
    arguments = [str(model), "--cache-dir", str(tmp_path / "cache"), "--dtype", "fp32"]
    mapped = serve(*arguments, "--weight-memory", "mapped")
    expected = complete(mapped)
    assert mapped.stop() == 0
    assert complete(serve(*arguments, "--weight-memory", memory)) == expected


@needs_huge_pages
@pytest.mark.parametrize("memory", ["auto", "huge_pages"])
def test_M_2_an_engine_that_was_copied_may_be_cut_while_it_runs(serve, model, tmp_path, memory):
    server = serve(str(model), "--cache-dir", str(tmp_path / "cache"), "--dtype", "fp32",
                   "--weight-memory", memory)
    before = complete(server)
    engine, = (tmp_path / "cache/engines").iterdir()
    os.truncate(engine / "rank0.weights", 4096)
    assert complete(server) == before
    assert httpx.get(server.url + "/ping").status_code == 200
    assert server.stop() == 0


@pytest.fixture
def without_huge_pages(tmp_path):
    """What stands before a command, so that its system gives no huge pages."""
    if not gives_huge_pages():
        return []
    never = tmp_path / "never"
    never.write_text("always madvise [never]\n")
    bound = f"mount --bind {never} /sys/kernel/mm/transparent_hugepage/enabled && exec \"$@\""
    command = ["unshare", "-rm", "sh", "-c", bound, "sh"]
    probe = subprocess.run([*command, "true"], capture_output=True, text=True)
    if probe.returncode != 0:
        pytest.skip(f"no mount namespaces here: {probe.stderr}")
    return command


def test_huge_pages_that_no_system_gives_are_refused_by_name(model, tmp_path, without_huge_pages):
    said = run("serve", model, "--cache-dir", tmp_path / "cache", "--host", "127.0.0.1", "--port",
               0, "--weight-memory", "huge_pages", code=1, wrapped=without_huge_pages).stderr
    assert "weight_memory=huge_pages, but this system gives none" in said
    assert "use weight_memory=auto" in said


def test_X_5_the_memory_plan_is_said_before_anything_is_allocated(serve, model, tmp_path):
    server = serve(str(model), "--cache-dir", str(tmp_path / "cache"), "--dtype", "fp32")
    log = server.log.read_text()
    assert log.index("memory plan: ") < log.index("tokens of context, KV cache of")
    for word in ["MiB available", "weights", "workspace", "KV cache"]:
        assert word in log[log.index("memory plan: "):].splitlines()[0]


def open_files(process):
    return len(os.listdir(f"/proc/{process.pid}/fd"))


@pytest.mark.measured
def test_start_serve_stop_twenty_times_leaves_no_residue(serve, tmp_path):
    """Exit 0; no child, shared memory, socket or file is left, and no start costs more than another."""
    script = write_script(tmp_path / "script.json", [{"when": "", "reply": "hello"}])
    work = tmp_path / "work"
    work.mkdir()
    cache = tmp_path / "cache"
    shared = sorted(os.listdir("/dev/shm"))
    environment = {"TMPDIR": str(work), "HOME": str(work), "XDG_CACHE_HOME": str(cache)}
    files, threads = set(), set()
    for _ in range(20):
        server = serve(script, environment=environment, folder=work)
        answer = httpx.post(server.url + "/v1/completions", json={"prompt": "x", "max_tokens": 9})
        assert answer.json()["choices"][0]["text"] == "hello"
        server.wait_until_quiet()
        files.add(open_files(server.process))
        threads.add(len(os.listdir(f"/proc/{server.process.pid}/task")))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url + "/ping")
    assert list(work.rglob("*")) == []
    assert [name for name in os.listdir("/dev/shm") if name not in shared] == []
    assert max(files) - min(files) <= 2, "an idle connection more or less"
    assert len(threads) == 1
