"""TLS: the same answers behind a certificate, and nothing in the clear."""
import json
import os
import socket
import ssl
import struct
import subprocess
import time

import httpx
import openai
import pytest

from conftest import BINARY, Server, write_script


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


class TlsServer(Server):
    """A server whose port speaks TLS, and a context that trusts it."""

    def __init__(self, model, certificate, *arguments, log):
        super().__init__(model, "--certificate-file", certificate[0], "--private-key-file",
                         certificate[1], "--served-model-name", "script", *arguments, log=log)
        self.url = f"https://127.0.0.1:{self.port}"
        self.context = ssl.create_default_context(cafile=str(certificate[0]))
        self.client = httpx.Client(base_url=self.url, verify=self.context, timeout=20)

    def wait_until_ready(self):
        deadline = time.monotonic() + 60
        while self.client.get("/health").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return self

    def metric(self, name):
        return sum(float(line.rsplit(" ", 1)[1])
                   for line in self.client.get("/metrics").text.splitlines()
                   if line.startswith((name + "{", name + " ")))


@pytest.fixture(scope="module")
def server(certificate, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls_server")
    model = write_script(folder / "hello.json", [
        {"when": "slow", "reply": "tick ", "repeat": 400, "delay_ms": 5},
        {"when": "hello", "reply": "Hello, world!"}])
    server = TlsServer(model, certificate, "--header-timeout", "2", log=folder / "server.log")
    yield server.wait_until_ready()
    server.client.close()
    assert server.stop() == 0, server.log.read_text(errors="replace")


def test_clients_are_served_behind_the_certificate(server):
    for _ in range(3):  # on one connection
        answer = server.client.post("/v1/completions", json={"prompt": "hello"})
        assert answer.json()["choices"][0]["text"] == "Hello, world!"
    refused = server.client.post("/v1/completions", json={"prompt": 5})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "prompt"
    with httpx.Client(verify=server.context) as http:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="x", http_client=http)
        parts = client.completions.create(model="script", prompt="hello", stream=True)
        assert "".join(part.choices[0].text for part in parts) == "Hello, world!"
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE"):
        httpx.get(server.url + "/ping")  # who does not know the certificate does not talk


def bench(url, *arguments):
    return subprocess.run([BINARY, "bench", "--url", url, "--num-prompts", "3", "--num-warmups", "0",
                           "--random-input-len", "4", "--random-output-len", "2", "--json",
                           *map(str, arguments)], capture_output=True, text=True, timeout=60)


def test_bench_trusts_the_certificate_that_it_is_given(server, certificate):
    done = bench(server.url, "--cacert", certificate[0])
    assert done.returncode == 0 and json.loads(done.stdout)["completed"] == 3, done.stderr


def test_bench_says_what_a_certificate_lacks(server, certificate, tmp_path):
    foreign, text = tmp_path / "foreign.pem", tmp_path / "text.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", tmp_path / "key.pem", "-out", foreign], check=True,
                   capture_output=True)
    text.write_text("no certificate\n")
    clear = server.url.replace("https", "http")
    for url, arguments, words in [
            (server.url, [], "with cacert"),
            (server.url, ["--cacert", foreign], "is not trusted here"),
            (server.url, ["--cacert", text], "cacert holds no certificate"),
            (server.url, ["--cacert", tmp_path / "none.pem"], "none.pem, which cannot be read"),
            (clear, ["--cacert", certificate[0]], f"cacert is for https, and url is {clear}")]:
        done = bench(url, *arguments)
        assert done.returncode == 1 and words in done.stderr, done.stderr


def test_a_long_body_and_a_long_answer_arrive_whole(server):
    body = {"prompt": "slow" + " " * 3000, "max_tokens": 1, "unknown": "x" * 3_000_000}
    assert server.client.post("/v1/completions", json=body).status_code == 200
    page = server.client.get("/metrics")
    assert len(page.content) == int(page.headers["content-length"])


def test_a_client_that_leaves_is_noticed(server):
    before = server.metric("tidemill:requests_cancelled_total")
    with server.client.stream("POST", "/v1/completions",
                              json={"prompt": "slow", "stream": True, "max_tokens": 2000}) as answer:
        next(answer.iter_lines())
    server.wait_until_quiet()
    assert server.metric("tidemill:requests_cancelled_total") == before + 1


def open_files(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def send_more_than_anybody_takes(server, tokens):
    """A request that computes, and behind it more requests than the server reads ahead, until the
    socket is full."""
    client = server.context.wrap_socket(socket.create_connection(("127.0.0.1", server.port)),
                                        server_hostname="127.0.0.1")
    body = json.dumps({"prompt": "slow", "max_tokens": tokens}).encode()
    client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                   b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    ping = b"GET /ping HTTP/1.1\r\nHost: a\r\nx-pad: " + b"p" * 8000 + b"\r\n\r\n"
    client.settimeout(1)
    sent = 0
    try:
        while sent < 2000:  # 16 MB
            client.sendall(ping)
            sent += 1
    except TimeoutError:
        pass
    assert sent > 20
    return client


@pytest.mark.timed
def test_H_9_who_leaves_behind_bytes_that_nobody_takes_is_noticed(server):
    files = open_files(server)
    before = server.metric("tidemill:requests_cancelled_total")
    client = send_more_than_anybody_takes(server, tokens=2000)  # ten seconds
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    left = time.monotonic()
    server.wait_until_quiet()
    assert time.monotonic() - left < 3
    assert server.metric("tidemill:requests_cancelled_total") == before + 1
    assert becomes(lambda: open_files(server) <= files)


def test_what_nobody_takes_yet_waits_for_its_turn(server):
    client = send_more_than_anybody_takes(server, tokens=600)
    client.settimeout(20)
    received = b""
    while received.count(b"HTTP/1.1 200 OK") < 20:
        received += client.recv(1 << 16)
    client.close()


def becomes(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_H_8_who_speaks_no_tls_is_closed_in_time(server):
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as clear:
        clear.sendall(b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
        try:
            assert b"HTTP/1.1" not in clear.recv(1000)
        except ConnectionError:
            pass
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as silent:
        assert silent.recv(1) == b""
    assert time.monotonic() - begun < 8
    old = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-tls1_1",
                          "-cipher", "ALL:@SECLEVEL=0"], stdin=subprocess.DEVNULL,
                         capture_output=True, text=True, timeout=20)
    assert old.returncode != 0
    assert server.client.get("/ping").status_code == 200


def test_H_9_silent_clients_leave_a_place_for_health(certificate, tmp_path):
    server = TlsServer(write_script(tmp_path / "s.json", []), certificate, "--header-timeout", "60",
                       "--max-connections", "16", log=tmp_path / "server.log")
    server.wait_until_ready().client.close()
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(16)]
    time.sleep(0.2)
    assert httpx.get(server.url + "/ping", verify=server.context, timeout=10).status_code == 200
    for client in silent:
        client.close()
    assert server.stop() == 0


def test_files_that_do_not_fit_are_refused_by_name(certificate, tmp_path):
    model = write_script(tmp_path / "s.json", [])
    other = tmp_path / "other.pem"
    subprocess.run(["openssl", "genrsa", "-out", other, "2048"], check=True, capture_output=True)
    for files, words in [((tmp_path / "none.pem", certificate[1]), "certificate_file"),
                         ((certificate[0], tmp_path / "none.pem"), "private_key_file"),
                         ((certificate[0], other), "private_key_file")]:
        done = subprocess.run([BINARY, "serve", model, "--port", "0", "--certificate-file", files[0],
                               "--private-key-file", files[1]],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and words in done.stderr, done.stderr
