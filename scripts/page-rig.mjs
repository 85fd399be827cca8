// What the check and the picture of the live page run: the service on free ports with
// a database of its own, a load, and a real browser. Everything ends with the process.

import { execFileSync, spawn } from "node:child_process";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { openSync, readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";

const START_SECONDS = 30;
const EMAIL = "admin@example.com";
const PASSWORD = "only-for-this-check";

const children = new Set();
const end = () => children.forEach((child) => child.kill("SIGKILL"));
process.on("exit", end);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(1));

/** A variable that scripts/page-tools sets. */
function given(name) {
    const value = process.env[name];
    if (!value) throw new Error(`${name} is not set: source scripts/page-tools`);
    return value;
}

async function freePorts(count) {
    const servers = await Promise.all(Array.from({ length: count }, () => new Promise((resolve, reject) => {
        const server = createServer().on("error", reject).listen(0, "127.0.0.1", () => resolve(server));
    })));
    const ports = servers.map((server) => server.address().port);
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
    return ports;
}

/** The service; it can be ended hard and started again on the same ports. */
export class Service {
    #environment;
    #log;
    #child;

    static async start(folder, more = {}) {
        const service = new Service();
        const [api, admin] = await freePorts(2);
        service.api = `http://127.0.0.1:${api}`;
        service.admin = `http://127.0.0.1:${admin}`;
        const kept = Object.entries(process.env)
            .filter(([name]) => !/^(APP_|OTEL_|DATABASE_|RUST_LOG|LD_LIBRARY_PATH)/.test(name));
        service.#environment = {
            ...Object.fromEntries(kept),
            DATABASE_URL: `sqlite://${folder}/service.db`,
            APP__HTTP__ADDR: `127.0.0.1:${api}`, APP__ADMIN__ADDR: `127.0.0.1:${admin}`,
            APP__GRPC__ADDR: "127.0.0.1:0",
            // `overload` wants refusals; by default hashes wait for each other.
            APP__AUTH__HASH_QUEUE_TIMEOUT: "0s",
            APP__AUTH__BOOTSTRAP_ADMIN_EMAIL: EMAIL, APP__AUTH__BOOTSTRAP_ADMIN_PASSWORD: PASSWORD,
            ...more,
        };
        service.#log = `${folder}/service.log`;
        await service.begin();
        return service;
    }

    async begin(more = {}) {
        Object.assign(this.#environment, more);
        const log = openSync(this.#log, "a");
        const child = spawn(given("PAGE_SERVICE"), ["serve"],
            { env: this.#environment, stdio: ["ignore", log, log] });
        children.add(child);
        child.on("exit", () => children.delete(child));
        this.#child = child;
        const deadline = Date.now() + START_SECONDS * 1_000;
        while (Date.now() < deadline && child.exitCode === null) {
            const answer = await fetch(`${this.admin}/health/ready`).catch(() => undefined);
            if (answer?.ok) return;
            await pause(50);
        }
        throw new Error(`the service is not ready:\n${readFileSync(this.#log, "utf8").slice(-3_000)}`);
    }

    /** Asks it to end. */
    drain() {
        this.#child.kill("SIGTERM");
    }

    /** Without a drain, as a crash does. */
    async crash() {
        const gone = new Promise((resolve) => this.#child.once("exit", resolve));
        this.#child.kill("SIGKILL");
        await gone;
    }
}

/** Fresh signing keys, as production demands them. */
export const keygen = () => execFileSync(given("PAGE_SERVICE"), ["keygen"], { encoding: "utf8" });

/** The same load as that of the dashboards; resolves when it is over. */
export function load(api, seconds) {
    const program = "import sys, dashboards_load as load; "
        + "load.run(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])";
    const child = spawn("python3", ["-B", "-c", program, api, String(seconds), EMAIL, PASSWORD],
        { cwd: import.meta.dirname, stdio: ["ignore", "inherit", "inherit"] });
    children.add(child);
    return new Promise((resolve, reject) => child.on("exit", (code) => {
        children.delete(child);
        if (code === 0) resolve();
        else reject(new Error(`the load failed with ${code}`));
    }));
}

/** Answers that count as failures: more log-ins at once than the hasher takes (503). */
export async function overload(api, count = 24) {
    const body = JSON.stringify({ email: EMAIL, password: "certainly not this one" });
    const answers = await Promise.all(Array.from({ length: count }, () => fetch(
        `${api}/api/v1/auth/login`,
        { method: "POST", body, headers: { "content-type": "application/json" } })));
    await Promise.all(answers.map((answer) => answer.text()));
    return answers.filter((answer) => answer.status === 503).length;
}

/** A module of the pinned packages. */
export const need = (name) => createRequire(`${given("PAGE_MODULES")}/`)(name);

export async function browser() {
    const { chromium } = need("playwright-core");
    return chromium.launch({
        executablePath: given("PAGE_CHROMIUM"),
        args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"],
        env: { ...process.env, LD_LIBRARY_PATH: process.env.PAGE_LIBRARIES ?? "" },
    });
}
