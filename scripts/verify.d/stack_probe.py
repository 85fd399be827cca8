"""Looks at a running stack; called by 45-stack through `scripts/stack -- CMD`.

stack_probe.py FILE: writes the folder and the addresses of the stack into FILE.
"""

import json
import os
import pathlib
import signal
import sys
import time
import urllib.parse
import urllib.request

API, ADMIN = os.environ["STACK_API"], os.environ["STACK_ADMIN"]
PROMETHEUS, ALERTMANAGER = os.environ["STACK_PROMETHEUS"], os.environ["STACK_ALERTMANAGER"]
BOUND_SECONDS = 60
REQUESTS = 40


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def api(path, **arguments):
    query = "?" + urllib.parse.urlencode(arguments) if arguments else ""
    return json.loads(get(f"{PROMETHEUS}/api/v1/{path}{query}"))["data"]


def query(expression):
    return api("query", query=expression)["result"]


def until(what, read):
    deadline = time.monotonic() + BOUND_SECONDS
    while not (value := read()):
        if time.monotonic() > deadline:
            sys.exit(f"not within {BOUND_SECONDS} s: {what}")
        time.sleep(0.2)
    return value


pathlib.Path(sys.argv[1]).write_text("\n".join(
    [os.environ["STACK_OUT"], API + "/health/live", ADMIN + "/metrics", PROMETHEUS, ALERTMANAGER]) + "\n")

targets = until("every target up", lambda: (lambda all_: all_ if all_ and all(
    t["health"] == "up" for t in all_) else None)(api("targets")["activeTargets"]))
until("Alertmanager known to Prometheus", lambda: api("alertmanagers")["activeAlertmanagers"])
print(f"targets: {', '.join(sorted(t['labels']['job'] for t in targets))} are up")

# Requests are spread over some scrapes, so that there is a rate.
for _ in range(REQUESTS):
    get(API + "/api/v1/ping")
until("the requests in Prometheus", lambda: [
    s for s in query('sum(http_requests_total{job="gantry", path="/api/v1/ping", status="200"})')
    if float(s["value"][1]) >= REQUESTS])
get(API + "/api/v1/ping")
until("the recorded rate of requests", lambda: [
    s for s in query("job:http_requests_valid:rate5m") if float(s["value"][1]) > 0])

groups = until("every rule evaluated", lambda: (lambda found: found if all(
    rule["health"] == "ok" for group in found for rule in group["rules"]) else None)(
        api("rules")["groups"]))
alerts = [rule for group in groups for rule in group["rules"] if rule["type"] == "alerting"]
# Every series that the alerts read is there before anything has happened.
firing = [rule["name"] for rule in alerts if rule["state"] != "inactive"]
if firing:
    sys.exit(f"a healthy service has alerts: {firing}")
print(f"rules: {sum(len(g['rules']) for g in groups)} evaluated, {len(alerts)} alerts, all inactive;"
      f" {REQUESTS} requests counted")

os.kill(int(os.environ["STACK_SERVICE_PID"]), signal.SIGKILL)
until("ServiceDown pending after the service was killed", lambda: query(
    'ALERTS{alertname="ServiceDown", alertstate="pending", severity="page"}'))
print("ServiceDown: pending after the service was killed")
