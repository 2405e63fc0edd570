"""What must hold after every storm and every fault (the server is as it was before)."""
import pathlib
import time

import httpx

MOST_GROWTH = 8 << 20


def process_state(server):
    """Descriptors, threads, children and resident bytes of the server."""
    folder = pathlib.Path(f"/proc/{server.process.pid}")
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    children = []
    for task in (folder / "task").iterdir():
        children += (task / "children").read_text().split()
    return {"descriptors": len(list((folder / "fd").iterdir())),
            "threads": int(status["Threads"]),
            "children": len(children),
            "resident": int(status["VmRSS"].split()[0]) << 10}


def cpu_seconds(server):
    fields = pathlib.Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def endings(server):
    """Generation requests of one sequence each that have come to an end, whichever."""
    return (server.metric("vllm:request_success_total")
            + server.metric("tidemill:requests_rejected_total"))


class Epilogue:
    """Made before; called after, with the number of requests that were sent in between.

    The server must have been used before, so that what it keeps for good is there.
    """

    def __init__(self, server):
        self.server = server
        self.reference = self.ask()
        server.wait_until_quiet()
        self.before = process_state(server)
        self.endings = endings(server)

    def ask(self):
        answer = httpx.post(self.server.url + "/v1/completions", timeout=30, json={
            "prompt": "the reference prompt", "max_tokens": 40, "logprobs": 1, "temperature": 0})
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"]

    def __call__(self, sent=None):
        begun = time.monotonic()
        while httpx.get(self.server.url + "/health").status_code != 200:
            assert time.monotonic() < begun + 1, "health is not well a second later"
            time.sleep(0.05)
        self.server.wait_until_quiet()
        if sent is not None:  # nothing without an ending, nothing with two
            assert endings(self.server) - self.endings == sent
        assert self.ask() == self.reference
        deadline = time.monotonic() + 10
        while True:
            now = process_state(self.server)
            growth = now["resident"] - self.before["resident"]
            same = all(now[name] <= self.before[name] for name in ("descriptors", "children"))
            if same and now["threads"] == self.before["threads"] and growth < MOST_GROWTH:
                return growth
            assert time.monotonic() < deadline, (self.before, now)
            time.sleep(0.1)
