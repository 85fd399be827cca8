"""Makes requests and finds the failed one's trace at the collector's other end.

service_traces.py PROTOCOL SERVICE_URL TRACES_FILE COLLECTOR_METRICS_URL

Called by 31-collector-service. The service's request timeout is too short for
hashing a password, so a registration ends in 503.
"""

import json
import os
import pathlib
import sys
import time
import urllib.error
import urllib.request

PROTOCOL, SERVICE, TRACES, OWN = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), sys.argv[4]
BOUND_SECONDS = 30
PINGS = 20
ROUTE = "/api/v1/auth/register"
EMAIL, PASSWORD = f"{os.urandom(6).hex()}@example.com", os.urandom(12).hex()


def request(method, path, body=None):
    data = json.dumps(body).encode() if body else None
    asked = urllib.request.Request(SERVICE + path, data, {"Content-Type": "application/json"},
                                   method=method)
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as answer:
        return answer.code, json.load(answer)


def accepted():
    with urllib.request.urlopen(OWN, timeout=10) as answer:
        text = answer.read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
               if line.startswith("otelcol_receiver_accepted_spans_total"))


def spans():
    text = TRACES.read_text() if TRACES.exists() else ""
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            for resource in json.loads(line)["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    for span in scope["spans"]:
                        yield resource["resource"], span


def values(attributes):
    return {a["key"]: next(iter(a["value"].values())) for a in attributes or ()}


def until(what, read):
    deadline = time.monotonic() + BOUND_SECONDS
    while not (value := read()):
        if time.monotonic() > deadline:
            sys.exit(f"{PROTOCOL}: not within {BOUND_SECONDS} s: {what}")
        time.sleep(0.1)
    return value


before = accepted()
pings = [request("GET", "/api/v1/ping?secret=query-string") for _ in range(PINGS)]
fine = sum(status == 200 for status, _ in pings)
status, problem = request("POST", ROUTE, {"email": EMAIL, "name": "Probe", "password": PASSWORD})
if status < 500:
    sys.exit(f"POST {ROUTE} under a deadline of 5 ms was answered {status}, not 5xx: {problem}")
trace = problem["trace_id"]

until("the spans of all requests at the collector", lambda: accepted() >= before + PINGS + 1)
found = until(f"the trace {trace} of the failed request at the file exporter",
              lambda: [(r, s) for r, s in spans() if s["traceId"] == trace])
servers = [(r, s) for r, s in found if s["kind"] == 2]
if len(servers) != 1:
    sys.exit(f"{PROTOCOL}: {len(servers)} server spans in trace {trace}, not 1")
resource, server = servers[0]
attributes = values(server.get("attributes"))
expected = {
    "name": (server["name"], f"POST {ROUTE}"),
    "status": (server["status"].get("code"), 2),
    "http.route": (attributes.get("http.route"), ROUTE),
    "http.request.method": (attributes.get("http.request.method"), "POST"),
    "http.response.status_code": (int(attributes.get("http.response.status_code", 0)), status),
}
wrong = {key: pair for key, pair in expected.items() if pair[0] != pair[1]}
if wrong:
    sys.exit(f"{PROTOCOL}: server span (is, should be): {wrong}")
if not values(resource.get("attributes")).get("service.name"):
    sys.exit(f"{PROTOCOL}: no service.name on the resource: {resource}")

text = TRACES.read_text()
for secret in (EMAIL, PASSWORD, "query-string"):
    if secret in text:
        sys.exit(f"{PROTOCOL}: {secret!r} of a request is in the exported traces")
# A ping that missed the short deadline is an error, and rightly kept.
kept = {s["traceId"] for _, s in spans() if s["name"] == "GET /api/v1/ping" and s["status"].get("code") != 2}
if kept:
    sys.exit(f"{PROTOCOL}: {len(kept)} ordinary traces were kept, at a share of 0")
print(f"{PROTOCOL}: trace {trace} of a {status} arrived, {len(found)} span(s);"
      f" none of {fine} ordinary ones; no secret")
