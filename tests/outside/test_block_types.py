"""Blocks of GGUF files are read as the format's own package reads them."""
import gguf
import httpx
import numpy
import pytest

from mid_size import HIDDEN, INNER, write_folder, write_gguf

# Bytes of 256 numbers, and where the f16 numbers are that multiply scales and minima.
K_TYPES = {"Q2_K": (84, 80, 82), "Q3_K": (110, 108, None), "Q4_K": (144, 0, 2),
           "Q5_K": (176, 0, 2), "Q6_K": (210, 208, None)}


def random_blocks(type_name, generator):
    size, scale_at, min_at = K_TYPES[type_name]
    blocks = generator.integers(0, 256, (HIDDEN * INNER // 256, size), dtype=numpy.uint8)

    def write(at, values):
        blocks[:, at:at + 2] = values.astype(numpy.float16)[:, None].view(numpy.uint8)

    scales = generator.uniform(1e-5, 4e-5, len(blocks))
    write(scale_at, scales)
    if min_at is not None:
        write(min_at, 5 * scales)
    return blocks.reshape(HIDDEN, -1)


def log_probabilities(server):
    """Of the tokens of a prompt."""
    body = {"prompt": list(range(5, 105)), "max_tokens": 1, "temperature": 0, "logprobs": 0,
            "echo": True}
    done = httpx.post(server.url + "/v1/completions", json=body, timeout=300)
    assert done.status_code == 200, done.text
    values = done.json()["choices"][0]["logprobs"]["token_logprobs"][1:100]
    assert len(values) == 99
    return values


def test_every_type_holds_the_numbers_that_its_own_package_finds_in_it(serve, engines, tmp_path):
    """In f32, so that one number that differs would be another log-probability."""
    generator = numpy.random.default_rng(4)
    for names in [["Q2_K", "Q3_K", "Q4_K", "Q5_K"], ["Q6_K", "Q4_1", "Q5_0", "Q5_1"]]:
        blocks, numbers = {}, {}
        for layer, name in enumerate(names):
            form = gguf.GGMLQuantizationType[name]
            if name in K_TYPES:
                rows = random_blocks(name, generator)
            else:
                values = generator.normal(0, INNER ** -0.5, (HIDDEN, INNER))
                rows = gguf.quants.quantize(values.astype(numpy.float32), form)
            blocks[f"blk.{layer}.ffn_down.weight"] = rows, form
            numbers[f"model.layers.{layer}.mlp.down_proj.weight"] = gguf.quants.dequantize(rows, form)
        file = write_gguf(tmp_path / f"{names[0]}.gguf", {}, "F32", blocks)
        folder = write_folder(tmp_path / names[0], numbers)
        flags = ["--cache-dir", str(engines), "--dtype", "fp32"]
        ours, theirs = [log_probabilities(serve(str(each), *flags)) for each in (file, folder)]
        assert ours == theirs, names


@pytest.mark.parametrize("name", K_TYPES)
def test_blocks_of_256_become_int8_near_their_numbers(serve, engines, tmp_path, name):
    blocks = random_blocks(name, numpy.random.default_rng(5)), gguf.GGMLQuantizationType[name]
    file = write_gguf(tmp_path / "model.gguf", {}, "Q8_0", {
        f"blk.{layer}.ffn_down.weight": blocks for layer in range(4)})
    common = [str(file), "--cache-dir", str(engines)]
    rounded = serve(*common, "--activations", "int16")
    exact = serve(*common, "--dtype", "fp32")
    assert "weights stored as " + name + " are rounded to int8_g32" in rounded.log.read_text()
    ours, theirs = log_probabilities(rounded), log_probabilities(exact)
    assert ours != theirs
    assert max(abs(a - b) for a, b in zip(ours, theirs)) < 0.05
