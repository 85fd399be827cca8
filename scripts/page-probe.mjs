// page-probe.mjs FOLDER: opens the live page in a real browser while the service is
// under load, and holds what it shows against /metrics. Prints a line a behaviour.

import assert from "node:assert/strict";
import { browser, keygen, load, need, overload, Service } from "./page-rig.mjs";
import { Between, read, scrape } from "./page-metrics.mjs";

const LOAD_SECONDS = 8;
const PATIENCE = 30_000; // bound of every wait, in milliseconds
const LATENCY = "http_request_duration_seconds";
const ROWS = 12;
const TOKEN = "a token for this check only";
const PRODUCTION = {
    APP_ENV: "production", APP__AUTH__KEYS: keygen(),
    APP__DATABASE__ALLOW_SQLITE: "true", APP__DATABASE__MIGRATE_ON_START: "true",
    // Long enough to be looked at.
    APP__LIFECYCLE__DRAIN_DELAY: "60s",
};

const service = await Service.start(process.argv[2], { APP__RATE_LIMIT__AUTH__BURST: "100" });
const chromium = await browser();
const context = await chromium.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: "light" });
const page = await context.newPage();
page.setDefaultTimeout(PATIENCE);

const complaints = [];
const strangers = [];
page.on("pageerror", (error) => complaints.push(error.stack));
page.on("console", (message) => {
    // The browser itself notes each answer that is an error; we ask for one on purpose.
    const refused = /\/log-filter$/.test(message.location().url) && /status of 422/.test(message.text());
    if (["error", "warning"].includes(message.type()) && !refused) complaints.push(message.text());
});
page.on("request", (request) => {
    if (!request.url().startsWith(`${service.admin}/`)) strangers.push(request.url());
});

/** What the page was told itself: its first and its newest scrape. */
const told = { first: undefined, newest: undefined };
page.on("response", async (response) => {
    if (response.url() !== `${service.admin}/metrics` || !response.ok()) return;
    told.newest = read(await response.text());
    told.first ??= told.newest;
});

const data = (selector) => page.$eval(selector, (node) => ({ ...node.dataset }));
const rows = (id) => page.$$eval(`#${id} tr`, (all) => all.map((row) => ({ ...row.dataset })));
const value = async (selector) => Number((await data(selector)).value);
const ticks = () => page.evaluate(() => Number(document.body.dataset.ticks));
const tick = async (more = 1) => {
    const wanted = (await ticks()) + more;
    await page.waitForFunction((count) => Number(document.body.dataset.ticks) >= count, wanted);
};
const near = (shown, expected, what) => assert.ok(
    Math.abs(shown - expected) <= 1e-9 + 1e-6 * Math.abs(expected), `${what}: ${shown}, not ${expected}`);
const said = (text) => console.log(`ok  ${text}`);

async function opens() {
    const answer = await page.goto(`${service.admin}/`);
    assert.equal(answer.status(), 200);
    const policy = answer.headers()["content-security-policy"];
    assert.match(policy, /default-src 'none'.*script-src 'self'.*style-src 'self'/);
    assert.doesNotMatch(policy, /unsafe|\*/);
    await page.waitForFunction(() => document.body.dataset.connection === "live");
    await page.selectOption("#window", "600");
    const info = await (await fetch(`${service.admin}/info`)).json();
    assert.equal(await page.textContent("#name"), info.name);
    assert.equal(await page.title(), `${info.name} – live`);
    assert.deepEqual(await data("#build"), { version: info.version, revision: info.revision });
    await page.locator("#chart-latency").getByText("No requests yet.").waitFor();
    assert.match(await page.textContent("#error-ratio-note"), /^no requests over /);
    assert.match(await page.textContent("#routes"), /^No requests in this window\.$/);
    said(`opens under its policy as ${info.name} ${info.version}`);
}

/** Everything that happened since `before`, as the page shows it. */
async function figuresAgree(before) {
    const early = await scrape(service.admin);
    await tick(2); // the first may have been under way
    const after = await scrape(service.admin);
    const between = new Between(before, after);

    const requests = await data("#requests");
    const increase = between.sum("http_requests_total");
    assert.ok(increase > LOAD_SECONDS * 10, `a load: ${increase} requests`);
    near(Number(requests.total), after.sum("http_requests_total"), "requests");
    near(Number(requests.increase), increase, "requests in the window");
    near(Number(requests.value), increase / Number(requests.seconds), "request rate");
    assert.ok(Number(requests.seconds) > LOAD_SECONDS, requests.seconds);

    const failed = between.sum("http_requests_total", { status: /^5/ });
    const valid = between.sum("http_requests_total", { status: /^[^4]/ });
    assert.ok(failed > 0, "some requests failed");
    near(await value("#error-ratio"), failed / valid, "error ratio");
    const spent = after.sum("http_requests_total", { status: /^5/ })
        / after.sum("http_requests_total", { status: /^[^4]/ }) / 0.001;
    near(await value("#budget"), 1 - spent, "error budget");
    for (const [id, q] of [["p50", 0.5], ["p95", 0.95], ["p99", 0.99]]) {
        near(await value(`#${id}`), between.quantile(q, LATENCY), id);
    }
    near(await value("#in-flight"), after.sum("http_requests_in_flight"), "in flight");
    near(await value("#panics"), after.sum("panics_total"), "panics");
    near(await value('#chart-pool [data-curve="at most"]'), after.sum("db_connections_max"), "pool");
    const uptime = Date.now() / 1_000 - after.sum("process_start_time_seconds");
    assert.ok(Math.abs(await value("#uptime") - uptime) < 10, "uptime");
    said(`${increase} requests, ${failed} failed, p99 ${(await value("#p99")).toFixed(4)} s: as in /metrics`);

    const shown = await rows("routes");
    const busy = after.find(`${LATENCY}_count`).map(({ labels: { method, path } }) => ({
        route: `${method} ${path}`, wanted: { method, path },
        busy: between.sum("http_request_busy_seconds_total", { method, path }),
    })).filter(({ wanted }) => between.sum("http_requests_total", wanted) > 0)
        .sort((a, b) => b.busy - a.busy).slice(0, ROWS);
    assert.deepEqual(shown.map(({ route }) => route), busy.map(({ route }) => route), "dearest first");
    assert.ok(shown.length >= 8, `${shown.length} routes`);
    for (const [at, { route, wanted, busy: cost }] of busy.entries()) {
        near(Number(shown[at].requests), between.sum("http_requests_total", wanted), `requests of ${route}`);
        near(Number(shown[at].rate), between.sum("http_requests_total", wanted) / Number(requests.seconds), `rate of ${route}`);
        near(Number(shown[at].p99), between.quantile(0.99, LATENCY, wanted), `p99 of ${route}`);
        near(Number(shown[at].failed), between.sum("http_requests_total", { ...wanted, status: /^5/ }), `failures of ${route}`);
        near(Number(shown[at].busy), cost / Number(requests.seconds), `cost of ${route}`);
    }
    said(`${shown.length} routes with rate, p99, failures and cost`);

    for (const row of await rows("error-types")) near(Number(row.total), after.sum("errors_total", { type: row.word }), row.word);
    assert.equal((await rows("error-types")).length, after.find("errors_total").filter((one) => one.value > 0).length);
    for (const [id, name, label] of [["log-levels", "log_lines_total", "level"], ["span-outcomes", "trace_spans_total", "outcome"]]) {
        const words = await rows(id);
        assert.deepEqual(words.map(({ word }) => word).sort(), after.values(name, label).sort());
        for (const { word, total } of words) {
            // The service may write a line of its own at any time.
            const [least, most] = [early, after].map((one) => one.sum(name, { [label]: word }));
            assert.ok(Number(total) >= least && Number(total) <= most, `${word}: ${total}, not ${least} to ${most}`);
        }
    }
    const limiters = await rows("limiters");
    assert.deepEqual(limiters.map(({ limiter }) => limiter).sort(), after.values("rate_limit_decisions_total", "limiter").sort());
    for (const row of limiters) {
        for (const decision of ["allowed", "rejected"]) {
            near(Number(row[decision]), between.sum("rate_limit_decisions_total", { limiter: row.limiter, decision })
                / Number(requests.seconds), `${row.limiter} ${decision}`);
        }
    }
    assert.ok(between.sum("rate_limit_decisions_total", { decision: "rejected" }) > 0, "some were rejected");
    said("errors by type, limiters, log lines, spans");

    const ready = await (await fetch(`${service.admin}/health/ready`)).json();
    assert.equal((await data("#state")).value, ready.state);
    assert.equal(after.sum("lifecycle_state", { state: ready.state }), 1);
    const checks = await rows("checks");
    assert.deepEqual(checks.map(({ check }) => check).sort(), after.values("readiness_check_up", "check").sort());
    for (const { check, up } of checks) {
        assert.equal(up, String(after.sum("readiness_check_up", { check }) === 1), check);
        assert.equal(up, String(ready.checks[check].up), check);
    }
    said(`state ${ready.state}, checks ${checks.map(({ check }) => check).join(" and ")}`);
}

/** What moves by itself is held against the very scrape that the page has. */
async function saturationAgrees() {
    await page.click("#pause");
    await page.waitForFunction(() => document.body.dataset.connection === "paused");
    const { first, newest } = told;
    const between = new Between(first, newest);
    const { seconds } = await data("#requests");
    const busy = between.sum("tokio_worker_busy_seconds_total") / Number(seconds);
    assert.ok(busy > 0, "workers were busy");
    const workers = newest.sum("tokio_workers");
    near(await value("#workers"), busy / workers, "busy ratio");
    near(await value("#cpu"), between.sum("process_cpu_seconds_total") / Number(seconds), "CPU");
    near(await value("#memory"), newest.sum("process_resident_memory_bytes"), "memory");
    near(await value("#pool"), newest.sum("db_connections_active"), "pool");
    const queue = newest.sum("tokio_global_queue_depth");
    const note = await page.textContent("#workers-note");
    assert.equal(note, `of ${workers} workers; ${queue} tasks wait`);
    for (const [chart, curve, name] of [
        ["queue", "in the global queue", "tokio_global_queue_depth"],
        ["memory", "allocated", "allocator_allocated_bytes"],
        ["memory", "allocator resident", "allocator_resident_bytes"],
        ["memory", "process resident", "process_resident_memory_bytes"],
        ["pool", "active", "db_connections_active"], ["pool", "idle", "db_connections_idle"],
        ["pool", "at most", "db_connections_max"], ["in-flight", "requests", "http_requests_in_flight"],
    ]) {
        assert.equal(newest.find(name).length, 1, name);
        near(await value(`#chart-${chart} [data-curve="${curve}"]`), newest.sum(name), `${chart}: ${curve}`);
    }
    const inside = await rows("runtime");
    const wanted = newest.samples.map(({ name }) => name)
        .filter((name) => /^(tokio|allocator|process)_/.test(name) && name !== "process_start_time_seconds");
    assert.deepEqual(inside.map(({ name }) => name).sort(), wanted.sort());
    for (const { name, value: shown } of inside) {
        near(Number(shown), name.endsWith("_total") ? between.sum(name) / Number(seconds) : newest.sum(name), name);
    }
    near(await value("#limit-backend"), newest.sum("rate_limit_backend_up"), "backend of the limiter");
    assert.equal(await page.textContent("#limit-backend"), "up");
    await page.click("#pause");
    await tick();
    assert.ok(!(await page.isVisible("#chart-latency .empty")));
    said(`workers busy ${(100 * busy / workers).toFixed(2)} %, pool, CPU, memory and ${inside.length} values of the inside`);
}

/** How many colours each chart is drawn in; a copy is read, the page's canvas stays as it is. */
const painted = () => page.$$eval(".charts figure", (figures) => figures.map((figure) => {
    const canvas = figure.querySelector("canvas");
    const copy = new OffscreenCanvas(canvas.width, canvas.height)
        .getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const pixels = copy.getImageData(0, 0, canvas.width, canvas.height).data;
    const colours = new Set();
    for (let at = 0; at < pixels.length; at += 4) {
        if (pixels[at + 3] === 255) colours.add(pixels.slice(at, at + 3).join());
    }
    return { id: figure.id, label: figure.querySelector("[role=img]").ariaLabel, colours: colours.size };
}));

async function looks() {
    for (const scheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme: scheme });
        const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
        const light = background.match(/\d+/g).map(Number).every((part) => part > 127);
        assert.equal(light, scheme === "light", `${scheme}: ${background}`);
        const charts = await painted();
        assert.equal(charts.length, 12);
        for (const { id, label, colours } of charts) {
            assert.ok(colours > 2, `${id} is drawn in ${scheme}`);
            assert.match(label, /: .+ .+/);
        }
        await page.evaluate(need("axe-core").source);
        for (const width of [1280, 390, 320]) {
            await page.setViewportSize({ width, height: 800 });
            const wide = await page.evaluate(() => document.documentElement.scrollWidth);
            assert.ok(wide <= width, `${wide} pixels in a window of ${width}`);
            const { violations } = await page.evaluate(() => window.axe.run(document));
            assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]), []);
        }
        await page.setViewportSize({ width: 1280, height: 900 });
    }
    const body = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const dark = await body();
    await page.click("#theme");
    assert.notEqual(await body(), dark, "light is chosen where the system is dark");
    await page.click("#theme");
    assert.equal(await body(), dark);
    await page.click("#theme");
    await page.emulateMedia({ colorScheme: "light" });
    said("light and dark, 1280, 390 and 320 pixels wide, and axe finds nothing");
}

/** All that can be used is reached with the keyboard, in the order of the page. */
async function keyboard() {
    const usable = await page.$$eval("a, button, select, input", (all) => all
        .filter((node) => node.checkVisibility() && !node.closest("noscript")).length);
    await page.evaluate(() => document.activeElement.blur());
    const reached = new Set();
    // At its end the page is left once before it begins again.
    for (let at = 0; at < usable + 2; at += 1) {
        await page.keyboard.press("Tab");
        reached.add(await page.evaluate(() => {
            const node = document.activeElement;
            return [...document.querySelectorAll("a, button, select, input")].indexOf(node);
        }));
    }
    reached.delete(-1);
    assert.equal(reached.size, usable, "controls that Tab reaches");
    said(`${usable} controls by keyboard`);
}

/** Nothing is asked while nobody looks. */
async function rests() {
    const asks = [];
    const note = (request) => asks.push(request.url());
    for (const [why, stop, go] of [
        ["paused", () => page.click("#pause"), () => page.click("#pause")],
        ["hidden", ...[true, false].map((hidden) => () => page.evaluate((is) => {
            Object.defineProperty(document, "hidden", { value: is, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }, hidden))],
    ]) {
        await tick();
        await stop();
        await page.waitForFunction(() => document.body.dataset.connection === "paused");
        page.on("request", note);
        const before = await ticks();
        // That nothing happens takes its time to see: two polls would fall into this.
        await page.waitForTimeout(4_500);
        assert.equal(await ticks(), before, why);
        assert.deepEqual(asks, [], why);
        page.off("request", note);
        await go();
        await tick();
    }
    said("rests while it is paused or hidden");
}

/** The forms do what they say, and say what the process refuses. */
async function switches() {
    for (const [id, member, good, bad] of [
        ["log-filter", "filter", "info,hyper=warn", "info,hyper=loud"], ["trace-sampling", "ratio", "0.25", null]]) {
        const url = `${service.admin}/${id}`;
        const offered = await fetch(url);
        assert.equal(offered.status, 200, id);
        const form = page.locator(`#${id}`);
        const status = form.locator("[role=status]");
        await page.waitForFunction((name) => document.getElementById(name).dataset.state === "ok", id);
        const old = String((await offered.json())[member]);
        assert.equal((await data(`#${id} output`)).value, old);
        await form.locator("[name=value]").fill(good);
        await form.locator("[name=ttl]").fill("1h");
        await form.locator("button").click();
        await page.waitForFunction(([name, text]) => document.querySelector(`#${name} output`).dataset.value === text, [id, good]);
        assert.equal(await status.textContent(), "In force for 1h.");
        const now = await (await fetch(url)).json();
        assert.deepEqual([String(now[member]), now.ttl], [good, "1h"]);
        assert.ok((await form.locator("output").textContent()).endsWith(`then ${old}`));
        if (bad) {
            await form.locator("[name=value]").fill(bad);
            await form.locator("button").click();
            await status.filter({ hasText: /^422: .*filter / }).waitFor();
            assert.equal(String((await (await fetch(url)).json())[member]), good);
        }
        said(`${id}: from ${old} to ${good} for 1h${bad ? ", and a wrong one is refused in words" : ""}`);
    }
}

/** A crash shows; the next process is another one, and nothing counts backwards. */
async function outlivesACrash() {
    const before = Number((await data("#requests")).increase);
    await service.crash();
    await page.waitForSelector("#silence", { state: "visible" });
    assert.match(await page.textContent("#silence"), /The process does not answer.*The last answer came at/);
    assert.match(await page.textContent("#connection"), /^last answer \d\d:\d\d:\d\d$/);
    assert.equal(await page.textContent("#state"), "no answer");
    assert.match(await page.title(), /^no answer – /);
    await service.begin({ ...PRODUCTION, APP__ADMIN__TOKEN: TOKEN });
    const first = await scrape(service.admin);
    const pings = 5;
    for (let at = 0; at < pings; at += 1) await (await fetch(`${service.api}/api/v1/ping`)).text();
    await page.waitForFunction(() => document.body.dataset.connection === "live");
    await tick(2);
    assert.ok(!(await page.isVisible("#silence")));
    const requests = await data("#requests");
    near(Number(requests.increase), before + pings, "requests over a restart");
    near(Number(requests.total), first.sum("http_requests_total") + pings, "requests of the new process");
    said(`shows a crash, and counts on over the restart: ${before} and ${pings}`);
}

/** A process that drains says so at the top, until it is gone. */
async function showsTheDrain() {
    assert.equal((await data("#state")).state, "ok");
    assert.ok(!(await page.isVisible("#trouble")));
    service.drain();
    await page.waitForFunction(() => document.getElementById("state").dataset.value === "draining");
    assert.equal((await scrape(service.admin)).sum("lifecycle_state", { state: "draining" }), 1);
    assert.equal(await page.textContent("#state"), "draining");
    assert.equal((await data("#state")).state, "bad");
    await page.locator("#trouble").filter({ hasText: "Takes no new traffic (draining)" }).waitFor();
    await page.waitForFunction(() => document.title.startsWith("draining – "));
    said("a drain shows in the state, the notice and the title");
}

/** The process has a token now: it is asked for when it is needed, and kept by the page alone. */
async function asksForTheToken() {
    assert.match(await page.textContent("#build"), /production/);
    const apply = page.locator("#trace-sampling button");
    const status = page.locator("#trace-sampling [role=status]");
    await page.locator("#trace-sampling [name=value]").fill("0.5");
    await apply.click();
    await status.filter({ hasText: "needs admin.token: enter it above" }).waitFor();
    await page.getByLabel("admin.token").fill(TOKEN);
    await page.getByRole("button", { name: "Use", exact: true }).click();
    await apply.click();
    await status.filter({ hasText: "In force for" }).waitFor();
    assert.equal((await (await fetch(`${service.admin}/trace-sampling`)).json()).ratio, 0.5);
    assert.equal(await page.inputValue("#token"), "");
    assert.deepEqual(await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie]), [0, 0, ""]);
    said("asks for admin.token when it is needed, and stores it nowhere");
}

/** In production without a token everything is shown, and nothing can be changed. */
async function onlyShowsInProduction() {
    await service.crash();
    await page.waitForFunction(() => document.body.dataset.connection === "silent");
    await service.begin({ ...PRODUCTION, APP__ADMIN__TOKEN: undefined });
    await page.waitForFunction(() => document.body.dataset.connection === "live");
    assert.match(await page.textContent("#build"), /production/);
    await page.locator("#trace-sampling [name=value]").fill("0.75");
    await page.locator("#trace-sampling button").click();
    await page.locator("#trace-sampling [role=status]")
        .filter({ hasText: "needs admin.token: switches are not there" }).waitFor();
    assert.equal((await (await fetch(`${service.admin}/trace-sampling`)).json()).ratio, 0.1);
    said("in production without admin.token it shows all and changes nothing");
}

const before = await scrape(service.admin);
await opens();
await load(service.api, LOAD_SECONDS);
assert.ok(await overload(service.api) > 0, "the overload was refused");
await figuresAgree(before);
await saturationAgrees();
await looks();
await keyboard();
await rests();
await switches();
assert.deepEqual(complaints, [], "the console is empty");
assert.deepEqual(strangers, [], "no request to any other origin");
said("no complaint in the console, no request to another origin");
await outlivesACrash();
await asksForTheToken();
await onlyShowsInProduction();
await showsTheDrain();
await chromium.close();
process.exit(0);
