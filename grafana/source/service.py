"""The service overview: requests and latency as clients get them, error budget, saturation."""

from panels import (FAULT_ONLY, GREEN, ORANGE, PLAIN, RED, YELLOW, dashboard, heatmap,
                    query, runbook, stat, steps, table, timeseries)

# The objectives, as in deploy/prometheus/rules. The panels of the error budget read the
# series that the rules record, so an alert and a dashboard show the same number.
AVAILABILITY = 0.999
LATENCY, LATENCY_LE = 0.99, "0.25"
WINDOW = "30d"

R = "$__rate_interval"
FAILED = 'http_requests_total{$sel, status=~"5.."}'
ALL = "http_requests_total{$sel}"
VALID = 'http_requests_total{$sel, status!~"4.."}'
ROUTE = "{{method}} {{path}}"

BUDGET = steps(RED, (0, ORANGE), (0.25, YELLOW), (0.5, GREEN))
ERROR_RATIO = steps(GREEN, (1 - AVAILABILITY, YELLOW), (0.01, RED))
SECONDS = steps(GREEN, (float(LATENCY_LE), YELLOW), (1, RED))
SHARE = steps(GREEN, (0.7, YELLOW), (0.9, RED))
# The burn rates that open a ticket (1 over 3 d, 3 over 1 d) and that page (6 over 6 h, 14.4 over 1 h).
BURN = steps(GREEN, (1, YELLOW), (6, ORANGE), (14.4, RED))
# A budget below zero is shown as "exhausted": the exact figure adds nothing.
EXHAUSTED = [{"type": "range", "options": {"from": None, "to": 0, "result": {
    "text": "exhausted", "color": RED, "index": 0}}}]
DOWN_UP = [{"type": "value", "options": {"0": {"text": "down", "color": RED, "index": 0},
                                         "1": {"text": "up", "color": GREEN, "index": 1}}}]


def quantile(q, by="", metric="http_request_duration_seconds"):
    """The quantile over all selected instances; `by` names labels to keep."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{{$sel}}[{R}])))"


def budget_left(objective):
    return query(f'min(job:slo_{objective}_budget:remaining{WINDOW}{{job="$job"}})')


def burn(objective, target):
    """How many times faster than sustainable the budget is spent, by window."""
    return [query(f'max(job:slo_{objective}_errors:ratio_rate{window}{{job="$job"}})'
                  f" / {round(1 - target, 6)}", window) for window in ("5m", "1h", "6h", "1d", "3d")]


def kept(objective):
    """The share of requests that met the objective over its whole window."""
    return query(f'1 - max(job:slo_{objective}_errors:ratio_rate{WINDOW}{{job="$job"}})')


def overview():
    return [
        stat("Requests", "reqps", "Requests a second on the public listener, all routes,"
             " without probes and scrapes.", query(f"sum(rate({ALL}[{R}]))")),
        stat("Error ratio", "percentunit", "Share of valid requests answered 5xx. 4xx are on neither"
             " side, as in the objective. Yellow starts at the rate that spends the budget.",
             query(f"sum(rate({FAILED}[{R}])) / sum(rate({VALID}[{R}]))"),
             thresholds=ERROR_RATIO, decimals=2),
        stat("Latency p99", "s", "The time within which 99 of 100 requests ended. Streams are"
             " timed to the response head. Values below 1 ms are not resolved.", query(quantile(0.99)), thresholds=SECONDS),
        stat("Availability budget, 30 d", "percentunit", f"Error budget left of {AVAILABILITY:.1%}"
             f" without a 5xx over {WINDOW}, all replicas. Exhausted: the objective is missed.",
             budget_left("availability"), thresholds=BUDGET, decimals=1, graph=False,
             instant=True, mappings=EXHAUSTED),
        stat("Latency budget, 30 d", "percentunit", f"Error budget left of {LATENCY:.0%} within"
             f" {LATENCY_LE} s over {WINDOW}, all replicas. Exhausted: the objective is missed.",
             budget_left("latency"), thresholds=BUDGET, decimals=1, graph=False, instant=True,
             mappings=EXHAUSTED),
        stat("Instances up", "none", "Replicas whose last scrape succeeded.",
             query("sum(up{$sel})"), thresholds=steps(RED, (1, GREEN)), graph=False,
             links=[runbook("ServiceDown"), runbook("ScrapeDown")]),
        stat("Fully ready", "none", "Replicas on which every readiness check is up, critical"
             " or not.",
             query("count(min by (instance) (readiness_check_up{$sel}) == 1) or vector(0)"),
             thresholds=steps(RED, (1, GREEN)), graph=False),
        stat("Alerts firing", "none", "Alerts of the service that are firing now. The red marks"
             " in the graphs name them.",
             query('count(ALERTS{alertstate="firing", job="$job"}) or vector(0)'),
             thresholds=steps(GREEN, (1, RED)), graph=False),
    ]


def requests():
    worst = f"topk(10, sum by (method, path) (rate({FAILED}[{R}])) > 0)"
    by_route = "sum by (method, path)"
    return [
        timeseries("Requests by route", "reqps", "Requests a second of each route template."
                   " `unmatched` is every path without a route.",
                   query(f"{by_route} (rate({ALL}[{R}])) > 0", ROUTE), stack=True),
        timeseries("Requests by status", "reqps", "Requests a second by status. 499 is a client"
                   " that disconnected before the answer's end.",
                   query(f"sum by (status) (rate({ALL}[{R}])) > 0", "{{status}}"), stack=True),
        timeseries("Latency", "s", "Quantiles over all routes. The dashed line is the"
                   " objective's threshold. Points are exemplars and open their trace.",
                   query(quantile(0.5), "p50"), query(quantile(0.95), "p95"),
                   query(quantile(0.99), "p99", exemplar=True),
                   lines=steps("transparent", (float(LATENCY_LE), RED))),
        timeseries("Latency p99 by route", "s", "The slowest routes' 99th percentile.",
                   query(f"topk(10, {quantile(0.99, 'method, path')} > 0)", ROUTE)),
        heatmap("Latency distribution", "s", "Requests a second in each latency bucket. Two"
                " bands mean two kinds of work under one route.",
                f"sum by (le) (rate(http_request_duration_seconds_bucket{{$sel}}[{R}]))"),
        timeseries("Server errors by route", "reqps", "Requests a second answered 5xx, the ten"
                   f" worst routes ({FAULT_ONLY}: empty without failures).",
                   query(worst, ROUTE), links=[runbook("AvailabilityBudgetBurnFast")]),
        table("Routes", "Rate, errors and duration of each route over the dashboard's range.", [
                  ("Method", "method"), ("Route", "path"),
                  ("Requests", "reqps", PLAIN,
                   query(f"{by_route} (rate({ALL}[$__range])) > 0")),
                  ("Error ratio", "percentunit", ERROR_RATIO,
                   query(f"{by_route} (rate({FAILED}[$__range]))"
                         f" / ({by_route} (rate({VALID}[$__range])) > 0)")),
                  ("p50", "s", SECONDS, query(over_range(0.5))),
                  ("p95", "s", SECONDS, query(over_range(0.95))),
                  ("p99", "s", SECONDS, query(over_range(0.99))),
              ], sort="Requests"),
    ]


def over_range(q):
    return quantile(q, "method, path").replace(R, "$__range") + " > 0"


def budget():
    about = ("Spending of the budget relative to the sustainable rate, by window, all replicas."
             " 1 spends it in 30 days. 14.4 spends 2% of it in an hour and pages.")
    return [
        timeseries("Availability burn rate", "none", about, *burn("availability", AVAILABILITY),
                   w=9, lines=BURN, links=[runbook("AvailabilityBudgetBurnFast"),
                                           runbook("AvailabilityBudgetBurnSlow")]),
        timeseries("Latency burn rate", "none", about, *burn("latency", LATENCY), w=9, lines=BURN,
                   links=[runbook("LatencyBudgetBurnFast"), runbook("LatencyBudgetBurnSlow")]),
        stat("Availability, 30 days", "percentunit", "Share of requests, 4xx left out, answered"
             f" without a 5xx over {WINDOW}. The objective is {AVAILABILITY:.1%}.",
             kept("availability"), w=3, h=8, thresholds=steps(RED, (AVAILABILITY, GREEN)),
             decimals=3, graph=False, instant=True),
        stat("Fast, 30 days", "percentunit", f"Share of requests that ended within {LATENCY_LE} s"
             f" over {WINDOW}. The objective is {LATENCY:.0%}.",
             kept("latency"), w=3, h=8, thresholds=steps(RED, (LATENCY, GREEN)), decimals=2,
             graph=False, instant=True),
    ]


def errors():
    return [
        timeseries("Errors by type", "cps", "Problems sent to clients by `code` in lower case,"
                   " client errors included.",
                   query(f"sum by (type) (rate(errors_total{{$sel}}[{R}]))", "{{type}}"),
                   stack=True),
        timeseries("Log lines by level", "cps", "Log lines written a second.",
                   query(f"sum by (level) (rate(log_lines_total{{$sel}}[{R}]))", "{{level}}"),
                   stack=True),
        timeseries("Panics", "none", "Panics of any thread in the dashboard's step. Each is a bug, and"
                   " its log line has the place.",
                   query(f"sum by (instance) (increase(panics_total{{$sel}}[{R}]))", "{{instance}}"),
                   lines=steps("transparent", (1, RED)), decimals=0,
                   links=[runbook("PanicsCaught")]),
    ]


def saturation():
    return [
        timeseries("Requests in flight", "percentunit", "Requests in flight as a share of"
                   " http.max_in_flight, by replica. At 100% requests are shed."
                   " Requests whose body is still arriving are not counted.",
                   query("(http_requests_in_flight{$sel} - http_request_bodies_arriving{$sel})"
                         " / http_requests_in_flight_max{$sel}",
                         "{{instance}}"),
                   lines=SHARE),
        timeseries("Connections", "percentunit", "Open connections of the public listener as"
                   " a share of http.max_connections, by replica.",
                   query('http_connections_open{$sel, listener="public"} / on (instance)'
                         " http_connections_max{$sel}",
                         "{{instance}}"), lines=SHARE),
        timeseries("Database pool", "percentunit", "Connections in use as a share of the pool,"
                   " by replica. At 100% requests wait for one.",
                   query("db_connections_active{$sel} / db_connections_max{$sel}",
                         "{{instance}}"), lines=SHARE,
                   links=[runbook("DatabasePoolExhausted"),
                                                  runbook("DatabasePoolSaturated")]),
        timeseries("Shed requests", "reqps", "Requests refused at once with 503 because a limit"
                   " was reached, by reason. Normally zero.",
                   query(f"sum by (reason) (rate(http_shed_total{{$sel}}[{R}]))", "{{reason}}"),
                   links=[runbook("LoadShedding")]),
        timeseries("Rate limiter decisions", "reqps", "Decisions of each limiter. Rejected ones"
                   " were answered 429.",
                   query("sum by (limiter, decision)"
                         f" (rate(rate_limit_decisions_total{{$sel}}[{R}]))",
                         "{{limiter}} {{decision}}")),
        timeseries("Rate limiter keys", "none", "Keys that each limiter holds. Beyond"
                   " rate_limit.max_keys new ones share a bucket.",
                   query("sum by (limiter) (rate_limit_keys{$sel})", "{{limiter}}")),
    ]


def cost():
    busy = f"sum by (method, path) (rate(http_request_busy_seconds_total{{$sel}}[{R}]))"
    size = f"sum by (method, path) (rate(http_response_bytes_total{{$sel}}[{R}]))"
    rate = f"sum by (method, path) (rate({ALL}[{R}]))"
    return [
        timeseries("Time spent by route", "percentunit", "Time spent polling each route's"
                   " requests, without waiting. 100% is one busy core.",
                   query(f"topk(10, {busy} > 0)", ROUTE), stack=True),
        timeseries("Cost of a request", "s", "Polling time of one request, mean by route.",
                   query(f"topk(10, {busy} / ({rate} > 0))", ROUTE)),
        timeseries("Response bytes by route", "Bps", "Bytes of response bodies sent a second.",
                   query(f"topk(10, {size} > 0)", ROUTE), stack=True),
    ]


def application():
    runs = "worker_run_duration_seconds"
    return [
        timeseries("Transfers by outcome", "ops", "Ledger transfers a second by outcome.",
                   query(f"sum by (outcome) (rate(ledger_transfers_total{{$sel}}[{R}]))",
                         "{{outcome}}"), stack=True, w=6),
        timeseries("Authentication", "ops", "Attempts a second by kind and outcome. The auth limiter"
                   " limits many failures from one address.",
                   query(f"sum by (kind, outcome) (rate(auth_attempts_total{{$sel}}[{R}]))",
                         "{{kind}} {{outcome}}"), w=6),
        timeseries("Worker runs", "none", "Runs of each background worker in the dashboard's"
                   " step, by outcome.",
                   query("sum by (worker, outcome)"
                         f" (increase(worker_runs_total{{$sel}}[{R}]))",
                         "{{worker}} {{outcome}}"), w=6, links=[runbook("WorkerFailing")]),
        timeseries("Worker run duration", "s", "Mean duration of a worker's runs since the"
                   " process started. Compare it with the interval.",
                   query(f"sum by (worker) ({runs}_sum{{$sel}})"
                         f" / (sum by (worker) ({runs}_count{{$sel}}) > 0)", "{{worker}}"), w=6),
    ]


def state():
    return [
        stat("Readiness checks", "none", "The worst replica's state of each background check.",
             query("min by (check) (readiness_check_up{$sel})", "{{check}}"), w=8, h=6,
             mappings=DOWN_UP, thresholds=steps(RED, (1, GREEN)), text="value_and_name",
             graph=False, links=[runbook("ReadinessCheckFailing")]),
        timeseries("Readiness over time", "none", "Replicas on which each check is up. A"
                   " sawtooth is flapping.",
                   query("sum by (check) (readiness_check_up{$sel})", "{{check}}"), h=6,
                   decimals=0, links=[runbook("ReadinessFlapping")]),
        timeseries("Lifecycle", "none", "Replicas in each lifecycle state.",
                   query("sum by (state) (lifecycle_state{$sel})", "{{state}}"), h=6,
                   stack=True, decimals=0),
        timeseries("Spans by outcome", "cps", "Spans a second: exported, exported after their request"
                   " (late), dropped on a full queue, failed at the collector.",
                   query(f"sum by (outcome) (rate(trace_spans_total{{$sel}}[{R}]))",
                         "{{outcome}}"), w=24, h=6, links=[runbook("TelemetryDropped")]),
    ]


def build():
    return dashboard("service", "Service overview", __doc__, [
        ("Overview", overview()),
        ("Requests", requests()),
        ("Error budget", budget()),
        ("Errors", errors()),
        ("Saturation and protection", saturation()),
        ("Cost", cost()),
        ("Application", application()),
        ("State and telemetry", state()),
    ])
