"""Holds the files for GitHub, GitLab and editors to the rest of the project.

Called by 23-workflows in the project's root. Every command of a workflow is a make target
or a script of .ci, actions are pinned by commit, workflows may only read, images have the
toolchain of rust-toolchain.toml, and rules of CODEOWNERS name paths that exist. Prints
every fault and exits 1 when there is one.
"""

import json
import os
import pathlib
import re
import sys
import tomllib

import yaml

GITLAB = pathlib.Path(".gitlab-ci.yml")
DEVCONTAINER = pathlib.Path(".devcontainer/devcontainer.json")
TOOLCHAIN = tomllib.loads(pathlib.Path("rust-toolchain.toml").read_text())["toolchain"]["channel"]
TARGETS = set(re.findall(r"^([a-z][\w-]*):", pathlib.Path("Makefile").read_text(), flags=re.M))
# Words that GitLab reads at the top level; the other members are jobs.
GITLAB_WORDS = {"default", "include", "stages", "variables", "workflow"}

faults, commands, images = [], [], []


def fault(where, what):
    faults.append(f"{where}: {what}")


def github(path):
    text = path.read_text()
    workflow = yaml.safe_load(text)
    if workflow.get("permissions") != {"contents": "read"}:
        fault(path, "permissions are not `contents: read`")
    if "pull_request_target" in text:
        fault(path, "pull_request_target gives code of strangers the rights of this project")
    if "concurrency" not in workflow:
        fault(path, "no concurrency group")
    for action, comment in re.findall(r"uses: *(\S+)(.*)", text):
        if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action) or not re.fullmatch(r" +# v[\d.]+", comment):
            fault(path, f"{action} is not pinned as NAME@COMMIT # vVERSION")
    for name, job in workflow["jobs"].items():
        if "permissions" in job:
            fault(path, f"{name} has permissions of its own")
        if "timeout-minutes" not in job:
            fault(path, f"{name} has no timeout-minutes")
        container = job.get("container", {})
        images.append((path, container if isinstance(container, str) else container.get("image", "")))
        commands.extend((path, step["run"]) for step in job["steps"] if "run" in step)


def gitlab():
    pipeline = yaml.safe_load(GITLAB.read_text())
    images.append((GITLAB, pipeline["default"]["image"]))
    for name, job in pipeline.items():
        if name in GITLAB_WORDS:
            continue
        if not name.startswith(".") and "timeout" not in job:
            fault(GITLAB, f"{name} has no timeout")
        for part in ("before_script", "script", "after_script"):
            commands.extend((GITLAB, line) for line in job.get(part, ()))
        if "image" in job:
            images.append((GITLAB, job["image"]))


def owners():
    """Rules that are commented out are rules as well: they wait for the names of teams."""
    path, rules = pathlib.Path("CODEOWNERS"), 0
    for line in path.read_text().splitlines():
        rule = re.fullmatch(r"(?:# )?(\*|/\S*) +(@\S+( +@\S+)*)", line)
        if rule:
            rules += 1
            if rule[1] != "*" and not pathlib.Path(rule[1].lstrip("/")).exists():
                fault(path, f"{rule[1]} does not exist")
        elif line and not line.startswith("#"):
            fault(path, f"no pattern and owners: {line}")
    return rules


def main():
    workflows = sorted(pathlib.Path(".github/workflows").glob("*.y*ml"))
    for path in workflows:
        github(path)
    gitlab()
    images.append((DEVCONTAINER, json.loads(DEVCONTAINER.read_text())["image"]))
    rules = owners()
    for path, command in commands:
        target = re.fullmatch(r"make ([a-z][\w-]*)", command.strip())
        script = re.fullmatch(r"\.ci/\w+", command.strip())
        if target and target[1] in TARGETS or script and os.access(script[0], os.X_OK):
            continue
        fault(path, f"`{command.strip()}` is neither a target of the Makefile nor a script of .ci")
    for path, image in images:
        if not re.fullmatch(rf"rust:{re.escape(TOOLCHAIN)}-\w+", image):
            fault(path, f"image {image} is not that of toolchain {TOOLCHAIN}")
    if faults:
        print("\n".join(faults), file=sys.stderr)
        sys.exit(1)
    print(f"{len(workflows)} workflow and .gitlab-ci.yml: {len(commands)} commands are targets or scripts,"
          f" {len(images)} images have toolchain {TOOLCHAIN}; {rules} rules of owners name paths that exist")


main()
