#!/usr/bin/env python3
"""Whether max_step_ms holds: gaps between tokens of one stream while long prompts come.

    scripts/step_limit.py BINARY MODEL [--limit MS] [--runs 2] [SETTING...]

As many sequences decode as --sequences says, of --context tokens each, first alone: the limit is
twice their median gap where --limit says none. Then, in each run, a server with that limit gets
--prompts prompts of --prompt-tokens half a second apart. Printed are the gaps of one stream from
the first of these prompts to the end of the last one, the time each prompt took, and of all the
server's steps those that it found to be over the limit. The client runs on the same cores.
"""

import argparse
import http.client
import json
import random
import re
import statistics
import subprocess
import threading
import time
import urllib.request

from http_cost import free_port, wait_until_ready

SECONDS_ALONE = 4.0
SECONDS_APART = 0.5
MOST_NEW_TOKENS = 800


def percentile(values: list[float], percent: float) -> float:
    return sorted(values)[min(len(values) - 1, int(percent / 100 * len(values)))]


class Stream(threading.Thread):
    """A completion that is streamed; when each of its events came."""

    def __init__(self, port: int, prompt_tokens: int, new_tokens: int, seed: int):
        super().__init__(daemon=True)
        self.port, self.new_tokens = port, new_tokens
        draw = random.Random(seed)
        self.prompt = [draw.randrange(1000, 30000) for _ in range(prompt_tokens)]
        self.times: list[float] = []
        self.seconds = 0.0
        self.leaves = False
        self.error = "it ended early"
        self.start()

    def run(self) -> None:
        begin = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        body = {"prompt": self.prompt, "max_tokens": self.new_tokens, "ignore_eos": True}
        body |= {"model": "model", "temperature": 0, "stream": True}
        connection.request(
            "POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        if answer.status != 200:
            self.error = f"{answer.status}: {answer.read().decode()}"
            return
        for line in answer:
            if self.leaves:
                break
            if line.startswith(b"data: {"):
                self.times.append(time.monotonic())
        self.seconds = time.monotonic() - begin
        connection.close()


def limited_steps(port: int) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        page = answer.read().decode()
    name = r"^tidemill:limited_steps_total{.*(over=.*)} (\S+)$"
    found = re.findall(name, page, re.MULTILINE)
    return {labels: int(float(count)) for labels, count in found}


def gaps(port: int, arguments: argparse.Namespace, prompts: int) -> tuple[list[float], list[float]]:
    """Of one stream, in ms; and the seconds of each long prompt."""
    streams = [
        Stream(port, arguments.context, MOST_NEW_TOKENS, seed) for seed in range(arguments.sequences)
    ]
    while any(len(stream.times) < 8 for stream in streams):
        for stream in streams:
            if not stream.is_alive():
                raise SystemExit(f"a sequence does not decode: {stream.error}")
        time.sleep(0.05)
    begin = time.monotonic()
    longs = []
    for number in range(prompts):
        longs.append(Stream(port, arguments.prompt_tokens, 1, seed=1000 + number))
        time.sleep(SECONDS_APART)
    for stream in longs:
        stream.join()
        if not stream.times:
            raise SystemExit(f"a long prompt has no answer: {stream.error}")
    if not longs:
        time.sleep(SECONDS_ALONE)
    end = time.monotonic()
    times = [t for t in streams[0].times if begin <= t <= end]
    if not all(stream.is_alive() for stream in streams):
        raise SystemExit("a sequence ended before the last prompt did; ask for fewer prompts.")
    for stream in streams:
        stream.leaves = True
    return [1000 * (b - a) for a, b in zip(times, times[1:])], [s.seconds for s in longs]


def run(arguments: argparse.Namespace, settings: list[str], limit: int) -> list[float]:
    port = free_port()
    command = [arguments.binary, "serve", arguments.model, *settings, "--port", str(port)]
    command += ["--served-model-name", "model", "--log-level", "warning"]
    command += ["--max-rolling-batch-size", str(arguments.sequences + arguments.prompts)]
    if limit:
        command += ["--max-step-ms", str(limit)]
    server = subprocess.Popen(command)
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", server)
        found, seconds = gaps(port, arguments, arguments.prompts if limit else 0)
        steps = limited_steps(port)
    finally:
        server.terminate()
        server.wait()
    shown = ", ".join(f"p{p} {percentile(found, p):.0f}" for p in (50, 90, 95, 99))
    print(f"{len(found)} gaps: {shown}, most {max(found):.0f} ms", end="")
    if limit:
        print(f"; p99 is {percentile(found, 99) / limit:.2f} of the limit of {limit} ms")
        print("  prompts took " + ", ".join(f"{s:.1f}" for s in seconds) + " s; the server's steps:")
        print("  " + "; ".join(f"{labels} {count}" for labels, count in steps.items()), end="")
    print(flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("binary")
    parser.add_argument("model")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--prompt-tokens", type=int, default=4096)
    arguments, settings = parser.parse_known_args()
    print("decodes alone: ", end="")
    alone = run(arguments, settings, limit=0)
    limit = arguments.limit or round(2 * statistics.median(alone))
    for _ in range(arguments.runs):
        run(arguments, settings, limit)


if __name__ == "__main__":
    main()
