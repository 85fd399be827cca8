"""Reads dashboards back: their panels, their queries as Grafana would send them, and
the metrics and selectors that a PromQL expression names. For the checks and the picture."""

import json
import re

from panels import ROOT

DASHBOARDS = ROOT / "grafana/dashboards"

_STRING = re.compile(r'"(?:\\.|[^"\\])*"' + r"|'(?:\\.|[^'\\])*'")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_NEGATED = re.compile(r',?\s*\w+\s*!~?\s*"(?:\\.|[^"\\])*"')
_NAME = re.compile(r"(?<![\w:.$])([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?(?!\s*\(|[\w:])")
_WORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring",
          "group_left", "group_right", "inf", "nan", "start", "end", "atan2"}
_SERIES_OF_HISTOGRAM = re.compile(r"_(bucket|sum|count)$")
_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)\}")

# Series that Prometheus itself adds to every scrape. The service does not document them.
OF_PROMETHEUS = {"up", "scrape_duration_seconds", "scrape_samples_scraped", "ALERTS"}


def load():
    """Every dashboard by file name, parsed."""
    return {path.name: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def panels(dashboard):
    """The panels that show data: rows are only headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def substitute(text, values):
    """Replaces Grafana's variables; one without a value is an error, as in Grafana it
    would go to Prometheus as it stands."""
    return _VARIABLE.sub(lambda found: values[found[1] or found[2]], text)


def variables(dashboard, **values):
    """The values of the dashboard's own text boxes, and over them the given ones."""
    own = {variable["name"]: variable["query"] for variable in dashboard["templating"]["list"]
           if variable["type"] == "textbox"}
    return {**own, **values}


def selectors(expr):
    """The vector selectors of an expression: `(metric, "{matchers}" or "")`."""
    # Strings go aside first, for they may hold any of the characters looked for.
    strings = []

    def aside(found):
        strings.append(found[0])
        return f'"string{len(strings) - 1}"'

    bare = re.sub(r"#.*", "", _STRING.sub(aside, expr))
    bare = re.sub(r"\[[^]]*\]", " ", _GROUPING.sub(" ", bare))
    bare = re.sub(r"\boffset\s+-?\w+", " ", bare)
    bare = re.sub(r"\b\d+(?:\.\d+)?(?:e[+-]?\d+)?\b(?![\w:])", " ", bare)
    return [(name, re.sub(r'"string(\d+)"', lambda found: strings[int(found[1])], matchers))
            for name, matchers in _NAME.findall(bare) if name.lower() not in _WORDS]


def without_negations(matchers):
    """The matchers that name what must be there; "not these" may rightly find nothing."""
    return re.sub(r"\{\s*,\s*", "{", _NEGATED.sub("", matchers))


def is_recorded(name):
    """Whether a series comes from a recording rule, by Prometheus's naming rule."""
    return ":" in name


def metric(series):
    """The name under which the catalogue documents a series."""
    return _SERIES_OF_HISTOGRAM.sub("", series)
