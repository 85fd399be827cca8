"""Mutation test of the alert and recording rules. Called by 21-prometheus-mutants.

rule_mutants.py PROMTOOL PROMETHEUS_FOLDER WORK_FOLDER [WORD]

Every mutant runs only against the tests that can tell: those of the alerts that
depend on the mutated rule, with the rules that these need, the quick ones first.
The tests of silence, which look at all rules at once, come last. With a WORD, a
regular expression, only rules whose name it matches are mutated.
"""

import concurrent.futures
import copy
import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import yaml

PROMTOOL, SOURCE, WORK = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
WORD = sys.argv[4] if len(sys.argv) > 4 else ""
FILES = ("recording.yml", "slo.yml", "alerts.yml")
SILENCE = "silence.test.yml"
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

RECORDED = re.compile(r"\bjob:[a-zA-Z0-9_:]+")
WINDOW = re.compile(r"\[(\d+[smhd])\]")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
# Numbers outside strings, windows, names and durations.
NUMBER = re.compile(r'"[^"]*"|\[[^\]]*\]|[a-zA-Z_:][\w:]*|(?P<number>\d+(?:\.\d+)?)')


@dataclasses.dataclass
class Mutant:
    rule: str  # name of the alert or record, with its long window if it has one
    kind: str
    change: str
    where: tuple  # file, group, rule
    field: str
    value: object


def seconds(duration):
    return int(duration[:-1]) * SECONDS[duration[-1]]


def rules(documents):
    for file, document in documents.items():
        for g, group in enumerate(document["groups"]):
            for r, rule in enumerate(group["rules"]):
                yield (file, g, r), rule


def changed_numbers(text, number):
    """Both neighbours of a number that matter: a tenth, or one for a counted limit."""
    value = float(text)
    before = number.string[:number.start()].rstrip()
    if value == 0:
        return ["-1", "2"]
    if text.isdigit() and before.endswith((">", ">=", "<", "<=")):
        return [str(int(text) - 1), str(int(text) + 1)]
    return [f"{value * 0.9:.6g}", f"{value * 1.1:.6g}"]


def in_expression(expression):
    """(kind, description, mutated expression) for every change of an expression."""
    def replace(match, group, new):
        return expression[:match.start(group)] + new + expression[match.end(group):]

    for match in WINDOW.finditer(expression):
        for factor in (0.5, 2):
            new = f"{int(seconds(match[1]) * factor)}s"
            yield "window", f"[{match[1]}] -> [{new}]", replace(match, 1, new)
    for match in NUMBER.finditer(expression):
        if match["number"]:
            for new in changed_numbers(match["number"], match):
                yield "threshold", f"{match['number']} -> {new}", replace(match, "number", new)
    for match in MATCHER.finditer(expression):
        label, operator, value = match.groups()
        if label == "job":  # which service; that is configuration, see the silence tests
            continue
        if label == "le":
            for new in ("0.1", "0.5"):
                yield "selector", f"le {value} -> {new}", replace(match, 3, new)
            continue
        inverse = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}[operator]
        yield "selector", f"{match[0]} -> {inverse}", replace(match, 2, inverse)
        # Matches every value, the absence of the label included.
        yield "selector", f"{match[0]} dropped", (
            expression[:match.start()] + f'{label}=~".*"' + expression[match.end():])


def mutants(documents):
    for where, rule in rules(documents):
        name = rule.get("record") or rule["alert"]
        name += f" {rule['labels']['long_window']}" if "long_window" in rule.get("labels", {}) else ""
        for kind, change, value in in_expression(rule["expr"]):
            yield Mutant(name, kind, change, where, "expr", value)
        if "alert" in rule:
            hold = rule.get("for", "0s")
            # Half a minute shows only where the tests look twice a minute.
            halves = [] if seconds(hold) <= 60 else [f"{seconds(hold) // 2}s"]
            for new in ["0s", *halves, f"{seconds(hold) * 2}s"]:
                yield Mutant(name, "for", f"{hold} -> {new}", where, "for", new)


def closure(documents, names):
    """The names and everything recorded that they read, directly or not."""
    reads = {}
    for _, rule in rules(documents):
        reads.setdefault(rule.get("record") or rule["alert"], set()).update(
            RECORDED.findall(rule["expr"]))
    todo, found = list(names), set()
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += reads.get(name, ())
    return found


def only(documents, names):
    kept = copy.deepcopy(documents)
    for document in kept.values():
        for group in document["groups"]:
            group["rules"] = [rule for rule in group["rules"]
                              if (rule.get("record") or rule["alert"]) in names]
        document["groups"] = [group for group in document["groups"] if group["rules"]]
    return kept


def narrowed(part, kept):
    """The test without what asks for rules that are left out; None when nothing is left."""
    test = dict(part["tests"][0])
    test["promql_expr_test"] = [case for case in test.get("promql_expr_test", ())
                                if set(RECORDED.findall(case["expr"])) <= kept]
    if not (test["promql_expr_test"] or test.get("alert_rule_test")):
        return None
    return {**part, "tests": [test]}


class Suite:
    """One test file, cut into single tests, the cheap ones first."""

    def __init__(self, path):
        self.name = path.name
        document = yaml.safe_load(path.read_text())
        self.needs = {pathlib.Path(file).name for file in document["rule_files"]}
        self.alert = None if path.name[0].islower() else path.name.split(".")[0]
        self.parts = []
        for test in document["tests"]:
            samples = sum(int(n) for series in test["input_series"]
                          for n in re.findall(r"x(\d+)", series["values"]))
            self.parts.append((samples, test["name"], {**document, "tests": [test]}))
        self.parts.sort(key=lambda part: part[:2])

    def red(self, documents, folder):
        """The name of the first test that fails with these rules, or None."""
        (folder / "rules").mkdir(parents=True, exist_ok=True)
        (folder / "tests").mkdir(exist_ok=True)
        groups = []
        for file in FILES:
            # JSON is YAML, and much faster to write.
            (folder / "rules" / file).write_text(json.dumps(documents[file]))
            if file in self.needs:
                groups += [group["name"] for group in documents[file]["groups"]]
        kept = {rule.get("record") or rule["alert"] for _, rule in rules(documents)}
        for _, name, part in self.parts:
            part = narrowed(part, kept)
            if part is None:
                continue
            if "group_eval_order" in part:
                part["group_eval_order"] = [g for g in part["group_eval_order"] if g in groups]
            file = folder / "tests" / "one.test.yml"
            file.write_text(json.dumps(part))
            run = subprocess.run([PROMTOOL, "test", "rules", str(file)],
                                 capture_output=True, text=True, timeout=300)
            if run.returncode:
                # Only a test that looked and saw something else counts; rules
                # that do not load would kill every mutant for nothing.
                if "got:" not in run.stdout + run.stderr:
                    raise RuntimeError(f"{self.name}: {name}: {run.stdout}{run.stderr}")
                return name
        return None


def plan(documents, suites, name):
    """The suites for a rule, each with the rules that it needs."""
    alert = name.split(" ")[0]
    own = [s for s in suites if s.alert is None and s.name != SILENCE and "alerts.yml" not in s.needs
           and alert.startswith("job:")]
    by_alert = [s for s in suites if s.alert and alert in closure(documents, [s.alert])]
    last = [s for s in suites if s.name == SILENCE]
    everything = {rule.get("record") or rule["alert"] for _, rule in rules(documents)}
    return ([(s, closure(documents, [alert])) for s in own]
            + [(s, closure(documents, [s.alert])) for s in by_alert]
            + [(s, everything) for s in last])


def judge(documents, suites, mutant, number):
    """What killed the mutant, or None if it lives."""
    mutated = copy.deepcopy(documents)
    file, g, r = mutant.where
    mutated[file]["groups"][g]["rules"][r][mutant.field] = mutant.value
    for suite, names in plan(documents, suites, mutant.rule):
        red = suite.red(only(mutated, names), WORK / f"mutant-{number}")
        if red:
            return f"{suite.name}: {red}"
    return None


def main():
    documents = {file: yaml.safe_load((SOURCE / "rules" / file).read_text()) for file in FILES}
    suites = [Suite(path) for path in sorted((SOURCE / "tests").glob("*.test.yml"))]
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        # Cut down to what they need, all tests must still be green, or a red
        # one would say nothing about a mutant.
        jobs = []
        for n, suite in enumerate(suites):
            names = closure(documents, [suite.alert]) if suite.alert else {
                rule.get("record") or rule["alert"] for _, rule in rules(documents)}
            jobs.append((suite, pool.submit(suite.red, only(documents, names), WORK / f"base-{n}")))
        for suite, job in jobs:
            if red := job.result():
                sys.exit(f"{suite.name}: {red}: fails without any mutation")
        todo = [m for m in mutants(documents) if re.search(WORD, m.rule)]
        if not todo:
            sys.exit(f"no rule matches {WORD!r}")
        results = list(pool.map(lambda pair: judge(documents, suites, pair[1], pair[0]),
                                enumerate(todo)))

    kinds = ("threshold", "window", "for", "selector")
    print(f"{'rule':<52}" + "".join(f"{kind:>12}" for kind in kinds))
    for name in dict.fromkeys(m.rule for m in todo):
        cells = []
        for kind in kinds:
            mine = [bool(red) for m, red in zip(todo, results) if m.rule == name and m.kind == kind]
            cells.append(f"{sum(mine)}/{len(mine)}" if mine else "-")
        print(f"{name:<52}" + "".join(f"{cell:>12}" for cell in cells))
    alive = [m for m, red in zip(todo, results) if not red]
    for mutant in alive:
        print(f"LIVES: {mutant.rule}: {mutant.kind} {mutant.change}")
    print(f"{len(todo) - len(alive)} of {len(todo)} mutants killed, {time.monotonic() - began:.0f} s")
    sys.exit(1 if alive else 0)


main()
