"""Engines and caches that somebody damaged, or planted."""
import json
import os
import shutil
import subprocess

import pytest

from conftest import BINARY, ROOT

TINY = ROOT / "tests/data/tiny/llama"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model with a tokenizer, so that all four files of an engine are there."""
    folder = tmp_path_factory.mktemp("models") / "model"
    shutil.copytree(TINY, folder)
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    vocabulary = {letter: i for i, letter in enumerate("helo")}
    vocabulary |= {f"<{i}>": i for i in range(4, size)}
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "added_tokens": [],
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []}}))
    return folder


def generate(path, cache, code=0):
    done = subprocess.run([BINARY, "generate", path, "--prompt", "hello", "--max-new-tokens", "4",
                           "--cache-dir", cache, "--dtype", "fp32"],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    return done


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


FILES = ["rank0.weights", "engine.json", "text.json", "tokenizer.json"]


@pytest.mark.parametrize("name", FILES)
def test_X_3_a_damaged_engine_that_was_named_is_refused(model, tmp_path, name):
    engine = tmp_path / "engine"
    subprocess.run([BINARY, "compile", model, "--out", engine, "--dtype", "fp32",
                    "--cache-dir", tmp_path / "cache"], check=True, capture_output=True)
    whole = generate(engine, tmp_path / "cache").stdout
    flip(engine / name)
    message = generate(engine, tmp_path / "cache", code=1).stderr
    assert "damaged engine" in message and "Compile the checkpoint again" in message
    flip(engine / name)
    assert generate(engine, tmp_path / "cache").stdout == whole


@pytest.mark.parametrize("name", FILES)
def test_X_3_a_damaged_engine_of_the_cache_is_set_aside_and_built_again(model, tmp_path, name):
    cache = tmp_path / "cache"
    whole = generate(model, cache).stdout
    engine, = (cache / "engines").iterdir()
    flip(engine / name)
    again = generate(model, cache)
    assert again.stdout == whole
    assert "damaged engine" in again.stderr
    assert (engine.parent / (engine.name + ".bad") / name).exists()
    assert "damaged" not in generate(model, cache).stderr


def test_X_4_a_cache_that_others_may_write_to_is_refused(model, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    os.chmod(cache, 0o777)
    assert "others may write to it" in generate(model, cache, code=1).stderr
    os.chmod(cache, 0o700)
    (tmp_path / "planted").symlink_to(cache)
    assert "it is not a folder" in generate(model, tmp_path / "planted", code=1).stderr


def test_M_7_a_handler_beside_weights_is_refused(model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    (folder / "model.py").write_text("def handle(inputs): ...\n")
    message = generate(folder, tmp_path / "cache", code=1).stderr
    assert "handler scripts (model.py) are not supported yet" in message
