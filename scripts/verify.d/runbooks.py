"""Holds rules, rule tests, runbooks and the metrics catalogue together.

runbooks.py PROMTOOL, called by 42-runbooks in the project's root. Prints every
fault that it finds and exits 1 when there is one.
"""

import json
import pathlib
import re
import subprocess
import sys

import yaml

from markdown_pages import Page

PROMTOOL = sys.argv[1]
RULES = sorted(pathlib.Path("deploy/prometheus/rules").glob("*.yml"))
TESTS = pathlib.Path("deploy/prometheus/tests")
RUNBOOKS = pathlib.Path("docs/runbooks")
CATALOGUE = pathlib.Path("docs/metrics.md")
LINKS = dict(re.findall(r"^(\w+)=(https?://\S*[^/\s])$",
                        pathlib.Path("deploy/prometheus/links.env").read_text(), flags=re.M))
SECTIONS = ("What it means", "Impact", "First five minutes", "Likely causes", "Mitigation",
            "How it ends", "Try it")
# What Prometheus and the collector say of themselves is not ours to catalogue.
FOREIGN = re.compile(r"^(up|scrape_\w+|ALERTS|otelcol_\w+)$")
KEYWORDS = {"by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless",
            "bool", "offset", "inf", "nan"}

faults = []


def fault(where, what):
    faults.append(f"{where}: {what}")


def metrics(query):
    """The names of the series that a query selects."""
    query = re.sub(r'"[^"]*"', "", query)
    query = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", query)
    query = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", query)
    found = re.findall(r"(?<![\w:.])([a-zA-Z_:][\w:]*)\b(?!\s*\()", query)
    return {name for name in found if name.lower() not in KEYWORDS}


def base(name):
    return re.sub(r"_(bucket|sum|count)$", "", name)


def main():
    alerts, recorded, queries = {}, set(), []
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                queries.append((f"{path}: {rule.get('record') or rule['alert']}", rule["expr"]))
                if "record" in rule:
                    recorded.add(rule["record"])
                else:
                    alerts.setdefault(rule["alert"], []).append(rule)

    boards = {f"{LINKS['GRAFANA']}/d/{json.loads(path.read_text())['uid']}"
              for path in pathlib.Path("grafana/dashboards").glob("*.json")}
    fired = set()
    for path in sorted(TESTS.glob("*.test.yml")):
        for test in yaml.safe_load(path.read_text())["tests"]:
            fired |= {case["alertname"] for case in test.get("alert_rule_test", ())
                      if case.get("exp_alerts")}
        name = path.name.split(".")[0]
        if name[0].isupper() and name not in alerts:
            fault(path, "no such alert")

    index = dict(re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| (\w+) \|",
                            (RUNBOOKS / "README.md").read_text(), flags=re.M))
    for name, rules in alerts.items():
        page = RUNBOOKS / f"{name}.md"
        severities = {rule.get("labels", {}).get("severity") for rule in rules}
        if len(severities) != 1 or not severities <= {"page", "ticket"}:
            fault(name, f"severity must be page or ticket, the same in all its rules: {severities}")
        for rule in rules:
            notes = rule.get("annotations", {})
            for key in ("summary", "description"):
                if not notes.get(key, "").strip():
                    fault(name, f"no {key}")
            # A relative link leads nowhere from a message; scripts/links writes the bases.
            if notes.get("runbook_url") != f"{LINKS['RUNBOOKS']}/{page.name}":
                fault(name, f"runbook_url {notes.get('runbook_url')} does not lead to {page}")
            if notes.get("dashboard") not in boards:
                fault(name, f"dashboard {notes.get('dashboard')} is none of {sorted(boards)}")
            if "for" not in rule:
                fault(name, "no `for`")
        if name not in fired:
            fault(name, f"no test in {TESTS} in which it fires")
        severity = next(iter(severities))
        if index.pop(name, None) != severity:
            fault(RUNBOOKS / "README.md", f"{name} is not listed as {severity}")
        if not page.exists():
            fault(name, f"no page {page}")
            continue
        parsed = Page(page)
        for where, what in parsed.faults:
            fault(where, what)
        text = parsed.text
        if not text.startswith(f"# {name}\n") or f"Severity: **{severity}**" not in text:
            fault(page, f"must begin with `# {name}` and say `Severity: **{severity}**`")
        heads = [head for level, head in parsed.headings if level == 2]
        if heads != list(SECTIONS):
            fault(page, f"sections are {heads}, not {list(SECTIONS)}")
        blocks = [(where, block) for where, language, block in parsed.fences
                  if language == "promql"]
        if not blocks:
            fault(page, "no query to paste")
        queries += blocks
    for name in index:
        fault(RUNBOOKS / "README.md", f"lists {name}, which is no alert")
    for page in RUNBOOKS.glob("*.md"):
        if page.stem != "README" and page.stem not in alerts:
            fault(page, "a page without an alert")

    names = {}
    for where, query in queries:
        for name in metrics(query):
            names.setdefault(name, where)
        run = subprocess.run([PROMTOOL, "--experimental", "promql", "format", query],
                             capture_output=True, text=True)
        if run.returncode:
            fault(where, f"not a query: {run.stderr.strip()}")
    if not CATALOGUE.exists():
        fault(CATALOGUE, "is not there; it is generated from the metrics that the sources declare")
    else:
        catalogue = CATALOGUE.read_text()
        known = set(re.findall(r"[a-zA-Z_:][\w:]*", catalogue))
        # A family that comes from a library is listed as `process_*`.
        families = tuple(re.findall(r"\b([a-z]\w*_)\*", catalogue)) or ("-",)
        for name, where in sorted(names.items()):
            if not ({name, base(name)} & known or name in recorded or name.startswith(families)
                    or FOREIGN.match(name)):
                fault(where, f"metric {name} is not in {CATALOGUE}")

    if faults:
        print("\n".join(sorted(faults)), file=sys.stderr)
        sys.exit(1)
    print(f"{len(alerts)} alerts with rule test, page and index entry; {len(queries)} queries parse"
          f" and name {len(names)} known series")


main()
