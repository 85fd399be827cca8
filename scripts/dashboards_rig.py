"""The running service under a real Prometheus, on free loopback ports and in a temporary
folder: what the live check and the picture look at. Everything ends with the `with` block."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

from panels import NAME, ROOT

SCRAPE_SECONDS = 1
RATE_INTERVAL = "5s"  # what Grafana makes of it: four scrapes and one step
RULES = ROOT / "deploy/prometheus/rules"
ADMIN_EMAIL, ADMIN_PASSWORD = "admin@example.com", "only-for-this-check"
START_SECONDS, STOP_SECONDS = 30, 15


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def prometheus_binary():
    own = ROOT / ".tools/bin/prometheus"
    found = str(own) if own.exists() else shutil.which("prometheus")
    return found or sys.exit("prometheus is missing: run `make tools`, or install the package"
                             " `prometheus` of the distribution")


def service_binary():
    """SERVICE_BIN, else a build that is up to date."""
    if given := os.environ.get("SERVICE_BIN"):
        return given
    subprocess.run(["cargo", "build", "--quiet", "--bin", NAME], cwd=ROOT, check=True)
    return str(pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / NAME)


@contextlib.contextmanager
def process(command, log, **more):
    """Runs a command until the block ends; a killed check must not leave it behind."""
    with open(log, "w") as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **more)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_for(url, child, log):
    """Until the URL answers 200; ends the check when the process dies or stays silent."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.05)
    state = f"ended with {child.returncode}" if child.poll() is not None else "does not answer"
    sys.exit(f"{url} {state}:\n{pathlib.Path(log).read_text()[-3000:]}")


class Prometheus:
    """The part of Prometheus's HTTP API that we need."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"

    def _get(self, path, **parameters):
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refused:
            raise ValueError(json.load(refused).get("error", refused.reason)) from refused

    def instant(self, expr, at):
        return self._get("query", query=expr, time=at)["result"]

    def range(self, expr, start, end, step):
        return self._get("query_range", query=expr, start=start, end=end, step=step)["result"]

    def rules(self):
        """Every rule that was loaded, as `(group, rule)`."""
        return [(group["name"], rule) for group in self._get("rules")["groups"]
                for rule in group["rules"]]

    def wait_for_scrape_after(self, moment):
        """Until the newest scrape, and the rules' values of it, are later than `moment`."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            newest = self.instant(f'min(timestamp(up{{job="{NAME}"}}))', time.time())
            if newest and float(newest[0]["value"][1]) > moment + 2 * SCRAPE_SECONDS:
                return
            time.sleep(0.1)
        sys.exit("Prometheus has no scrape of the end of the load")


class Rig:
    """What runs: where the API is, and the Prometheus that scrapes it."""

    def __init__(self, api, prometheus):
        self.api = api
        self.prometheus = prometheus


def service_environment(folder, api, admin):
    """The development defaults, whatever the caller's environment says."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("APP_", "OTEL_", "DATABASE_", "RUST_LOG"))}
    return {**kept, "DATABASE_URL": f"sqlite://{folder}/service.db",
            "APP__HTTP__ADDR": f"127.0.0.1:{api}", "APP__ADMIN__ADDR": f"127.0.0.1:{admin}",
            "APP__GRPC__ADDR": "127.0.0.1:0",
            "APP__AUTH__BOOTSTRAP_ADMIN_EMAIL": ADMIN_EMAIL,
            "APP__AUTH__BOOTSTRAP_ADMIN_PASSWORD": ADMIN_PASSWORD}


def prometheus_configuration(folder, admin):
    """Scrapes the admin listener; evaluates the project's rules as often as it scrapes."""
    rules = folder / "rules"
    rules.mkdir()
    for path in sorted(RULES.glob("*.y*ml")):
        lines = path.read_text().splitlines(keepends=True)
        # Groups' own intervals would outlast the check.
        (rules / path.name).write_text("".join(
            line for line in lines if not line.lstrip("- ").startswith("interval:")))
    configuration = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "scrape_timeout": f"{SCRAPE_SECONDS}s",
                   "evaluation_interval": f"{SCRAPE_SECONDS}s"},
        "rule_files": [f"{rules}/*"],
        "scrape_configs": [{"job_name": NAME, "static_configs": [
            {"targets": [f"127.0.0.1:{admin}"], "labels": {"instance": f"{NAME}-0"}}]}],
    }
    path = folder / "prometheus.yml"
    path.write_text(json.dumps(configuration))  # YAML is a superset of JSON
    return path


@contextlib.contextmanager
def running():
    """Starts both, yields a `Rig`, and stops both."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scraper, service = prometheus_binary(), service_binary()
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rig-")))
        api, admin, port = free_port(), free_port(), free_port()
        log = folder / "service.log"
        child = stack.enter_context(process(
            [service, "serve"], log, cwd=ROOT, env=service_environment(folder, api, admin)))
        wait_for(f"http://127.0.0.1:{admin}/health/ready", child, log)
        log = folder / "prometheus.log"
        child = stack.enter_context(process(
            [scraper, f"--config.file={prometheus_configuration(folder, admin)}",
             f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{port}",
             "--enable-feature=exemplar-storage"], log, cwd=folder))
        wait_for(f"http://127.0.0.1:{port}/-/ready", child, log)
        yield Rig(f"http://127.0.0.1:{api}", Prometheus(port))
