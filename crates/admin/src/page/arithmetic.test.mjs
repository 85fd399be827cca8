// The arithmetic of the live page: reading the text format, restarts, windows, quantiles.
// `node --test` runs it, in `scripts/verify 65`.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parse } from "./exposition.js";
import { History } from "./history.js";
import { duration, latency, percent, plain, seconds } from "./format.js";
import { budget, busyRatio, errorRatio, PANELS } from "./panels.js";

const scrape = (started, lines, types = {}) => parse([
    ...Object.entries(types).map(([name, type]) => `# TYPE ${name} ${type}`),
    `process_start_time_seconds ${started}`, ...lines, ""].join("\n"));
const counters = { http_requests_total: "counter", http_request_duration_seconds: "histogram" };
const requests = (started, count, status = "200") =>
    scrape(started, [`http_requests_total{path="/",status="${status}"} ${count}`], counters);

test("labels keep their escapes, braces and commas", () => {
    const { samples, types } = parse(
        '# HELP m x\n# TYPE m gauge\nm{a="}\\"\\\\\\n,",b="2"} 1.5e3 1700000000\nn +Inf\n');
    assert.equal(types.get("m"), "gauge");
    assert.equal(samples[0].value, 1_500);
    assert.equal(samples[1].value, Infinity);
    const history = new History(3);
    history.add(0, { samples, types });
    assert.deepEqual(history.values("m", "a"), ['}"\\\n,']);
});

test("what was counted before the first look is no rate", () => {
    const history = new History(10);
    history.add(0, requests(1, 1_000));
    assert.ok(Number.isNaN(history.rate("http_requests_total", 60)));
    history.add(2, requests(1, 1_010));
    assert.equal(history.rate("http_requests_total", 60), 5);
});

test("a restart counts from zero, whether the new count is lower or higher", () => {
    const history = new History(10);
    history.add(0, requests(1, 100));
    history.add(2, requests(1, 110));
    history.add(4, requests(4, 7));
    assert.equal(history.increase("http_requests_total", 60), 17);
    history.add(6, requests(5, 50));
    assert.equal(history.increase("http_requests_total", 60), 67);
    history.add(8, scrape(6, [], counters));
    history.add(10, requests(6, 3));
    assert.equal(history.increase("http_requests_total", 60), 70);
});

test("a series that appears later began at zero", () => {
    const history = new History(10);
    history.add(0, scrape(1, [], counters));
    history.add(2, requests(1, 4));
    assert.equal(history.increase("http_requests_total", 60), 4);
});

test("a window ends where it ends, also when the memory has gone round", () => {
    const history = new History(5);
    for (let tick = 0; tick < 12; tick += 1) history.add(tick * 2, requests(1, tick * tick));
    assert.equal(history.span(4), 4);
    assert.equal(history.increase("http_requests_total", 4), 11 ** 2 - 9 ** 2);
    assert.equal(history.span(600), 8);
    assert.equal(history.increase("http_requests_total", 600), 11 ** 2 - 7 ** 2);
});

test("quantiles are interpolated within their bucket", () => {
    const name = "http_request_duration_seconds";
    const buckets = (...counts) => scrape(1, ["0.1", "0.5", "1", "+Inf"].map((le, at) =>
        `${name}_bucket{path="/",le="${le}"} ${counts[at]}`), counters);
    const history = new History(10);
    history.add(0, buckets(5, 5, 5, 5));
    assert.ok(Number.isNaN(history.quantile(0.5, name, 60)));
    history.add(2, buckets(15, 25, 25, 25)); // ten up to 0.1, ten up to 0.5
    assert.equal(history.quantile(0.25, name, 60), 0.1, "inside the first bucket: its bound");
    assert.equal(history.quantile(0.5, name, 60), 0.1);
    assert.ok(Math.abs(history.quantile(0.75, name, 60) - 0.3) < 1e-12);
    history.add(4, buckets(15, 25, 25, 125));
    assert.equal(history.quantile(0.99, name, 60), 1, "beyond the last bound: that bound");
});

test("failures are a share of valid requests, the budget of all since the start", () => {
    const history = new History(10);
    const lines = (ok, refused, failed) => scrape(1, [
        `http_requests_total{status="200"} ${ok}`, `http_requests_total{status="404"} ${refused}`,
        `http_requests_total{status="503"} ${failed}`], counters);
    history.add(0, lines(0, 0, 0));
    assert.equal(errorRatio(history, 60), 0);
    assert.equal(budget(history).left, 1);
    history.add(2, lines(9_995, 5_000, 5));
    assert.equal(errorRatio(history, 60), 5 / 10_000);
    assert.ok(Math.abs(budget(history).left - 0.5) < 1e-9);
});

test("a route's ratio is the same quantity as the ratio of all", () => {
    const history = new History(10);
    const lines = (ok, refused, failed) => scrape(1, [["200", ok], ["429", refused], ["503", failed]]
        .map(([status, count]) => `http_requests_total{method="GET",path="/a",status="${status}"} ${count}`), counters);
    history.add(0, lines(0, 0, 0));
    history.add(2, lines(90, 30_000, 10));
    assert.equal(errorRatio(history, 60, ({ path }) => path === "/a"), 0.1);
    assert.equal(errorRatio(history, 60), 0.1);
    assert.equal(errorRatio(history, 60, ({ path }) => path === "/b"), 0);
});

test("a busy ratio is of all workers, and no runtime is no ratio", () => {
    const history = new History(10);
    const lines = (busy) => scrape(1, [`tokio_worker_busy_seconds_total ${busy}`, "tokio_workers 4"],
        { tokio_worker_busy_seconds_total: "counter", tokio_workers: "gauge" });
    history.add(0, lines(7));
    assert.ok(Number.isNaN(busyRatio(history, 60)));
    history.add(2, lines(11));
    assert.equal(busyRatio(history, 60), 0.5);
    const other = new History(10);
    other.add(0, requests(1, 1));
    other.add(2, requests(1, 2));
    assert.ok(Number.isNaN(busyRatio(other, 60)));
});

test("curves show their own metric", () => {
    const gauges = { tokio_global_queue_depth: 3, allocator_allocated_bytes: 5, allocator_resident_bytes: 7,
        process_resident_memory_bytes: 11, db_connections_active: 13, db_connections_max: 17 };
    const history = new History(10);
    history.add(0, scrape(1, Object.entries(gauges).map(([name, value]) => `${name} ${value}`)));
    const shown = (id) => PANELS.find((panel) => panel.id === id).curves
        .map(({ value }) => value(history)).filter(Number.isFinite);
    assert.deepEqual([shown("queue"), shown("memory"), shown("pool")], [[3], [5, 7, 11], [13, 17]]);
    assert.ok(!history.has("http_streams_open"));
});

test("numbers for people", () => {
    assert.deepEqual([plain(1234.5), plain(0.12345), plain(NaN), plain(0.00042)], ["1,235", "0.123", "–", "0.0004"]);
    assert.deepEqual([seconds(0.000_5), seconds(0.25), seconds(2.5)], ["500 µs", "250 ms", "2.5 s"]);
    assert.deepEqual([latency(0.001), latency(0.0012), latency(10), latency(NaN)], ["< 1 ms", "1.2 ms", "≥ 10 s", "–"]);
    assert.equal(percent(0.00123), "0.123 %");
    assert.deepEqual([duration(59), duration(3_700), duration(200_000)], ["59 s", "1 h 1 min", "2 d 7 h"]);
});
