// Definitions of the charts: one entry for each chart, one call of `curve` for each curve.

import { bytes, latency, percent, perSecond, plain, seconds } from "./format.js";

/** Seconds of history behind each point of a chart. */
export const WINDOW = 10;
/** The share of valid requests that must not fail: the objective of the alert rules. */
export const OBJECTIVE = 0.999;

const LATENCY = "http_request_duration_seconds";
const REQUESTS = "http_requests_total";

const is5xx = ({ status }) => status.startsWith("5");
/** Errors of clients count neither as good nor as bad, as in the alert rules. */
const isValid = ({ status }) => !status.startsWith("4");

/** Share of failed requests in the valid ones, of all routes or one. 0 without valid requests. */
export function errorRatio(history, window, match = () => true) {
    const valid = history.increase(REQUESTS, window, (labels) => isValid(labels) && match(labels));
    return valid > 0 ? history.increase(REQUESTS, window, (labels) => is5xx(labels) && match(labels)) / valid : 0;
}

/** Share of time in which the workers of the runtime are busy. At 1 all tasks wait. */
export function busyRatio(history, window) {
    return history.rate("tokio_worker_busy_seconds_total", window) / history.now("tokio_workers");
}

/** Share of the error budget left since the start of the process. 1 is all, 0 or less is none. */
export function budget(history) {
    const valid = history.now(REQUESTS, isValid);
    if (!(valid > 0)) return { left: 1, valid: 0, failed: 0 };
    const failed = history.now(REQUESTS, is5xx) || 0;
    return { left: 1 - failed / (valid * (1 - OBJECTIVE)), valid, failed };
}

/** Mean time of a poll. Other tasks of the same worker wait that long. */
const pollTime = (history) => history.rate("tokio_worker_busy_seconds_total", WINDOW)
    / history.rate("tokio_task_polls_total", WINDOW);

const rate = (name, match) => (history) => history.rate(name, WINDOW, match);
const now = (name, match) => (history) => history.now(name, match);
const quantile = (q) => (history) => history.quantile(q, LATENCY, WINDOW);
const ofClass = (first) => rate(REQUESTS, ({ status }) => status.startsWith(first));
const decision = (limiter, decided) => rate("rate_limit_decisions_total",
    (labels) => labels.limiter === limiter && labels.decision === decided);

/**
 * Defines a curve. Colours are `ok`, `warn`, `bad`, and `a` to `d`. A dash distinguishes curves
 * without colours. `more` can have a `format` if the unit is not the one of the chart, and
 * `where`, a metric without which the curve is hidden.
 */
const curve = (label, value, colour, dash, more) => ({ label, value, colour, dash, ...more });
const RATE = { format: perSecond };
/** Steps of an axis: whole numbers, and powers of two in MiB. */
const WHOLE = Array.from({ length: 7 }, (_, power) => [1, 2, 5].map((first) => first * 10 ** power)).flat();
const MEBIBYTES = Array.from({ length: 20 }, (_, power) => 2 ** (power + 20));
const byLabel = (name, label, curves) => curves.map(([word, colour, dash]) =>
    curve(word, rate(name, (labels) => labels[label] === word), colour, dash));

export const PANELS = [
    {
        id: "requests", title: "Requests by status (logarithmic)", format: perSecond, logarithmic: true,
        curves: [curve("2xx", ofClass("2"), "ok"), curve("3xx", ofClass("3"), "a"),
            curve("4xx", ofClass("4"), "warn", [6, 3]), curve("5xx", ofClass("5"), "bad"),
            curve("gRPC", rate("rpc_server_requests_total"), "b", [2, 3], { where: "rpc_server_requests_total" })],
    },
    {
        id: "latency", title: "Latency", format: latency, nothing: "No requests yet.",
        curves: [curve("p50", quantile(0.5), "a"), curve("p95", quantile(0.95), "warn", [6, 3]),
            curve("p99", quantile(0.99), "bad")],
    },
    {
        id: "errors", title: "Error ratio (5xx of valid requests)", format: percent,
        curves: [curve("failed", (history) => errorRatio(history, WINDOW), "bad"),
            curve("objective", () => 1 - OBJECTIVE, "d", [2, 3])],
    },
    {
        id: "in-flight", title: "In flight: requests, connections", format: plain, steps: WHOLE,
        curves: [curve("requests", now("http_requests_in_flight"), "a"),
            curve("connections", now("http_connections_open", ({ listener }) => listener !== "admin"), "b", [6, 3]),
            curve("streams", now("http_streams_open"), "c", [2, 3], { where: "http_streams_open" }),
            curve("shed", rate("http_shed_total"), "bad", undefined, RATE)],
    },
    {
        id: "pool", title: "Database connections", format: plain, steps: WHOLE,
        curves: [curve("active", now("db_connections_active"), "a"),
            curve("idle", now("db_connections_idle"), "b", [6, 3]),
            curve("at most", now("db_connections_max"), "d", [2, 3]),
            curve("timeouts", rate("db_pool_timeouts_total"), "bad", undefined, RATE)],
    },
    {
        id: "workers", title: "Runtime: workers busy", format: percent,
        curves: [curve("busy", (history) => busyRatio(history, WINDOW), "a")],
    },
    {
        id: "queue", title: "Runtime: tasks that wait for a worker", format: plain, steps: WHOLE,
        curves: [curve("in the global queue", now("tokio_global_queue_depth"), "bad"),
            curve("in the workers' own", now("tokio_local_queue_depth"), "a", [2, 3], { where: "tokio_local_queue_depth" }),
            curve("blocking", now("tokio_blocking_queue_depth"), "warn", [6, 3], { where: "tokio_blocking_queue_depth" })],
    },
    {
        id: "polls", title: "Runtime: mean time of a poll", format: seconds, nothing: "This build does not time polls.",
        curves: [curve("all workers", pollTime, "a", undefined, { where: "tokio_task_polls_total" }),
            curve("slowest worker, lately", now("tokio_task_poll_mean_seconds"), "warn", [6, 3],
                { where: "tokio_task_poll_mean_seconds" })],
    },
    {
        id: "processor", title: "CPU, in cores", format: plain,
        // The figure of the operating system has whole seconds, so a short window would show steps.
        curves: [curve("process, over 1 min", (history) => history.rate("process_cpu_seconds_total", 60), "a"),
            curve("requests", rate("http_request_busy_seconds_total"), "c", [6, 3])],
    },
    {
        id: "memory", title: "Memory", format: bytes, steps: MEBIBYTES,
        curves: [curve("allocated", now("allocator_allocated_bytes"), "a"),
            curve("allocator resident", now("allocator_resident_bytes"), "b", [6, 3]),
            curve("process resident", now("process_resident_memory_bytes"), "c", [2, 3])],
    },
    {
        id: "limiter", title: "Rate limiter decisions", format: perSecond,
        curves: ["address", "principal", "auth"].flatMap((limiter, at) => [
            curve(`${limiter} allowed`, decision(limiter, "allowed"), ["a", "b", "c"][at]),
            curve(`${limiter} rejected`, decision(limiter, "rejected"), ["bad", "warn", "d"][at], [6, 3])]),
    },
    {
        id: "logs", title: "Log lines by level", format: perSecond,
        curves: [...byLabel("log_lines_total", "level",
            [["error", "bad"], ["warn", "warn", [6, 3]], ["info", "a"], ["debug", "b"], ["trace", "c"]]),
        curve("dropped", rate("log_lines_dropped_total"), "d", [2, 3])],
    },
    {
        id: "spans", title: "Spans by outcome", format: perSecond,
        curves: byLabel("trace_spans_total", "outcome",
            [["exported", "ok"], ["late", "a", [6, 3]], ["dropped", "warn"], ["failed", "bad"]]),
    },
];
