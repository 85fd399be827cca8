"""Reads the service's metrics page with a strict parser and through Prometheus.

openmetrics.py SERVICE_URL METRICS_URL PROMETHEUS_URL SERVICE_PID

Called by 32-openmetrics. Every request to the service is sampled.
"""

import json
import os
import re
import sys
import time
import urllib.parse
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
from prometheus_client.parser import text_string_to_metric_families as plain

SERVICE, METRICS, PROMETHEUS, PID = sys.argv[1:]
OPEN = "application/openmetrics-text; version=1.0.0"
HISTOGRAM = "http_request_duration_seconds"
QUERIES = "db_query_duration_seconds"
ROUTE = "/api/v1/ping"
SERIES = 1000
# For 1,000 series. The budget is 5 ms of an optimised build (docs/performance.md); the
# build that is checked here is not optimised, and takes 4 to 5 ms itself.
BUDGET_SECONDS = 0.010
SCRAPES = 100
BOUND_SECONDS = 30


def fetch(url, accept="*/*"):
    asked = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return answer.headers, answer.read().decode()


def fetch_json(url):
    return json.loads(fetch(url)[1])


def check(condition, what):
    if not condition:
        sys.exit(what)


def ping():
    """Pings, and gives the trace that the answer names."""
    headers, _ = fetch(SERVICE + ROUTE)
    return headers["traceresponse"].split("-")[1]


def names(families):
    """Every series, its bound as a number: the formats spell it differently."""
    return {(s.name, tuple(sorted((k, float(v) if k == "le" else v)
                                  for k, v in s.labels.items())))
            for f in families for s in f.samples}


def formats():
    """Both formats hold the same series; the strict parser has nothing to object."""
    # The first scrape of a format counts in nothing, so neither changes the other.
    headers, page = fetch(METRICS, OPEN)
    check(headers["Content-Type"] == OPEN + "; charset=utf-8", headers["Content-Type"])
    check(headers["Vary"].lower() == "accept", headers["Vary"])
    families = list(strict(page))
    headers, text = fetch(METRICS)
    check(headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8",
          headers["Content-Type"])
    missing = names(families) ^ names(plain(text))
    check(not missing, f"in one format only: {sorted(missing)[:5]}")
    for family in families:
        check(family.documentation, f"{family.name} has no help")
        check(family.type != "unknown", f"{family.name} is a counter without _total")
        unit = re.search(r"_(seconds|bytes)$", family.name)
        check(family.unit == (unit[1] if unit else ""), f"{family.name}: unit {family.unit!r}")
    return families


def exemplars(families, traces):
    """Those of the route are traces that we were told of, inside of their buckets."""
    found = set()
    for family in families:
        for sample in family.samples:
            if sample.exemplar is None:
                continue
            check(sample.name in (HISTOGRAM + "_bucket", QUERIES + "_bucket"),
                  f"an exemplar at {sample.name}")
            if sample.labels.get("path") == ROUTE:
                check(sample.exemplar.value <= float(sample.labels["le"]), str(sample))
                check(abs(float(sample.exemplar.timestamp) - time.time()) < 120, str(sample))
                found.add(sample.exemplar.labels["trace_id"])
    check(found, "no bucket has an exemplar")
    check(found <= traces, f"exemplars of nobody: {found - traces}")
    return found


def stored(traces):
    query = urllib.parse.urlencode({
        "query": f'{HISTOGRAM}_bucket{{path="{ROUTE}"}}',
        "start": time.time() - 300, "end": time.time() + 300})
    answer = fetch_json(f"{PROMETHEUS}/api/v1/query_exemplars?{query}")
    check(answer["status"] == "success", str(answer))
    found = {e["labels"]["trace_id"] for s in answer["data"] for e in s["exemplars"]}
    return found & traces


def until(what, read):
    deadline = time.monotonic() + BOUND_SECONDS
    while not (value := read()):
        check(time.monotonic() < deadline, f"not within {BOUND_SECONDS} s: {what}")
        time.sleep(0.1)
    return value


def healthy():
    targets = fetch_json(f"{PROMETHEUS}/api/v1/targets")["data"]["activeTargets"]
    errors = [t["lastError"] for t in targets if t["lastError"]]
    check(not any("parse" in e or "invalid" in e for e in errors), f"Prometheus refuses: {errors}")
    return all(t["health"] == "up" for t in targets)


def many_series():
    """Routes of every method, so that the page is as long as a big service's."""
    for path in (ROUTE, "/api/v1/accounts", "/api/v1/transfers", "/api/v1/deposits",
                 "/api/v1/users/me", "/docs/", "/openapi.json", "/nothing"):
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"):
            asked = urllib.request.Request(SERVICE + path, method=method, data=b"{}"
                                           if method in ("POST", "PUT", "PATCH") else None)
            try:
                urllib.request.urlopen(asked, timeout=10).close()
            except urllib.error.HTTPError as error:
                error.close()


def processor_time():
    """Seconds that the service has computed so far: `utime` and `stime` of proc(5)."""
    with open(f"/proc/{PID}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def scrape_cost(accept):
    """Series of the page, and the processor time of one scrape in seconds.

    Time on the clock would also tell what else the machine does. The kernel counts in
    ticks of 10 ms, so it is many scrapes together; Prometheus's own are in the figure.
    """
    began = processor_time()
    for _ in range(SCRAPES):
        _, page = fetch(METRICS, accept)
    cost = (processor_time() - began) / SCRAPES
    return sum(not line.startswith("#") for line in page.splitlines()), cost


def main():
    traces = {ping() for _ in range(20)}
    families = formats()
    shown = exemplars(families, traces)
    until("a scrape", healthy)
    kept = until("exemplars in Prometheus", lambda: stored(traces))
    many_series()
    formats()
    for name, accept in (("text", "text/plain"), ("OpenMetrics", OPEN)):
        series, seconds = scrape_cost(accept)
        check(series >= SERIES, f"only {series} series to measure with")
        each = seconds * SERIES / series
        check(each <= BUDGET_SECONDS, f"{name}: {each * 1000:.1f} ms for {SERIES} series")
        print(f"{name}: {series} series in {seconds * 1000:.1f} ms of CPU,"
              f" {seconds * 1e6 / series:.1f} µs a series")
    print(f"{len(families)} families; {len(shown)} exemplars on the page,"
          f" {len(kept)} of them stored by Prometheus")


main()
