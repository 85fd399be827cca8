"""Drives the service's rate limits for minutes: rates as they are configured, a
server that freezes and dies, and a million clients. Usage:
limits_probe.py BINARY rates|faults|keys

TEST_REDIS_URL and TEST_REDIS_SERVER name a Redis server and its program."""

import asyncio
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

BINARY = pathlib.Path(sys.argv[1]).resolve()
PAGE = os.sysconf("SC_PAGE_SIZE")


def check(holds, text):
    print(("ok    " if holds else "WRONG ") + text, flush=True)
    if not holds:
        sys.exit(1)


class Service:
    """The built binary on free ports, with limits and a believed proxy on loopback."""

    def __init__(self, folder, **limits):
        self.log = open(pathlib.Path(folder, f"{id(self)}.log"), "w+", encoding="utf-8")
        environment = {
            "APP__HTTP__ADDR": "127.0.0.1:0", "APP__ADMIN__ADDR": "127.0.0.1:0", "APP__GRPC__ADDR": "127.0.0.1:0",
            "APP__DATABASE__URL": f"sqlite://{folder}/{id(self)}.db", "APP__TELEMETRY__LOG_FORMAT": "json",
            "APP__HTTP__TRUSTED_PROXIES": "127.0.0.0/8", "OTEL_SDK_DISABLED": "true", "RUST_LOG": "info",
        } | {f"APP__RATE_LIMIT__{key.upper()}": str(value) for key, value in limits.items()}
        self.process = subprocess.Popen([BINARY, "serve"], cwd=folder, env=environment, stdout=self.log, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        self.public = self.admin = None
        while not (self.public and self.admin):
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit("the service did not start")
            time.sleep(0.05)
            for line in self.lines():
                if line.get("message") == "listening":
                    port = int(line["address"].rsplit(":", 1)[1])
                    setattr(self, line["listener"], port) if line["listener"] in ("public", "admin") else None

    def lines(self):
        with open(self.log.name, encoding="utf-8") as log:
            for line in log:
                with contextlib.suppress(json.JSONDecodeError):
                    yield json.loads(line)

    def logged(self, message):
        return sum(line.get("message") == message for line in self.lines())

    def metric(self, series):
        with socket.create_connection(("127.0.0.1", self.admin)) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            text = connection.makefile("rb").read().decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(series))

    def resident(self):
        """MiB."""
        return int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE / 2**20

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


class Client:
    """One keep-alive connection that asks as the proxy of any client."""

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_):
        self.writer.close()

    def __init__(self, service):
        self.port = service.public

    def send(self, address):
        self.writer.write(f"GET /api/v1/ping HTTP/1.1\r\nhost: a\r\nx-forwarded-for: {address}\r\n\r\n".encode())

    async def status(self):
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        await self.reader.readexactly(length)
        return int(head[9:12])

    async def ask(self, address):
        self.send(address)
        return await self.status()


async def steady(service, address, rate, seconds):
    """Asks at a rate, by the clock and not after answers; returns the statuses."""
    async with Client(service) as client:
        began = time.monotonic()
        count = int(rate * seconds)

        async def send():
            for number in range(count):
                await asyncio.sleep(max(0, began + number / rate - time.monotonic()))
                client.send(address)

        sending = asyncio.create_task(send())
        statuses = [await client.status() for _ in range(count)]
        await sending
        return statuses, time.monotonic() - began


async def rates(folder):
    limits = {"default__per_second": 10, "default__burst": 5}
    shared = {"backend": "redis", "redis_url": os.environ["TEST_REDIS_URL"], "redis_timeout": "1s",
              "redis_prefix": f"verify:{os.getpid()}"}
    services = {"local": [Service(folder, **limits)],
                "shared by three": [Service(folder, **limits, **shared) for _ in range(3)]}
    everyone = [service for some in services.values() for service in some]
    try:
        runs = []
        for some in services.values():
            part = len(some)
            for address, rate in (("192.0.2.9", 9), ("192.0.2.100", 100)):
                runs.append(asyncio.gather(*(steady(s, address, rate / part, 60) for s in some)))
        answers = iter(await asyncio.gather(*runs))
        for name in services:
            calm = [status for statuses, _ in next(answers) for status in statuses]
            check(set(calm) == {200}, f"{name}: 9 per second for a minute, {len(calm)} asked, {calm.count(429)} refused")
            flood = next(answers)
            passed = sum(statuses.count(200) for statuses, _ in flood)
            seconds = max(took for _, took in flood)
            pace = (passed - 5) / seconds
            check(abs(pace - 10) < 0.3, f"{name}: 100 per second, {passed} passed in {seconds:.1f} s: the burst and {pace:.2f} per second")
    finally:
        for service in everyone:
            service.stop()


def redis(port):
    process = subprocess.Popen([os.environ["TEST_REDIS_SERVER"], "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
                               stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"PING\r\n")
            if connection.recv(16).startswith(b"+PONG"):
                return process
        time.sleep(0.02)
    sys.exit("Redis did not start")


async def faults(folder):
    """With the deadline as it is configured by default."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = redis(port)
    service = Service(folder, default__per_second=100000, default__burst=100000, backend="redis",
                      redis_url=f"redis://127.0.0.1:{port}")
    took, running = [], True

    async def load(address):
        async with Client(service) as client:
            while running:
                began = time.monotonic()
                status = await client.ask(address)
                took.append((time.monotonic() - began, status))

    async def until(up):
        began = time.monotonic()
        while await asyncio.to_thread(service.metric, "rate_limit_backend_up ") != up:
            if time.monotonic() - began > 30:
                check(False, f"rate_limit_backend_up becomes {up}")
            await asyncio.sleep(0.01)
        return time.monotonic() - began

    def report(name, extra=""):
        times = sorted(seconds * 1e3 for seconds, _ in took)
        p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
        check(times[-1] < 5 + 200 and {status for _, status in took} == {200},
              f"{name}: {len(times)} requests, p50 {p50:.2f} ms, p99 {p99:.2f} ms, slowest {times[-1]:.1f} ms{extra}")
        took.clear()

    try:
        clients = [asyncio.create_task(load(f"192.0.2.{n}")) for n in range(4)]
        await asyncio.sleep(5)
        asked = service.metric("rate_limit_backend_seconds_count")
        late = [asked - service.metric(f'rate_limit_backend_seconds_bucket{{le="{bound}"}}') for bound in ("0.0025", "0.005", "0.01")]
        mean = service.metric("rate_limit_backend_seconds_sum") / asked * 1e3
        report("healthy", f"; {asked:.0f} decisions, {mean:.2f} ms on average, {late[0]:.0f} above 2.5 ms, {late[1]:.0f} above 5 ms, {late[2]:.0f} above 10 ms")
        for name, fault, end in (
            ("frozen", lambda: server.send_signal(signal.SIGSTOP), lambda: server.send_signal(signal.SIGCONT)),
            ("killed", lambda: (server.kill(), server.wait()), lambda: redis(port)),
        ):
            await until(1)
            fault()
            fell = await until(0)
            await asyncio.sleep(3)
            server = end() or server
            back = await until(1)
            report(name, f"; seen within {fell * 1e3:.0f} ms, back {back:.1f} s after its end")
        running = False
        await asyncio.gather(*clients)
        away = service.logged("rate limits are not shared: the local limiter decides")
        failures = service.metric("rate_limit_backend_failures_total")
        check(away == failures <= 12, f"{away} log lines for {failures:.0f} times that the local limiter took over")
    finally:
        service.stop()
        server.kill()
        server.wait()


async def keys(folder):
    total, cap = int(os.environ.get("LIMITS_KEYS", "1000000")), 100_000
    # Buckets fill within a second: what is left after a sweep is not needed.
    service = Service(folder, default__per_second=100, default__burst=100, max_keys=cap)
    most = {"keys": 0, "resident": 0}
    numbers = iter(range(total))

    async def client(numbers):
        async with Client(service) as connection:
            while batch := [number for _, number in zip(range(100), numbers)]:
                for number in batch:
                    connection.send(f"2001:db8:{number >> 16:x}:{number & 0xffff:x}::1")
                for _ in batch:
                    await connection.status()

    async def watch():
        while True:
            most["keys"] = max(most["keys"], await asyncio.to_thread(service.metric, 'rate_limit_keys{limiter="address"}'))
            most["resident"] = max(most["resident"], service.resident())
            await asyncio.sleep(0.25)

    try:
        # What the service needs to serve at all is not the limiter's.
        await asyncio.gather(*(client(iter(range(5000))) for _ in range(4)))
        rest = service.resident()
        watching = asyncio.create_task(watch())
        began = time.monotonic()
        await asyncio.gather(*(client(numbers) for _ in range(4)))
        took = time.monotonic() - began
        deadline = time.monotonic() + 40
        while service.metric('rate_limit_keys{limiter="address"}') and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        watching.cancel()
        forgotten = time.monotonic()
        # The allocator gives pages back in the ten seconds after they fell free.
        grown = most["resident"] - rest
        while service.resident() - rest >= grown / 2 and time.monotonic() < forgotten + 30:
            await asyncio.sleep(0.2)
        after, waited = service.resident(), time.monotonic() - forgotten
        decided = service.metric('rate_limit_decisions_total{decision="allowed",limiter="address"}')
        decided += service.metric('rate_limit_decisions_total{decision="rejected",limiter="address"}')
        check(decided >= total, f"{total} clients in {took:.0f} s, {decided:.0f} decisions")
        check(0 < most["keys"] <= cap, f"at most {most['keys']:.0f} keys of {cap} were remembered")
        check(most["resident"] < rest + 40, f"resident memory {rest:.1f} MiB before, {most['resident']:.1f} MiB at most")
        check(service.metric('rate_limit_keys{limiter="address"}') == 0, "a sweep forgot all of them")
        left = after - rest
        check(left < grown / 2, f"resident memory {after:.1f} MiB {waited:.1f} s after the sweep: {left:.1f} of {grown:.1f} MiB stayed")
    finally:
        service.stop()


with tempfile.TemporaryDirectory() as work:
    asyncio.run({"rates": rates, "faults": faults, "keys": keys}[sys.argv[2]](work))
