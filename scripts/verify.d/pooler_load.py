"""Registers, logs in and moves money through two processes; counts every answer.

pooler_load.py SECONDS API API ADMIN ADMIN, called by 26-pooler. Exits 1 when an answer
is not the expected one, when money is lost, or when no worker had its turn.
"""

import http.client
import json
import sys
import threading
import time
import urllib.parse
import uuid

SECONDS, APIS, ADMINS = int(sys.argv[1]), sys.argv[2:4], sys.argv[4:6]
CLIENTS = 8
PASSWORD = "only-for-this-check"
START = 100_000

counts, problems, lock = {}, [], threading.Lock()


class Client:
    """One kept connection, as one user."""

    def __init__(self, api):
        where = urllib.parse.urlsplit(api)
        self.connection = http.client.HTTPConnection(where.hostname, where.port, timeout=15)
        self.token = None

    def ask(self, method, path, body=None, expected=200, **headers):
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        self.connection.request(method, path, json.dumps(body) if body is not None else None,
                                {name.replace("_", "-"): value for name, value in headers.items()})
        answer = self.connection.getresponse()
        text = answer.read()
        with lock:
            counts[answer.status] = counts.get(answer.status, 0) + 1
            if answer.status != expected:
                problems.append(f"{method} {path}: {answer.status} {text[:300]!r}")
        return json.loads(text) if text else None

    def log_in(self, email):
        login = {"email": email, "password": PASSWORD}
        self.token = self.ask("POST", "/api/v1/auth/login", login)["access_token"]
        return self


def user(api):
    client, email = Client(api), f"{uuid.uuid4()}@example.com"
    client.ask("POST", "/api/v1/auth/register",
               {"email": email, "name": "Somebody", "password": PASSWORD}, expected=201)
    client.log_in(email)
    client.account = client.ask("POST", "/api/v1/accounts",
                                {"currency": "EUR", "name": "main"}, expected=201)["id"]
    return client


def work(client, accounts, until):
    turn = 0
    while time.monotonic() < until and not problems:
        turn += 1
        other = accounts[(accounts.index(client.account) + 1 + turn % (len(accounts) - 1)) % len(accounts)]
        order = {"from_account": client.account, "to_account": other, "amount": 1, "reference": "load"}
        key = {"Idempotency_Key": str(uuid.uuid4())}
        first = client.ask("POST", "/api/v1/transfers", order, expected=201, **key)
        if turn % 5 == 0:
            again = client.ask("POST", "/api/v1/transfers", order, expected=201, **key)
            if first and again and first["id"] != again["id"]:
                problems.append("a replayed transfer was made twice")
        client.ask("GET", f"/api/v1/accounts/{client.account}")
        client.ask("GET", "/api/v1/transfers?limit=5")


def metric(admin, name, label):
    where = urllib.parse.urlsplit(admin)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=15)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines
               if line.startswith(name + "{") and label in line)


def main():
    operator = Client(APIS[0]).log_in("admin@example.com")
    clients = [user(APIS[number % 2]) for number in range(CLIENTS)]
    accounts = [client.account for client in clients]
    for account in accounts:
        operator.ask("POST", "/api/v1/deposits",
                  {"account": account, "amount": START, "reference": "start"}, expected=201)
    until = time.monotonic() + SECONDS
    threads = [threading.Thread(target=work, args=(client, accounts, until)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = sum(client.ask("GET", f"/api/v1/accounts/{client.account}")["balance"] for client in clients)
    if held != START * CLIENTS:
        problems.append(f"the accounts hold {held}, not {START * CLIENTS}")
    moved = counts.get(201, 0)
    if moved < 100:
        problems.append(f"only {moved} answers of 201")
    runs, failed = (sum(metric(admin, "worker_runs_total", f'outcome="{outcome}"') for admin in ADMINS)
                    for outcome in ("ok", "failed"))
    if runs < 5 or failed:
        problems.append(f"{runs:.0f} runs of the cleanup went well, {failed:.0f} failed")
    if problems:
        print("\n".join(problems[:10]), file=sys.stderr)
        sys.exit(1)
    print(f"{moved} answers of 201 and {counts[200]} of 200 in {SECONDS} s, no other;"
          f" {runs:.0f} runs of the cleanup; the money is all there")


main()
