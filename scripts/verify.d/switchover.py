"""Switchovers under load: what was acknowledged is there once, and writes go on at once.

    switchover.py SERVICE BINDIR LIBRARIES FOLDER COUNT
"""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
import uuid

from switchover_pair import Address, Pair, Programs, free_port, wait_for

CLIENTS = 6
FIRST_WRITE = 1.0
PASSWORD = "correct horse battery staple"


class Api:
    """One client of the service, which connects again when it has to."""

    def __init__(self, port):
        self.port = port
        self.token = None
        self.connection = None

    def ask(self, method, path, body=None, key=None):
        """Status and body; 0 when there was no answer."""
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if key:
            headers["Idempotency-Key"] = key
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            text = None if body is None else json.dumps(body)
            self.connection.request(method, path, text, headers)
            answer = self.connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null"), answer.headers
        except (OSError, http.client.HTTPException):
            self.connection = None
            return 0, None, {}

    def expect(self, status, *request):
        got, body, _ = self.ask(*request)
        if got != status:
            raise SystemExit(f"{request[:2]}: {got} {body}, not {status}")
        return body

    def log_in(self, email):
        login = {"email": email, "password": PASSWORD}
        self.token = self.expect(200, "POST", "/api/v1/auth/login", login)["access_token"]


class Load:
    """Clients that transfer one after the other, each with a key of its own, and repeat
    a transfer with its key until it has an answer that is final."""

    def __init__(self, port, api, accounts):
        self.port, self.token, self.accounts = port, api.token, accounts
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.acknowledged, self.refused, self.wrong = {}, 0, []
        self.last_write = 0.0
        self.started = set()
        self.threads = [threading.Thread(target=self.client, args=(n,)) for n in range(CLIENTS)]

    def client(self, number):
        api = Api(self.port)
        api.token = self.token
        while not self.stop.is_set():
            key = str(uuid.uuid4())
            source, target = self.accounts[number % 2], self.accounts[1 - number % 2]
            order = {"from_account": source, "to_account": target, "amount": 1, "reference": key}
            self.started.add(key)
            self.carry_out(api, key, order)

    def carry_out(self, api, key, order):
        until = time.monotonic() + 60
        while time.monotonic() < until:
            status, body, headers = api.ask("POST", "/api/v1/transfers", order, key)
            with self.lock:
                if status == 201:
                    self.acknowledged[key] = body["id"]
                    self.last_write = time.monotonic()
                    return
                self.refused += 1
                polite = status == 503 and body["code"] == "DATABASE_UNAVAILABLE"
                polite = polite or status == 409 and body["code"] == "IDEMPOTENCY_IN_PROGRESS"
                if not polite or not str(headers.get("Retry-After", "")).isdigit():
                    self.wrong.append((status, body))
                    return
            # Less polite than Retry-After asks, so that the first success is seen.
            time.sleep(0.05)
        with self.lock:
            self.wrong.append((key, "no answer within a minute"))


def start_service(binary, folder, address):
    ports = free_port(), free_port(), free_port()
    environment = {
        **os.environ,
        "APP__HTTP__ADDR": f"127.0.0.1:{ports[0]}",
        "APP__ADMIN__ADDR": f"127.0.0.1:{ports[1]}",
        "APP__GRPC__ADDR": f"127.0.0.1:{ports[2]}",
        "APP__DATABASE__URL": f"postgres://postgres@127.0.0.1:{address.port}/postgres",
        "APP__RATE_LIMIT__ENABLED": "false",
        "APP__AUTH__BOOTSTRAP_ADMIN_EMAIL": "admin@example.com",
        "APP__AUTH__BOOTSTRAP_ADMIN_PASSWORD": PASSWORD,
        "APP__AUTH__ACCESS_TTL": "1h",
        "APP__TELEMETRY__LOG_FORMAT": "json",
        "RUST_LOG": "warn",
    }
    log = open(f"{folder}/service.log", "wb")
    child = subprocess.Popen(
        [binary, "serve"], env=environment, cwd=folder, stdout=log, stderr=log
    )
    ready = Api(ports[1])
    wait_for("the service is ready", lambda: ready.ask("GET", "/health/ready")[0] == 200, 60)
    return child, ports


def switch(pair, address, load):
    """One switchover; seconds from the new primary's first commit to the first write."""
    # The address leads to the standby while that is read-only still.
    address.lead_to(pair.standby.port)
    time.sleep(0.3)
    pair.change_places()
    # A commit that waits for the standby: from here on writes are possible.
    pair.primary.ask("INSERT INTO probe VALUES (now())")
    writable = time.monotonic()
    wait_for("a write", lambda: load.last_write > writable, 30)
    return max(0.0, load.last_write - writable)


def main():
    binary, programs, libraries, folder, count = sys.argv[1:]
    pair = Pair(Programs(programs, libraries), folder)
    address = Address(pair.primary.port)
    child, ports = start_service(binary, folder, address)
    try:
        admin = Api(ports[0])
        admin.log_in("admin@example.com")
        accounts = []
        for name in ("One", "Two"):
            account = {"currency": "EUR", "name": name}
            accounts.append(admin.expect(201, "POST", "/api/v1/accounts", account)["id"])
            deposit = {"account": accounts[-1], "amount": 10_000_000, "reference": "start"}
            admin.expect(201, "POST", "/api/v1/deposits", deposit)
        load = Load(ports[0], admin, accounts)
        for thread in load.threads:
            thread.start()
        wait_for("the first writes", lambda: len(load.acknowledged) > 20)
        first_writes = [switch(pair, address, load) for _ in range(int(count))]
        load.stop.set()
        for thread in load.threads:
            thread.join()
        judge(pair, load, first_writes)
    finally:
        child.terminate()
        child.wait(30)
        pair.stop()


def judge(pair, load, first_writes):
    rows = pair.primary.ask("SELECT id || ' ' || reference FROM transfers WHERE reference <> 'start'")
    stored = [row.split(" ") for row in rows.splitlines()]
    ids = {row[0] for row in stored}
    lost = [key for key, made in load.acknowledged.items() if made not in ids]
    doubled = len(stored) - len({row[1] for row in stored})
    unknown = len({row[1] for row in stored} - load.started)
    balance = pair.primary.ask("SELECT COALESCE(sum(balance), 0) FROM accounts")
    same = pair.standby.ask("SELECT count(*) FROM transfers WHERE reference <> 'start'")
    worst = max(first_writes)
    print(
        f"{len(first_writes)} switchovers: {len(load.acknowledged)} transfers acknowledged,"
        f" {load.refused} refusals, {len(lost)} lost, {doubled} doubled;"
        f" first write after at most {worst:.3f} s,"
        f" {sorted(first_writes)[len(first_writes) // 2]:.3f} s in the middle"
    )
    problems = [
        (lost, f"lost: {lost[:3]}"),
        (doubled or unknown, f"doubled: {doubled}, unknown: {unknown}"),
        (load.wrong, f"answers that are no polite refusal: {load.wrong[:3]}"),
        (balance != "0", f"the balances sum to {balance}"),
        (int(same) != len(stored), f"the standby has {same} of {len(stored)} transfers"),
        (worst > FIRST_WRITE, f"a first write took {worst:.3f} s"),
        (load.refused == 0, "nothing was refused: the address did not move"),
    ]
    told = [text for bad, text in problems if bad]
    if told:
        raise SystemExit("; ".join(told))


main()
