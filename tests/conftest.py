"""Fixtures: a running server, a script for it, and where real models are."""
import contextlib
import functools
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

import httpx
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = pathlib.Path(os.environ.get("TIDEMILL_BINARY", ROOT / "build-test/tidemill"))
MODELS = pathlib.Path(os.environ.get("TIDEMILL_MODELS", ROOT / ".cache/models"))
SHARED = pathlib.Path(os.environ.get("TIDEMILL_SHARED", ROOT / "../shared"))
START_SECONDS = 120

# Half a second of every start that tests nothing: tests of it ask for it.
os.environ.setdefault("OPTION_CALIBRATION", "off")

# Without a context each call reads all certificate authorities anew, which takes 25 ms of a core.
AUTHORITIES = httpx.create_ssl_context()
for function in ("get", "post", "put", "delete", "options", "head", "request", "stream"):
    setattr(httpx, function, functools.partial(getattr(httpx, function), verify=AUTHORITIES))


def pytest_configure(config):
    config.addinivalue_line("markers", "real_model: needs SmolLM2")
    config.addinivalue_line("markers", "long: for test.sh --long")
    config.addinivalue_line("markers", "measured: of time or memory, so not under sanitizers")
    config.addinivalue_line("markers", "timed: bounds a time that is long, so by itself everywhere")
    config.addinivalue_line("markers", "bits: what another case does with other numbers, so not "
                            "under sanitizers")


def need(path):
    """Skips the test, by name, when a file is not on this machine."""
    if not path.exists():
        pytest.skip(f"not here: {path}")
    return path


class Server:
    """A tidemill process that serves; its address, and what it said."""

    def __init__(self, *arguments, environment=None, folder=None, log):
        self.log = log
        with open(log, "wb") as out:
            self.process = subprocess.Popen(
                [BINARY, "serve", *arguments, "--port", "0", "--host", "127.0.0.1"],
                stdout=out, stderr=out, cwd=folder, env={**os.environ, **(environment or {})})
        self.port = self._wait_for_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def _wait_for_port(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for line in self.log.read_text(errors="replace").splitlines():
                if listening := re.search(r"[ \"]listening on .*:(\d+)", line):
                    return int(listening[1])
            if self.process.poll() is not None:
                raise RuntimeError(self.log.read_text(errors="replace"))
            time.sleep(0.02)
        raise RuntimeError("the server did not open its port")

    def wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(self.url + "/health").status_code == 200:
                    return self
            if self.process.poll() is not None:
                raise RuntimeError(self.log.read_text(errors="replace"))
            time.sleep(0.02)
        raise RuntimeError("the server was not ready in time")

    def metric(self, name):
        """The sum of a metric over its labels."""
        values = [float(line.rsplit(" ", 1)[1])
                  for line in httpx.get(self.url + "/metrics").text.splitlines()
                  if line.startswith((name + "{", name + " "))]
        assert values, f"no metric {name}"
        return sum(values)

    def wait_until_quiet(self, seconds=20):
        """Until nothing runs, waits or holds a block, twice: a busy loop tells its counts every
        20 ms, and the first look may see those from before it was busy."""
        deadline = time.monotonic() + seconds
        names = ["vllm:num_requests_running", "vllm:num_requests_waiting",
                 "vllm:kv_cache_usage_perc"]
        quiet = 0
        while time.monotonic() < deadline:
            quiet = quiet + 1 if all(self.metric(name) == 0 for name in names) else 0
            if quiet == 2:
                return
            time.sleep(0.05)
        raise AssertionError({name: self.metric(name) for name in names})

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        return connection

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                return self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        return self.process.returncode


@pytest.fixture
def serve(tmp_path):
    """serve(ARGUMENT..., ready=True): starts servers that end with the test."""
    servers = []

    def start(*arguments, ready=True, **keywords):
        server = Server(*arguments, log=tmp_path / f"server{len(servers)}.log", **keywords)
        servers.append(server)
        return server.wait_until_ready() if ready else server

    yield start
    for server in servers:
        server.stop()


def write_script(path, rules, **members):
    path.write_text(json.dumps({"rules": rules, **members}))
    return f"script:{path}"


@pytest.fixture(scope="module")
def script_server(tmp_path_factory):
    """One server for a whole module: slow, quick and failing answers."""
    folder = tmp_path_factory.mktemp("script")
    model = write_script(folder / "hello.json", [
        {"when": "slow", "reply": "tick ", "repeat": 400, "delay_ms": 5},
        {"when": "broken", "reply": "abcdef", "fail_at": 0},
        {"when": "breaks later", "reply": "abcdef", "fail_at": 3, "delay_ms": 30},
        {"when": "unicode", "reply": "é😀 ende"},
        {"when": "hello", "reply": "Hello, world!"},
    ])
    server = Server(model, "--served-model-name", "script", log=folder / "server.log")
    yield server.wait_until_ready()
    assert server.stop() == 0, server.log.read_text(errors="replace")


@pytest.fixture(scope="session")
def smollm2():
    return need(MODELS / "SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture(scope="session")
def engines(tmp_path_factory):
    """A cache folder that all tests of a run share: each model is compiled once. pytest-xdist has a
    folder for each of its processes, inside that of the run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "engines"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
