"""Steps the wall clock of a running service inside of requests, and reads its spans.

clock_step.py SERVICE_URL ADMIN_URL COLLECTOR_PORT DATABASE CLOCK_FILE LOG

Called by 33-clock-step. Another connection holds SQLite's write lock, so that a request
waits in its query while the clock steps. A small collector takes the spans.
"""

import http.server
import json
import pathlib
import sqlite3
import sys
import threading
import time
import urllib.request

SERVICE, ADMIN, PORT, DATABASE, CLOCK, LOG = sys.argv[1:]
BOUND_SECONDS = 10
LONGEST_SECONDS = 60
STEPS = ("+7200s", "-7200s", "+0")
SERVER, CLIENT = 2, 3
received = []


def fields(message):
    """Field numbers and values of a Protocol Buffers message."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        length = {1: 8, 2: None, 5: 4}[kind]
        length = varint() if length is None else length
        yield key >> 3, message[at:at + length]
        at += length


def inside(message, number):
    return (value for field, value in fields(message) if field == number)


def span(message):
    found = dict(fields(message))
    number = lambda field: int.from_bytes(found[field], "little")
    return {"trace": found[1].hex(), "id": found[2].hex(), "parent": found.get(4, b"").hex(),
            "name": found[5].decode(), "kind": found.get(6, 0), "start": number(7), "end": number(8)}


class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        request = self.rfile.read(int(self.headers["content-length"]))
        for resource in inside(request, 1):
            for scope in inside(resource, 2):
                received.extend(span(message) for message in inside(scope, 2))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def post(path, body, token=None):
    headers = {"content-type": "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    asked = urllib.request.Request(SERVICE + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(asked, timeout=20) as answer:
        return answer.status, json.load(answer), answer.headers["traceresponse"]


def samples(name):
    with urllib.request.urlopen(ADMIN + "/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines
               if line.startswith((name + " ", name + "{")))


def until(what, read):
    deadline = time.monotonic() + BOUND_SECONDS
    while not (value := read()):
        if time.monotonic() > deadline:
            sys.exit(f"not within {BOUND_SECONDS} s: {what}\n{pathlib.Path(LOG).read_text()[-2000:]}")
        time.sleep(0.01)
    return value


collector = http.server.ThreadingHTTPServer(("127.0.0.1", int(PORT)), Collector)
threading.Thread(target=collector.serve_forever, daemon=True).start()

traces = []
for step in STEPS:
    login = {"email": "admin@example.com", "password": "correct horse battery staple"}
    token = post("/api/v1/auth/login", login)[1]["access_token"]
    lock = sqlite3.connect(DATABASE, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    answers = []
    account = {"currency": "EUR", "name": "Step"}
    request = threading.Thread(target=lambda: answers.append(post("/api/v1/accounts", account, token)))
    request.start()
    until("a request that waits for the lock",
          lambda: samples("http_requests_in_flight") and samples("db_connections_active"))
    pathlib.Path(CLOCK).write_text(step + "\n")
    # Both clocks go on: the step lies inside of the query.
    time.sleep(0.05)
    lock.execute("ROLLBACK")
    request.join(timeout=20)
    if not answers or answers[0][0] != 201:
        sys.exit(f"{step}: the request was not answered 201: {answers}")
    traces.append(answers[0][2].split("-")[1])

for trace in traces:
    until(f"server and client span of {trace}",
          lambda: {SERVER, CLIENT} <= {s["kind"] for s in received if s["trace"] == trace})

known = {s["id"]: s for s in received}
wrong = []
for s in received:
    if not 0 <= s["end"] - s["start"] < LONGEST_SECONDS * 10**9:
        wrong.append(("takes", (s["end"] - s["start"]) / 10**9, s["name"]))
    parent = known.get(s["parent"])
    if parent and not parent["start"] <= s["start"] <= s["end"] <= parent["end"]:
        wrong.append(("lies outside of its parent", s["name"], parent["name"],
                      [(t - parent["start"]) / 10**9 for t in (s["start"], s["end"], parent["end"])]))
if wrong:
    sys.exit(f"{len(wrong)} of {len(received)} spans have impossible times: {wrong}")
for line in pathlib.Path(LOG).read_text().splitlines():
    took = json.loads(line).get("duration_ms") if line.startswith("{") else None
    if took is not None and not 0 <= took < LONGEST_SECONDS * 1000:
        sys.exit(f"a line says that a request took {took} ms: {line}")
for name in ("http_request_duration_seconds_sum", "db_query_duration_seconds_sum",
             "worker_run_duration_seconds_sum", "db_pool_wait_seconds_sum"):
    if not 0 <= samples(name) < LONGEST_SECONDS:
        sys.exit(f"{name} is {samples(name)}")
print(f"{len(STEPS)} steps of up to two hours: {len(received)} spans,"
      f" {sum(s['kind'] == CLIENT for s in received)} of them client spans, all with times that can be")
