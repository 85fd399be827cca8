"""A bounded load through the public API that moves every metric the dashboards show:
transfers that work, and each kind of client error on purpose."""

import collections
import http.client
import itertools
import json
import threading
import time
import urllib.parse
import uuid

CLIENTS = 4
PER_SECOND = 32  # of all clients together; the address limiter sustains 50
REFUSALS = 10  # a burst ends with the tenth 429 ...
BURST = 500  # ... or with this many requests
BURST_EVERY = 8  # seconds
TIMEOUT = 20
PASSWORD = "correct horse battery"


class Client:
    """One keep-alive connection; counts what it was answered."""

    def __init__(self, base, counts):
        self.connection = http.client.HTTPConnection(
            urllib.parse.urlsplit(base).netloc, timeout=TIMEOUT)
        self.counts = counts
        self.token = None

    def call(self, method, path, body=None, *, raw=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        if body is not None:
            raw = json.dumps(body)
        if raw is not None:
            headers.setdefault("Content-Type", "application/json")
        self.connection.request(method, path, raw, headers)
        answer = self.connection.getresponse()
        content = answer.read()
        self.counts[method, path.split("?")[0], answer.status] += 1
        return answer, content

    def must(self, method, path, body):
        """A call that the load cannot do without; waits where the limiter says so."""
        while True:
            answer, content = self.call(method, path, body)
            if answer.status == 429:
                time.sleep(int(answer.headers["Retry-After"]))
            elif answer.status < 300:
                return json.loads(content)
            else:
                raise RuntimeError(f"{method} {path}: {answer.status} {content.decode()}")

    def sign_in(self, email, password):
        self.token = self.must("POST", "/api/v1/auth/login",
                               {"email": email, "password": password})["access_token"]


def prepare(base, counts, admin_email, admin_password):
    """Two users with an account each, and money in the first."""
    accounts, users = [], []
    for _ in range(2):
        user = Client(base, counts)
        email = f"user-{uuid.uuid4().hex}@example.com"
        user.must("POST", "/api/v1/auth/register",
                  {"email": email, "name": "Load", "password": PASSWORD})
        user.sign_in(email, PASSWORD)
        accounts.append(user.must("POST", "/api/v1/accounts",
                                  {"currency": "EUR", "name": "Main"})["id"])
        users.append((email, user.token))
    admin = Client(base, counts)
    admin.sign_in(admin_email, admin_password)
    admin.must("POST", "/api/v1/deposits",
               {"account": accounts[0], "amount": 10_000_000, "reference": "load"})
    return users, accounts


def steps(client, email, accounts):
    """An endless round of calls, the good ones most often."""
    own, other = accounts

    def transfer(amount, **headers):
        return client.call("POST", "/api/v1/transfers", {
            "from_account": own, "to_account": other, "amount": amount,
            "reference": "load"}, **headers)

    def replay():
        key = uuid.uuid4().hex
        transfer(2, Idempotency_Key=key)
        transfer(2, Idempotency_Key=key)
        transfer(3, Idempotency_Key=key)

    def wrong_password():
        client.call("POST", "/api/v1/auth/login", {"email": email, "password": "not the one"})

    good = [lambda: client.call("GET", "/api/v1/ping"), lambda: transfer(1),
            lambda: client.call("GET", "/api/v1/accounts"), lambda: transfer(1),
            lambda: client.call("GET", f"/api/v1/accounts/{own}"),
            lambda: client.call("GET", "/api/v1/transfers?limit=5"),
            lambda: client.call("GET", "/api/v1/users/me")]
    bad = [lambda: transfer(2**62), lambda: transfer(-1), replay,
           lambda: client.call("GET", f"/api/v1/accounts/{uuid.uuid4()}"),
           lambda: client.call("GET", "/api/v1/no-such-path"),
           lambda: client.call("PUT", "/api/v1/ping"),
           lambda: client.call("POST", "/api/v1/accounts", raw="{"),
           lambda: client.call("POST", "/api/v1/accounts", raw="a", Content_Type="text/plain"),
           lambda: client.call("GET", "/api/v1/users/me", Authorization="Bearer none"),
           wrong_password]
    for wrong in itertools.cycle(bad):
        yield from good
        yield wrong


def work(base, counts, until, email, token, accounts):
    client = Client(base, counts)
    client.token = token
    due = time.monotonic()
    for step in steps(client, email, accounts):
        due += CLIENTS / PER_SECOND
        if due > until:
            return
        time.sleep(max(0, due - time.monotonic()))
        step()


def burst(base, counts, until):
    client = Client(base, counts)
    due = time.monotonic() + BURST_EVERY / 2
    while due < until:
        time.sleep(max(0, due - time.monotonic()))
        refused = 0
        for _ in range(BURST):
            answer, _ = client.call("GET", "/api/v1/ping")
            refused += answer.status == 429
            if refused == REFUSALS:
                break
        due = max(due + BURST_EVERY, time.monotonic())


def run(base, seconds, admin_email, admin_password):
    """Loads the API for a time; returns the answers counted by method, path and status.
    Fails when a client failed, or when no transfer got through."""
    counts, failures = collections.Counter(), []
    users, accounts = prepare(base, counts, admin_email, admin_password)
    until = time.monotonic() + seconds
    (email, token), _ = users

    def guarded(job, *arguments):
        try:
            job(*arguments)
        except Exception as failure:  # reported below, by the thread that can
            failures.append(repr(failure))

    jobs = [(work, base, counts, until, email, token, accounts)] * CLIENTS
    jobs.append((burst, base, counts, until))
    threads = [threading.Thread(target=guarded, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError("; ".join(failures))
    if not counts["POST", "/api/v1/transfers", 201]:
        raise RuntimeError(f"no transfer got through: {dict(counts)}")
    return counts


def by_status(counts):
    """The counts in one line."""
    total = collections.Counter()
    for (_, _, status), number in counts.items():
        total[status] += number
    return ", ".join(f"{status}: {total[status]}" for status in sorted(total))
