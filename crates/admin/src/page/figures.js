// The numbers and tables. Exact values of rounded numbers are in `data-` attributes.

import { bytes, clock, duration, latency, percent, perSecond, plain, seconds } from "./format.js";
import { budget, busyRatio, errorRatio, OBJECTIVE } from "./panels.js";

const BACKEND = ["down: each replica limits alone", "up"];
const ROUTES = 12; // most rows of the table
/** Shares of a resource (places, time of workers) above which requests wait or are refused. */
const [FILLING, CROWDED] = [0.7, 0.9];
const LATENCY = "http_request_duration_seconds";

const byId = (id) => document.getElementById(id);

/** Shows a figure. `state` is its rating: `ok`, `warn`, `bad` or empty. */
function show(id, value, format, note = "", state = "") {
    const node = byId(id);
    node.textContent = format(value);
    node.dataset.value = String(value);
    node.dataset.state = state;
    const small = byId(`${id}-note`);
    if (small) small.textContent = note;
    return node;
}

/** Replaces the rows of a table. A row has an object of `data-` values and a list of cells. */
function fill(id, rows, nothing) {
    const body = byId(id);
    if (rows.length === 0) {
        const cell = document.createElement("td");
        cell.colSpan = body.parentElement.querySelectorAll("thead th").length;
        cell.textContent = nothing;
        cell.className = "nothing";
        const row = document.createElement("tr");
        row.append(cell);
        body.replaceChildren(row);
        return;
    }
    body.replaceChildren(...rows.map(({ data, cells }) => {
        const row = document.createElement("tr");
        Object.assign(row.dataset, data);
        row.append(...cells.map((text, at) => {
            const cell = document.createElement(at === 0 ? "th" : "td");
            if (at === 0) cell.scope = "row";
            cell.textContent = text;
            return cell;
        }));
        return row;
    }));
}

/** Rating of the used share of a resource. */
const crowd = (share) => (share > CROWDED ? "bad" : share > FILLING ? "warn" : "");

function tiles(history, window) {
    const covered = `over ${duration(history.span(window))}`;
    const requests = show("requests", history.rate("http_requests_total", window), perSecond, covered);
    requests.dataset.total = String(history.now("http_requests_total"));
    requests.dataset.increase = String(history.increase("http_requests_total", window));
    requests.dataset.seconds = String(history.span(window));
    const failing = errorRatio(history, window);
    show("error-ratio", failing, percent,
        `${history.increase("http_requests_total", window) > 0 ? "5xx of valid" : "no requests"} ${covered}`, failing > 1 - OBJECTIVE ? "bad" : "");
    const { left, valid, failed } = budget(history);
    const uptime = history.time - history.now("process_start_time_seconds");
    show("budget", left, (share) => (share > 0 ? percent(share) : "exhausted"),
        `since the start, ${duration(uptime)} ago: ${plain(failed)} of ${plain(valid)} failed; objective ${percent(OBJECTIVE)}`,
        left > 0.5 ? "ok" : left > 0 ? "warn" : "bad");
    for (const [id, q] of [["p50", 0.5], ["p95", 0.95], ["p99", 0.99]]) {
        const value = history.quantile(q, LATENCY, window);
        show(id, value, latency, Number.isNaN(value) ? `no requests ${covered}` : covered);
    }
    const shed = history.increase("http_shed_total", window);
    const [inFlight, atMost] = [history.now("http_requests_in_flight"), history.now("http_requests_in_flight_max")];
    const working = inFlight - history.now("http_request_bodies_arriving");
    show("in-flight", inFlight, plain, `of ${plain(atMost)}; ${
        plain(history.now("http_connections_open", ({ listener }) => listener !== "admin"))
    } connections; ${plain(shed)} shed ${covered}`, shed > 0 ? "bad" : crowd(working / atMost));
    const panics = history.now("panics_total");
    show("panics", panics, plain, "since the start", panics > 0 ? "bad" : "");
    saturation(history, window, covered);
}

/** Shows how much of its resources the process uses. */
function saturation(history, window, covered) {
    const [active, most] = [history.now("db_connections_active"), history.now("db_connections_max")];
    const timeouts = history.increase("db_pool_timeouts_total", window);
    show("pool", active, plain, `of ${plain(most)} connections; ${plain(timeouts)} timeouts ${covered}`,
        timeouts > 0 ? "bad" : active >= most ? "warn" : "");
    const busy = busyRatio(history, window);
    show("workers", busy, percent,
        `of ${plain(history.now("tokio_workers"))} workers; ${plain(history.now("tokio_global_queue_depth"))} tasks wait`,
        crowd(busy));
    show("cpu", history.rate("process_cpu_seconds_total", window), plain, `user, system ${covered}`);
    show("memory", history.now("process_resident_memory_bytes"), bytes,
        `resident; ${bytes(history.now("allocator_allocated_bytes"))} allocated`);
}

/** Shows the routes by cost, which is the seconds of polling in a second. */
function routes(history, window) {
    const of = (method, path) => (labels) => labels.method === method && labels.path === path;
    const found = [];
    const span = history.span(window);
    for (const path of history.values(`${LATENCY}_count`, "path")) {
        const ofPath = (labels) => labels.path === path;
        for (const method of history.values(`${LATENCY}_count`, "method", ofPath)) {
            const match = of(method, path);
            const requests = history.increase("http_requests_total", window, match);
            if (requests === 0) continue;
            const failed = history.increase("http_requests_total", window,
                (labels) => match(labels) && labels.status.startsWith("5"));
            found.push({
                route: `${method} ${path}`, requests, failed,
                errors: errorRatio(history, window, match),
                busy: history.rate("http_request_busy_seconds_total", window, match) || 0,
                rate: requests / span,
                p99: history.quantile(0.99, LATENCY, window, match),
            });
        }
    }
    found.sort((a, b) => b.busy - a.busy || b.requests - a.requests);
    fill("routes", found.slice(0, ROUTES).map((route) => ({
        data: route,
        cells: [route.route, perSecond(route.rate), latency(route.p99),
            route.failed ? `${plain(route.failed)} (${percent(route.errors)})` : "0",
            `${seconds(route.busy)}/s`],
    })), "No requests in this window.");
}

/** Shows a counter by one label: the total, and the rate over the window. */
function counters(id, history, window, { name, label, all, nothing }) {
    const rows = history.values(name, label).map((word) => {
        const match = (labels) => labels[label] === word;
        return {
            word, total: history.now(name, match), rate: history.rate(name, window, match),
        };
    }).filter(({ total, rate }) => all || total > 0 || rate > 0);
    if (!all) rows.sort((a, b) => b.rate - a.rate || b.total - a.total);
    fill(id, rows.map((row) => ({
        data: row,
        cells: [row.word, plain(row.total), perSecond(row.rate)],
    })), nothing);
}

function limiters(history, window) {
    const name = "rate_limit_decisions_total";
    fill("limiters", history.values(name, "limiter").map((limiter) => {
        const rate = (decision) => history.rate(name, window,
            (labels) => labels.limiter === limiter && labels.decision === decision);
        const [allowed, rejected] = [rate("allowed"), rate("rejected")];
        const keys = history.now("rate_limit_keys", (labels) => labels.limiter === limiter);
        return {
            data: { limiter, allowed, rejected, keys },
            cells: [limiter, perSecond(allowed), perSecond(rejected), plain(keys)],
        };
    }), "The limiter is off.");
    const up = history.now("rate_limit_backend_up");
    show("limit-backend", up, (value) => BACKEND[value] ?? "not told", "", up === 0 ? "bad" : "");
}

/** Shows metrics of runtime, allocator and process: gauges unchanged, counters as rates. */
function runtime(history, window) {
    const names = ["tokio_", "allocator_", "process_"].flatMap((prefix) => history.names(prefix))
        .filter((name) => !/_(bucket|sum|count)$/.test(name) && name !== "process_start_time_seconds");
    fill("runtime", names.map((name) => {
        const isRate = name.endsWith("_total");
        const value = isRate ? history.rate(name, window) : history.now(name);
        const unit = /_seconds(_|$)/.test(name) ? seconds : name.endsWith("_bytes") ? bytes : plain;
        const text = unit(value);
        return { data: { name, value }, cells: [name, isRate && Number.isFinite(value) ? `${text}/s` : text] };
    }), "This build tells nothing.");
}

/** Shows all figures that come from metrics. */
export function figures(history, window) {
    tiles(history, window);
    routes(history, window);
    counters("error-types", history, window,
        { name: "errors_total", label: "type", nothing: "No problem was answered." });
    counters("log-levels", history, window, { name: "log_lines_total", label: "level", all: true });
    counters("span-outcomes", history, window, { name: "trace_spans_total", label: "outcome", all: true });
    show("log-dropped", history.now("log_lines_dropped_total"), plain);
    limiters(history, window);
    runtime(history, window);
}

/** Shows problems at the top: readiness and failing checks. The tables are further down. */
function trouble(ready, state, down) {
    const parts = down.map(([check, { since, last_error: why }]) =>
        `${check} is down since ${clock(Date.parse(since))}: ${why ?? "unknown"}`);
    if (!ready) parts.unshift(`Takes no new traffic${state === "ready" ? "" : ` (${state})`}`);
    const node = byId("trouble");
    const text = parts.length ? `${parts.join(". ")}.` : "";
    if (node.textContent !== text) node.textContent = text;
    node.dataset.state = ready ? "warn" : "bad";
    node.hidden = text === "";
}

/** Shows the answer of the readiness probe: the state of the process, and each check. */
export function health({ state, status, checks = {} }) {
    const node = byId("state");
    const ready = status === "ok";
    node.textContent = ready || state !== "ready" ? state : "not ready";
    Object.assign(node.dataset, { value: state, state: ready ? "ok" : "bad", status });
    trouble(ready, state, Object.entries(checks).filter(([, { up }]) => !up));
    fill("checks", Object.entries(checks).map(([check, { up, critical, since, last_error: why }]) => ({
        data: { check, up, state: up ? "ok" : critical ? "bad" : "warn" },
        cells: [check, up ? "up" : `down: ${why ?? "unknown"}`,
            duration((Date.now() - Date.parse(since)) / 1_000), critical ? "yes" : "no"],
    })), "No checks.");
}

/** Shows the name and the build of the process. */
export function identity({ name, version, revision, profile }) {
    byId("name").textContent = name;
    Object.assign(byId("build").dataset, { version, revision });
    byId("build").title = revision;
    // 12 characters identify a commit.
    byId("build").textContent = [version, revision?.slice(0, 12), profile].filter(Boolean).join(" · ");
}

export function uptime(started, time) {
    show("uptime", time - started, duration);
}
