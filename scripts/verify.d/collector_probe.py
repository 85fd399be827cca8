"""Sends telemetry into a collector by OTLP/HTTP and reads what comes out of it.

collector_probe.py OTLP_URL OUT_FOLDER OWN_METRICS_URL OTLP_METRICS_URL

The collector runs otel-collector.yaml with deploy/collector/local.yaml over it,
keeping no ordinary trace. Called by 30-collector.
"""

import json
import os
import pathlib
import sys
import time
import urllib.request

OTLP, OUT, OWN, SCRAPED = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4]
BOUND_SECONDS = 30
SECRETS = {
    "authorization": "Bearer abc",
    "note": "write to someone@example.com",
    "http.request.header.cookie": "session=1",
    "db.query.parameter.password": "hunter2hunter2",
    "token.in.value": "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
}


def attributes(pairs):
    return [{"key": key, "value": {"stringValue": value}} for key, value in pairs.items()]


RESOURCE = {"attributes": attributes({"service.name": "probe"})}


def post(path, body):
    request = urllib.request.Request(
        OTLP + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200, (path, answer.status)


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def span(trace, milliseconds, error=False, **more):
    now = time.time_ns()
    return {
        "traceId": trace, "spanId": os.urandom(8).hex(), "name": "GET /probe", "kind": 2,
        "startTimeUnixNano": str(now), "endTimeUnixNano": str(now + milliseconds * 1_000_000),
        "status": {"code": 2} if error else {}, **more,
    }


def trace_id():
    return os.urandom(16).hex()


def until(what, read):
    """The first true value that `read` gives; fails the check when there is none in time."""
    deadline = time.monotonic() + BOUND_SECONDS
    while not (value := read()):
        if time.monotonic() > deadline:
            sys.exit(f"not within {BOUND_SECONDS} s: {what}")
        time.sleep(0.1)
    return value


def documents(name):
    """The OTLP documents of one output file; a line that is still being written is left out."""
    path = OUT / name
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def spans():
    return [s for d in documents("traces.jsonl") for r in d["resourceSpans"]
            for scope in r["scopeSpans"] for s in scope["spans"]]


def logs():
    return [r for d in documents("logs.jsonl") for res in d["resourceLogs"]
            for scope in res["scopeLogs"] for r in scope["logRecords"]]


def sample(text, name):
    """The sum of a metric's samples in Prometheus text."""
    lines = [line for line in text.splitlines()
             if line.startswith(name) and line[len(name):len(name) + 1] in ("{", " ")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


error, slow, ordinary = trace_id(), trace_id(), [trace_id() for _ in range(50)]
post("/v1/traces", {"resourceSpans": [{"resource": RESOURCE, "scopeSpans": [{"spans": [
    span(error, 5, error=True, attributes=attributes(SECRETS)),
    # A child that is fine belongs to the failed trace and is kept with it.
    span(error, 2),
    span(slow, 300),
    *[span(trace, 20) for trace in ordinary],
]}]}]})
post("/v1/logs", {"resourceLogs": [{"resource": RESOURCE, "scopeLogs": [{"logRecords": [
    {"timeUnixNano": str(time.time_ns()), "severityText": "INFO", "traceId": error,
     "body": {"stringValue": "probe"}, "attributes": attributes(SECRETS)}]}]}]})
post("/v1/metrics", {"resourceMetrics": [{"resource": RESOURCE, "scopeMetrics": [{"metrics": [
    {"name": "probe_things", "sum": {
        "aggregationTemporality": 2, "isMonotonic": True,
        "dataPoints": [{"asInt": "7", "timeUnixNano": str(time.time_ns())}]}}]}]}]})

until("the failed and the slow trace at the file exporter",
      lambda: {error, slow} <= {s["traceId"] for s in spans()})
# The decision on all of them has fallen when the collector says so itself.
until("a decision on every trace",
      lambda: sample(get(OWN), "otelcol_processor_tail_sampling_global_count_traces_sampled_total")
      >= 52)
kept = [s["traceId"] for s in spans()]
assert sorted(kept) == sorted([error, error, slow]), f"kept {len(kept)} spans instead of 3"
print(f"tail sampling: kept the failed and the slow trace whole, none of {len(ordinary)} ordinary ones")

record = until("the log record at the file exporter", logs)[0]
failed = next(s for s in spans() if s["traceId"] == error and s.get("attributes"))
for where, found in (("span", failed), ("log", record)):
    text = json.dumps(found["attributes"])
    assert all(key in text for key in SECRETS), f"{where}: attributes are gone, not masked: {text}"
    leaked = [value for value in ("Bearer abc", "someone@example.com", "session=1",
                                  "hunter2hunter2", "eyJhbGci") if value in text]
    assert not leaked, f"{where}: {leaked} left the collector: {text}"
assert record["traceId"] == error and record["body"]["stringValue"] == "probe"
print(f"redaction: {len(SECRETS)} secrets masked in a span and in a log record")

metric = until("the OTLP metric on the Prometheus exporter",
               lambda: sample(get(SCRAPED), "probe_things_total"))
assert metric == 7, metric
own = get(OWN)
for name, least in (("otelcol_receiver_accepted_spans_total", 53),
                    ("otelcol_receiver_accepted_log_records_total", 1),
                    ("otelcol_receiver_accepted_metric_points_total", 1),
                    ("otelcol_exporter_sent_spans_total", 3)):
    assert sample(own, name) >= least, f"{name} is {sample(own, name)}, not {least} or more"
print("metrics: an OTLP counter is scrapeable, and the collector counts what it does")
