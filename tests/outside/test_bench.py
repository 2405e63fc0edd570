"""bench --url: what it counts is what the server counts, and what it cannot do it says."""
import http.server
import json
import socket
import subprocess
import threading
import time

import pytest

from conftest import BINARY, Server, write_script

ENDPOINTS = ["/v1/completions", "/v1/chat/completions", "/invocations"]


def bench(url, *arguments, code=0):
    done = subprocess.run([BINARY, "bench", "--url", url, *map(str, arguments)],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def results(url, *arguments, code=0):
    done = bench(url, "--json", *arguments, code=code)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    # Steps that are long beside a client's turn on a busy machine: tokens must come one at a time.
    model = write_script(folder / "tide.json", [{"when": "*", "reply": "tide ", "repeat": 100}],
                         step_ms=10)
    running = Server(model, "--served-model-name", "tide", log=folder / "server.log")
    yield running.wait_until_ready()
    assert running.stop() == 0


@pytest.mark.timed
@pytest.mark.parametrize("stream", ["true", "false"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_counts_are_those_of_the_servers_metrics(server, endpoint, stream):
    names = ["vllm:generation_tokens_total", "vllm:prompt_tokens_total",
             "vllm:request_success_total"]
    before = {name: server.metric(name) for name in names}
    [result] = results(server.url, "--endpoint", endpoint, "--stream", stream, "--num-prompts", 24,
                       "--concurrency", 8, "--random-input-len", 20, "--random-output-len", 12,
                       "--num-warmups", 0)
    server.wait_until_quiet()
    more = {name: server.metric(name) - before[name] for name in names}
    assert (result["completed"], result["failed"], result["failures"]) == (24, 0, [])
    assert more["vllm:request_success_total"] == 24
    assert result["total_output_tokens"] == more["vllm:generation_tokens_total"] == 24 * 12
    assert result["counted_outputs"] == 24
    if endpoint == "/invocations":  # its answers do not tell the prompt's tokens
        assert (result["counted_inputs"], result["total_input_tokens"]) == (0, 24 * 20)
    else:
        assert result["counted_inputs"] == 24
        assert result["total_input_tokens"] == more["vllm:prompt_tokens_total"]
    assert result["model_id"] == "tide"
    assert 1 <= result["max_concurrent_requests"] <= 8
    assert result["request_throughput"] == pytest.approx(24 / result["duration"])
    assert result["output_throughput"] == pytest.approx(24 * 12 / result["duration"])
    measured = [result[f"{figure}_{name}_ms"] for figure in ("mean", "median", "std", "p99")
                for name in ("ttft", "tpot", "itl")]
    if stream == "true":
        assert all(value > 0 for value in measured)
        assert result["mean_ttft_ms"] < result["mean_e2el_ms"]
    else:
        assert measured == [None] * len(measured)
    # The first token and 11 steps of 10 milliseconds each.
    assert result["p50_e2el_ms"] >= 110


def test_the_table_shows_the_same_and_several_concurrencies_are_several_runs(server, tmp_path):
    saved = tmp_path / "results.json"
    done = bench(server.url, "--concurrency", "1,3", "--num-prompts", 6, "--random-input-len", 5,
                 "--random-output-len", 4, "--save-result", saved, "--goodput", "ttft:5000",
                 "tpot:5000", "e2el:0")
    first, second = map(json.loads, saved.read_text().splitlines())
    assert (first["max_concurrency"], second["max_concurrency"]) == (1, 3)
    assert first["request_goodput"] == 0
    assert first["max_concurrent_requests"] == 1
    for words in ["closed loop, at most 3 at a time", "TTFT", "TPOT", "ITL", "E2EL", "client delay",
                  "as the server counted", "good requests/s"]:
        assert words in done.stdout, done.stdout


def test_a_model_that_the_server_lacks_is_told_by_the_first_request(server):
    done = bench(server.url, "model-of-mine", "--random-input-len", 4, code=1)
    assert done.stdout == "" and "HTTP 404" in done.stderr and "model-of-mine" in done.stderr


@pytest.mark.timed
def test_an_open_loop_sends_whatever_the_server_does(server):
    [result] = results(server.url, "--request-rate", 60, "--duration", 2, "--random-input-len", 4,
                       "--random-output-len", 2)
    # 120 arrivals are expected; six deviations of a Poisson process are 66.
    assert 54 <= result["completed"] <= 186
    assert 2 <= result["duration"] < 6
    assert result["request_rate"] == 60 and result["max_concurrency"] is None
    assert result["p50_client_queue_time_ms"] < 50


def test_bodies_of_a_file(server, tmp_path):
    bodies = tmp_path / "bodies.jsonl"
    bodies.write_text('plain words\n{"prompt": "a", "max_tokens": 3, "n": 2}\n')
    [result] = results(server.url, "--dataset", bodies, "--num-prompts", 10,
                       "--random-output-len", 5)
    assert result["total_output_tokens"] == 5 * 5 + 5 * 2 * 3


def test_a_dead_server_is_told_with_its_address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    done = bench(url, code=1)
    assert done.stdout == "" and url in done.stderr and "cannot connect" in done.stderr


def test_refusals_are_failures_with_reasons(serve, tmp_path):
    model = write_script(tmp_path / "slow.json", [{"when": "*", "reply": "x", "repeat": 20}],
                         step_ms=5)
    server = serve(model, "--max-rolling-batch-size", "1", "--job-queue-size", "1")
    [result] = results(server.url, "--concurrency", 6, "--num-prompts", 30, "--random-input-len", 4,
                       "--random-output-len", 8)
    assert result["completed"] + result["failed"] == 30
    assert result["completed"] > 0 and result["failed"] > 0
    assert all(failure["reason"].startswith("HTTP 429: ") for failure in result["failures"])
    assert sum(failure["count"] for failure in result["failures"]) == result["failed"]


@pytest.mark.parametrize("arguments, words", [
    (["--goodput", "itl:5"], "itl:5"),
    (["--metric-percentiles", "101"], "metric_percentiles is 101"),
    (["--concurrency", "0"], "--concurrency has 0"),
    (["--endpoint", "/v1/embeddings"], "endpoint is /v1/embeddings"),
    (["--isa", "avx2"], "isa does nothing with url"),
    (["--decode-tokens", "5"], "decode_tokens does nothing with url"),
    (["--dataset", "/nobody/here"], "/nobody/here"),
    (["--save-result", "/nobody/here"], "/nobody/here cannot be written"),
    (["--seed", "x"], "seed is x"),
])
def test_wrong_flags_are_refused_before_anything_is_sent(server, arguments, words):
    before = server.metric("vllm:prompt_tokens_total")
    done = bench(server.url, *arguments, code=1)
    assert words in done.stderr and done.stdout == ""
    assert server.metric("vllm:prompt_tokens_total") == before


def test_flags_of_a_server_need_its_address(tmp_path):
    done = subprocess.run([BINARY, "bench", "model", "--num-prompts", "3"], capture_output=True,
                          text=True)
    assert done.returncode == 1 and "num_prompts needs url" in done.stderr
    done = subprocess.run([BINARY, "bench", "--url", "localhost:8080"], capture_output=True, text=True)
    assert done.returncode == 1 and "it must be http://HOST:PORT" in done.stderr


class Other(http.server.BaseHTTPRequestHandler):
    """Somebody else's server: no usage, text 60 ms after the request and then every 30 ms."""
    protocol_version = "HTTP/1.1"
    seen = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Other.seen.append((self.path, self.headers["Authorization"], json.loads(body)))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        time.sleep(0.06)
        for i in range(5):
            last = '"stop"' if i == 4 else "null"
            event = f'data: {{"choices":[{{"text":"word","finish_reason":{last}}}]}}\r\n\r\n'
            for part in (event[:9], event[9:]):  # an event may come in two pieces
                self.wfile.write(part.encode())
                self.wfile.flush()
            time.sleep(0.03 if i < 4 else 0)
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def do_GET(self):
        self.send_error(404)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def other():
    Other.seen.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other)
    server.request_queue_size = 128
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.mark.timed
def test_another_server_that_counts_nothing_is_measured_in_pieces(other):
    [result] = results(other + "/v1/", "--api-key", "sk-secret", "--num-prompts", 6,
                       "--concurrency", 2, "--random-input-len", 7, "--ignore-eos")
    assert (result["completed"], result["counted_outputs"]) == (6, 0)
    assert (result["total_output_tokens"], result["total_input_tokens"]) == (30, 42)
    assert 60 <= result["median_ttft_ms"] < 200
    assert 29 <= result["median_itl_ms"] < 100
    assert result["median_tpot_ms"] == pytest.approx(result["mean_itl_ms"], rel=0.5)
    path, key, body = Other.seen[0]
    assert (path, key) == ("/v1/completions", "Bearer sk-secret")
    assert len(body["prompt"]) == 7 and body["ignore_eos"] is True and "model" not in body


@pytest.mark.timed
def test_the_clients_own_delay_is_told_and_small(server):
    [result] = results(server.url, "--concurrency", 64, "--num-prompts", 192, "--random-input-len",
                       8, "--random-output-len", 40)
    assert result["completed"] == 192
    assert 0 < result["client_busy_share"] < 1
    assert result["p50_client_delay_ms"] < 10


def test_a_connection_that_breaks_off_is_a_failure():
    """The server takes the request, begins an answer, and leaves."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                   b"Content-Length: 1000\r\n\r\n{")

    threading.Thread(target=answer, daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    [result] = results(url, "m", "--num-prompts", 3, "--num-warmups", 0, code=1)
    listener.close()
    assert result["failures"] == [{"reason": "the connection broke off", "count": 3}]
