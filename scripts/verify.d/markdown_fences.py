"""Holds every Markdown page of the project to a parser of Markdown.

markdown_fences.py PROMTOOL SHELLCHECK SERVICE MERMAID SQL PUBLIC ADMIN PAGE..., called by
42-runbooks in the project's root. Pages must have sound fences and links that lead somewhere. What
stands in a fence is checked by the tool of its language. MERMAID is the folder of
Mermaid's parser. SQL is written to the file SQL, which the caller gives to a server. Requests that pages name must be offered by
docs/openapi.json, or by the listeners of the running service at PUBLIC and ADMIN.
So must subcommands of the binary SERVICE, targets of make, and scripts.
Prints every fault and exits 1 when there is one.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib
import urllib.error
import urllib.request

import yaml

from markdown_pages import Page, broken_links

PROMTOOL, SHELLCHECK, SERVICE, MERMAID, SQL, PUBLIC, ADMIN = sys.argv[1:8]
DESCRIBED = json.loads(pathlib.Path("docs/openapi.json").read_text())["paths"]
# Prose and pictures of letters; there is nothing to check.
FREE = {"text"}
# Checked together: the parser takes a second to start.
TOGETHER = {"mermaid"}
# Pages about requests that must fail.
REFUSED = {"docs/bad-input.md"}
METHODS = "GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS"


def run(*command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    return None if done.returncode == 0 else (done.stderr + done.stdout).strip()


def shell(text):
    # The shell takes it for a redirection, and writes a file.
    if found := re.search(r"(?<![<\d])<[A-Za-z][^<>()\n]*>", re.sub(r"'[^']*'|\"[^\"]*\"", "", text)):
        return f"{found.group()} is no placeholder in a shell: write NAME"
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(text)
        file.flush()
        # SC2148: it has no first line that names a shell. SC1083: `@{upstream}` and the like.
        return run("bash", "-n", file.name) or run(
            SHELLCHECK, "--shell=bash", "--severity=warning", "--exclude=SC2148", file.name)


def console(text):
    """A transcript: what is typed stands behind `$ `."""
    typed = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    return shell("\n".join(typed)) if typed else "no line begins with `$ `"


def promql(text):
    return run(PROMTOOL, "--experimental", "promql", "format", text)


def parsed(parse):
    def check(text):
        try:
            parse(text)
        except (ValueError, yaml.YAMLError) as error:
            return str(error)
        return None
    return check


def sql(text):
    with open(SQL, "a") as file:
        file.write("BEGIN;\n" + text.rstrip().rstrip(";") + ";\nROLLBACK;\n")


def mermaid_faults(pages):
    """Yields place and fault of every diagram that Mermaid cannot parse."""
    diagrams = [(where, text) for page in pages for where, language, text in page.fences
                if language == "mermaid"]
    parsed = subprocess.run(["node", "scripts/verify.d/mermaid_parse.mjs", MERMAID], check=True,
                            input=json.dumps([text for _, text in diagrams]),
                            stdout=subprocess.PIPE, text=True).stdout
    for (where, _), error in zip(diagrams, json.loads(parsed), strict=True):
        if error:
            yield where, f"mermaid: {error}"


CHECKS = {
    "sh": shell, "bash": shell, "console": console, "promql": promql, "sql": sql,
    "json": parsed(json.loads), "toml": parsed(tomllib.loads),
    "yaml": parsed(lambda text: list(yaml.safe_load_all(text))),
}


def commands(page):
    """Yields place and text of every command line: code in the text, and lines of fences."""
    yield from page.spans
    for where, language, text in page.fences:
        if language in ("sh", "bash", "console"):
            yield from ((where, line.removeprefix("$ ").strip()) for line in text.splitlines())


def requests(page):
    """Yields place, method (or None) and path of every request that a page names."""
    for where, span in page.spans:
        if found := re.fullmatch(rf"((?:{METHODS})(?:, (?:{METHODS}))*) (/\S*)", span):
            for method in found[1].split(", "):
                yield where, method, found[2]
        elif re.fullmatch(r"/(api|debug|health)/[\w/{}.-]*|/(metrics|info|faults|log-filter|trace-sampling)", span):
            yield where, None, span
    for where, language, text in page.fences:
        if language not in ("sh", "bash", "console"):
            continue
        for command in text.replace("\\\n", " ").splitlines():
            if found := re.search(r"https?://[^/\s'\"]+(/[^\s'\"]*)", command):
                method = re.search(rf"(?:-X ?|--request )({METHODS})\b", command)
                body = re.search(r" (--json|-d|--data\S*) ", command)
                if re.search(r"\bcurl\b", command):
                    yield where, method[1] if method else "POST" if body else "GET", found[1]


def allowed(url):
    """The methods of a path; empty when there is no such path."""
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, method="OPTIONS"), timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        if answer.status == 404:
            return set()
        return {method.strip() for method in answer.headers.get("Allow", "GET").split(",")}


def offered(method, path):
    """Whether the description or a listener of the running service has it."""
    path = path.partition("?")[0]
    for template, operations in DESCRIBED.items():
        shape = re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(template))
        if re.fullmatch(shape, path) and (method is None or method.lower() in operations):
            return True
    methods = allowed(PUBLIC + path) | allowed(ADMIN + path)
    return method in methods if method else bool(methods)


def main():
    faults, count = [], {}
    targets = set(re.findall(r"^([a-z][\w-]*):", pathlib.Path("Makefile").read_text(), flags=re.M))
    name = pathlib.Path(SERVICE).name
    described = subprocess.run([SERVICE, "--help"], check=True, capture_output=True, text=True).stdout
    offers = set(re.findall(r"^  ([a-z]+)", described, flags=re.M))
    pages = [Page(path) for path in sys.argv[8:]]
    named = 0
    for page in pages:
        faults += page.faults
        for where, language, text in page.fences:
            count[language] = count.get(language, 0) + 1
            if language in CHECKS:
                if wrong := CHECKS[language](text):
                    faults.append((where, f"{language}: {wrong}"))
            elif language not in FREE | TOGETHER:
                faults.append((where, f"no language that is checked: {language or 'none'}"))
        for where, command in commands(page):
            if (found := re.match(r"make ([a-z][\w-]*)", command)) and found[1] not in targets:
                faults.append((where, f"{command}: no such target"))
            if (found := re.match(r"scripts/[\w./-]+", command)) and not pathlib.Path(found[0]).exists():
                faults.append((where, f"{command}: no such file"))
            if (found := re.search(rf"(?:^|-- ){name} ([a-z]+)", command)) and found[1] not in offers:
                faults.append((where, f"{command}: no such subcommand"))
        if str(page.path) not in REFUSED:
            for where, method, path in requests(page):
                named += 1
                if not offered(method, path):
                    faults.append((where, f"{method or 'path'} {path}: not offered"))
    faults += mermaid_faults(pages)
    links = sum(len(page.links) for page in pages)
    faults += broken_links(pages)
    if faults:
        print("\n".join(f"{where}: {what}" for where, what in sorted(faults)), file=sys.stderr)
        sys.exit(1)
    fences = ", ".join(f"{number} {language}" for language, number in sorted(count.items()))
    print(f"{len(pages)} pages parse: fences ({fences}) are sound, {links} links resolve,"
          f" {named} requests are offered")


main()
