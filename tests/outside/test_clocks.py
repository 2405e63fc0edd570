"""A wall clock that jumps a day at every look changes what is printed, and nothing else."""
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

import httpx
import pytest

from conftest import ROOT, write_script

SLOW = [{"when": "slow", "reply": "tick ", "repeat": 4000, "delay_ms": 5},
        {"when": "*", "reply": "ok"}]
DAY = 86400


@pytest.fixture(scope="module")
def jumping(tmp_path_factory):
    """The environment of a server whose wall clock jumps."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("not here: a C compiler")
    library = tmp_path_factory.mktemp("clock") / "jumping_clock.so"
    source = pathlib.Path(__file__).with_name("jumping_clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    sanitizer = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
    return {"LD_PRELOAD": str(library), "ASAN_OPTIONS": sanitizer}


def seconds_of(action):
    begun = time.monotonic()
    action()
    return time.monotonic() - begun


def test_Z_1_a_wall_clock_that_jumps_moves_no_timer(serve, tmp_path, jumping):
    server = serve(write_script(tmp_path / "s.json", SLOW), "--request-timeout", "2",
                   "--header-timeout", "1", "--keep-alive-timeout", "1", "--drain-time", "1",
                   environment=jumping)

    def ask(prompt):
        return httpx.post(server.url + "/v1/completions", timeout=20,
                          json={"prompt": prompt, "max_tokens": 4000})

    off = {round((ask("x").json()["created"] - time.time()) / DAY) for _ in range(40)}
    assert off == {-1, 1}  # the control: it does jump

    def slow():
        answer = ask("slow")
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "deadline"

    assert 1.8 < seconds_of(slow) < 5

    with server.connect() as half:
        half.sendall(b"GET /ping HTT")
        received = []
        assert 0.8 < seconds_of(lambda: received.append(half.recv(4096))) < 4
        assert received[0].startswith(b"HTTP/1.1 408 ")

    with server.connect() as idle:
        idle.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        assert idle.recv(4096).startswith(b"HTTP/1.1 200 ")

        def wait():
            while idle.recv(4096):
                pass

        assert 0.8 < seconds_of(wait) < 4

    with server.connect() as busy:
        body = b'{"prompt":"slow","max_tokens":4000,"stream":true}'
        busy.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n"
                     b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
                     + body)
        assert busy.recv(4096).startswith(b"HTTP/1.1 200 ")
        server.process.send_signal(signal.SIGTERM)
        assert 0.8 < seconds_of(lambda: server.process.wait(20)) < 4
        busy.shutdown(socket.SHUT_RDWR)


def test_Z_1_a_wall_clock_that_jumps_changes_no_token(serve, engines, jumping):
    def tokens(environment):
        server = serve(str(ROOT / "tests/data/tiny/llama"), "--cache-dir", str(engines), "--dtype", "fp32",
                       environment=environment)
        body = {"prompt": [5, 6, 7], "max_tokens": 30, "temperature": 1.5, "seed": 11,
                "ignore_eos": True, "logprobs": 1}
        answer = httpx.post(server.url + "/v1/completions", json=body, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]["logprobs"]

    assert tokens(jumping) == tokens({})


def test_Z_1_no_timer_reads_the_wall_clock():
    """What is printed (dates, names of files, `created`) may: each such file is named here."""
    wall = re.compile(r"system_clock|CLOCK_REALTIME|\bstd::time\(|gettimeofday|utc_clock")
    readers = {str(path.relative_to(ROOT / "src"))
               for path in (ROOT / "src").rglob("*") if path.suffix in (".cc", ".h", ".rs")
               and not path.stem.endswith(("_test", "_bench")) and wall.search(path.read_text())}
    assert readers == {
        "bench_server.cc",             # the name of a report
        "compiler/digest_memory.cc",   # whether a file may have changed since: its own clock
        "measure/machine_facts.cc",    # the date of a measurement
        "server/generate_handler.cc",  # `created`
        "server/model_registry.cc",    # `created` of a model
        "server/server_metrics.cc",    # process_start_time_seconds
    }
