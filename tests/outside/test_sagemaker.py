"""The AWS client in front of the container: boto3, and a proxy that does what the platform does.

The platform takes /endpoints/NAME/invocations and calls /invocations; a streamed answer it wraps
into frames of application/vnd.amazon.eventstream, and an error it reports as a ModelError.
"""
import http.client
import http.server
import json
import re
import struct
import threading
import zlib

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from conftest import Server, write_script

PATH = re.compile(r"/endpoints/[^/]+/invocations(-response-stream)?$")


def frame(payload, kind="PayloadPart"):
    """One message of an event stream: lengths, headers, payload, each half with its checksum."""
    headers = b""
    for name, value in [(":event-type", kind), (":content-type", "application/octet-stream"),
                        (":message-type", "event")]:
        headers += struct.pack(">B", len(name)) + name.encode()
        headers += struct.pack(">BH", 7, len(value)) + value.encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack(">I", zlib.crc32(message))


class Platform(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    container = 0  # its port

    def log_message(self, *_):
        pass

    def do_POST(self):
        path = PATH.match(self.path)
        assert path, self.path
        body = self.rfile.read(int(self.headers["content-length"]))
        passed = {name: value for name, value in self.headers.items()
                  if name.lower().startswith("x-amzn-sagemaker") or name.lower() in
                  ("content-type", "accept")}
        connection = http.client.HTTPConnection("127.0.0.1", self.container, timeout=20)
        connection.request("POST", "/invocations", body, passed)
        answer = connection.getresponse()
        if answer.status >= 400:
            self.report(answer)
        elif path[1]:
            self.stream(answer)
        else:
            whole = answer.read()
            self.begin(200, answer.getheader("content-type") or "", len(whole))
            self.wfile.write(whole)
        connection.close()

    def begin(self, status, content_type, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def report(self, answer):
        text = answer.read().decode()
        body = json.dumps({"Message": f"Received {answer.status} from the model",
                           "OriginalStatusCode": answer.status, "OriginalMessage": text}).encode()
        self.begin(424, "application/json", len(body), x_amzn_ErrorType="ModelError")
        self.wfile.write(body)

    def stream(self, answer):
        self.begin(200, "application/vnd.amazon.eventstream",
                   X_Amzn_SageMaker_Content_Type=answer.getheader("content-type") or "")
        while piece := answer.read1(65536):
            framed = frame(piece)
            self.wfile.write(b"%x\r\n" % len(framed) + framed + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")


def client_of(server):
    platform = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), type("Handler", (Platform,), {"container": server.port}))
    threading.Thread(target=platform.serve_forever, daemon=True).start()
    client = boto3.client(
        "sagemaker-runtime", endpoint_url=f"http://127.0.0.1:{platform.server_port}",
        region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x",
        config=Config(retries={"max_attempts": 0}, proxies={}))
    return client, platform


RULES = [{"when": "breaks", "reply": "abc", "fail_at": 0},
         {"when": "weather", "reply": "It rains.", "delay_ms": 5}]


@pytest.fixture(scope="module", params=["today", "0.25.0"])
def endpoint(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sagemaker")
    compat = ["--lmi_compat", "0.25.0"] if request.param == "0.25.0" else []
    server = Server(write_script(folder / "script.json", RULES), "--model_name", "m", *compat,
                    log=folder / "server.log").wait_until_ready()
    client, platform = client_of(server)
    yield client, request.param
    platform.shutdown()
    assert server.stop() == 0


BODY = json.dumps({"inputs": "weather", "parameters": {"max_new_tokens": 20}})


def test_invoke_endpoint(endpoint):
    client, _ = endpoint
    answer = client.invoke_endpoint(EndpointName="e", Body=BODY, ContentType="application/json")
    assert answer["ContentType"] == "application/json"
    assert json.loads(answer["Body"].read()) == {"generated_text": "It rains."}


def test_custom_attributes_name_the_model(endpoint):
    client, _ = endpoint
    arguments = {"EndpointName": "e", "Body": BODY, "ContentType": "application/json"}
    client.invoke_endpoint(**arguments, CustomAttributes="model_name=m;x=y")
    with pytest.raises(ClientError) as refused:
        client.invoke_endpoint(**arguments, CustomAttributes="model_name=foo")
    assert refused.value.response["Error"]["Code"] == "ModelError"
    assert refused.value.response["OriginalStatusCode"] == 404
    assert "Model or workflow not found: foo" in refused.value.response["OriginalMessage"]


def test_a_body_without_a_content_type(endpoint):
    client, _ = endpoint
    answer = client.invoke_endpoint(EndpointName="e", Body=BODY.encode())
    assert json.loads(answer["Body"].read()) == {"generated_text": "It rains."}


def test_a_generation_that_fails(endpoint):
    client, version = endpoint
    arguments = {"EndpointName": "e", "Body": json.dumps({"inputs": "breaks"}),
                 "ContentType": "application/json"}
    if version == "0.25.0":
        body = client.invoke_endpoint(**arguments)["Body"].read()
        assert body == b'{\n  "error": "",\n  "code": 424\n}'
        return
    with pytest.raises(ClientError) as failed:
        client.invoke_endpoint(**arguments)
    assert failed.value.response["OriginalStatusCode"] == 424


def test_invoke_endpoint_with_response_stream(endpoint):
    client, version = endpoint
    body = json.dumps({"inputs": "weather", "stream": True})
    answer = client.invoke_endpoint_with_response_stream(
        EndpointName="e", Body=body, ContentType="application/json")
    parts = [event["PayloadPart"]["Bytes"] for event in answer["Body"]]
    assert len(parts) > 1  # it comes in pieces
    text = b"".join(parts).decode()
    if version == "0.25.0":
        assert answer["ContentType"] == "application/json"
        assert text == '{"generated_text": "It rains."}'
        return
    assert answer["ContentType"] == "application/jsonlines"
    lines = [json.loads(line) for line in text.splitlines()]
    assert "".join(line["token"]["text"] for line in lines) == "It rains."
    assert lines[-1]["generated_text"] == "It rains."
