"""The fleet of the rollout check: processes of the service as in production, and
HAProxy in front of them, which asks each whether it is ready."""

import asyncio
import collections
import contextlib
import json
import os
import pathlib
import random
import socket
import subprocess
import time

from rollout_load import Connection, Failed, SlowClient

DRAIN_DELAY = 2.0
FLUSH_TIMEOUT = 2.0
REQUEST_TIMEOUT = 7.0
# Longer than the drain delay: how long the requests of slow clients take.
SLOW = 3.0
# The database's goodbye and a busy machine.
SPARE = 1.5

HAPROXY = """\
global
    maxconn 2000
    stats socket unix@{folder}/haproxy.sock mode 600 level user
    log stdout format raw local0 info

defaults
    mode http
    log global
    option httplog
    option dontlog-normal
    timeout connect 2s
    timeout client 60s
    timeout http-keep-alive 60s
    # Longer than any deadline in the service: a request that hangs is seen by its client.
    timeout server 30s
    timeout check 1s
    # A proxy that sends a request again hides the failure that this check is there to
    # find: whoever has another proxy, or a request that may not be sent twice, would
    # meet it. So there is no second try on any server.
    retries 0
    retry-on none
    no option redispatch
    # First requests of clients, too, go over connections that were used before: one
    # that a process closes without a word is met by somebody.
    http-reuse always
    balance roundrobin
    option forwardfor
    option httpchk
    http-check send meth GET uri /health/ready ver HTTP/1.1 hdr Host rollout.test
    http-check expect status 200
    default-server check inter 250ms fall 2 rise 2
    # Its own answer while no server is ready: as polite as the service's.
    http-error status 503 content-type text/plain string "no server" hdr Retry-After 1

frontend http1
    bind 127.0.0.1:{http1}
    default_backend http1
backend http1
{servers}
frontend http2
    bind 127.0.0.1:{http2}
    default_backend http2
# The same processes over HTTP/2: the end of a connection is GOAWAY there.
backend http2
{servers_h2}
"""


def free_ports(count):
    """Below the range of outgoing connections: while a process restarts, none of the
    load's may happen to sit on its port."""
    sockets = []
    while len(sockets) < count:
        listener = socket.socket()
        try:
            listener.bind(("127.0.0.1", random.randrange(20000, 30000)))
            sockets.append(listener)
        except OSError:
            listener.close()
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


class Ended(Exception):
    """The check has failed; the text says why."""


class Process:
    """One place in the fleet; the process in it changes, its ports do not."""

    def __init__(self, name, binary, folder, environment):
        self.name, self.binary, self.folder = name, binary, folder
        self.public, self.admin, grpc = free_ports(3)
        self.environment = environment | {
            "APP__HTTP__ADDR": f"127.0.0.1:{self.public}", "APP__ADMIN__ADDR": f"127.0.0.1:{self.admin}",
            "APP__GRPC__ADDR": f"127.0.0.1:{grpc}",
        }
        self.log = folder / f"{name}.log"
        self.child, self.collector = None, None

    async def start(self, collector, **more):
        """`collector` is how the traces' receiver behaves, and its address."""
        self.collector, address = collector
        otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{address}"} if address else {}
        with open(self.log, "ab") as log:
            self.child = await asyncio.create_subprocess_exec(
                self.binary, "serve", env=self.environment | otel | more, cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    async def end(self, *signals):
        """Sends the signals; the exit code and the seconds until it came."""
        began = time.monotonic()
        for number in signals:
            self.child.send_signal(number)
            # Two that come at once may become one.
            await asyncio.sleep(0.05 if len(signals) > 1 else 0)
        code = await asyncio.wait_for(self.child.wait(), 60)
        return code, time.monotonic() - began


class Fleet:
    """Processes behind HAProxy."""

    def __init__(self, haproxy, binary, folder, database, count=3):
        self.folder, self.haproxy, self.proxy = folder, haproxy, None
        keys = folder / "keys.json"
        subprocess.run([binary, "keygen", "--out", keys], check=True, stdout=subprocess.DEVNULL)
        self.environment = {
            "PATH": os.environ["PATH"], "APP_ENV": "production", "APP_CONFIG_DIR": str(pathlib.Path("config").resolve()),
            "DATABASE_URL": database, "APP__AUTH__KEYS_FILE": str(keys),
            "APP__AUTH__BOOTSTRAP_ADMIN_EMAIL": "admin@example.com",
            "APP__AUTH__BOOTSTRAP_ADMIN_PASSWORD": os.urandom(12).hex(),
            "APP__HTTP__TRUSTED_PROXIES": "127.0.0.1/32", "APP__HTTP__REQUEST_TIMEOUT": f"{REQUEST_TIMEOUT:g}s",
            "APP__DATABASE__ACQUIRE_TIMEOUT": "1s", "APP__DATABASE__STATEMENT_TIMEOUT": "2s",
            # The limiters take part, and let one client of everything through.
            "APP__RATE_LIMIT__DEFAULT__PER_SECOND": "100000", "APP__RATE_LIMIT__DEFAULT__BURST": "100000",
            "APP__RATE_LIMIT__AUTH__PER_SECOND": "1000", "APP__RATE_LIMIT__AUTH__BURST": "1000",
            "APP__LIFECYCLE__DRAIN_DELAY": f"{DRAIN_DELAY:g}s", "APP__TELEMETRY__FLUSH_TIMEOUT": f"{FLUSH_TIMEOUT:g}s",
            "APP__ADMIN__TOKEN": os.urandom(16).hex(), "APP__ADMIN__FAULT_INJECTION": "true",
            "RUST_BACKTRACE": "0",
        }
        subprocess.run([binary, "migrate"], env=self.environment, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        self.processes = [Process(f"service-{n + 1}", binary, folder, self.environment) for n in range(count)]
        self.http1, self.http2 = free_ports(2)

    async def start(self, collectors):
        for process, collector in zip(self.processes, collectors):
            await process.start(collector)
        # HAProxy takes a server that it has not asked yet for one that is up.
        for process in self.processes:
            await self.ready(process)
        servers = [f"    server {process.name} 127.0.0.1:{process.public}" for process in self.processes]
        text = HAPROXY.format(folder=self.folder, http1=self.http1, http2=self.http2, servers="\n".join(servers),
                              servers_h2="\n".join(f"{server} proto h2" for server in servers))
        config = self.folder / "haproxy.cfg"
        config.write_text(text, encoding="utf-8")
        with open(self.folder / "haproxy.log", "wb") as log:
            self.proxy = await asyncio.create_subprocess_exec(
                self.haproxy, "-db", "-f", config, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for process in self.processes:
            await self.in_service(process)

    async def ready(self, process, within=60):
        began = time.monotonic()
        while True:
            self.check_alive(process)
            with contextlib.suppress(Failed):
                status, _, _ = await Connection(process.public).ask("GET", "/health/ready", (), b"", close=True)
                if status == 200:
                    return
            if time.monotonic() - began > within:
                raise Ended(f"{process.name} is not ready after {within} s: {self.tail(process.name)}")
            await asyncio.sleep(0.02)

    def check_alive(self, process):
        if process.child.returncode is not None:
            raise Ended(f"{process.name} ended with {process.child.returncode} at its start: {self.tail(process.name)}")

    async def in_service(self, process):
        """Waits until HAProxy sends requests to a process that was started."""
        await self.seen(process, "UP")
        admin = Connection(process.admin)
        headers = {"authorization": f"Bearer {self.environment['APP__ADMIN__TOKEN']}"}
        fault = {"path": SlowClient.PATH, "latency": f"{SLOW:g}s"}
        status, _, answer = await admin.ask("PUT", "/faults", headers.items(), json.dumps(fault).encode(), close=True)
        if status != 200:
            raise Ended(f"{process.name} cannot be slowed down: {answer.decode(errors='replace')}")

    async def seen(self, process, state, within=30):
        """Seconds until HAProxy sees a process in a state, over both protocols."""
        began = time.monotonic()
        while True:
            if self.proxy.returncode is not None:
                raise Ended(f"HAProxy ended with {self.proxy.returncode}: {self.tail('haproxy')}")
            states = await self.states()
            if states[process.name] == {state}:
                return time.monotonic() - began
            if state == "UP":
                self.check_alive(process)
            if time.monotonic() - began > within:
                raise Ended(f"HAProxy sees {process.name} {states[process.name]}, not {state}, after {within} s: {self.tail(process.name)}")
            await asyncio.sleep(0.02)

    async def states(self):
        try:
            reader, writer = await asyncio.open_unix_connection(self.folder / "haproxy.sock")
        except OSError:  # not up yet
            return collections.defaultdict(set)
        writer.write(b"show stat -1 4 -1\n")
        rows = [row.split(",") for row in (await reader.read()).decode().splitlines() if row]
        writer.close()
        column = rows[0].index("status")
        states = collections.defaultdict(set)
        for row in rows[1:]:
            states[row[1]].add(row[column].split(" ")[0])
        return states

    def tail(self, name, lines=15):
        text = (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(["", *text.splitlines()[-lines:]])

    def logged(self, text):
        """How often the services have written something."""
        return sum(process.log.read_bytes().count(text) for process in self.processes)

    async def stop(self):
        for child in [self.proxy, *(process.child for process in self.processes)]:
            if child is not None and child.returncode is None:
                child.kill()
                await child.wait()
