// The numbers and tables. What is shown rounded stands exact in `data-` attributes.

import { bytes, duration, percent, perSecond, plain, seconds } from "./format.js";
import { budget, errorRatio } from "./panels.js";

const ROUTES = 12; // rows at most
const LATENCY = "http_request_duration_seconds";

const byId = (id) => document.getElementById(id);

function show(id, value, format, note = "") {
    const node = byId(id);
    node.textContent = format(value);
    node.dataset.value = String(value);
    const small = byId(`${id}-note`);
    if (small) small.textContent = note;
    return node;
}

/** Replaces the rows of a table; a row is an object of `data-` values and a list of cells. */
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

function tiles(history, window) {
    const covered = `over ${duration(history.span(window))}`;
    const requests = show("requests", history.rate("http_requests_total", window), perSecond, covered);
    requests.dataset.total = String(history.now("http_requests_total"));
    requests.dataset.increase = String(history.increase("http_requests_total", window));
    requests.dataset.seconds = String(history.span(window));
    show("error-ratio", errorRatio(history, window), percent, `5xx of valid, ${covered}`);
    const { left, valid, failed } = budget(history);
    show("budget", left, percent, `${plain(failed)} of ${plain(valid)} failed since the start`)
        .dataset.state = left > 0.5 ? "ok" : left > 0 ? "warn" : "bad";
    for (const [id, q] of [["p50", 0.5], ["p95", 0.95], ["p99", 0.99]]) {
        show(id, history.quantile(q, LATENCY, window), seconds, covered);
    }
    show("in-flight", history.now("http_requests_in_flight"), plain,
        `${plain(history.now("http_connections_open", ({ listener }) => listener !== "admin"))} connections`);
    const [active, most] = [history.now("db_connections_active"), history.now("db_connections_max")];
    show("pool", active, plain, `of ${plain(most)} connections`);
    show("memory", history.now("process_resident_memory_bytes"), bytes, "resident");
    show("panics", history.now("panics_total"), plain, "since the start");
}

/** Routes by what they cost: seconds of polling by second. */
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
                busy: history.rate("http_request_busy_seconds_total", window, match) || 0,
                rate: requests / span,
                p99: history.quantile(0.99, LATENCY, window, match),
            });
        }
    }
    found.sort((a, b) => b.busy - a.busy || b.requests - a.requests);
    fill("routes", found.slice(0, ROUTES).map((route) => ({
        data: route,
        cells: [route.route, perSecond(route.rate), seconds(route.p99),
            route.failed ? `${plain(route.failed)} (${percent(route.failed / route.requests)})` : "0",
            `${seconds(route.busy)}/s`],
    })), "No requests in this window.");
}

/** A table of a counter by one label: the total, and the rate over the window. */
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
}

/** Whatever the runtime tells about itself: gauges as they are, counters as rates. */
function runtime(history, window) {
    const rows = history.names("tokio_").filter((name) => !/_(bucket|sum|count)$/.test(name))
        .map((name) => {
            const isRate = name.endsWith("_total");
            const value = isRate ? history.rate(name, window) : history.now(name);
            return { data: { name, value }, cells: [name, isRate ? perSecond(value) : plain(value)] };
        });
    byId("runtime-card").hidden = rows.length === 0;
    if (rows.length) fill("runtime", rows);
}

/** Everything that comes from metrics. */
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

/** The answer of the readiness probe: the life state, and each check. */
export function health({ state, status, checks = {} }) {
    const node = byId("state");
    node.textContent = status === "ok" ? state : `${state}, not ready`;
    Object.assign(node.dataset, { value: state, state: status === "ok" ? "ok" : "bad", status });
    fill("checks", Object.entries(checks).map(([check, { up, critical, since, last_error: why }]) => ({
        data: { check, up, state: up ? "ok" : critical ? "bad" : "warn" },
        cells: [check, up ? "up" : `down: ${why ?? "unknown"}`,
            duration((Date.now() - Date.parse(since)) / 1_000), critical ? "yes" : "no"],
    })), "No checks.");
}

/** What runs, and since when. */
export function identity({ name, version, revision, profile }) {
    document.title = `${name} – live`;
    byId("name").textContent = name;
    Object.assign(byId("build").dataset, { version, revision });
    byId("build").textContent = [version, revision, profile].filter(Boolean).join(" · ");
}

export function uptime(started, time) {
    show("uptime", time - started, duration);
}
