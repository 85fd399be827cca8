"""Runtime and database: the process, its database pool, and the delivery of telemetry."""

from panels import (FAULT_ONLY, GREEN, PLAIN, RED, YELLOW, dashboard, heatmap, query, runbook, stat,
                    steps, table, timeseries)

R = "$__rate_interval"
SHARE = steps(GREEN, (0.7, YELLOW), (0.9, RED))
LOST = steps("transparent", (0.001, RED))


def quantile(q, metric, by=""):
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{{$sel}}[{R}])))"


def process():
    return [
        table("Builds", "Version and revision of each replica. Two versions are"
              " a rollout in progress.", [
                  ("Instance", "instance"), ("Version", "version"), ("Revision", "revision"),
                  ("Replicas", "none", PLAIN,
                   query("sum by (instance, version, revision) (build_info{$sel})")),
              ], w=12, h=6),
        stat("Started", "dateTimeAsIso", "Start time of the youngest process.",
             query("max(process_start_time_seconds{$sel}) * 1000"), w=6, h=6, graph=False),
        stat("Uptime", "s", "Time since the youngest process started. A number that stays"
             " small is a crash loop.",
             query("time() - max(process_start_time_seconds{$sel})"), w=6, h=6, graph=False,
             thresholds=steps(YELLOW, (300, GREEN)), links=[runbook("RestartLoop")]),
        timeseries("CPU", "percentunit", "Processor time: 100% is one core.",
                   query(f"rate(process_cpu_seconds_total{{$sel}}[{R}])", "{{instance}}")),
        timeseries("Memory", "bytes", "Resident memory by replica.",
                   query("process_resident_memory_bytes{$sel}", "{{instance}}")),
        timeseries("Virtual memory", "bytes", "Address space by replica. It may be large, but it"
                   " should not grow without a limit.",
                   query("process_virtual_memory_bytes{$sel}", "{{instance}}")),
        timeseries("File descriptors", "none", "Open descriptors by replica: connections, files"
                   " and pipes.", query("process_open_fds{$sel}", "{{instance}}")),
        timeseries("Descriptor limit in use", "percentunit", "Open descriptors as a share of the"
                   " process limit. At 100% no connection can be accepted.",
                   query("process_open_fds{$sel} / process_max_fds{$sel}", "{{instance}}"),
                   lines=SHARE, links=[runbook("FileDescriptorsNearLimit")]),
        timeseries("Threads", "none", "Threads by replica: runtime workers and blocking ones"
                   " (password hashes, SQLite).",
                   query("process_threads{$sel}", "{{instance}}")),
    ]


def runtime():
    return [
        timeseries("Workers busy", "percentunit", "Share of time that the runtime's workers"
                   " spend working, by replica. Near 100% every request waits.",
                   query(f"rate(tokio_worker_busy_seconds_total{{$sel}}[{R}])"
                         " / tokio_workers{$sel}", "{{instance}}"), lines=SHARE),
        timeseries("Tasks waiting", "none", "Tasks in the queue that all workers share, by"
                   " replica. It should be empty at most scrapes.",
                   query("tokio_global_queue_depth{$sel}", "{{instance}}")),
        timeseries("Mean time of a poll", "s", "Seconds that a task holds its worker at a time, by"
                   " replica. Blocking work (a long computation, a file) raises it and delays all others.",
                   query(f"rate(tokio_worker_busy_seconds_total{{$sel}}[{R}])"
                         f" / rate(tokio_task_polls_total{{$sel}}[{R}])", "{{instance}}")),
        timeseries("Tasks", "none", "Tasks that have not ended, by replica: connections,"
                   " requests, workers. Growth without a limit is a leak.",
                   query("tokio_alive_tasks{$sel}", "{{instance}}")),
        timeseries("Worker sleeps", "cps", "Times a second that a worker had no work."
                   " Zero under load means that there is no capacity left.",
                   query(f"sum by (instance) (rate(tokio_worker_parks_total{{$sel}}[{R}]))",
                         "{{instance}}")),
        timeseries("Allocator", "bytes", "Bytes that the program holds, and the pages that they keep in"
                   " memory. A widening gap is fragmentation.",
                   query("sum(allocator_allocated_bytes{$sel})", "allocated"),
                   query("sum(allocator_active_bytes{$sel})", "active"),
                   query("sum(allocator_resident_bytes{$sel})", "resident")),
    ]


def database():
    took, kind = "db_query_duration_seconds", "query_type"
    by_kind = "{{query_type}}"
    pool_link = [runbook("DatabasePoolExhausted")]
    return [
        timeseries("Queries by type", "ops", "Queries a second by type.",
                   query(f"sum by ({kind}) (rate({took}_count{{$sel}}[{R}]))", by_kind),
                   stack=True),
        timeseries("Query time p50", "s", "Median time of a query by type.",
                   query(f"{quantile(0.5, took, kind)} > 0", by_kind)),
        timeseries("Query time p95", "s", "95th percentile by type.",
                   query(f"{quantile(0.95, took, kind)} > 0", by_kind)),
        timeseries("Query time p99", "s", "99th percentile by type.",
                   query(f"{quantile(0.99, took, kind)} > 0", by_kind)),
        heatmap("Query time distribution", "s", "Queries a second in each bucket.",
                f"sum by (le) (rate({took}_bucket{{$sel}}[{R}]))"),
        timeseries("Concurrent queries", "none", "Concurrent queries on average: rate times mean"
                   " time. Near the pool's size the database is the bottleneck.",
                   query(f"sum by (instance) (rate({took}_sum{{$sel}}[{R}]))", "{{instance}}")),
        timeseries("Pool", "none", "Connections of all replicas: in use, idle, allowed.",
                   query("sum(db_connections_active{$sel})", "active"),
                   query("sum(db_connections_idle{$sel})", "idle"),
                   query("sum(db_connections_max{$sel})", "max"), links=pool_link),
        timeseries("Pool in use", "percentunit", "Connections in use as a share of the pool, by"
                   " replica.",
                   query("db_connections_active{$sel} / db_connections_max{$sel}",
                         "{{instance}}"), lines=SHARE, links=pool_link),
        timeseries("Wait for a connection", "s", "Time that requests waited for a connection."
                   " Growth comes before timeouts.",
                   query(quantile(0.5, "db_pool_wait_seconds"), "p50"),
                   query(quantile(0.95, "db_pool_wait_seconds"), "p95"),
                   query(quantile(0.99, "db_pool_wait_seconds"), "p99"), links=pool_link),
        timeseries("Acquire timeouts", "cps", "Waits a second that ended without a connection."
                   " Each was answered 503.",
                   query(f"sum by (instance) (rate(db_pool_timeouts_total{{$sel}}[{R}]))",
                         "{{instance}}"), w=12, links=pool_link),
        timeseries("Database unavailable", "cps", "Requests a second refused with"
                   f" DATABASE_UNAVAILABLE ({FAULT_ONLY}: the series starts with the first).",
                   query('sum by (instance) (rate(errors_total{$sel,'
                         f' type="database_unavailable"}}[{R}]))', "{{instance}}"), w=12),
    ]


def telemetry():
    lost = f'sum(rate(trace_spans_total{{$sel, outcome=~"dropped|failed"}}[{R}]))'
    link = [runbook("TelemetryDropped")]
    return [
        timeseries("Spans by outcome", "cps", "Spans a second: exported, exported after their request"
                   " (late), dropped on a full queue, failed at the collector.",
                   query(f"sum by (outcome) (rate(trace_spans_total{{$sel}}[{R}]))",
                         "{{outcome}}"), links=link),
        timeseries("Spans lost", "cps", "Spans a second that were dropped or failed.",
                   query(lost, "lost"), lines=LOST, links=link),
        timeseries("Log lines dropped", "cps", "Log lines a second lost because the output could"
                   " not keep up.",
                   query(f"sum by (instance) (rate(log_lines_dropped_total{{$sel}}[{R}]))",
                         "{{instance}}"), lines=LOST, links=link),
        timeseries("Log lines by level", "cps", "Log lines written a second.",
                   query(f"sum by (level) (rate(log_lines_total{{$sel}}[{R}]))", "{{level}}"),
                   stack=True),
        timeseries("Log lines by OTLP", "cps", "Log lines a second by outcome of their export."
                   " Empty unless they are exported.",
                   query(f"sum by (outcome) (rate(log_export_total{{$sel}}[{R}]))",
                         "{{outcome}}")),
        timeseries("Scrape time", "s", "Duration of a scrape of /metrics.",
                   query("scrape_duration_seconds{$sel}", "{{instance}}")),
        timeseries("Series", "none", "Samples in a scrape. Growth without new routes is a label"
                   " with too many values.",
                   query("scrape_samples_scraped{$sel}", "{{instance}}")),
    ]


def build():
    return dashboard("runtime", "Runtime and database", __doc__, [
        ("Process", process()),
        ("Runtime and allocator", runtime()),
        ("Database", database()),
        ("Telemetry", telemetry()),
    ])
