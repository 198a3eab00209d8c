"""What we ourselves want of a cluster with Margay, one function per behaviour. Each gets the cluster and raises an AssertionError."""

import json
import time

import programs

NAMESPACE = "margay-e2e"
SYSTEM = "margay-system"
PORT = 8080
IMAGE = "margay.io/margay:v0.1.0"


def installs(cluster):
    """The manifest passes the API server's own check, and pods run soon after it is applied."""
    manifest = str(programs.REPO / "manifests/margay.yaml")
    cluster.kubectl("create", "namespace", SYSTEM)
    cluster.kubectl("apply", "--server-side", "--dry-run=server", "-f", manifest, check=False)
    started = time.monotonic()
    cluster.kubectl("apply", "-f", manifest)
    cluster.wait("all nodes are Ready", 120, lambda: ready_nodes(cluster) == len(cluster.nodes))
    raise_pods(cluster)
    return f"pods of every node run {time.monotonic() - started:.0f} s after the manifest was applied"


def raise_pods(cluster):
    """A server per node, and two clients beside the first."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.wait("a service account", 30, lambda: cluster.kubectl("-n", NAMESPACE, "get", "serviceaccount", "default", check=False))
    pods = [pod(f"server-{node}", node, {"app": "server"}) for node in cluster.nodes]
    pods += [pod("client", cluster.nodes[0], {"app": "client"}), pod("stranger", cluster.nodes[0], {"app": "stranger"})]
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))
    cluster.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=120s")


def everyone_reaches_everyone(cluster):
    """Pods talk to pods of every node, in every family of the cluster."""
    for name in ("client", second(cluster)):
        for node in cluster.nodes:
            for address in addresses(cluster, f"server-{node}"):
                assert connects(cluster, name, address), f"{name} does not reach server-{node} at {address}"
    number = len(addresses(cluster, "client"))
    assert number == len(cluster.families), f"a pod has {number} addresses in a cluster of {len(cluster.families)} families"


def policy_holds(cluster):
    """A NetworkPolicy shuts out whom it does not name, and what it shut opens again when it goes."""
    server = addresses(cluster, second(cluster))
    apply(cluster, allow("only-client", {"app": "server"}, {"app": "client"}))
    for address in server:
        soon(lambda: not connects(cluster, "stranger", address), f"the stranger is shut out of {address}")
        assert connects(cluster, "client", address), f"the client is shut out of {address} too"
    cluster.kubectl("-n", NAMESPACE, "label", "pod", "stranger", "app=client", "--overwrite")
    for address in server:
        soon(lambda: connects(cluster, "stranger", address), f"the stranger got the label and reaches {address}")
    cluster.kubectl("-n", NAMESPACE, "label", "pod", "stranger", "app=stranger", "--overwrite")
    for address in server:
        soon(lambda: not connects(cluster, "stranger", address), f"the stranger lost the label and is shut out of {address}")
    cluster.kubectl("-n", NAMESPACE, "delete", "networkpolicy", "only-client")
    for address in server:
        soon(lambda: connects(cluster, "stranger", address), f"without a policy {address} is open")


def felix_dies(cluster):
    """felix is killed on every node: what is allowed goes on, what is forbidden stays so, and it comes back."""
    apply(cluster, allow("only-client", {"app": "server"}, {"app": "client"}))
    server = addresses(cluster, second(cluster))[0]
    soon(lambda: not connects(cluster, "stranger", server), "the policy is in force")
    before = restarts(cluster)
    for node in cluster.nodes:
        cluster.kill(node, "/margay-felix")
    assert connects(cluster, "client", server), "the client is shut out while felix is away"
    assert not connects(cluster, "stranger", server), "the stranger gets in while felix is away"
    cluster.wait("felix is back", 120, lambda: restarts(cluster) >= before + len(cluster.nodes) and system_ready(cluster))
    assert connects(cluster, "client", server) and not connects(cluster, "stranger", server), "the policy changed with a restart"
    cluster.kubectl("-n", NAMESPACE, "delete", "networkpolicy", "only-client")
    soon(lambda: connects(cluster, "stranger", server), "a restarted felix takes changes")


def controllers_away(cluster):
    """Without controllers running pods keep what they have, a new pod stays closed, and starts once one is back."""
    node = cluster.nodes[0]
    server = addresses(cluster, second(cluster))[0]
    cluster.kubectl("-n", SYSTEM, "scale", "deployment", "margay-controller", "--replicas=0")
    gone = lambda: not cluster.kubectl("-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=controller", "-o", "name").strip()
    cluster.wait("the controllers are gone", 60, gone)
    apply(cluster, pod("late", node, {"app": "late"}))
    assert connects(cluster, "client", server), "a running pod lost its network"
    started = lambda: cluster.kubectl("-n", NAMESPACE, "get", "pod", "late", "-o", "jsonpath={.status.podIP}").strip()
    refused = lambda: "FailedCreatePodSandBox" in cluster.kubectl("-n", NAMESPACE, "get", "events", "-o", "json")
    cluster.wait("the new pod is refused", 60, refused)
    assert not started(), "a pod whose policy nobody knows was started"
    cluster.kubectl("-n", SYSTEM, "scale", "deployment", "margay-controller", "--replicas=2")
    cluster.wait("the new pod runs once a controller is back", 120, started)
    cluster.kubectl("-n", NAMESPACE, "delete", "pod", "late", "--now")
    cluster.wait("both controllers are ready", 60, lambda: system_ready(cluster))


def leaves_nothing(cluster):
    """`kubectl delete -f` and `margayctl node cleanup` leave a node as it was before; the answer names what was removed."""
    node = cluster.nodes[0]
    margayctl = cluster.state / "margayctl"
    copy = ["ctr", "-n", "k8s.io", "image", "mount", IMAGE, "/mnt"]
    cluster.exec(node, *copy)
    cluster.exec(node, "cp", "/mnt/margayctl", margayctl)
    cluster.exec(node, "ctr", "-n", "k8s.io", "image", "unmount", "/mnt")
    while_felix_runs = cluster.exec(node, "sh", "-c", f"{margayctl} node cleanup 2>&1; true")
    assert "felix runs on this machine" in while_felix_runs, while_felix_runs
    cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=120s")
    cluster.kubectl("delete", "-f", str(programs.REPO / "manifests/margay.yaml"), "--timeout=120s")
    assert not cluster.kubectl("get", "crds", "-o", "name").strip(), "definitions are left"
    assert "margay" in cluster.exec(node, "nft", "list", "tables"), "the rules went with felix: nothing held meanwhile"
    told = cluster.exec(node, margayctl, "node", "cleanup")
    left = cluster.exec(node, "sh", "-c", "nft list tables; ip link; ip route show table all; ip -6 route show table all; find /opt/cni /etc/cni /var/lib/margay /run/margay -mindepth 1 2>/dev/null; readlink /opt/cni/bin/loopback; true")
    ours = [line for line in left.splitlines() if "mgy" in line or "margay" in line or "proto 180" in line]
    assert not ours, f"left after `{told}`: {ours}"
    again = cluster.exec(node, margayctl, "node", "cleanup")
    assert "nothing of Margay's" in again, again


def nobody_asks_for_more(cluster):
    """In the API server's audit log: felix never; the controller nothing that is refused, and everything it has a right to."""
    used, refused = set(), set()
    with open(cluster.logs / "audit.log") as log:
        for line in log:
            event = json.loads(line)
            user, reference = event["user"]["username"], event.get("objectRef") or {}
            assert user != f"system:serviceaccount:{SYSTEM}:margay-felix", f"felix asked the API server: {event['requestURI']}"
            if not reference:
                continue  # discovery and health
            what = (reference.get("apiGroup", ""), reference["resource"] + ("/" + reference["subresource"] if "subresource" in reference else ""))
            used.add((*what, event["verb"]))
            if event.get("responseStatus", {}).get("code") == 403:
                refused.add((*what, event["verb"]))
    assert not refused, f"the controller asked for what it may not: {sorted(refused)}"
    unused = sorted(right for right in granted(cluster) - used if right[2] != "list")  # a server that streams lists sees `watch`
    return f"{len(used)} rights are used" + (f"; unused so far: {unused}" if unused else "; none is unused")


def granted(cluster):
    """What the roles of the controller give: (group, resource, verb)."""
    found = set()
    for kind in (["clusterrole"], ["-n", SYSTEM, "role"]):
        role = json.loads(cluster.kubectl("get", *kind, "margay-controller", "-o", "json"))
        for rule in role["rules"]:
            found |= {(group, resource, verb) for group in rule["apiGroups"] for resource in rule["resources"] for verb in rule["verbs"]}
    return found


ALL = [installs, everyone_reaches_everyone, policy_holds, felix_dies, controllers_away, nobody_asks_for_more, leaves_nothing]


# --- what they are made of ---


def second(cluster):
    """The server that is on another node than the clients."""
    return f"server-{cluster.nodes[1]}"


def pod(name, node, labels):
    container = {"name": "c", "image": programs.AGNHOST, "args": ["netexec", f"--http-port={PORT}"], "imagePullPolicy": "IfNotPresent"}
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 0, "tolerations": [{"operator": "Exists"}], "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}, "spec": spec}


def allow(name, to, origin):
    spec = {"podSelector": {"matchLabels": to}, "ingress": [{"from": [{"podSelector": {"matchLabels": origin}}]}]}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def apply(cluster, *objects):
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def addresses(cluster, name):
    status = json.loads(cluster.kubectl("-n", NAMESPACE, "get", "pod", name, "-o", "json"))["status"]
    return [entry["ip"] for entry in status.get("podIPs", [])]


def connects(cluster, name, address):
    """Whether a new TCP connection comes about; one lost packet is no refusal, so it has 2 s."""
    host = f"[{address}]" if ":" in address else address
    command = ["-n", NAMESPACE, "exec", name, "--", "/agnhost", "connect", f"{host}:{PORT}", "--timeout=2s"]
    return run_status(cluster, command)


def run_status(cluster, arguments):
    try:
        cluster.kubectl(*arguments)
    except RuntimeError as error:
        if any(word in str(error) for word in ("TIMEOUT", "REFUSED", "OTHER", "exit code 1")):
            return False
        raise
    return True


def soon(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"


def ready_nodes(cluster):
    return sum(condition["type"] == "Ready" and condition["status"] == "True" for node in cluster.get("/api/v1/nodes")["items"] for condition in node["status"]["conditions"])


def system_ready(cluster):
    pods = cluster.get(f"/api/v1/namespaces/{SYSTEM}/pods")["items"]
    ready = [any(c["type"] == "Ready" and c["status"] == "True" for c in each["status"].get("conditions", [])) for each in pods]
    return len(ready) == len(cluster.nodes) + 2 and all(ready)


def restarts(cluster):
    pods = cluster.get(f"/api/v1/namespaces/{SYSTEM}/pods?labelSelector=app.kubernetes.io/component=felix")["items"]
    return sum(each["restartCount"] for one in pods for each in one["status"].get("containerStatuses", []))
