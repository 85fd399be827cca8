"""Two Postgres servers that change places, and the address that follows the primary."""

import os
import pathlib
import shutil
import socket
import subprocess
import threading
import time


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, done, within=30):
    deadline = time.monotonic() + within
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {within} s: {what}")
        time.sleep(0.02)


class Programs:
    """The server's programs; the server refuses to run as root."""

    def __init__(self, folder, libraries):
        self.folder = folder
        self.environment = {**os.environ, **({"LD_LIBRARY_PATH": libraries} if libraries else {})}
        self.user = None
        if os.getuid() == 0:
            known = subprocess.run(["id", "postgres"], capture_output=True).returncode == 0
            self.user = "postgres" if known else "nobody"

    def command(self, program, *arguments):
        become = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", "--"]
        return [*(become if self.user else []), f"{self.folder}/{program}", *arguments]

    def run(self, program, *arguments):
        done = subprocess.run(
            self.command(program, *arguments),
            env=self.environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise SystemExit(f"{program} {arguments}: {done.stdout}{done.stderr}")
        return done.stdout.strip()


class Server:
    """One of the two."""

    def __init__(self, programs, folder, name):
        self.programs = programs
        self.name = name
        self.data = folder / name
        self.log = folder / f"{name}.log"
        self.port = free_port()
        self.child = None

    def configure(self, other):
        (self.data / "postgresql.auto.conf").write_text(f"""
port = {self.port}
listen_addresses = '127.0.0.1'
unix_socket_directories = '{self.data}'
max_connections = 60
fsync = off
jit = off
hot_standby = on
synchronous_standby_names = '*'
wal_keep_size = '256MB'
wal_retrieve_retry_interval = '100ms'
recovery_target_timeline = 'latest'
primary_conninfo = 'host=127.0.0.1 port={other.port} user=postgres application_name={self.name}'
""")

    def start(self, standby):
        signal = self.data / "standby.signal"
        if standby:
            signal.touch()
            if self.programs.user:
                shutil.chown(signal, self.programs.user)
        log = self.log.open("ab")
        command = self.programs.command("postgres", "-D", str(self.data))
        self.child = subprocess.Popen(
            command, env=self.programs.environment, cwd="/", stdout=log, stderr=log
        )
        wait_for(f"{self.name} answers", lambda: self.ask("SELECT 1", quiet=True) == "1")

    def stop(self):
        """Ends the sessions, sends the log's last byte to the standby, and ends."""
        if self.child and self.child.poll() is None:
            self.child.send_signal(2)
            self.child.wait(60)

    def ask(self, sql, quiet=False):
        url = f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"
        command = self.programs.command("psql", "-XAtq", "-d", url, "-c", sql)
        done = subprocess.run(
            command, env=self.programs.environment, cwd="/", capture_output=True, text=True
        )
        if done.returncode != 0 and not quiet:
            raise SystemExit(f"{self.name}: {sql}: {done.stderr}")
        return done.stdout.strip()

    def promote(self):
        self.programs.run("pg_ctl", "promote", "-w", "-D", str(self.data))


class Pair:
    """A primary and its standby; every commit waits for both."""

    def __init__(self, programs, folder):
        folder = pathlib.Path(folder)
        if programs.user:
            shutil.chown(folder, programs.user)
        self.primary = Server(programs, folder, "first")
        self.standby = Server(programs, folder, "second")
        first, second = self.primary, self.standby
        programs.run(
            "initdb", "-U", "postgres", "--auth=trust", "--no-sync",
            "--encoding=UTF8", "--locale=C", "-D", str(first.data),
        )  # fmt: skip
        first.configure(second)
        first.start(standby=False)
        first.ask("ALTER SYSTEM SET synchronous_standby_names = ''; ", quiet=False)
        first.ask("SELECT pg_reload_conf()")
        programs.run(
            "pg_basebackup", "-D", str(second.data), "-h", "127.0.0.1", "-p", str(first.port),
            "-U", "postgres", "-c", "fast", "--no-sync", "-X", "stream",
        )  # fmt: skip
        second.configure(first)
        second.start(standby=True)
        first.configure(second)
        first.ask("SELECT pg_reload_conf()")
        first.ask("CREATE TABLE probe (at timestamptz NOT NULL)")

    def change_places(self):
        """The standby becomes the primary; the old one, cleanly ended, its standby."""
        old, new = self.primary, self.standby
        old.stop()
        new.promote()
        self.primary, self.standby = new, old
        old.start(standby=True)

    def stop(self):
        self.standby.stop()
        self.primary.stop()


class Address:
    """Forwards connections to one of several ports; changing it cuts the old ones."""

    def __init__(self, target):
        self.target = target
        self.lock = threading.Lock()
        self.flows = set()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with self.lock:
            target = self.target
        try:
            server = socket.create_connection(("127.0.0.1", target), 2)
            server.settimeout(None)
        except OSError:
            client.close()
            return
        flow = (client, server)
        with self.lock:
            if target != self.target:
                cut(flow)
                return
            self.flows.add(flow)
        back = threading.Thread(target=pump, args=(server, client), daemon=True)
        back.start()
        pump(client, server)
        back.join()
        with self.lock:
            self.flows.discard(flow)
        client.close()
        server.close()

    def lead_to(self, port):
        with self.lock:
            self.target = port
            flows, self.flows = self.flows, set()
        for flow in flows:
            cut(flow)


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    cut((source, sink))


def cut(flow):
    for end in flow:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
