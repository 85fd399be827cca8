// Figures, tables and charts of the live page against /metrics.

import assert from "node:assert/strict";
import { Between, scrape } from "./page-metrics.mjs";
import { data, near, page, rows, said, service, tick, told, value } from "./page-session.mjs";

const LATENCY = "http_request_duration_seconds";
const ROWS = 12;

/** Everything that happened since `before`, as the page shows it. */
export async function figuresAgree(before, seconds) {
    const early = await scrape(service.admin);
    await tick(2); // the first may have been under way
    const after = await scrape(service.admin);
    const between = new Between(before, after);

    const requests = await data("#requests");
    const increase = between.sum("http_requests_total");
    assert.ok(increase > seconds * 10, `a load: ${increase} requests`);
    near(Number(requests.total), after.sum("http_requests_total"), "requests");
    near(Number(requests.increase), increase, "requests in the window");
    near(Number(requests.value), increase / Number(requests.seconds), "request rate");
    assert.ok(Number(requests.seconds) > seconds, requests.seconds);

    const failed = between.sum("http_requests_total", { status: /^5/ });
    const valid = between.sum("http_requests_total", { status: /^[^4]/ });
    assert.ok(failed > 0, "some requests failed");
    near(await value("#error-ratio"), failed / valid, "error ratio");
    const spent = after.sum("http_requests_total", { status: /^5/ })
        / after.sum("http_requests_total", { status: /^[^4]/ }) / 0.001;
    near(await value("#budget"), 1 - spent, "error budget");
    const left = await page.textContent("#budget");
    assert.equal(left === "exhausted", spent >= 1, left);
    assert.doesNotMatch(left, /-/);
    assert.match(await page.textContent("#budget-note"), /^since the start, \d+ (s|min|h|d)/);
    for (const [id, q] of [["p50", 0.5], ["p95", 0.95], ["p99", 0.99]]) {
        const wanted = between.quantile(q, LATENCY);
        near(await value(`#${id}`), wanted, id);
        assert.equal(await page.textContent(`#${id}`) === "< 1 ms", wanted <= 0.001, id);
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
        const counted = between.sum("http_requests_total", { ...wanted, status: /^[^4]/ });
        const ratio = counted ? between.sum("http_requests_total", { ...wanted, status: /^5/ }) / counted : 0;
        near(Number(shown[at].errors), ratio, `error ratio of ${route}`);
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
export async function saturationAgrees() {
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
        ["queue", "in the workers' own", "tokio_local_queue_depth"],
        ["polls", "slowest worker, lately", "tokio_task_poll_mean_seconds"],
        ["memory", "allocated", "allocator_allocated_bytes"],
        ["memory", "allocator resident", "allocator_resident_bytes"],
        ["memory", "process resident", "process_resident_memory_bytes"],
        ["pool", "active", "db_connections_active"], ["pool", "idle", "db_connections_idle"],
        ["pool", "at most", "db_connections_max"], ["in-flight", "requests", "http_requests_in_flight"],
    ]) {
        assert.equal(newest.find(name).length, 1, name);
        near(await value(`#chart-${chart} [data-curve="${curve}"]`), newest.sum(name), `${chart}: ${curve}`);
    }
    assert.match(await page.textContent("#in-flight-note"),
        new RegExp(`^of ${newest.sum("http_requests_in_flight_max").toLocaleString("en")}; `));
    assert.ok(await value('#chart-polls [data-curve="all workers"]') > 0, "polls take time");
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
