// page-probe.mjs FOLDER: opens the live page in a real browser while the service is
// under load, and holds what it shows against /metrics. Prints a line a behaviour.

import assert from "node:assert/strict";
import { keygen, load, need, overload } from "./page-rig.mjs";
import { scrape } from "./page-metrics.mjs";
import { figuresAgree, saturationAgrees } from "./page-agreement.mjs";
import {
    chromium, complaints, data, near, page, said, service, strangers, tick, ticks,
} from "./page-session.mjs";

const LOAD_SECONDS = 8;
const TOKEN = "a-token-for-this-check-only-0123456789";
const PRODUCTION = {
    APP_ENV: "production", APP__AUTH__KEYS: keygen(),
    APP__DATABASE__ALLOW_SQLITE: "true", APP__DATABASE__MIGRATE_ON_START: "true",
    // Long enough to be looked at.
    APP__LIFECYCLE__DRAIN_DELAY: "60s",
};

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
        assert.equal(charts.length, 13);
        for (const { id, label, colours } of charts) {
            assert.ok(colours > 2, `${id} is drawn in ${scheme}`);
            assert.match(label, /: .+ .+/);
        }
        await page.evaluate(need("axe-core").source);
        for (const width of [1600, 1280, 1000, 800, 390, 320]) {
            await page.setViewportSize({ width, height: 800 });
            const lines = await page.$$eval(".tiles .card", (tiles) => Object.values(
                Object.groupBy(tiles, (tile) => tile.getBoundingClientRect().top)).map(({ length }) => length));
            assert.equal(new Set(lines).size, 1, `rows of tiles at ${width}: ${lines}`);
            const wide = await page.evaluate(() => document.documentElement.scrollWidth);
            const beyond = await page.$$eval("body *", (all, width) => all
                .filter((one) => one.getBoundingClientRect().right > width)
                .map((one) => `${one.tagName} ${one.id} ${one.className}: ${one.textContent.trim().slice(0, 40)}`), width);
            assert.ok(wide <= width, `${wide} pixels in a window of ${width}: ${beyond.join("; ")}`);
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

/** What explains strange figures stands at the top, for as long as it holds. */
async function tellsOverrides() {
    const notice = page.locator("#overrides");
    await notice.filter({ hasText: /^Log filter is info,hyper=warn for 59 min \d+ s, then info\. Trace sampling is 0\.25 for 59 min \d+ s, then 1\.$/ })
        .waitFor();
    const send = (method, path, body) => fetch(`${service.admin}/${path}`,
        { method, body: body && JSON.stringify(body), headers: { "content-type": "application/json" } });
    await send("PUT", "faults", { path: "/api/v1/ping", latency: "5ms", status: 503, ratio: 0.5, ttl: "1h" });
    await notice.filter({ hasText: /^Faults are injected: \/api\/v1\/ping waits 5ms, answers 503, 50 % of the time, for 59 min \d+ s\. Log/ })
        .waitFor();
    await send("DELETE", "faults");
    await notice.filter({ hasText: /^Log filter/ }).waitFor();
    await send("PUT", "log-filter", { filter: "info" });
    await send("PUT", "trace-sampling", { ratio: 1 });
    await page.waitForSelector("#overrides", { state: "hidden" });
    said("faults, and switches that will return, are told at the top with their time");
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

/** A check that fails is named at the top. The process is well: its answer is changed under way. */
async function namesAFailedCheck() {
    await page.route("**/health/ready", async (route) => {
        const answer = await (await route.fetch()).json();
        assert.equal(answer.checks.database.up, true);
        Object.assign(answer, { status: "unavailable" });
        Object.assign(answer.checks.database, { up: false, last_error: "connection refused" });
        await route.fulfill({ status: 503, json: answer });
    });
    await page.locator("#trouble")
        .filter({ hasText: /^Takes no new traffic\. database is down since \d\d:\d\d:\d\d: connection refused\.$/ })
        .waitFor();
    assert.equal(await page.textContent("#state"), "not ready");
    assert.equal((await page.locator('#checks tr[data-check="database"]').getAttribute("data-state")), "bad");
    await page.unroute("**/health/ready");
    await page.waitForSelector("#trouble", { state: "hidden" });
    assert.equal(await page.textContent("#state"), "ready");
    said("a failed check is named at the top, with its cause, for as long as it fails");
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
await figuresAgree(before, LOAD_SECONDS);
await saturationAgrees();
await looks();
await keyboard();
await rests();
await switches();
await tellsOverrides();
assert.deepEqual(complaints, [], "the console is empty");
assert.deepEqual(strangers, [], "no request to any other origin");
said("no complaint in the console, no request to another origin");
await namesAFailedCheck();
await outlivesACrash();
await asksForTheToken();
await onlyShowsInProduction();
await showsTheDrain();
await chromium.close();
process.exit(0);
