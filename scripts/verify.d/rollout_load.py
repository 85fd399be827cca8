"""The load of the rollout check: clients at a steady pace, over kept and over new
connections, reading and moving money. Every request that is sent gets exactly one
fate, and none is sent again behind the back of the count.

A write whose answer was not 201 is sent again under its Idempotency-Key, as a
request of its own, until it is acknowledged: so at the end the ledger must hold
exactly what was acknowledged, whatever happened on the way."""

import asyncio
import collections
import json
import time

# A request's deadline in the service is shorter (REQUEST_TIMEOUT in rollout_fleet.py):
# a client that has to give up is a request that hung.
PATIENCE = 8.0
READS = ("/api/v1/ping", "/api/v1/accounts/{from_account}", "/api/v1/transfers?limit=5")


class Failed(Exception):
    """A request without an answer; the text is its fate."""


class Connection:
    """HTTP/1.1 as far as it is needed, without any second try."""

    def __init__(self, port):
        self.port = port
        self.reader = self.writer = None

    def is_open(self):
        # One that the other side has closed between two requests is no failure: a
        # client sees the end before it sends, and opens another.
        return self.writer is not None and not self.reader.at_eof() and not self.writer.is_closing()

    def close(self):
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None

    async def ask(self, method, path, headers, body, close=False):
        """Status, headers, body; or Failed with what became of the request."""
        try:
            return await asyncio.wait_for(self._ask(method, path, headers, body, close), PATIENCE)
        except (asyncio.TimeoutError, TimeoutError):
            self.close()
            raise Failed(f"no answer within {PATIENCE:g} s") from None
        except BaseException:
            self.close()
            raise

    async def _ask(self, method, path, headers, body, close):
        if not self.is_open():
            self.close()
            try:
                self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError as error:
                raise Failed(f"no connection: {error.strerror}") from None
        lines = [f"{method} {path} HTTP/1.1", "host: rollout.test", *(f"{name}: {value}" for name, value in headers)]
        if body:
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        if close:
            lines.append("connection: close")
        head = b""
        try:
            self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *rest = head.decode("latin-1").split("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in rest if line)
            answer = await self._body(fields)
        except asyncio.IncompleteReadError as error:
            raise Failed("cut within the answer" if head or error.partial else "closed without an answer") from None
        except OSError as error:
            raise Failed(f"connection broken: {error.strerror}") from None
        if close or fields.get("connection") == "close":
            self.close()
        return int(first.split(" ")[1]), fields, answer

    async def _body(self, fields):
        if "chunked" not in fields.get("transfer-encoding", ""):
            return await self.reader.readexactly(int(fields.get("content-length", 0)))
        parts = []
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            parts.append(await self.reader.readexactly(size))
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return b"".join(parts)


class Phase:
    """What became of the requests that ended in a stretch of time."""

    def __init__(self, name):
        self.name = name
        self.began = self.last_good = time.monotonic()
        self.fates = collections.Counter()
        self.failures = []
        self.seconds = []
        self.slow = 0
        self.longest_gap = 0.0
        self.last_failure = None

    def count(self, fate, seconds, note, slow=False):
        """Requests that are made to take long count like all, and are not timed."""
        now = time.monotonic()
        self.fates[fate] += 1
        if slow:
            self.slow += 1
        else:
            self.seconds.append(seconds)
        if fate == "ok" and slow:
            pass
        elif fate == "ok":
            self.longest_gap = max(self.longest_gap, now - self.last_good)
            self.last_good = now
        else:
            self.last_failure = now
            self.failures.append((fate, f"{time.strftime('%H:%M:%S', time.gmtime())} {seconds * 1e3:.0f} ms {note}"))

    def end(self):
        self.longest_gap = max(self.longest_gap, time.monotonic() - self.last_good)

    @classmethod
    def sum(cls, name, phases):
        """Several stretches as one."""
        whole = cls(name)
        for phase in phases:
            whole.fates += phase.fates
            whole.seconds += phase.seconds
            whole.slow += phase.slow
            whole.longest_gap = max(whole.longest_gap, phase.longest_gap)
        return whole

    def total(self):
        return sum(self.fates.values())

    def failed(self):
        return self.total() - self.fates["ok"]

    def report(self):
        times = sorted(self.seconds) or [0.0]
        bad = ", ".join(f"{count} {fate}" for fate, count in sorted(self.fates.items()) if fate != "ok")
        return (f"{self.total()} requests ({self.slow} slow), {self.failed()} failed{f' ({bad})' if bad else ''}; "
                f"p50 {times[len(times) // 2] * 1e3:.0f} ms, p99 {times[len(times) * 99 // 100] * 1e3:.0f} ms, "
                f"slowest {times[-1] * 1e3:.0f} ms, longest gap {self.longest_gap * 1e3:.0f} ms")


class Load:
    """All clients, and the count of what they see."""

    def __init__(self):
        self.phases = [Phase("start")]
        self.in_flight = set()
        self.sent = 0
        self.running, self.abandoned = True, False
        self.clients = []
        self.tasks = []

    @property
    def phase(self):
        return self.phases[-1]

    def enter(self, name):
        self.phase.end()
        self.phases.append(Phase(name))
        return self.phase

    def start(self, clients):
        self.clients = clients
        self.tasks = [asyncio.create_task(client.run()) for client in clients]

    async def stop(self):
        self.running = False
        await asyncio.gather(*self.tasks)
        self.phase.end()

    async def abandon(self):
        """Ends the clients wherever they are. A cancellation may get lost in
        `wait_for`, so they look for themselves as well."""
        self.running, self.abandoned = False, True
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=PATIENCE + 2)

    async def settled(self):
        """Until whatever is in flight now has met its fate."""
        waiting = set(self.in_flight)
        while waiting & self.in_flight:
            await self.check()
            await asyncio.sleep(0.02)

    async def rest(self, seconds):
        await asyncio.sleep(seconds)
        await self.check()

    async def check(self):
        """A client that died is a defect of this program, and no quiet client."""
        for task in self.tasks:
            if task.done():
                await task


class Client:
    """One client with two accounts of its own."""

    is_slow = False

    def __init__(self, load, name, port, keep_alive, rate, token, accounts):
        self.load, self.name, self.keep_alive, self.rate = load, name, keep_alive, rate
        self.connection = Connection(port)
        self.headers = {"authorization": f"Bearer {token}"}
        self.accounts = accounts
        self.open_write = None
        self.acknowledged = {}
        self.writes = self.replays = 0

    async def run(self):
        due, turn = time.monotonic(), 0
        while self.load.running or (self.open_write and not self.load.abandoned):
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            # After a stall the pace goes on from now: no burst that nobody asked for.
            due = max(due + 1 / self.rate, time.monotonic() - 1)
            turn += 1
            if turn % 2 or self.open_write:
                await self.move_money()
            else:
                path = READS[turn // 2 % len(READS)].format(**self.accounts)
                await self.request("GET", path, {}, b"", 200)
        self.connection.close()

    async def move_money(self):
        self.writes += 1
        if self.open_write is None and self.writes % 8 == 0 and self.acknowledged:
            await self.replay()
            return
        if self.open_write is None:
            number = len(self.acknowledged)
            self.open_write = {**self.accounts, "amount": 1 + number % 97, "reference": f"{self.name}-{number:05}"}
        answer = await self.transfer(self.open_write)
        if answer is not None:
            self.acknowledged[answer["reference"]] = (answer["id"], answer["amount"])
            self.open_write = None

    async def replay(self):
        """The same key and body once more: the same transfer, no second one."""
        reference, (made, amount) = next(reversed(self.acknowledged.items()))
        answer = await self.transfer({**self.accounts, "amount": amount, "reference": reference})
        if answer is not None:
            self.replays += 1
            if answer["id"] != made:
                self.load.phase.count("replayed as another transfer", 0.0, reference)

    async def transfer(self, body):
        answer = await self.request("POST", "/api/v1/transfers", {"idempotency-key": body["reference"]},
                                    json.dumps(body).encode(), 201)
        if answer is None:
            return None
        answer = json.loads(answer)
        if any(answer[key] != value for key, value in body.items()):
            self.load.phase.count("another transfer than asked for", 0.0, json.dumps(answer))
        return answer

    async def request(self, method, path, headers, body, expected):
        """Sends one request and counts its one fate; the body, when it went well."""
        load, began, mark = self.load, time.monotonic(), object()
        load.in_flight.add(mark)
        load.sent += 1
        fate, note, answer = "lost count of", f"{self.name} {method} {path}", None
        try:
            status, fields, got = await self.connection.ask(method, path, (self.headers | headers).items(), body, not self.keep_alive)
            if status == expected:
                fate, answer = "ok", got
            else:
                who = "service" if "x-request-id" in fields else "proxy"
                later = " with Retry-After" if fields.get("retry-after", "").isdigit() else ""
                fate, note = f"{status} of the {who}{later}", f"{note}: {got[:300].decode(errors='replace')}"
        except Failed as failed:
            fate = str(failed)
        finally:
            load.phase.count(fate, time.monotonic() - began, note, self.is_slow)
            load.in_flight.discard(mark)
        return answer


class SlowClient(Client):
    """Asks for nothing but what takes longer than a process serves on after SIGTERM
    (the fleet slows this route down), one request after the other: whenever a
    listener closes, some are in flight."""

    PATH = "/api/v1/users/me"
    is_slow = True

    async def run(self):
        while self.load.running:
            if await self.request("GET", self.PATH, {}, b"", 200) is None:
                # Refused at once, as a rule: no storm of refusals.
                await asyncio.sleep(0.2)
        self.connection.close()
