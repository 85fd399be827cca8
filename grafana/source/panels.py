"""Builders for the dashboards' JSON: the boilerplate of Grafana's schema, once.

`service.py` and `runtime.py` declare what is on the dashboards; `scripts/dashboards`
writes the JSON. In an expression `$sel` stands for the matchers of the job and
instance variables, so that no panel can forget them.
"""

import pathlib
import tomllib
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2]

# The service's name is in Cargo.toml only. Titles, uids and the job come from it.
NAME = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["name"]

# Bases of links: the runbook pages, which is the default of the dashboards' variable
# `runbooks`, and Grafana, for the links of alerts.
LINKS = dict(line.split("=", 1) for line in (ROOT / "deploy/prometheus/links.env").read_text()
             .splitlines() if line and not line.startswith("#"))
RUNBOOKS, GRAFANA = (LINKS[name].rstrip("/") for name in ("RUNBOOKS", "GRAFANA"))

# The scrape interval of Prometheus, and the default of the dashboards' variable `scrape`.
# It is the smallest step of each query, so that $__rate_interval is at least four of it with
# any setting of the data source.
SCRAPE = "15s"

SCHEMA_VERSION = 42  # of @grafana/schema as pinned in tests/system/60-dashboards
WIDTH = 24  # columns of Grafana's grid
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SELECTOR = 'job="$job", instance=~"$instance"'
FAULT_ONLY = "fault-only"

GREEN, YELLOW, ORANGE, RED = "green", "yellow", "orange", "red"


def query(expr, legend="", *, exemplar=False):
    """One PromQL query of a panel; `legend` is Grafana's legend format."""
    return {"expr": expr.replace("$sel", SELECTOR), "legend": legend, "exemplar": exemplar}


def steps(first, *more):
    """Thresholds: a base colour, then `(value, colour)` pairs, ascending."""
    values = [{"color": first, "value": None}]
    values += [{"color": colour, "value": value} for value, colour in more]
    return {"mode": "absolute", "steps": values}


PLAIN = steps(GREEN)


def runbook(alert):
    """A panel link to the runbook page of an alert."""
    return {"title": f"Runbook: {alert}", "url": f"${{runbooks}}/{alert}.md", "targetBlank": True}


def _panel(kind, title, unit, description, queries, *, w, h, thresholds=PLAIN, links=(),
           low=None, high=None, decimals=None, mappings=(), instant=False, fmt="time_series"):
    defaults = {"unit": unit, "thresholds": thresholds, "mappings": list(mappings), "links": []}
    for key, value in (("min", low), ("max", high), ("decimals", decimals)):
        if value is not None:
            defaults[key] = value
    targets = []
    for ref, item in zip("ABCDEFGH", queries, strict=False):
        target = {"refId": ref, "datasource": DATASOURCE, "editorMode": "code", "format": fmt,
                  "expr": item["expr"], "legendFormat": item["legend"] or "__auto",
                  "instant": instant, "range": not instant, "interval": "$scrape"}
        if item["exemplar"]:
            target["exemplar"] = True
        targets.append(target)
    return {"type": kind, "title": title, "description": description, "datasource": DATASOURCE,
            "gridPos": {"w": w, "h": h}, "fieldConfig": {"defaults": defaults, "overrides": []},
            "links": list(links), "targets": targets}


def timeseries(title, unit, description, *queries, w=8, h=8, stack=False, lines=None, **more):
    """A graph over time. `lines` are thresholds that are also drawn in the graph."""
    more.setdefault("low", 0)
    panel = _panel("timeseries", title, unit, description, queries, w=w, h=h,
                   thresholds=lines or PLAIN, **more)
    panel["fieldConfig"]["defaults"]["color"] = {"mode": "palette-classic"}
    panel["fieldConfig"]["defaults"]["custom"] = {
        "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1,
        "fillOpacity": 30 if stack else 8, "showPoints": "never", "spanNulls": False,
        "stacking": {"mode": "normal" if stack else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if lines else "off"},
    }
    panel["options"] = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel


def stat(title, unit, description, *queries, w=3, h=4, text="auto", graph=True, **more):
    """One number, coloured by its thresholds, over its recent course."""
    panel = _panel("stat", title, unit, description, queries, w=w, h=h, **more)
    panel["fieldConfig"]["defaults"]["color"] = {"mode": "thresholds"}
    panel["options"] = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value", "graphMode": "area" if graph else "none", "justifyMode": "auto",
        "orientation": "auto", "textMode": text, "wideLayout": True,
        "showPercentChange": False, "percentChangeColorMode": "standard",
    }
    return panel


def bargauge(title, unit, description, *queries, w=8, h=8, **more):
    """The latest value of each series as a bar."""
    panel = _panel("bargauge", title, unit, description, queries, w=w, h=h, **more)
    panel["fieldConfig"]["defaults"]["color"] = {"mode": "thresholds"}
    panel["options"] = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "horizontal", "displayMode": "basic", "valueMode": "color",
        "showUnfilled": True, "sizing": "auto", "namePlacement": "auto",
        "minVizWidth": 8, "minVizHeight": 16, "maxVizHeight": 300,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False,
                   "calcs": []},
    }
    return panel


def heatmap(title, unit, description, expr, w=8, h=8):
    """The distribution of a histogram over time; `expr` keeps `le`."""
    panel = _panel("heatmap", title, unit, description, [query(expr, "{{le}}", exemplar=True)],
                   w=w, h=h, fmt="heatmap")
    panel["options"] = {
        "calculate": False, "cellGap": 1, "filterValues": {"le": 1e-9},
        "cellValues": {"unit": "reqps"}, "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "legend": {"show": True}, "rowsFrame": {"layout": "auto"}, "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": False},
        "yAxis": {"axisPlacement": "left", "unit": unit},
        "color": {"mode": "scheme", "scheme": "Turbo", "steps": 64, "exponent": 0.5,
                  "reverse": False, "fill": "dark-orange", "scale": "exponential"},
    }
    return panel


def table(title, description, columns, *, w=24, h=9, hide=(), sort=None, unit="short", links=()):
    """One row for each label set. `columns` are `(name, unit, thresholds, query)`;
    a column whose query is None is a label that is only renamed: `(name, label)`."""
    values = [column for column in columns if len(column) == 4]
    labels = {column[1]: column[0] for column in columns if len(column) == 2}
    panel = _panel("table", title, unit, description, [column[3] for column in values],
                   w=w, h=h, links=links, instant=True, fmt="table")
    panel["fieldConfig"]["defaults"]["custom"] = {
        "align": "auto", "cellOptions": {"type": "auto"}, "inspect": False}
    names = dict(labels)
    for ref, (name, column_unit, thresholds, _) in zip("ABCDEFGH", values, strict=False):
        field = "Value" if len(values) == 1 else f"Value #{ref}"
        names[field] = name
        panel["fieldConfig"]["overrides"].append({
            "matcher": {"id": "byName", "options": name},
            "properties": [
                {"id": "unit", "value": column_unit},
                {"id": "thresholds", "value": thresholds},
                {"id": "custom.cellOptions", "value": {"type": "color-text"}},
            ],
        })
    order = {field: index for index, field in enumerate(names)}
    panel["transformations"] = [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": {name: True for name in ("Time", *hide)},
                                       "indexByName": order, "renameByName": names}},
    ]
    panel["options"] = {"showHeader": True, "cellHeight": "sm",
                        "sortBy": [{"displayName": sort, "desc": True}] if sort else []}
    return panel


def _variable(name, kind, label, description, value, **more):
    return {"name": name, "type": kind, "label": label, "description": description,
            "current": {"text": value, "value": value}, "hide": 0, "skipUrlSync": False, **more}


def _from_labels(name, label, description, value, lookup, **more):
    return _variable(name, "query", label, description, value, datasource=DATASOURCE, sort=1,
                     query={"query": lookup, "refId": f"variable-{name}", "qryType": 1},
                     refresh=2, regex="", options=[], **more)


def dashboard(slug, title, description, rows):
    """A dashboard from `(row title, panels)` pairs; panels flow from left to right."""
    panels, y = [], 0
    for row, members in rows:
        panels.append({"type": "row", "title": row, "id": _id(slug, row, "row"),
                       "collapsed": False, "panels": [],
                       "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": y}})
        x, y, tallest = 0, y + 1, 0
        for panel in members:
            size = panel["gridPos"]
            if x + size["w"] > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            panels.append({**panel, "id": _id(slug, row, panel["title"]),
                           "gridPos": {"h": size["h"], "w": size["w"], "x": x, "y": y}})
            x, tallest = x + size["w"], max(tallest, size["h"])
        y += tallest
    common = {"editable": True, "id": None, "schemaVersion": SCHEMA_VERSION, "version": 1,
              "graphTooltip": 1, "refresh": "30s", "timezone": "browser",
              "fiscalYearStartMonth": 0, "preload": False,
              "time": {"from": "now-1h", "to": "now"}, "timepicker": {}}
    return {"uid": f"{NAME}-{slug}", "title": f"{NAME.capitalize()} / {title}",
            "description": description, "tags": [NAME], **common,
            "links": _links(), "annotations": {"list": _annotations()},
            "templating": {"list": _variables()}, "panels": panels}


def _id(*path):
    # From the names and not from the order: inserting a panel must not move the
    # ids, which links to a single panel carry. The static check finds a collision.
    return zlib.crc32("/".join(path).encode()) % 1_000_000 + 1


def _variables():
    everything = {"includeAll": True, "multi": True, "allValue": ".*"}
    instance = _from_labels("instance", "Instance", "The replicas to show.", ["$__all"],
                            'label_values(build_info{job="$job"}, instance)', **everything)
    instance["current"]["text"] = ["All"]
    source = _variable("datasource", "datasource", "Data source", "The Prometheus to query.",
                       "prometheus", query="prometheus", refresh=1, regex="", options=[])
    source["current"] = {"text": "default", "value": "default"}
    runbooks = _variable("runbooks", "textbox", "Runbooks", "Base URL of the runbook pages.",
                         RUNBOOKS, query=RUNBOOKS)
    job = _from_labels("job", "Job", "The scrape job of the service.", NAME,
                       "label_values(build_info, job)")
    scrape = _variable("scrape", "textbox", "Scrape interval", "The scrape interval of Prometheus."
                       " Rates look back over four of it.", SCRAPE, query=SCRAPE)
    return [source, job, instance, scrape, runbooks]


def _links():
    siblings = {"type": "dashboards", "title": NAME.capitalize(), "tags": [NAME],
                "asDropdown": False, "includeVars": True, "keepTime": True,
                "targetBlank": False, "icon": "dashboard", "tooltip": "The other dashboards"}
    runbooks = {"type": "link", "title": "Runbooks", "url": "${runbooks}", "tags": [],
                "asDropdown": False, "includeVars": False, "keepTime": False,
                "targetBlank": True, "icon": "doc", "tooltip": "A page for each alert"}
    return [siblings, runbooks]


def _annotations():
    starts = {"name": "Process starts", "enable": True, "hide": False, "iconColor": "blue",
              "datasource": DATASOURCE, "useValueForTime": True, "step": "60s",
              "expr": query("process_start_time_seconds{$sel} * 1000")["expr"],
              "titleFormat": "Process start", "textFormat": "{{instance}}"}
    alerts = {"name": "Alerts", "enable": True, "hide": False, "iconColor": RED,
              "datasource": DATASOURCE, "step": "60s",
              "expr": 'ALERTS{alertstate="firing", job=~"$job|"}',
              "titleFormat": "{{alertname}}", "textFormat": "{{severity}}"}
    return [starts, alerts]
