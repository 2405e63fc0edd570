"""Promises that only the whole program can keep: signals, health, what is never printed."""
import json
import os
import re
import signal
import subprocess
import threading
import time

import httpx
import pytest

from conftest import BINARY, write_script

SLOW = [{"when": "slow", "reply": "tick ", "repeat": 700, "delay_ms": 20},
        {"when": "*", "reply": "the answer nobody may log"}]


def begin_slow(server):
    """A request that runs for more than a minute; returns when its first text has come."""
    begun = threading.Event()

    def run():
        body = {"prompt": "slow", "stream": True, "max_tokens": 3500}
        try:
            with httpx.stream("POST", server.url + "/v1/completions", json=body, timeout=60) as answer:
                for _ in answer.iter_raw():
                    begun.set()
        except httpx.TransportError:
            pass

    threading.Thread(target=run, daemon=True).start()
    assert begun.wait(20)


@pytest.mark.timed
def test_S_3_a_second_signal_does_not_begin_the_drain_again(serve, tmp_path):
    server = serve(write_script(tmp_path / "slow.json", SLOW), "--drain-time", "3")
    begin_slow(server)
    server.process.send_signal(signal.SIGTERM)
    first = time.monotonic()
    time.sleep(2)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0
    assert 2.5 < time.monotonic() - first < 4.8  # three seconds from the second one would be five


def test_S_3_the_third_signal_ends_at_once(serve, tmp_path):
    server = serve(write_script(tmp_path / "slow.json", SLOW))
    begin_slow(server)
    for stop in (signal.SIGTERM, signal.SIGINT):
        server.process.send_signal(stop)
        time.sleep(0.3)
        assert server.process.poll() is None
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(2) in (128 + signal.SIGTERM, -signal.SIGTERM)


@pytest.mark.parametrize("stray", [signal.SIGPIPE, signal.SIGHUP, signal.SIGCHLD])
def test_S_5_signals_that_mean_nothing_are_survived(serve, tmp_path, stray):
    server = serve(write_script(tmp_path / "quick.json", SLOW))
    for _ in range(3):
        server.process.send_signal(stray)
        time.sleep(0.05)
        assert httpx.get(server.url + "/ping").status_code == 200
    answer = httpx.post(server.url + "/v1/completions", json={"prompt": "hello"})
    assert answer.status_code == 200 and answer.json()["choices"][0]["text"]


def test_L_2_whatever_clients_get_wrong_health_stays(script_server):
    wrong = [("/v1/completions", b"{"), ("/v1/completions", b'{"prompt":""}'),
             ("/v1/completions", b'{"prompt":"x","model":"nobody"}'), ("/invocations", b"{}"),
             ("/nowhere", b"{}"), ("/v1/chat/completions", b'{"messages":[]}'),
             ("/v1/completions", b'{"prompt":"broken"}')]
    with httpx.Client(headers={"Content-Type": "application/json"}) as client:
        for round_ in range(40):
            for path, body in wrong:
                assert client.post(script_server.url + path, content=body).status_code >= 400
            assert client.get(script_server.url + "/ping").status_code == 200, round_
    answer = httpx.post(script_server.url + "/v1/completions", json={"prompt": "hello"})
    assert answer.json()["choices"][0]["text"] == "Hello, world!"


@pytest.mark.parametrize("path, body", [
    ("/v1/completions", {"prompt": "hello", "model": "nobody"}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "model": "nobody"}),
    ("/predictions/nobody", {"inputs": "hello"}),
    ("/models/nobody/invoke", {"inputs": "hello"}),
])
def test_P_7_a_model_that_is_not_here_is_404(script_server, path, body):
    answer = httpx.post(script_server.url + path, json=body)
    assert answer.status_code == 404 and "nobody" in answer.text


@pytest.mark.parametrize("path, body, status", [
    ("/v1/completions", {"prompt": ""}, 400),
    ("/v1/completions", {"prompt": []}, 400),
    ("/v1/chat/completions", {"messages": []}, 400),
    ("/invocations", {"inputs": ""}, 424),
    ("/invocations", {"inputs": []}, 424),
])
def test_P_4_nothing_to_run_is_said(script_server, path, body, status):
    answer = httpx.post(script_server.url + path, json=body)
    assert answer.status_code == status
    assert any(name in answer.text for name in ("prompt", "messages", "inputs")), answer.text


@pytest.mark.parametrize("path, body, status", [
    ("/v1/completions", {"prompt": "x" * 4000, "max_tokens": 500}, 400),
    ("/invocations", {"inputs": "x" * 4000, "parameters": {"max_new_tokens": 500}}, 424),
])
@pytest.mark.timed
def test_P_5_what_can_never_fit_is_refused_with_its_three_numbers(script_server, path, body, status):
    begin = time.monotonic()
    answer = httpx.post(script_server.url + path, json=body)
    assert time.monotonic() - begin < 2
    assert answer.status_code == status
    assert all(number in answer.text for number in ("4000", "500", "4096")), answer.text


@pytest.mark.parametrize("form", ["text", "json"])
def test_Z_5_no_prompt_no_answer_and_no_credential_is_printed(serve, tmp_path, form):
    server = serve(write_script(tmp_path / "quick.json", SLOW), "--log-level", "debug",
                   "--log-format", form)
    secret, prompt = "sk-a-key-of-somebody", "the prompt nobody may log"
    headers = {"Authorization": "Bearer " + secret, "X-Amzn-SageMaker-Session": secret}
    for path, body in [("/v1/completions", {"prompt": prompt}),
                       ("/v1/completions", {"prompt": prompt, "stream": True}),
                       ("/v1/completions", {"prompt": prompt, "max_tokens": prompt}),
                       ("/v1/chat/completions", {"messages": [{"role": "user", "content": prompt}]}),
                       ("/v1/chat/completions", {"messages": [{"role": prompt}]}),
                       ("/invocations", {"inputs": prompt, "parameters": {"temperature": prompt}}),
                       ("/invocations", {"inputs": prompt})]:
        httpx.post(server.url + path, json=body, headers=headers)
    httpx.post(server.url + "/v1/completions", content=prompt.encode(), headers=headers)
    httpx.get(server.url + "/?key=" + secret, headers=headers)
    assert server.stop() == 0
    said = server.log.read_text()
    assert "request" in said  # they are logged
    for words in (prompt, "the answer nobody may log", secret):
        assert words not in said
    if form == "json":
        for line in said.splitlines():
            json.loads(line)


@pytest.mark.parametrize("line", ["option.max_rolling_batch_size=many", "job_queue_size=1e3",
                                  "option.max_rolling_batch_size=0", "queue_timeout="])
def test_Z_6_a_malformed_setting_is_named_with_its_file_and_line(tmp_path, line):
    model = write_script(tmp_path / "quick.json", SLOW)
    properties = tmp_path / "serving.properties"
    properties.write_text(f"# a comment\noption.model_id={model}\n{line}\n")
    done = subprocess.run([BINARY, "serve", tmp_path, "--port", "0"], capture_output=True, text=True,
                          timeout=30)
    assert done.returncode == 1
    assert f"{properties}:3: {line.split('=')[0]}" in done.stderr


def test_Z_6_a_malformed_variable_is_named(tmp_path):
    model = write_script(tmp_path / "quick.json", SLOW)
    done = subprocess.run([BINARY, "serve", model], capture_output=True, text=True, timeout=30,
                          env={**os.environ, "SERVING_PORT": "80a"})
    assert done.returncode == 1 and "SERVING_PORT is 80a" in done.stderr


def endings(server):
    """Sequences by how they ended, and refusals by reason."""
    counted = {}
    for line in httpx.get(server.url + "/metrics").text.splitlines():
        if found := re.match(r'(?:vllm:request_success_total|tidemill:requests_rejected_total)'
                             r'\{.*(?:finished_reason|reason)="(\w+)"\} (\d+)', line):
            counted[found[1]] = counted.get(found[1], 0) + int(found[2])
    return counted


def test_I15_every_request_is_counted_once_by_how_it_ended(serve, tmp_path):
    server = serve(write_script(tmp_path / "mixed.json", [
        {"when": "broken", "reply": "abc", "fail_at": 0}, *SLOW]))
    before = endings(server)

    def post(body, **keywords):
        return httpx.post(server.url + "/v1/completions", json=body, timeout=30, **keywords)

    for _ in range(7):
        assert post({"prompt": "hello", "max_tokens": 100}).status_code == 200
    for _ in range(5):
        assert post({"prompt": "hello", "max_tokens": 3}).status_code == 200
    for _ in range(4):
        assert post({"prompt": "broken"}).status_code == 500
    for _ in range(3):
        assert post({"prompt": "hello", "top_p": 7}).status_code == 400
    for _ in range(6):
        with httpx.stream("POST", server.url + "/v1/completions",
                          json={"prompt": "slow", "stream": True, "max_tokens": 3000}) as answer:
            next(answer.iter_raw())
    server.wait_until_quiet()
    more = {name: count - before.get(name, 0) for name, count in endings(server).items()}
    assert {name: count for name, count in more.items() if count} == {
        "stop": 7, "length": 5, "error": 4, "abort": 6, "invalid_parameter": 3}
