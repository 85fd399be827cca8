"""Draws panels with matplotlib roughly as Grafana's dark theme does. Knows the panel types
and options that the dashboards use, and takes them from the JSON."""

import math
import re
import time

from matplotlib import colormaps
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator

PAGE, PANEL, EDGE, TEXT, DIM = "#111217", "#181b1f", "#2b2e34", "#ccccdc", "#8e8e99"
NAMED = {"green": "#73bf69", "yellow": "#fade2a", "orange": "#ff9830", "red": "#f2495c"}
PALETTE = ["#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9",
           "#705da0", "#37872d", "#fade2a", "#447ebc", "#c15c17", "#890f02", "#6d1f62"]
LEGEND_ENTRIES = 6  # longer legends are cut, with the number left out
SUFFIX = {"reqps": " req/s", "cps": "/s", "ops": "/s", "Bps": "B/s", "bytes": "B", "s": "s"}


def humanize(value, unit, decimals=None):
    """A value in its unit, as short as Grafana writes it."""
    if value is None or math.isnan(value):
        return "No data"
    if unit == "percentunit":
        return f"{value * 100:.{1 if decimals is None else decimals}f}%"
    if unit == "dateTimeAsIso":
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(value / 1000))
    if unit == "s" and abs(value) >= 90:
        return f"{value / 60:.3g} min"
    scale, prefix = 1, ""
    if unit in ("bytes", "Bps"):
        steps = ((2**30, "Gi"), (2**20, "Mi"), (2**10, "Ki"))
    elif unit == "s" and 0 < abs(value) < 1:
        steps = ((1, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
    else:
        steps = ((1e9, "G"), (1e6, "M"), (1e4, "k"))
    for size, name in steps:
        if abs(value) >= size:
            scale, prefix = (1e3, "k") if name == "k" else (size, name)
            break
    gap = " " if unit in ("s", "bytes", "Bps") else ""
    return f"{value / scale:.3g}{gap}{prefix}{SUFFIX.get(unit, '')}"


def threshold_color(value, thresholds):
    color = "green"
    for step in thresholds["steps"]:
        if step["value"] is None or (value is not None and value >= step["value"]):
            color = step["color"]
    return NAMED.get(color, TEXT)


def name_of(series, target):
    """The series' legend: the target's format, or its labels."""
    legend, labels = target["legendFormat"], series["metric"]
    if legend == "__auto":
        return ", ".join(labels.values())
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), legend)


def points(series):
    """Times and numbers; an instant vector has one of each."""
    values = series.get("values") or [series["value"]]
    return [at for at, _ in values], [float(value) for _, value in values]


class Canvas:
    """A figure in pixels with the origin at the top left, where panels go by the grid."""

    def __init__(self, figure, width, height):
        self.figure, self.width, self.height = figure, width, height

    def axes(self, x, y, w, h):
        axes = self.figure.add_axes((x / self.width, 1 - (y + h) / self.height,
                                     w / self.width, h / self.height))
        axes.set_facecolor("none")
        return axes

    def text(self, x, y, text, **style):
        self.figure.text(x / self.width, 1 - y / self.height, text,
                         **{"color": TEXT, "va": "top", "ha": "left", **style})

    def box(self, x, y, w, h):
        self.figure.add_artist(FancyBboxPatch(
            (x / self.width, 1 - (y + h) / self.height), w / self.width, h / self.height,
            boxstyle="square,pad=0", facecolor=PANEL, edgecolor=EDGE, linewidth=0.8,
            zorder=-1,  # behind the axes
            transform=self.figure.transFigure))


def draw(canvas, panel, results, place, span):
    """One panel: `results` holds each target's series, `place` is x, y, w, h in pixels,
    `span` the first and last moment."""
    x, y, w, h = place
    canvas.box(x, y, w, h)
    canvas.text(x + 8, y + 6, panel["title"], fontsize=7.5, weight="bold")
    inner = (x + 8, y + 24, w - 16, h - 30)
    if not any(results):
        message = "No data: only during a fault" if "fault-only" in panel["description"] else "No data"
        canvas.text(x + w / 2, y + h / 2, message, ha="center", va="center", color=DIM, fontsize=8)
        return
    kinds = {"timeseries": graph, "stat": stats, "table": table, "heatmap": heat,
             "bargauge": stats}
    kinds[panel["type"]](canvas, panel, results, inner, span)


def style(axes, unit, span):
    axes.tick_params(colors=DIM, labelsize=6, length=0, pad=3)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.grid(color=EDGE, linewidth=0.5)
    axes.set_xlim(*span)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(
        lambda at, _: time.strftime("%H:%M:%S", time.gmtime(at))))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: humanize(value, unit)))


def graph(canvas, panel, results, inner, span):
    x, y, w, h = inner
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    lines = [(name_of(one, target), *points(one))
             for target, series in zip(panel["targets"], results, strict=True) for one in series]
    axes = canvas.axes(x + 44, y + 2, w - 50, h - 32)
    style(axes, defaults["unit"], span)
    stacked = custom["stacking"]["mode"] == "normal"
    moments = sorted({at for _, times, _ in lines for at in times})
    base = [0.0] * len(moments)
    for index, (_, times, values) in enumerate(lines):
        color = PALETTE[index % len(PALETTE)]
        known = dict(zip(times, values, strict=True))
        # A moment without a value is a gap in the line and no height in the stack.
        line = [low + known.get(at, math.nan) for at, low in zip(moments, base, strict=True)]
        axes.plot(moments, line, color=color, linewidth=0.9)
        axes.fill_between(moments, base, line, color=color, linewidth=0,
                          alpha=custom["fillOpacity"] / 100)
        if stacked:
            base = [low if math.isnan(high) else high
                    for low, high in zip(base, line, strict=True)]
    bottom, top = axes.get_ylim()
    axes.set_ylim(defaults.get("min", bottom), top if top > 0 else 1)
    if custom["thresholdsStyle"]["mode"] != "off":
        for step in defaults["thresholds"]["steps"]:
            if step["value"] is not None and step["value"] <= axes.get_ylim()[1]:
                axes.axhline(step["value"], color=NAMED[step["color"]], linewidth=0.8,
                             linestyle="--")
    legend(canvas, [name for name, *_ in lines], x + 4, y + h - 10, w)


def legend(canvas, names, x, y, width):
    at = x
    for index, name in enumerate(names):
        room = 16 + 4.6 * len(name)
        if index and (index >= LEGEND_ENTRIES or at + room > x + width - 20):
            canvas.text(at, y, f"+{len(names) - index}", fontsize=6, color=DIM)
            return
        canvas.text(at, y, "■", fontsize=6, color=PALETTE[index % len(PALETTE)])
        canvas.text(at + 11, y, name, fontsize=6, color=DIM)
        at += room


def stats(canvas, panel, results, inner, span):
    x, y, w, h = inner
    defaults = panel["fieldConfig"]["defaults"]
    mapped = {key: value for mapping in defaults["mappings"] if mapping["type"] == "value"
              for key, value in mapping["options"].items()}
    shown = [(one, target) for target, series in zip(panel["targets"], results, strict=True)
             for one in series]
    for index, (one, target) in enumerate(shown):
        times, values = points(one)
        last = next((v for v in reversed(values) if not math.isnan(v)), None)
        color = threshold_color(last, defaults["thresholds"])
        text = humanize(last, defaults["unit"], defaults.get("decimals"))
        if last is not None and (found := mapped.get(f"{last:g}")):
            text, color = found["text"], NAMED[found["color"]]
        part = w / len(shown)
        left = x + index * part
        if panel["options"].get("graphMode") == "area" and len(values) > 1:
            axes = canvas.axes(left, y + h * 0.62, part, h * 0.38)
            axes.axis("off")
            axes.set_xlim(*span)
            axes.plot(times, values, color=color, linewidth=0.8)
            axes.fill_between(times, values, color=color, alpha=0.15, linewidth=0)
        size = min(17, 1.25 * part / max(len(text), 4))
        canvas.text(left + part / 2, y + h * 0.42, text, fontsize=size, color=color,
                    ha="center", va="center", weight="bold")
        if panel["options"].get("textMode") == "value_and_name":
            canvas.text(left + part / 2, y + h * 0.72, name_of(one, target), fontsize=7,
                        color=DIM, ha="center")


def table(canvas, panel, results, inner, _):
    x, y, w, h = inner
    names = next(t["options"]["renameByName"] for t in panel["transformations"]
                 if t["id"] == "organize")
    styles = {override["matcher"]["options"]: {p["id"]: p["value"] for p in override["properties"]}
              for override in panel["fieldConfig"]["overrides"]}
    rows = {}
    for target, series in zip(panel["targets"], results, strict=True):
        field = "Value" if len(results) == 1 else f"Value #{target['refId']}"
        for one in series:
            labels = {key: value for key, value in one["metric"].items() if key in names}
            rows.setdefault(tuple(sorted(labels.items())), dict(labels))[field] = points(one)[1][-1]
    rows = list(rows.values())
    if order := panel["options"]["sortBy"]:
        field = next(key for key, name in names.items() if name == order[0]["displayName"])
        rows.sort(key=lambda row: row.get(field, 0), reverse=order[0]["desc"])
    widths = {key: 1.0 if key.startswith("Value") else 2.2 if key == "path" else 1.1
              for key in names}
    left, unit_width = x, w / sum(widths.values())
    visible = int((h - 14) // 14)
    for key, name in names.items():
        canvas.text(left, y, name, fontsize=7, color="#6e9fff")
        for index, row in enumerate(rows[:visible]):
            value, look = row.get(key), styles.get(name)
            color = threshold_color(value, look["thresholds"]) if look else TEXT
            text = humanize(value, look["unit"]) if look and value is not None else value or ""
            canvas.text(left, y + 16 + 14 * index, text, fontsize=7, color=color)
        left += widths[key] * unit_width


def heat(canvas, panel, results, inner, span):
    x, y, w, h = inner
    buckets = sorted(results[0], key=lambda one: float(one["metric"]["le"]))
    columns = [dict(zip(*points(one), strict=True)) for one in buckets]
    times = sorted({at for column in columns for at in column})
    cells, below = [], dict.fromkeys(times, 0.0)
    for column in columns:
        # Buckets are cumulative: a cell is what the one below does not hold.
        cells.append([max(0.0, column.get(at, 0.0) - below[at]) or math.nan for at in times])
        below = {at: column.get(at, 0.0) for at in times}
    axes = canvas.axes(x + 44, y + 2, w - 50, h - 20)
    style(axes, panel["options"]["yAxis"]["unit"], span)
    axes.grid(False)
    step = times[1] - times[0] if len(times) > 1 else 1
    axes.pcolormesh([*times, times[-1] + step], range(len(buckets) + 1), cells,
                    cmap=colormaps["turbo"], rasterized=True)
    axes.set_yticks(range(1, len(buckets) + 1, 2))
    axes.set_yticklabels([f"{one['metric']['le']}s" for one in buckets][::2])
