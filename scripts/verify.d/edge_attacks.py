"""Attacks a service on loopback: edge_attacks.py PUBLIC_PORT ADMIN_PORT PID.

Each attack says what it did and what the service had to show for it; the first
broken promise ends the run with 1. Only the standard library.
"""

import asyncio
import gzip
import http.client
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import time

HOST = "127.0.0.1"
MIB = 1 << 20
# Growth of resident memory that one attack may leave behind, and the most that
# the process may ever have had.
LEFT_BEHIND = 64 * MIB
PEAK = 384 * MIB
LOGIN = (
    b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
# 256 MiB of zeros through brotli at its best level.
BROTLI_BOMB = bytes.fromhex(
    "cfffff7ff82700e2b14020f7fe9ffffffff04f00c4610180eefd3fffffffe19f0088c32200ddfb7f"
    "feffffc33f0110870500baf7fffcffff877f02200e0b0074effff9ffff0fff04401c1600e8defff3"
    "ffff1ffe0980382c00d0bdffe7ffff3ffc1300715800a07bffcfffff7ff82700e2b00040f7fe9fff"
    "fffff04f00c4610180eefd3fffffffe19f0088c30200ddfb7ffeffffc33f0110870500baf7fffcff"
    "ff877f02200e0b0074effff9ffff0fff04401c1600e8defff3ffff1ffe0980382c00d0bdffe7ffff"
    "3ffc1300715800a07bff3f"
)


class Service:
    def __init__(self, public, admin, pid):
        self.public, self.admin, self.pid = public, admin, pid

    def get(self, port, path):
        connection = http.client.HTTPConnection(HOST, port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metrics(self):
        return self.get(self.admin, "/metrics")[1]

    def metric(self, pattern):
        values = re.findall(rf"^{pattern} (\S+)$", self.metrics(), re.M)
        return sum(map(float, values))

    def resident(self):
        return self.memory("VmRSS")

    def memory(self, field):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            return int(re.search(rf"{field}:\s+(\d+) kB", status.read())[1]) * 1024


def check(holds, promise):
    if not holds:
        sys.exit(f"BROKEN: {promise}")


async def attack(service, name, work):
    """Runs one attack and holds the service to what must be true after any."""
    before, began = service.resident(), time.monotonic()
    result = await work(service)
    took = time.monotonic() - began
    pinged = time.monotonic()
    status, body = await asyncio.to_thread(service.get, service.public, "/api/v1/ping")
    ping = time.monotonic() - pinged
    grown = service.resident() - before
    print(
        f"{name}: {result}; {took:.1f} s, ping after it {ping * 1000:.0f} ms, "
        f"memory {grown / MIB:+.1f} MiB, peak {service.memory('VmHWM') / MIB:.0f} MiB",
        flush=True,
    )
    check((status, "pong" in body) == (200, True), f"{name}: ping is answered")
    check(ping < 1, f"{name}: ping is answered within a second")
    check(grown < LEFT_BEHIND, f"{name}: leaves less than {LEFT_BEHIND / MIB} MiB")
    check(service.memory("VmHWM") < PEAK, f"{name}: memory peaks under {PEAK / MIB} MiB")
    check(service.metric("panics_total") == 0, f"{name}: nothing panics")


async def exchange(service, data, bound=15):
    """Sends bytes; returns what came back until the server closed."""
    reader, writer = await asyncio.open_connection(HOST, service.public)
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(), bound)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def many(count, at_once, work):
    """Runs work(number) for every number, some at once; returns the results."""
    gate = asyncio.Semaphore(at_once)

    async def one(number):
        async with gate:
            return await work(number)

    return await asyncio.gather(*map(one, range(count)))


def tally(values):
    return ", ".join(f"{values.count(v)} x {v}" for v in sorted(set(values)))


def status_of(answer):
    return answer[9:12].decode() or "closed"


# ---- connections ----------------------------------------------------------
async def dripping(service):
    """500 connections drip headers and 100 drip bodies; another client measures."""
    victim = subprocess.Popen(
        [sys.executable, __file__, "--victim", str(service.public), "12"],
        stdout=subprocess.PIPE,
        text=True,
    )

    async def drip(head, byte):
        # Spread over a second: it is the number that is tried, not this client.
        await asyncio.sleep(random.random())
        reader, writer = await asyncio.open_connection(HOST, service.public)
        began, ended = time.monotonic(), asyncio.ensure_future(reader.read())
        writer.write(head)
        while not ended.done() and time.monotonic() - began < 30:
            writer.write(byte)
            await asyncio.wait([ended], timeout=1)
        writer.close()
        lived = time.monotonic() - began
        if not ended.done():
            ended.cancel()
            return lived, b""
        try:
            return lived, ended.result()
        except ConnectionError:
            return lived, b""

    head = b"GET /api/v1/ping HTTP/1.1\r\nHost: x\r\nX-Drip: "
    body = LOGIN + b"Content-Length: 1000\r\n\r\n{"
    drips = [drip(head, b"a") for _ in range(500)] + [drip(body, b" ") for _ in range(100)]
    lives = await asyncio.gather(*drips)
    measured = await asyncio.to_thread(victim.communicate)
    requests, p50, p99 = measured[0].split()
    longest = max(lived for lived, _ in lives)
    timeouts = sum(b" 408 " in answer for _, answer in lives[500:])
    check(int(requests) > 100, "dripping: the other client was measured")
    check(float(p99) < 100, f"dripping: the other client's p99 is under 100 ms: {p99}")
    check(longest < 16, f"dripping: every connection ends in time: {longest:.1f} s")
    check(timeouts == 100, f"dripping: every body is answered 408: {timeouts}")
    return (
        f"500 headers and 100 bodies ended after {longest:.1f} s at most; "
        f"meanwhile {requests} pings, p50 {p50} ms, p99 {p99} ms"
    )


def measure(port, seconds):
    """The other client, in a process of its own."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    times, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        connection.request("GET", "/api/v1/ping")
        answer = connection.getresponse()
        answer.read()
        check(answer.status == 200, "the other client is answered")
        times.append((time.monotonic() - began) * 1000)
        time.sleep(0.02)
    centiles = statistics.quantiles(times, n=100)
    print(len(times), f"{centiles[49]:.1f}", f"{centiles[98]:.1f}")


async def slow_bodies(service):
    """Two addresses begin 1,400 bodies on HTTP/1.1 and 600 on HTTP/2 and let them drip."""
    victim = subprocess.Popen(
        [sys.executable, __file__, "--victim", str(service.public), "8"],
        stdout=subprocess.PIPE,
        text=True,
    )
    attackers = ["127.0.0.2", "127.0.0.3"]
    until = time.monotonic() + 8
    most = 0

    async def connect(address):
        return await asyncio.open_connection(HOST, service.public, local_addr=(address, 0))

    async def over_http1(number):
        await asyncio.sleep(2 * random.random())
        reader, writer = await connect(attackers[number % 2])
        writer.write(LOGIN + b"Content-Length: 1000\r\n\r\n{")
        answer = asyncio.ensure_future(reader.read(12))
        while not answer.done() and time.monotonic() < until:
            await asyncio.wait([answer], timeout=1)
            writer.write(b" ")
        writer.close()
        if not answer.done():
            answer.cancel()
            return "held"
        try:
            return status_of(answer.result())
        except ConnectionError:
            return "closed"

    async def over_http2(number):
        _, writer = await connect(attackers[number % 2])
        writer.write(PREFACE)
        for stream in range(1, 201, 2):
            writer.write(frame(1, 4, stream, POST) + frame(0, 0, stream, b"{"))
        await asyncio.sleep(max(0, until - time.monotonic()))
        writer.close()

    async def watch():
        nonlocal most
        while time.monotonic() < until:
            arriving = await asyncio.to_thread(service.metric, "http_request_bodies_arriving")
            most = max(most, arriving)
            await asyncio.sleep(0.2)

    answers, *_ = await asyncio.gather(
        asyncio.gather(*map(over_http1, range(1400))),
        asyncio.gather(*map(over_http2, range(6))),
        watch(),
    )
    requests, p50, p99 = (await asyncio.to_thread(victim.communicate))[0].split()
    shed = service.metric('http_shed_total\\{reason="client_bodies"\\}')
    check(int(requests) > 50, "slow bodies: the other client was measured")
    check(most <= 2 * 128, f"slow bodies: no address holds more than its share: {most:.0f}")
    check(shed > 0, "slow bodies: what is beyond the share is refused and counted")
    return (
        f"{tally(answers)}; {most:.0f} awaited at most, {shed:.0f} refused; "
        f"meanwhile {requests} pings, all 200, p50 {p50} ms, p99 {p99} ms"
    )


async def many_connections(service):
    """One address opens 2,600 connections and says nothing."""
    opened = []

    async def connect(_):
        opened.append(
            await asyncio.open_connection(HOST, service.public, local_addr=("127.0.0.2", 0))
        )

    try:
        await many(2600, 50, connect)
        refused, until = 0, time.monotonic() + 5
        while refused < 100 and time.monotonic() < until:
            refused = service.metric('http_shed_total\\{reason="client_connections"\\}')
            await asyncio.sleep(0.1)
        held = service.metric('http_connections_open\\{listener="public"\\}')
        check(refused == 100, f"many connections: the ones beyond 2,500 are refused: {refused:.0f}")
        return f"{held:.0f} open, {refused:.0f} refused"
    finally:
        for _, writer in opened:
            writer.close()


# ---- requests -------------------------------------------------------------
def zstd_bomb():
    """16 KB that say half a gigabyte, under the largest window (RFC 8878)."""
    block = ((128 << 10) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    return bytes([0x28, 0xB5, 0x2F, 0xFD, 0, 17 << 3]) + block * 4000 + bytes([1, 0, 0])


async def bombs(service):
    said = []
    for coding, bomb in [
        ("zstd", zstd_bomb()),
        ("br", BROTLI_BOMB),
        ("gzip", gzip.compress(bytes(256 * MIB))),
    ]:
        head = LOGIN + f"Content-Encoding: {coding}\r\nConnection: close\r\n".encode()
        request = head + f"Content-Length: {len(bomb)}\r\n\r\n".encode() + bomb
        answers = await many(200, 20, lambda _, r=request: exchange(service, r))
        answers = [status_of(answer) for answer in answers]
        check(set(answers) == {"413"}, f"bombs: {coding} is 413: {tally(answers)}")
        said.append(f"{coding} of {len(bomb)} bytes: {tally(answers)}")
    return "; ".join(said)


async def deep_json(service):
    statuses = []
    for body in [b"[" * 100_000, b'{"a":' * 100_000, b'{"email":' + b"[" * 100_000]:
        head = LOGIN + f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        answers = await many(20, 10, lambda _, r=head + body: exchange(service, r))
        statuses += [status_of(answer) for answer in answers]
    check(set(statuses) == {"400"}, f"deep JSON: is 400: {tally(statuses)}")
    return f"100,000 levels: {tally(statuses)}"


async def random_paths(service):
    """10,000 paths and 200 methods that nobody has: the series stay what they were."""

    def series():
        return len([line for line in service.metrics().splitlines() if line[:1] != "#"])

    before, chance = series(), random.Random(4)

    async def hundred(number):
        requests = b""
        for _ in range(100):
            word = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789/%.-", k=24))
            word = re.sub("%", "%41", word)
            requests += f"GET /{word} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        requests += f"X{number} / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        answer = await exchange(service, requests)
        return re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)

    answers = [s.decode() for many_ in await many(100, 8, hundred) for s in many_]
    grown = series() - before
    check(len(answers) == 10_100, f"random paths: all are answered: {len(answers)}")
    check(set(answers) <= {"404", "405"}, f"random paths: {tally(answers)}")
    check(grown < 60, f"random paths: the series are bounded: {grown} new ones")
    return f"{tally(answers)}; {grown} new series"


async def header_floods(service):
    head = b"GET /api/v1/ping HTTP/1.1\r\nHost: x\r\n"
    said = []
    for name, flood in [
        ("one long header", head + b"X: " + b"a" * MIB),
        ("many headers", head + b"x: y\r\n" * 20_000 + b"\r\n"),
        ("many long names", head + (b"n" * 60_000 + b": y\r\n") * 17 + b"\r\n"),
        ("a long target", b"GET /" + b"a" * MIB),
    ]:
        answers = await many(100, 25, lambda _, f=flood: exchange(service, f))
        answers = [status_of(answer) for answer in answers]
        # Closed while we were still sending: a reset overtakes the answer.
        allowed = {"431", "414", "closed"}
        check(set(answers) <= allowed, f"header floods: {name}: {tally(answers)}")
        said.append(f"{name}: {tally(answers)}")
    return "; ".join(said)


# ---- HTTP/2 ---------------------------------------------------------------
def frame(kind, flags, stream, payload=b""):
    return (
        len(payload).to_bytes(3, "big")
        + bytes([kind, flags])
        + stream.to_bytes(4, "big")
        + payload
    )


def goaway(answer):
    """The error code of the last GOAWAY in what came back."""
    code = "closed"
    while len(answer) >= 9:
        length, kind = int.from_bytes(answer[:3], "big"), answer[3]
        if kind == 7:
            code = str(int.from_bytes(answer[13:17], "big"))
        answer = answer[9 + length :]
    return code


# GET, http, /api/v1/ping, authority x (RFC 7541, appendix A).
PING = bytes([0x82, 0x86, 0x04, 12]) + b"/api/v1/ping" + bytes([0x01, 1]) + b"x"

# POST, http, /api/v1/auth/login, authority x, content-type (static entry 31).
POST = (
    bytes([0x83, 0x86, 0x04, 18]) + b"/api/v1/auth/login" + bytes([0x01, 1]) + b"x"
    + bytes([0x0F, 0x10, 16]) + b"application/json"
)


async def rapid_reset(service):
    """CVE-2023-44487: streams that are opened only to be reset."""
    before = service.metric(r"http_requests_total\{[^}]*path=\"/api/v1/ping\"[^}]*\}")
    streams = range(1, 4001, 2)
    data = PREFACE + b"".join(
        frame(1, 5, stream, PING) + frame(3, 0, stream, bytes([0, 0, 0, 8]))
        for stream in streams
    )
    answers = await many(50, 10, lambda _: exchange(service, data))
    begun = service.metric(r"http_requests_total\{[^}]*path=\"/api/v1/ping\"[^}]*\}") - before
    check(begun < 50 * len(streams) / 4, f"rapid reset: most are never begun: {begun:.0f}")
    codes = [goaway(answer) for answer in answers]
    # 11 is ENHANCE_YOUR_CALM; a reset of the connection can overtake the words.
    check(set(codes) <= {"11", "closed"}, f"rapid reset: GOAWAY {tally(codes)}")
    return f"{len(streams)} resets a connection, {begun:.0f} requests begun, GOAWAY {tally(codes)}"


async def endless_headers(service):
    """CVE-2024-27316: header blocks that are continued without end."""
    literal = bytes([0, 1]) + b"x" + bytes([0x7F, 0x81, 0x7C]) + b"a" * 16_000
    data = PREFACE + frame(1, 0, 1, b"\x82\x86") + frame(9, 0, 1, literal) * 300
    answers = await many(50, 10, lambda _: exchange(service, data))
    codes = [goaway(answer) for answer in answers]
    return f"4.8 MB a connection without an end, GOAWAY {tally(codes)}"


async def main(public, admin, pid):
    service = Service(public, admin, pid)
    # Warm: the first requests allocate what every process needs.
    await random_paths(service)
    for name, work in [
        ("dripping", dripping),
        ("slow bodies", slow_bodies),
        ("many connections", many_connections),
        ("bombs", bombs),
        ("deep JSON", deep_json),
        ("random paths", random_paths),
        ("header floods", header_floods),
        ("rapid reset", rapid_reset),
        ("endless headers", endless_headers),
    ]:
        await attack(service, name, work)
    print(f"the process lives, {service.resident() / MIB:.0f} MiB resident")


if __name__ == "__main__":
    if sys.argv[1] == "--victim":
        measure(int(sys.argv[2]), float(sys.argv[3]))
    else:
        # Both sides of 2,600 connections have a file descriptor each.
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        # What is measured is the service, not who wins the processor.
        os.nice(10)
        asyncio.run(main(*map(int, sys.argv[1:4])))
