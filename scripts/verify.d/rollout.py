"""Rolling restarts under load: three processes of the service behind HAProxy, on
Postgres. Usage: rollout.py BINARY HAPROXY FOLDER

Three times all processes are replaced one by one, and not one request may fail,
whatever the collector of the traces does. In between Postgres goes away and comes
back: 503 with Retry-After is allowed then, a request that hangs is not. At last the
processes end in ways that lose requests: a check that sees none of that is blind.
At the end the ledger holds every transfer that was acknowledged, once, and no other.

TEST_DATABASE_URL names a Postgres that is started again when it ends."""

import asyncio
import collections
import contextlib
import json
import os
import pathlib
import signal
import sys
import time

from rollout_fleet import DRAIN_DELAY, FLUSH_TIMEOUT, SLOW, SPARE, Ended, Fleet, free_ports
from rollout_load import Client, Connection, Load, Phase, SlowClient

BINARY, HAPROXY, FOLDER = (pathlib.Path(argument).resolve() for argument in sys.argv[1:4])
# Clients over kept connections to HTTP/1.1 and to HTTP/2 processes, and over new ones.
CLIENTS = {"kept": 6, "kept-h2": 4, "new": 6}
SLOW_CLIENTS = {"kept": 4, "kept-h2": 3, "new": 2}
RATE = float(os.environ.get("ROLLOUT_RATE", "20"))  # requests a second of each client
DEPOSIT = 10_000_000
LONGEST = 225  # seconds for all of it
WELL_WITHIN = 10.0  # seconds from the database's return to the last failure


ERROR_LINE = b'"level":"error"'
# What Postgres says when a connection was given back to the pool in the middle of a
# transaction: the next user's write, though acknowledged, hangs on a stranger's commit.
LEFT_OPEN = b"there is already a transaction in progress"


def check(holds, text):
    print(("ok    " if holds else "WRONG ") + text, flush=True)
    if not holds:
        raise Ended(text)


async def psql(sql):
    child = await asyncio.create_subprocess_exec(
        "scripts/postgres", "psql", "-qAt", "-c", sql, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    out, _ = await child.communicate()
    return out.decode().strip() if child.returncode == 0 else None


class Api:
    """Single calls through the proxy, before and after the load."""

    def __init__(self, port):
        self.connection, self.headers = Connection(port), {}

    async def __call__(self, method, path, body=None, expected=200, key=None):
        headers = self.headers | ({"idempotency-key": key} if key else {})
        data = json.dumps(body).encode() if body is not None else b""
        status, _, answer = await self.connection.ask(method, path, headers.items(), data)
        if status != expected:
            raise Ended(f"{method} {path} was answered {status}: {answer.decode(errors='replace')}")
        return json.loads(answer)

    async def log_in(self, email, password):
        answer = await self("POST", "/api/v1/auth/login", {"email": email, "password": password})
        self.headers = {"authorization": f"Bearer {answer['access_token']}"}
        return answer["access_token"]


def port_for(fleet, kind):
    return fleet.http2 if kind == "kept-h2" else fleet.http1


async def make_clients(fleet, load):
    """A user with two accounts a client, and money in the first of them."""
    admin, user = Api(fleet.http1), Api(fleet.http1)
    secret = fleet.environment["APP__AUTH__BOOTSTRAP_ADMIN_PASSWORD"]
    await admin.log_in("admin@example.com", secret)
    person = {"email": "user@example.com", "password": os.urandom(12).hex()}
    await user("POST", "/api/v1/auth/register", person | {"name": "User"}, 201)
    token = await user.log_in(**person)
    clients = []
    for kind, count in CLIENTS.items():
        for number in range(count):
            name = f"{kind}-{number + 1}"
            accounts = {}
            for side in ("from_account", "to_account"):
                made = await user("POST", "/api/v1/accounts", {"currency": "EUR", "name": name}, 201)
                accounts[side] = made["id"]
            await admin("POST", "/api/v1/deposits", {"account": accounts["from_account"], "amount": DEPOSIT, "reference": "deposit"},
                        201, f"deposit-{name}")
            clients.append(Client(load, name, port_for(fleet, kind), kind != "new", RATE, token, accounts))
    for kind, count in SLOW_CLIENTS.items():
        for number in range(count):
            clients.append(SlowClient(load, f"slow-{kind}-{number + 1}", port_for(fleet, kind), kind != "new", 0, token, {}))
    admin.connection.close()
    return user, clients


def no_failures(fleet, phase):
    for fate, note in phase.failures[:10]:
        print(f"      {fate}: {note}")
    if phase.failures:
        print(f"      HAProxy's log:{fleet.tail('haproxy')}")
    check(phase.total() > 0 and phase.failed() == 0, f"{phase.name}: {phase.report()}")


async def roll(fleet, load, number, collectors):
    """Replaces every process, one after the other, by one with another collector; the
    longest time that one took whose collector held up nothing."""
    phase, longest, errors = load.enter(f"rolling restart {number}"), 0.0, fleet.logged(ERROR_LINE)
    for place, process in enumerate(fleet.processes):
        had = process.collector
        ending = asyncio.create_task(process.end(signal.SIGTERM))
        noticed = await fleet.seen(process, "DOWN", DRAIN_DELAY)
        code, took = await ending
        if had != "silent":
            longest = max(longest, took)
        budget = DRAIN_DELAY + SLOW + SPARE + (FLUSH_TIMEOUT if had == "silent" else 0)
        check(code == 0 and took < budget,
              f"{process.name}: seen leaving after {noticed * 1e3:.0f} ms, exit {code} after {took:.2f} s (budget {budget:.1f} s; collector: {had})")
        await process.start(collectors[(place + number) % len(collectors)])
        await fleet.in_service(process)
        await load.check()
    await load.rest(1)
    await load.settled()
    no_failures(fleet, phase)
    errors = fleet.logged(ERROR_LINE) - errors
    check(errors == 0, f"{errors} lines with level error in the logs of the services meanwhile")
    return longest


@contextlib.asynccontextmanager
async def stopped(pid):
    """A fast shutdown: running transactions are rolled back, connections closed. It is
    started again three seconds later (scripts/postgres-server)."""
    os.kill(pid, signal.SIGINT)
    while await psql("select 1") is not None:
        await asyncio.sleep(0.05)
    yield
    while await psql("select 1") is None:
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def frozen(pid):
    """Connections stay open, and nothing answers on them."""
    os.kill(pid, signal.SIGSTOP)
    pids = [pid, *map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    try:
        for one in pids:
            os.kill(one, signal.SIGSTOP)
        yield
        await asyncio.sleep(4)
    finally:
        for one in reversed(pids):
            os.kill(one, signal.SIGCONT)


async def flap(fleet, load, name, away):
    pid = int(await psql("select split_part(pg_read_file('postmaster.pid'), E'\\n', 1)"))
    phase = load.enter(f"database {name}")
    gone = time.monotonic()
    async with away(pid):
        await load.check()
    back = time.monotonic()
    # All is well: every process is in service, and a second went by without a failure.
    for process in fleet.processes:
        await fleet.seen(process, "UP", WELL_WITHIN)
    while time.monotonic() - max(back, phase.last_failure or 0) < 1 and time.monotonic() - back < WELL_WITHIN + 2:
        await load.rest(0.05)
    await load.settled()
    allowed = {"ok", "503 of the service with Retry-After", "503 of the proxy with Retry-After"}
    for fate, note in [failure for failure in phase.failures if failure[0] not in allowed][:10]:
        print(f"      {fate}: {note}")
    check(phase.failed() > 0 and set(phase.fates) <= allowed, f"{phase.name} for {back - gone:.1f} s: {phase.report()}")
    late = max(phase.last_failure - back, 0)
    left_open = fleet.logged(LEFT_OPEN)
    check(left_open == 0, f"{left_open} transactions were begun within one that a request that was given up has left open")
    check(late < WELL_WITHIN, f"last failure {late:.1f} s after the database's return (at most {WELL_WITHIN:g} s)")
    await calm(fleet, load, "calm after it")


async def calm(fleet, load, name, seconds=2):
    phase = load.enter(name)
    await load.rest(seconds)
    await load.settled()
    no_failures(fleet, phase)


async def control(fleet, load, collector):
    """What a process must not do at SIGTERM: each way has to be seen."""
    await fleet.processes[2].end(signal.SIGTERM)
    await fleet.processes[2].start(collector, APP__LIFECYCLE__DRAIN_DELAY="0s")
    await fleet.in_service(fleet.processes[2])
    ways = [("killed", [signal.SIGKILL], -signal.SIGKILL), ("a second signal at once", [signal.SIGTERM] * 2, 70),
            ("no drain delay", [signal.SIGTERM], 0)]
    for process, (way, signals, expected) in zip(fleet.processes, ways):
        await load.settled()
        phase = load.enter(f"control, {way}")
        code, took = await process.end(*signals)
        check(code == expected, f"{process.name}: exit {code} after {took:.2f} s")
        await fleet.seen(process, "DOWN")
        await process.start(collector)
        await fleet.in_service(process)
        await load.settled()
        check(phase.failed() > 0, f"{phase.name}: {phase.report()}")


async def reconcile(load, user):
    """The ledger against the answers that clients have."""
    expected = {reference: made for client in load.clients for reference, made in client.acknowledged.items()}
    times = collections.Counter()
    held, cursor = {}, ""
    while cursor is not None:
        page = await user("GET", f"/api/v1/transfers?limit=100{cursor and '&cursor='}{cursor}")
        for item in page["items"]:
            if item["reference"] != "deposit":
                times[item["reference"]] += 1
                held[item["reference"]] = (item["id"], item["amount"])
        cursor = page["next_cursor"]
    lost = [reference for reference, made in expected.items() if held.get(reference) != made]
    doubled = [reference for reference, count in times.items() if count > 1]
    unknown = held.keys() - expected.keys()
    replays = sum(client.replays for client in load.clients)
    check(not lost and not doubled and not unknown and replays > 0,
          f"ledger: {len(expected)} transfers acknowledged, {len(lost)} lost, {len(doubled)} doubled, {len(unknown)} that nobody "
          f"was told of; {replays} replays were the same transfer")
    wrong = []
    paying = [client for client in load.clients if client.accounts]
    for client in paying:
        moved = sum(amount for _, amount in client.acknowledged.values())
        for side, balance in (("from_account", DEPOSIT - moved), ("to_account", moved)):
            found = (await user("GET", f"/api/v1/accounts/{client.accounts[side]}"))["balance"]
            if found != balance:
                wrong.append(f"{client.name} {side}: {found}, not {balance}")
    total = await psql("select sum(balance) from accounts")
    check(not wrong and total == "0", f"balances: {2 * len(paying)} agree with the answers, all accounts sum to {total}{wrong or ''}")


async def story(fleet, load, collectors):
    began = time.monotonic()
    await fleet.start(collectors)
    user, clients = await make_clients(fleet, load)
    load.start(clients)
    print(f"      {len(clients)} clients, {RATE:g} requests a second each, {len(fleet.processes)} processes; ready after {time.monotonic() - began:.1f} s")
    await load.rest(1)  # connections open, pools fill
    await calm(fleet, load, "calm")
    longest = await roll(fleet, load, 1, collectors)
    await flap(fleet, load, "stopped", stopped)
    longest = max(longest, await roll(fleet, load, 2, collectors))
    await flap(fleet, load, "frozen", frozen)
    longest = max(longest, await roll(fleet, load, 3, collectors))
    check(longest > DRAIN_DELAY + 0.1, f"requests were in flight when listeners closed, up to {longest - DRAIN_DELAY:.2f} s before they ended")
    rolls = [phase for phase in load.phases if phase.name.startswith("rolling")]
    print(f"      rolling restarts together: {Phase.sum('', rolls).report()}")
    await control(fleet, load, collectors[0])
    await load.stop()
    counted = sum(phase.total() for phase in load.phases)
    check(counted == load.sent, f"{load.sent} requests were sent, {counted} have a fate")
    await reconcile(load, user)
    ends = await asyncio.gather(*(process.end(signal.SIGTERM) for process in fleet.processes))
    check({code for code, _ in ends} == {0}, f"all ended with 0, in {max(took for _, took in ends):.2f} s at most")


async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    silent = await asyncio.start_server(lambda reader, _: reader.read(), "127.0.0.1", 0)
    collectors = [("none", None), ("nothing listens", f"127.0.0.1:{free_ports(1)[0]}"),
                  ("silent", f"127.0.0.1:{silent.sockets[0].getsockname()[1]}")]
    load = Load()
    fleet = Fleet(HAPROXY, BINARY, FOLDER, os.environ["TEST_DATABASE_URL"])
    try:
        await asyncio.wait_for(story(fleet, load, collectors), LONGEST)
    except asyncio.TimeoutError:
        raise Ended(f"not done after {LONGEST} s; the last phase was: {load.phase.name}") from None
    finally:
        await fleet.stop()
        await load.abandon()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except Ended as ended:
        sys.exit(f"rollout: {ended}")
    except (asyncio.CancelledError, KeyboardInterrupt):
        sys.exit("rollout: interrupted")
