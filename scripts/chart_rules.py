"""What must hold in every rendering of the chart, beyond what schemas say."""

import json
import pathlib
import re

import yaml

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def seconds(duration):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", duration).groups()
    return int(number) * SECONDS[unit]


def need(condition, sentence):
    if not condition:
        raise AssertionError(sentence)


def is_hook(doc):
    return "helm.sh/hook" in doc["metadata"].get("annotations", {})


def pod_of(doc):
    """(labels, specification) of the pod that an object makes, if it makes one."""
    if doc["kind"] == "Pod":
        return doc["metadata"]["labels"], doc["spec"]
    template = doc.get("spec", {}).get("template") if doc["kind"] in ("Deployment", "Job") else None
    return (template["metadata"]["labels"], template["spec"]) if template else None


def selects(selector, labels):
    return selector.items() <= labels.items()


def check_release(docs, values, root):
    """Runs every rule below over the objects of one rendering."""
    sqlite = values["database.kind"] == "sqlite"
    by_kind = {}
    for doc in docs:
        by_kind.setdefault(doc["kind"], []).append(doc)
    on = lambda name, default=False: values.get(name, str(default).lower()) == "true"  # noqa: E731

    need("Secret" not in by_kind, "no Secret is rendered")
    names = [(doc["kind"], doc["metadata"]["name"]) for doc in docs]
    need(len(names) == len(set(names)), "no two objects have one name")
    for doc in docs:
        need(doc["metadata"].get("namespace") == "shop", f"{doc['kind']} stands in the release's namespace")
        pod = pod_of(doc)
        if pod:
            check_restricted(doc["kind"], pod[1])

    (deployment,) = by_kind["Deployment"]
    check_deployment(deployment, values, sqlite, by_kind)
    check_selectors(docs, by_kind)
    check_migration(by_kind, sqlite or not on("migration.enabled", True), on("networkPolicy.enabled", True),
                    values.get("migration.existingSecret", values.get("database.existingSecret")))
    check_test(by_kind, on("networkPolicy.enabled", True))
    need(("PersistentVolumeClaim" in by_kind) == sqlite, "SQLite, and only it, has a claim")
    need(("HorizontalPodAutoscaler" in by_kind) == (on("autoscaling.enabled") and not sqlite), "autoscaler")
    need(
        ("PodDisruptionBudget" in by_kind) == (on("podDisruptionBudget.enabled", True) and not sqlite),
        "disruption budget",
    )
    check_policy(by_kind, values, sqlite, on("networkPolicy.enabled", True))
    check_front(by_kind, deployment, values, on)
    check_monitoring(by_kind, values, on, root)


def check_restricted(kind, pod):
    """Kubernetes' restricted pod security standard, and no API access."""
    need(pod.get("automountServiceAccountToken") is False, f"{kind} mounts no API token")
    security = pod["securityContext"]
    need(security["runAsNonRoot"] is True and security["runAsUser"] > 0, f"{kind} is not root")
    need(security["seccompProfile"]["type"] == "RuntimeDefault", f"{kind} has a seccomp profile")
    for container in pod["containers"]:
        own = container["securityContext"]
        need(own["allowPrivilegeEscalation"] is False, f"{kind} cannot gain privileges")
        need(own["readOnlyRootFilesystem"] is True, f"{kind} has a read-only root")
        need(own["capabilities"]["drop"] == ["ALL"], f"{kind} drops all capabilities")
        need("memory" in container["resources"]["limits"], f"{kind} has a memory limit")
        need(not container["image"].endswith((":", ":latest")), f"{kind} names its image's tag")


def check_deployment(deployment, values, sqlite, by_kind):
    spec = deployment["spec"]
    pod = spec["template"]["spec"]
    (server,) = pod["containers"]
    if sqlite:
        need(spec["replicas"] == 1, "SQLite has one replica")
        need(spec["strategy"] == {"type": "Recreate"}, "SQLite stops before it starts")
    else:
        rolling = {"maxUnavailable": 0, "maxSurge": 1}
        need(spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": rolling}, "rolls without a gap")
        scaled = values.get("autoscaling.enabled") == "true"
        need(("replicas" in spec) != scaled, "replicas are the autoscaler's where there is one")

    drain, grace = values.get("lifecycle.drainDelay", "5s"), values.get("lifecycle.gracePeriod", "20s")
    least = seconds(drain) + seconds(grace) + 5
    need(
        least < pod["terminationGracePeriodSeconds"] <= least + 10,
        f"grace {pod['terminationGracePeriodSeconds']} fits drain, grace and flush ({least})",
    )
    (config,) = [doc for doc in by_kind["ConfigMap"] if doc["metadata"]["name"] == deployment["metadata"]["name"]]
    data = config["data"]
    need(all(isinstance(value, str) for value in data.values()), "configuration is text")
    need(not any("e+" in value for value in data.values()), "numbers have no exponent")
    need(data["APP_ENV"] == "production", "runs as production")
    need(data["APP__LIFECYCLE__DRAIN_DELAY"] == drain, "the service knows its drain delay")
    need(data["APP__LIFECYCLE__GRACE_PERIOD"] == grace, "the service knows its grace period")
    need((data.get("APP__DATABASE__ALLOW_SQLITE") == "true") == sqlite, "SQLite is allowed where it is chosen")
    need((data["APP__DATABASE__MIGRATE_ON_START"] == "true") == sqlite, "only SQLite migrates on start")
    need(re.fullmatch("[0-9a-f]{64}", spec["template"]["metadata"]["annotations"]["checksum/config"]), "checksum")

    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    need(ports == {"http": 3000, "grpc": 50051, "metrics": 9464}, f"ports {ports}")
    for probe, path in (("startup", "startup"), ("liveness", "live"), ("readiness", "ready")):
        get = server[f"{probe}Probe"]["httpGet"]
        need(get == {"path": f"/health/{path}", "port": "metrics"}, f"{probe} probe asks {get}")
    check_environment(server, pod, values)


def check_environment(container, pod, values):
    """Every `_FILE` points into a mounted Secret; no secret stands in a value."""
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    need(set(mounts.values()) == set(volumes), "volumes and mounts are the same")
    env = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    need(len(env) == len(container["env"]), "no variable is set twice")
    for name, value in env.items():
        if name.endswith("_FILE"):
            folder, _, file = value.rpartition("/")
            items = volumes[mounts[folder]]["secret"]["items"]
            need([item["path"] for item in items] == [file], f"{name} is mounted")
    need("APP__AUTH__KEYS_FILE" in env, "signing keys come from the Secret")
    need(volumes["auth"]["secret"]["secretName"] == values["auth.existingSecret"], "the named Secret is mounted")
    if values["database.kind"] == "postgres":
        need("APP__DATABASE__URL_FILE" in env, "the database URL comes from the Secret")


def check_selectors(docs, by_kind):
    """Services, budget and server policy select the server's pods and no others."""
    pods = {doc["metadata"]["name"]: pod_of(doc)[0] for doc in docs if pod_of(doc)}
    server = by_kind["Deployment"][0]["metadata"]["name"]
    selectors = [doc["spec"]["selector"] for doc in by_kind["Service"]]
    selectors += [doc["spec"]["selector"]["matchLabels"] for doc in by_kind.get("PodDisruptionBudget", [])]
    selectors += [
        doc["spec"]["podSelector"]["matchLabels"] for doc in by_kind.get("NetworkPolicy", []) if not is_hook(doc)
    ]
    for selector in selectors:
        chosen = [name for name, labels in pods.items() if selects(selector, labels)]
        need(chosen == [server], f"{selector} selects {chosen}, not only {server}")
    admin = [doc for doc in by_kind["Service"] if any(p["name"] == "metrics" for p in doc["spec"]["ports"])]
    need(len(admin) == 1 and admin[0]["spec"]["clusterIP"] == "None", "the admin port is on the headless Service only")


def check_test(by_kind, policy):
    """`helm test` asks the Service for readiness, and a policy lets it."""
    (pod,) = by_kind["Pod"]
    need(pod["metadata"]["annotations"]["helm.sh/hook"] == "test", "the only bare pod is the test")
    args = pod["spec"]["containers"][0]["args"]
    service = by_kind["Deployment"][0]["metadata"]["name"]
    need(args == ["healthcheck", "--url", f"http://{service}.shop:3000/health/ready"], f"it asks {args}")
    policies = [
        doc
        for doc in by_kind.get("NetworkPolicy", [])
        if selects(doc["spec"]["podSelector"]["matchLabels"], pod["metadata"]["labels"])
    ]
    need(len(policies) == int(policy), "one policy for the test where policies are on")
    for doc in policies:
        need({p["port"] for rule in doc["spec"]["egress"] for p in rule["ports"]} == {53, 3000}, "it lets the test out")


def check_migration(by_kind, absent, policy, secret):
    if absent:
        need("Job" not in by_kind, "no migration Job where none is asked for")
        return
    (job,) = by_kind["Job"]
    annotations = job["metadata"]["annotations"]
    need(set(annotations["helm.sh/hook"].split(",")) == {"pre-install", "pre-upgrade"}, "hook before both")
    need(
        set(annotations["helm.sh/hook-delete-policy"].split(",")) == {"before-hook-creation", "hook-succeeded"},
        "a failed Job stays, a done one goes",
    )
    need("activeDeadlineSeconds" in job["spec"] and "backoffLimit" in job["spec"], "the Job is bounded")
    labels, pod = pod_of(job)
    need("serviceAccountName" not in pod, "no account of the release")
    text = yaml.safe_dump(pod)
    need("configMap" not in text and "persistentVolumeClaim" not in text, "nothing of the release is mounted")
    (mounted,) = (one["secret"] for one in pod["volumes"] if one["name"] == "database")
    need(mounted["secretName"] == secret, "the URL of the server itself, where one is given")
    (container,) = pod["containers"]
    need(container["args"] == ["migrate"] and "envFrom" not in container, "own environment")
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    need(env["APP_ENV"] == "production" and "APP__DATABASE__URL_FILE" in env, "knows its database")
    # Policies of the release bind the Job on upgrades, when they already exist.
    policies = [
        doc for doc in by_kind.get("NetworkPolicy", []) if selects(doc["spec"]["podSelector"]["matchLabels"], labels)
    ]
    need(len(policies) == int(policy), "one policy for the Job where policies are on")
    for doc in policies:
        need(is_hook(doc), "it exists before the release does")
        need(int(doc["metadata"]["annotations"]["helm.sh/hook-weight"]) < int(annotations["helm.sh/hook-weight"]), "order")
        ports = {(p["protocol"], p["port"]) for rule in doc["spec"]["egress"] for p in rule["ports"]}
        need(ports == {("UDP", 53), ("TCP", 53), ("TCP", 5432)}, f"it lets the Job through: {ports}")


def check_policy(by_kind, values, sqlite, enabled):
    policies = [doc for doc in by_kind.get("NetworkPolicy", []) if not is_hook(doc)]
    need(len(policies) == int(enabled), "one policy of the server where policies are on")
    for doc in policies:
        spec = doc["spec"]
        need(set(spec["policyTypes"]) == {"Ingress", "Egress"}, "both directions")
        for rule in spec["ingress"]:
            ports = {port["port"] for port in rule["ports"]}
            if 9464 in ports:
                need(ports == {9464} and rule["from"], "the admin port is for monitoring only")
            else:
                need(ports == {3000, 50051} and "from" not in rule, "the public ports are for everyone")
        need(len(spec["ingress"]) == 2, "two ingress rules")
        egress = {port["port"] for rule in spec["egress"] for port in rule["ports"]}
        wanted = {53}
        wanted |= set() if sqlite else {5432}
        wanted |= {4317, 4318} if values.get("otel.endpoint") else set()
        wanted |= {6379} if values.get("rateLimit.backend") == "redis" else set()
        need(egress == wanted, f"egress {egress}, wanted {wanted}")


def check_front(by_kind, deployment, values, on):
    name = deployment["metadata"]["name"]
    need(("Ingress" in by_kind) == on("ingress.enabled"), "ingress")
    need(("HTTPRoute" in by_kind) == on("gateway.enabled"), "route")
    for doc in by_kind.get("Ingress", []):
        (path,) = doc["spec"]["rules"][0]["http"]["paths"]
        need(path["backend"]["service"] == {"name": name, "port": {"name": "http"}}, "ingress leads to http")
    for doc in by_kind.get("HTTPRoute", []):
        need(doc["apiVersion"] == "gateway.networking.k8s.io/v1" and doc["spec"]["parentRefs"], "route is attached")
        (backend,) = doc["spec"]["rules"][0]["backendRefs"]
        need(backend == {"name": name, "port": 3000}, "route leads to http")
    (config,) = [doc for doc in by_kind["ConfigMap"] if doc["metadata"]["name"] == name]
    proxies = [values[key] for key in sorted(values) if key.startswith("trustedProxies[")]
    need(config["data"].get("APP__HTTP__TRUSTED_PROXIES", "") == ",".join(proxies), "the service knows its proxies")


def check_monitoring(by_kind, values, on, root):
    need(("ServiceMonitor" in by_kind) == on("serviceMonitor.enabled"), "service monitor")
    for doc in by_kind.get("ServiceMonitor", []):
        need(doc["metadata"]["labels"]["release"] == values["serviceMonitor.labels.release"], "its labels")
        chosen = [s for s in by_kind["Service"] if selects(doc["spec"]["selector"]["matchLabels"], s["metadata"]["labels"])]
        (service,) = chosen
        need(doc["spec"]["endpoints"][0]["port"] in [p["name"] for p in service["spec"]["ports"]], "its port")
        job = service["metadata"]["labels"][doc["spec"]["jobLabel"]]
        name = yaml.safe_load(pathlib.Path(root, "k8s/chart/Chart.yaml").read_text())["name"]
        need(job == name, f"the job that rules and dashboards ask for, not {job}")

    rules = sorted(pathlib.Path(root, "deploy/prometheus/rules").glob("*.y*ml"))
    # Their links lead to what the values name, else to the admin listener of this release.
    admin = f"http://{by_kind['Deployment'][0]['metadata']['name']}-metrics.shop.svc:9464"
    runbooks = values.get("links.runbooks", f"{admin}/runbooks")
    grafana = values.get("links.grafana", admin)
    wanted = [yaml.safe_load(file.read_text())["groups"] for file in rules] if on("prometheusRule.enabled") else []
    for rule in [rule for groups in wanted for group in groups for rule in group["rules"] if "alert" in rule]:
        board = rule["annotations"]["dashboard"].rpartition("/")[2]
        rule["annotations"] |= {"runbook_url": f"{runbooks}/{rule['alert']}.md", "dashboard": f"{grafana}/d/{board}"}
    found = [doc["spec"]["groups"] for doc in by_kind.get("PrometheusRule", [])]
    need(not on("prometheusRule.enabled") or rules, "there are rules")
    need(sorted(map(str, found)) == sorted(map(str, wanted)), "the rules are those of deploy/prometheus/rules")

    boards = sorted(pathlib.Path(root, "grafana/dashboards").glob("*.json"))
    # They ask with the interval at which the ServiceMonitor scrapes.
    interval = values.get("serviceMonitor.interval", "15s")
    wanted = {}
    for file in boards if on("dashboards.enabled") else []:
        wanted[file.name] = json.loads(file.read_text())
        for variable in wanted[file.name]["templating"]["list"]:
            if value := {"scrape": interval, "runbooks": runbooks}.get(variable["name"]):
                variable |= {"query": value, "current": {"text": value, "value": value}}
    found = {}
    for doc in by_kind["ConfigMap"]:
        if doc["metadata"]["labels"].get("grafana_dashboard") == "1":
            found |= {file: json.loads(text) for file, text in doc["data"].items()}
    need(not on("dashboards.enabled") or boards, "there are dashboards")
    need(found == wanted, "the dashboards are those of grafana/dashboards")
