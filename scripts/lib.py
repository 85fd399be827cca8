"""The module that the Python programs of scripts/ and tests/system/ share.

Importing it prints the program's docstring for --help, continues under the packages that
scripts/tools.lock pins, and changes into the project's root. Processes that `start` began
are ended in reverse order at the program's end, and the folder `work` is removed."""

import atexit
import concurrent.futures
import contextlib
import http.server as http_server
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".tools/venv"

if {"-h", "--help"} & set(sys.argv[1:]):
    print(sys.modules["__main__"].__doc__.strip())
    sys.exit()
if pathlib.Path(sys.prefix).resolve() != ENVIRONMENT.resolve():
    if not os.access(ENVIRONMENT / "bin/python", os.X_OK):
        sys.exit("the Python packages of scripts/tools.lock are missing: run `make tools`")
    python = str(ENVIRONMENT / "bin/python")
    os.execv(python, [python, *sys.argv])

import tomllib  # noqa: E402

import urllib3  # noqa: E402

os.chdir(ROOT)
sys.path.insert(0, str(ROOT / "grafana/source"))
NAME = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["name"]
ADMIN_EMAIL, PASSWORD = "admin@example.com", "only-for-this-check"
STOP_SECONDS = 30

work = pathlib.Path(tempfile.mkdtemp(prefix="verify."))
processes = []
_candidates = itertools.count(20000 + os.getpid() * 7 % 9000)
# No second try: a request that failed must be seen.
http = urllib3.PoolManager(retries=False, timeout=20, maxsize=32)


@atexit.register
def _clean_up():
    for process in reversed(processes):
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    shutil.rmtree(work, ignore_errors=True)


for _number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(_number, lambda number, _: sys.exit(128 + number))


def fail(text):
    """Ends the program with 1, after the last lines of every process's output."""
    for log in sorted(work.rglob("*.log")):
        if lines := log.read_text(errors="replace").splitlines()[-15:]:
            print(f"--- {log.name}", *lines, sep="\n", file=sys.stderr)
    sys.stderr.write(f"{text}\n")
    if threading.current_thread() is not threading.main_thread():
        # A thread cannot end the program by an exception.
        os.kill(os.getpid(), signal.SIGTERM)
    sys.exit(1)


def check(holds, text):
    print(("ok    " if holds else "WRONG ") + text, flush=True)
    holds or fail(text)


def until(what, read, within=30, pause=0.02):
    """The first true value of `read`."""
    deadline = time.monotonic() + within
    while not (value := read()):
        if time.monotonic() > deadline:
            fail(f"not within {within} s: {what}")
        time.sleep(pause)
    return value


def run(*command, **more):
    """The output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, **more)
    if done.returncode:
        fail(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def threads(jobs):
    """Runs functions at the same time; their results in order."""
    with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(lambda job: job(), jobs))


def tool(name):
    """The path of a pinned tool."""
    path = ROOT / ".tools/bin" / name
    os.access(path, os.X_OK) or fail(f"{name} is missing from .tools/bin: run `make tools`")
    return str(path)


def service_binary():
    return run("scripts/service", stdin=subprocess.DEVNULL)


def under_postgres(**environment):
    """Continues under a throwaway Postgres, whatever server the caller has."""
    if os.environ.get("CHECK_IS_INSIDE") != sys.argv[0]:
        inside = os.environ | environment | {"CHECK_IS_INSIDE": sys.argv[0]}
        inside.pop("TEST_DATABASE_URL", None)
        _clean_up()
        os.execve("scripts/postgres", ["scripts/postgres", "run", "--", *sys.argv], inside)
    return os.environ["TEST_DATABASE_URL"]


def psql(*arguments):
    return run("scripts/postgres", "psql", "-qAt", *arguments)


def free_ports(count):
    """Below the range of outgoing connections: while a server restarts, none of them may
    sit on its port."""
    ports = []
    while len(ports) < count:
        candidate = next(_candidates)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", candidate)):
            ports.append(candidate)
    return ports


def start(name, *command, **more):
    """Starts a process. Its output goes to the file `log`."""
    log = work / f"{name}.log"
    with open(log, "ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, **more)
    process.log = log
    processes.append(process)
    return process


def answers(url):
    with contextlib.suppress(urllib3.exceptions.HTTPError):
        # The connection is closed: a kept one would be open in the service for a while.
        headers = {"Connection": "close"}
        return http.request("GET", url, timeout=5, headers=headers).status == 200


def get(url, **more):
    answer = http.request("GET", url, **more)
    answer.status == 200 or fail(f"{url}: {answer.status} {answer.data[:300]}")
    return answer


def metric(url, name, **labels):
    """The sum of a metric's samples that have these labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    lines = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)", get(url).data.decode(), re.M)
    return sum(float(value) for have, value in lines if all(one in have for one in wanted))


class Service:
    """The service on free ports, with a database of its own unless `settings` names one.
    Its environment has the defaults of development, whatever the caller's is."""

    def __init__(self, name="service", binary=None, prefix=(), **settings):
        """`prefix` is the words before the command, for a program that runs it."""
        self.name, self.command = name, [*prefix, binary or service_binary(), "serve"]
        self.binary = self.command[-2]
        ports = free_ports(3)
        addresses = [f"127.0.0.1:{port}" for port in ports]
        self.public_port, self.admin_port, _ = ports
        self.api, self.admin, _ = (f"http://{address}" for address in addresses)
        kept = {key: value for key, value in os.environ.items()
                if not key.startswith(("APP_", "OTEL_", "DATABASE_", "RUST_LOG"))}
        self.environment = kept | {
            "DATABASE_URL": f"sqlite://{work}/{name}.db", "APP__HTTP__ADDR": addresses[0],
            "APP__ADMIN__ADDR": addresses[1], "APP__GRPC__ADDR": addresses[2],
            "APP__AUTH__BOOTSTRAP_ADMIN_EMAIL": ADMIN_EMAIL,
            "APP__AUTH__BOOTSTRAP_ADMIN_PASSWORD": PASSWORD, "APP__AUTH__ACCESS_TTL": "1h",
        } | settings
        # None leaves a variable to the service's own default.
        self.environment = {key: one for key, one in self.environment.items() if one is not None}
        self.start()

    def start(self, **more):
        """Starts it, again after its end with settings over its own."""
        self.process = start(self.name, *self.command, env=self.environment | more)
        self.log = self.process.log
        until(f"{self.name} is ready", self._ready, 120)

    def _ready(self):
        if self.process.poll() is not None:
            fail(f"{self.name} ended with {self.process.returncode} at its start")
        return answers(f"{self.api}/health/ready")

    def metric(self, name, **labels):
        return metric(f"{self.admin}/metrics", name, **labels)

    def records(self):
        """The lines of its JSON log."""
        for line in self.log.read_text(errors="replace").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)

    def end(self, *signals, code=0):
        """Sends the signals; the seconds until it ended."""
        began = time.monotonic()
        for number in signals or [signal.SIGTERM]:
            self.process.send_signal(number)
            # Two that come at once may become one.
            time.sleep(0.05 if len(signals) > 1 else 0)
        found = self.process.wait(60)
        found == code or fail(f"{self.name} ended with {found}, not {code}, after {signals}")
        return time.monotonic() - began


class Client:
    """A user of the service over one kept connection."""

    def __init__(self, base, token=None, keep_alive=True):
        self.pool = urllib3.connection_from_url(base, retries=False, maxsize=1,
                                                timeout=urllib3.Timeout(total=15))
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        if not keep_alive:
            self.headers["Connection"] = "close"

    def ask(self, method, path, body=None, key=None, **more):
        headers = self.headers | ({"Idempotency-Key": key} if key else {})
        return self.pool.request(method, path, json=body, headers=headers, **more)

    def must(self, status, method, path, body=None, key=None):
        """The body of an answer that has this status."""
        answer = self.ask(method, path, body, key)
        answer.status == status or fail(f"{method} {path}: {answer.status} {answer.data[:300]}")
        return answer.json()

    def log_in(self, email=ADMIN_EMAIL, password=PASSWORD):
        login = {"email": email, "password": password}
        self.token = self.must(200, "POST", "/api/v1/auth/login", login)["access_token"]
        self.headers["Authorization"] = f"Bearer {self.token}"
        return self

    def register(self, email):
        user = {"email": email, "name": "Somebody", "password": PASSWORD}
        self.must(201, "POST", "/api/v1/auth/register", user)
        return self.log_in(email)

    def account(self, admin, deposit):
        """The id of a new account that holds a deposit."""
        account = {"currency": "EUR", "name": "Account"}
        made = self.must(201, "POST", "/api/v1/accounts", account)["id"]
        order = {"account": made, "amount": deposit, "reference": "deposit"}
        deposit and admin.must(201, "POST", "/api/v1/deposits", order, f"deposit-{made}")
        return made


class Phase:
    """The fates of the requests that ended in a stretch of time."""

    def __init__(self, name):
        self.name, self.fates, self.failures, self.seconds = name, {}, [], []
        self.last_failure = 0.0

    def count(self, fate, seconds, note):
        self.fates[fate] = self.fates.get(fate, 0) + 1
        self.seconds.append(seconds)
        if fate != "ok":
            self.last_failure = time.monotonic()
            self.failures.append(f"{fate}: {seconds * 1e3:.0f} ms {note}")

    @property
    def total(self):
        return sum(self.fates.values())

    @property
    def failed(self):
        return self.total - self.fates.get("ok", 0)

    def report(self):
        times = sorted(self.seconds) or [0.0]
        bad = ", ".join(f"{count} {fate}" for fate, count in self.fates.items() if fate != "ok")
        return (f"{self.total} requests, {self.failed} failed{f' ({bad})' if bad else ''};"
                f" p50 {times[len(times) // 2] * 1e3:.0f} ms,"
                f" p99 {times[len(times) * 99 // 100] * 1e3:.0f} ms,"
                f" slowest {times[-1] * 1e3:.0f} ms")

    def allow(self, pattern="ok"):
        """Fails when a fate does not match the pattern, or when nothing was sent."""
        wrong = [one for one in self.failures if not re.fullmatch(pattern, one.split(": ")[0])]
        print(*(f"      {one}" for one in wrong[:10]), sep="\n", end="")
        check(self.total > 0 and not wrong, f"{self.name}: {self.report()}")


class Load:
    """Clients that read and transfer at a steady pace, and the fate of each request.

    A transfer whose answer was not 201 is sent again under its Idempotency-Key, as a
    request of its own, until it is acknowledged. So the ledger must hold exactly the
    transfers that were acknowledged. No request is repeated by the HTTP client. Generators such
    as k6 and oha count answers, but do not keep the fate of each transfer for this comparison."""

    READS = ("/api/v1/ping", "/api/v1/accounts/{from_account}", "/api/v1/transfers?limit=5")

    def __init__(self):
        self.lock, self.stopping = threading.Lock(), threading.Event()
        self.phases, self.in_flight, self.sent = [Phase("start")], set(), 0
        self.acknowledged, self.replays, self.last_write = {}, 0, 0.0
        self.threads = []

    def enter(self, name):
        self.phases.append(Phase(name))
        return self.phases[-1]

    def request(self, client, expected, method, path, body=None, key=None, patience=8.0):
        """Sends one request and counts its one fate; the answer when it went well."""
        began, mark, answer = time.monotonic(), object(), None
        with self.lock:
            self.in_flight.add(mark)
            self.sent += 1
        try:
            answer = client.ask(method, path, body, key, timeout=urllib3.Timeout(total=patience))
            fate = "ok"
            if answer.status != expected:
                with contextlib.suppress(ValueError):
                    fate = answer.json()["code"]
                fate = f"{answer.status} {'of the proxy' if fate == 'ok' else fate}"
                if answer.headers.get("Retry-After", "").isdigit():
                    fate += " with Retry-After"
        except urllib3.exceptions.HTTPError as error:
            fate = f"no answer ({type(error).__name__})"
        with self.lock:
            self.in_flight.discard(mark)
            note = f"{method} {path} {answer.data[:300] if answer and fate != 'ok' else ''}"
            self.phases[-1].count(fate, time.monotonic() - began, note)
        return answer if fate == "ok" else None

    def transfer(self, client, body):
        """One attempt; whether it was acknowledged. A replay must be the same transfer."""
        reference = body["reference"]
        answer = self.request(client, 201, "POST", "/api/v1/transfers", body, reference)
        if answer is None:
            return False
        made = answer.json()
        with self.lock:
            self.last_write = time.monotonic()
            known = self.acknowledged.setdefault(reference, made["id"])
            if known != made["id"] or any(made[key] != value for key, value in body.items()):
                self.phases[-1].count("another transfer than asked for", 0.0, str(made))
        return True

    def client(self, client, name, accounts, rate, replay_every=8):
        due, number, body = time.monotonic(), 0, None
        for turn in itertools.count():
            if self.stopping.is_set() and not body:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            # After a stall the pace goes on from now, without a burst.
            due = max(due + 1 / rate, time.monotonic() - 1)
            if turn % 2 and not body:
                path = self.READS[turn // 2 % 3].format(**accounts)
                self.request(client, 200, "GET", path)
                continue
            body = body or {**accounts, "amount": 1 + number % 97, "reference": f"{name}-{number}"}
            if self.transfer(client, body):
                number += 1
                if number % replay_every == 0:
                    self.replays += self.transfer(client, body)
                body = None

    def slow(self, client, path):
        """One request after the other that takes long, so that some are always in flight."""
        while not self.stopping.is_set():
            if self.request(client, 200, "GET", path) is None:
                time.sleep(0.2)

    def start(self, job, *arguments):
        thread = threading.Thread(target=job, args=arguments, daemon=True)
        self.threads.append(thread)
        thread.start()

    def rest(self, seconds):
        time.sleep(seconds)
        all(thread.is_alive() for thread in self.threads) or fail("a client of the load died")

    def settled(self):
        """Waits for the fate of every request that is in flight now."""
        waiting = set(self.in_flight)
        until("an end of every request", lambda: not waiting & self.in_flight, 60)

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def reconcile(self, stored):
        """Compares (reference, id) pairs of the ledger with the acknowledged transfers."""
        counted = sum(phase.total for phase in self.phases)
        check(counted >= self.sent, f"{self.sent} requests were sent, {counted} have a fate")
        held = dict(stored)
        lost = [one for one, made in self.acknowledged.items() if held.get(one) != made]
        doubled, unknown = len(stored) - len(held), held.keys() - self.acknowledged.keys()
        check(not lost and not doubled and not unknown and self.replays > 0,
              f"ledger: {len(self.acknowledged)} transfers acknowledged, {len(lost)} lost,"
              f" {doubled} doubled, {len(unknown)} not acknowledged; {self.replays} replays made none")


class Prometheus:
    """The part of Prometheus's HTTP API that the checks need."""

    def __init__(self, url):
        self.url = url

    @classmethod
    def start(cls, configuration, *flags):
        """A server with this configuration on a free port."""
        (port,) = free_ports(1)
        # YAML is a superset of JSON.
        (work / "prometheus.yml").write_text(json.dumps(configuration))
        start("prometheus", tool("prometheus"), f"--config.file={work}/prometheus.yml",
              f"--storage.tsdb.path={work}/tsdb", f"--web.listen-address=127.0.0.1:{port}",
              "--enable-feature=exemplar-storage", *flags)
        until("Prometheus is ready", lambda: answers(f"http://127.0.0.1:{port}/-/ready"), 60)
        return cls(f"http://127.0.0.1:{port}")

    def get(self, path, **parameters):
        answer = http.request("GET", f"{self.url}/api/v1/{path}", fields=parameters).json()
        if answer["status"] != "success":
            raise ValueError(answer["error"])
        return answer["data"]

    def instant(self, expr, at=None):
        return self.get("query", query=expr, time=str(at or time.time()))["result"]

    def range(self, expr, start, end, step):
        return self.get("query_range", query=expr, start=str(start), end=str(end),
                        step=str(step))["result"]


def monitored(**settings):
    """The service, and a Prometheus that scrapes it and evaluates the project's rules every
    second; both, and what Grafana makes of its variables."""
    service, rules = Service(**settings), work / "rules"
    rules.mkdir()
    for path in (ROOT / "deploy/prometheus/rules").glob("*.yml"):
        # Groups' own intervals would outlast the program.
        text = re.sub(r"(?m)^\s*interval:.*\n", "", path.read_text())
        (rules / path.name).write_text(text)
    prometheus = Prometheus.start({
        "global": dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), "1s"),
        "rule_files": [f"{rules}/*"],
        "scrape_configs": [{"job_name": NAME, "static_configs": [{
            "targets": [f"127.0.0.1:{service.admin_port}"],
            "labels": {"instance": f"{NAME}-0"}}]}]})
    # The rate interval is four scrapes and one step.
    values = {"job": NAME, "instance": ".*", "datasource": "prometheus", "__interval": "1s",
              "__rate_interval": "5s"}
    return service, prometheus, values


def under_load(service, prometheus, seconds):
    """Loads a monitored service; begin and end, when the values of the end are stored."""
    began = time.time()
    print(run("scripts/load", service.api, str(seconds)))
    ended = time.time()
    newest = f'min(timestamp(up{{job="{NAME}"}}))'
    until("a scrape of the end of the load", lambda: (found := prometheus.instant(newest))
          and float(found[0]["value"][1]) > ended + 2)
    return began, time.time()


def sink(port=0, file=None):
    """A server that takes every POST; its port, and (path, body) of each. A file gets the
    bodies as well."""
    received = []

    class Sink(http_server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            received.append((self.path, body))
            if file:
                with open(file, "ab") as output:
                    output.write(body + b"\n")
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http_server.ThreadingHTTPServer(("127.0.0.1", port), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port, received


def alertmanager(address, sink_port, change=lambda text: text):
    """Alertmanager with the project's configuration. Its receivers post to a sink."""
    text = (ROOT / "deploy/alertmanager/alertmanager.yml").read_text()
    (work / "alertmanager.yml").write_text(
        change(text.replace("/etc/alertmanager/secrets", str(work))))
    for receiver in ("pager", "tickets"):
        (work / f"{receiver}_url").write_text(f"http://127.0.0.1:{sink_port}/{receiver}\n")
    start("alertmanager", tool("alertmanager"), f"--config.file={work}/alertmanager.yml",
          f"--storage.path={work}/alerts", f"--web.listen-address={address}",
          "--cluster.listen-address=")
    until("Alertmanager's readiness", lambda: answers(f"http://{address}/-/ready"), 60)


class Collector:
    """The OpenTelemetry Collector with the project's configuration, on free ports."""

    def __init__(self, keep_percent, wait="1s", ports=None):
        ports = dict(zip(("grpc", "http", "health", "own", "metrics"), ports or free_ports(5)))
        at = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        self.grpc, self.http = f"http://{at['grpc']}", f"http://{at['http']}"
        self.own, self.metrics = (f"http://{at[name]}/metrics" for name in ("own", "metrics"))
        start("collector", tool("otelcol"), "--config", "otel-collector.yaml", "--config",
              "deploy/collector/local.yaml", env=os.environ | {
                  "COLLECTOR_OUT": str(work), "OTLP_GRPC_LISTEN": at["grpc"],
                  "OTLP_HTTP_LISTEN": at["http"], "OTLP_METRICS_LISTEN": at["metrics"],
                  "HEALTH_LISTEN": at["health"], "SELF_HOST": "127.0.0.1",
                  "SELF_PORT": str(ports["own"]), "TAIL_SAMPLING_PERCENT": str(keep_percent),
                  "TAIL_SAMPLING_WAIT": wait})
        until("the collector's health check", lambda: answers(f"http://{at['health']}/"))

    @staticmethod
    def _written(name):
        """Documents of an output file, without a line that is still being written."""
        path = work / name
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")]

    def spans(self):
        """Every span that left the collector, with the attributes of its resource."""
        return [span | {"resource": resource["resource"]}
                for document in self._written("traces.jsonl")
                for resource in document["resourceSpans"]
                for scope in resource["scopeSpans"] for span in scope["spans"]]

    def logs(self):
        return [record for document in self._written("logs.jsonl")
                for resource in document["resourceLogs"]
                for scope in resource["scopeLogs"] for record in scope["logRecords"]]


def haproxy(configuration):
    """Starts HAProxy, installed or unpacked into .tools; a function that sends commands to
    its runtime API."""
    tree, environment = ROOT / ".tools/haproxy", dict(os.environ)
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if not program:
        if not tree.exists():
            run("scripts/unpack", "haproxy", tree)
        program = tree / "usr/sbin/haproxy"
        environment["LD_LIBRARY_PATH"] = run("scripts/unpack", "--libraries", tree)
    socket_path = work / "haproxy.sock"
    path = work / "haproxy.cfg"
    path.write_text(f"global\n    stats socket unix@{socket_path} mode 600 level admin\n"
                    f"    log stdout format raw local0 info\n{configuration}")
    process = start("haproxy", program, "-db", "-f", path, env=environment)

    def command(text):
        process.poll() is None or fail(f"HAProxy ended with {process.returncode}")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(socket_path))
            connection.sendall(f"{text}\n".encode())
            return connection.makefile().read()

    until("HAProxy's socket", socket_path.exists)
    return command


def browser():
    """Chromium under Playwright: CHROMIUM, the installed one, or one unpacked into .tools."""
    from playwright.sync_api import sync_playwright

    program, environment = os.environ.get("CHROMIUM") or shutil.which("chromium"), dict(os.environ)
    if not program:
        tree = ROOT / ".tools/chromium"
        if not tree.exists():
            run("scripts/unpack", "chromium", tree)
        program = tree / "usr/lib/chromium/chromium"
        # Without its package manager's help it finds its libraries by their path.
        environment["LD_LIBRARY_PATH"] = ":".join([
            run("scripts/unpack", "--libraries", tree),
            *map(str, tree.glob("usr/lib/*/pulseaudio"))])
    playwright = sync_playwright().start()
    atexit.register(playwright.stop)
    return playwright.chromium.launch(executable_path=program, env=environment, args=[
        "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-dev-shm-usage"])
