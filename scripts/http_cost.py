#!/usr/bin/env python3
"""What the front costs: the share of a core that HTTP and text take beside the model, and the
throughput that a client's streams leave of that without HTTP.

    scripts/http_cost.py BINARY MODEL [--streams 16] [--rounds 3] [SETTING...]

Rounds in turn: `tidemill bench MODEL`, which decodes as many sequences without HTTP, and a server
with as many streams of `tidemill bench --url`. Of the server the threads are told apart by their
names: "step loop" and "worker N" compute, everything else is the front. Both are measured while all
streams decode; the client, and what reads /metrics, run on the same cores.
"""

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import time
import urllib.request
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PROMPT_TOKENS, DECODE_TOKENS = 128, 512
ROUND_TOKENS = 64  # of a round without HTTP
READY_SECONDS = 600


def seconds_by_thread(pid: int) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            fields = (task / "stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:  # it has ended
            continue
        seconds[name] = seconds.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / TICK
    return seconds


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_ready(url: str, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"the server ended with {server.returncode}.")
        try:
            with urllib.request.urlopen(url + "/ping", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"the server was not ready within {READY_SECONDS} s.")


def metric(page: str, name: str) -> float:
    return sum(float(v) for v in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE))


def bench(command: list[str]) -> dict:
    output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return json.loads(output.stdout)


def without_http(binary: str, model: str, streams: int, settings: list[str]) -> float:
    """Tokens per second of so many sequences, at the mean context of the streams."""
    context = PROMPT_TOKENS + DECODE_TOKENS // 2 - ROUND_TOKENS // 2
    command = [binary, "bench", model, *settings, "--concurrency", str(streams)]
    command += ["--prompt-tokens", str(context), "--decode-tokens", str(ROUND_TOKENS)]
    cells = bench([*command, "--json"])["cells"]
    decode = [c for c in cells if c["phase"] == "decode" and c["concurrency"] == streams]
    return decode[0]["tokens_per_second"]["median"]


class Sample:
    """What the server has done by now."""

    def __init__(self, url: str, pid: int):
        with urllib.request.urlopen(url + "/metrics", timeout=30) as answer:
            page = answer.read().decode()
        self.time = time.monotonic()
        self.prompt_tokens = metric(page, "vllm:prompt_tokens_total")
        self.tokens = metric(page, "vllm:generation_tokens_total")
        self.running = metric(page, "vllm:num_requests_running")
        self.seconds = seconds_by_thread(pid)


def with_http(url: str, server: subprocess.Popen, streams: int, seed: int) -> dict[str, float]:
    """Of as many streams of a client, while all of them decode: tokens per second, and what share
    of a core the front took."""
    command = [server.args[0], "bench", "--url", url, "--concurrency", str(streams), "--json"]
    command += ["--num-prompts", str(streams), "--num-warmups", "0", "--ignore-eos", "true"]
    command += ["--random-input-len", str(PROMPT_TOKENS), "--seed", str(seed)]
    command += ["--random-output-len", str(DECODE_TOKENS)]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    samples = []
    while client.poll() is None:
        samples.append(Sample(url, server.pid))
        time.sleep(0.2)
    report = json.loads(client.stdout.read())
    # All prompts are computed, and nobody has ended.
    last_prompt = samples[-1].prompt_tokens
    full = [s for s in samples if s.running == streams and s.prompt_tokens == last_prompt]
    if len(full) < 3:
        raise SystemExit(f"{streams} streams never decoded together; use longer answers.")
    first, last = full[0], full[-1]
    wall = last.time - first.time
    front = sum(
        seconds - first.seconds.get(name, 0.0)
        for name, seconds in last.seconds.items()
        if not re.fullmatch(r"step loop|worker \d+", name)
    )
    return {
        "tokens": (last.tokens - first.tokens) / wall,
        "front": front / wall,
        "client": report["client_busy_share"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("binary")
    parser.add_argument("model")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    arguments, settings = parser.parse_known_args()
    url = f"http://127.0.0.1:{free_port()}"
    ratios, shares = [], []
    for number in range(arguments.rounds):
        alone = without_http(arguments.binary, arguments.model, arguments.streams, settings)
        command = [arguments.binary, "serve", arguments.model, *settings]
        command += ["--port", url.rpartition(":")[2], "--log-level", "warning"]
        command += ["--speculative", "off"]  # as bench has it
        server = subprocess.Popen(command)
        try:
            wait_until_ready(url, server)
            round_ = with_http(url, server, arguments.streams, seed=number + 1)
        finally:
            server.terminate()
            server.wait()
        ratios.append(round_["tokens"] / alone)
        shares.append(round_["front"])
        print(
            f"round {number + 1}: {alone:.0f} tokens/s without HTTP, {round_['tokens']:.0f} with "
            f"{arguments.streams} streams ({ratios[-1]:.3f}); HTTP and text take "
            f"{100 * shares[-1]:.1f} % of a core, the client {100 * round_['client']:.1f} %",
            flush=True,
        )
    print(
        f"median: {statistics.median(ratios):.3f} of the tokens, "
        f"{100 * statistics.median(shares):.1f} % of a core"
    )


if __name__ == "__main__":
    main()
