"""What we ourselves want of a cluster with Margay, one function per behaviour. Each gets the cluster and raises an AssertionError."""

import base64
import ipaddress
import json
import time

import programs

NAMESPACE = "margay-e2e"
SYSTEM = "margay-system"
PORT = 8080
# Seconds from the manifest to running pods, where the image is there.
RUNNING = 30
# Octets that felix may have resident.
FELIX = 20_000_000
# felix' volume with the authority's certificates, on its node.
FELIX_CA = "/var/lib/kubelet/pods/*/volumes/kubernetes.io~configmap/ca/ca.pem"


def installs(cluster):
    """The manifest is what kustomize makes of its base, passes the API server's own check, and pods run soon after it is applied."""
    cluster.before = belongings(cluster)
    manifest = str(programs.REPO / "manifests/margay.yaml")
    made, written = objects(cluster, cluster.kubectl("kustomize", str(programs.REPO / "manifests/base"))), objects(cluster, open(manifest).read())
    assert made == written, f"`kubectl kustomize manifests/base` is not manifests/margay.yaml: {[name for name in made | written if made.get(name) != written.get(name)]}"
    cluster.kubectl("create", "namespace", SYSTEM)
    # The server's own check of everything, by both ways to apply; with every unknown field an error.
    cluster.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", manifest)
    cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", manifest)
    started = time.monotonic()
    cluster.kubectl("apply", "-f", manifest)
    cluster.wait("all nodes are Ready", 300, lambda: ready_nodes(cluster) == len(cluster.nodes))
    raise_pods(cluster)
    took = time.monotonic() - started
    assert took <= RUNNING or not cluster.limits, f"pods of every node run only {took:.0f} s after the manifest was applied"
    return f"pods of every node run {took:.0f} s after the manifest was applied"


def objects(cluster, manifest):
    """Objects of a manifest by kind, namespace and name."""
    text, at, found = cluster.kubectl("create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-", input=manifest), 0, {}
    while at < len(text):
        each, end = json.JSONDecoder().raw_decode(text, at)
        found[each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]] = each
        at = end + len(text[end:]) - len(text[end:].lstrip())
    return found


def raise_pods(cluster):
    """A server per node, and two clients beside the first."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.wait("a service account", 300, lambda: cluster.kubectl("-n", NAMESPACE, "get", "serviceaccount", "default", check=False))
    pods = [pod(f"server-{node}", node, {"app": "server"}) for node in cluster.nodes]
    pods += [pod("client", cluster.nodes[0], {"app": "client"}), pod("stranger", cluster.nodes[0], {"app": "stranger"})]
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))
    cluster.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=300s")


def everyone_reaches_everyone(cluster):
    """Pods talk to pods of every node, in every family of the cluster."""
    for name in ("client", second(cluster)):
        for node in cluster.nodes:
            for address in addresses(cluster, f"server-{node}"):
                assert reaches(cluster, name, address), f"{name} does not reach server-{node} at {address}"
    number = len(addresses(cluster, "client"))
    assert number == len(cluster.families), f"a pod has {number} addresses in a cluster of {len(cluster.families)} families"


def addresses_are_of_the_node(cluster):
    """Without an IPPool a pod's addresses lie in the ranges that the cluster gave its node."""
    for node in cluster.nodes:
        ranges = [ipaddress.ip_network(each) for each in json.loads(cluster.kubectl("get", "node", node, "-o", "json"))["spec"]["podCIDRs"]]
        for address in addresses(cluster, f"server-{node}"):
            assert any(ipaddress.ip_address(address) in each for each in ranges), f"{address} of server-{node} is in none of {ranges}"


def policy_holds(cluster):
    """A NetworkPolicy shuts out whom it does not name, and what it shut opens again when it goes."""
    server = addresses(cluster, second(cluster))
    apply(cluster, allow("only-client", {"app": "server"}, {"app": "client"}))
    for address in server:
        soon(lambda: not connects(cluster, "stranger", address), f"the stranger is shut out of {address}")
        assert reaches(cluster, "client", address), f"the client is shut out of {address} too"
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
    assert reaches(cluster, "client", server), "the client is shut out while felix is away"
    assert not connects(cluster, "stranger", server), "the stranger gets in while felix is away"
    cluster.wait("felix is back", 300, lambda: restarts(cluster) >= before + len(cluster.nodes) and system_ready(cluster))
    assert reaches(cluster, "client", server) and not connects(cluster, "stranger", server), "the policy changed with a restart"
    cluster.kubectl("-n", NAMESPACE, "delete", "networkpolicy", "only-client")
    soon(lambda: connects(cluster, "stranger", server), "a restarted felix takes changes")


def pools_are_used(cluster):
    """With an IPPool nodes claim blocks, and pods get addresses from them; what contradicts is told on the object."""
    cidr, other, size = ("fd00:10:250::/112", "fd00:10:250::/120", 122) if cluster.families[0] == "ipv6" else ("10.250.0.0/16", "10.250.8.0/24", 26)
    apply(cluster, pool("pool", cidr))
    blocks = lambda: [(each["spec"]["node"], ipaddress.ip_network(each["spec"]["cidr"])) for each in cluster.get("/apis/margay.io/v1alpha1/ipblocks")["items"]]
    owners = lambda: {owner for owner, _ in blocks()}
    node = cluster.nodes[0]
    try:
        cluster.wait("nodes have blocks of the pool", 300, lambda: owners() >= set(cluster.nodes))
        apply(cluster, pod("pooled", node, {"app": "pooled"}))
        cluster.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "pod/pooled", "--timeout=300s")
        given = [each for each in addresses(cluster, "pooled") if any(owner == node and ipaddress.ip_address(each) in block for owner, block in blocks())]
        assert given, f"{addresses(cluster, 'pooled')} of the pod is not in a block of {node}: {blocks()}"
        soon(lambda: connects(cluster, second(cluster), given[0]), "the pod is reached from another node")
        apply(cluster, pool("overlaps", other))
        told = lambda: [each["note"] for each in cluster.get("/apis/events.k8s.io/v1/events")["items"] if each["reason"] == "Contradiction"]
        cluster.wait("two pools that overlap are told", 300, lambda: any("overlaps" in note for note in told()))
        assert reaches(cluster, second(cluster), given[0]), "a pod of a pool lost its network to a pool that overlaps"
        # A claim of a node that there never was, as one that is gone leaves it.
        taken = {block for _, block in blocks()}
        free = next(block for block in ipaddress.ip_network(cidr).subnets(new_prefix=size) if block not in taken)
        apply(cluster, {"apiVersion": "margay.io/v1alpha1", "kind": "IPBlock", "metadata": {"name": block_name(free)}, "spec": {"cidr": str(free), "node": "gone"}})
        cluster.wait("the block of a node that is gone is released", 300, lambda: "gone" not in owners())
    finally:
        cluster.kubectl("-n", NAMESPACE, "delete", "pod", "pooled", "--now", "--ignore-not-found")
        cluster.kubectl("delete", "ippools", "--all")


def clouds_word_is_taken_back(cluster):
    """A node that a cloud's controller marked as without network is marked as having one."""
    condition = {"type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated", "message": "as a cloud says it"}
    node = cluster.nodes[1]
    cluster.kubectl("patch", "node", node, "--subresource=status", "--type=strategic", "-p", json.dumps({"status": {"conditions": [condition]}}))
    has = lambda: next(each["status"] for each in json.loads(cluster.kubectl("get", "node", node, "-o", "json"))["status"]["conditions"] if each["type"] == "NetworkUnavailable")
    cluster.wait("NetworkUnavailable is cleared", 300, lambda: has() == "False")


def authority_moves_on(cluster):
    """Shortly before its end the certificate authority is followed by a next one; agents know both and connect to either."""
    secret = lambda: json.loads(cluster.kubectl("-n", SYSTEM, "get", "secret", "margay-ca", "-o", "json"))["data"]
    published = lambda: cluster.kubectl("-n", SYSTEM, "get", "configmap", "margay-ca", "-o", "json").count("BEGIN CERTIFICATE")

    def made(entry, days):
        value = base64.b64encode(str(int(time.time()) - days * 86400).encode()).decode()
        cluster.kubectl("-n", SYSTEM, "patch", "secret", "margay-ca", "--type=merge", "-p", json.dumps({"data": {entry: value}}))
        cluster.kubectl("-n", SYSTEM, "rollout", "restart", "deployment/margay-controller")
        cluster.kubectl("-n", SYSTEM, "rollout", "status", "deployment/margay-controller", "--timeout=300s")

    first = secret()["ca.pem"]
    made("ca-made", 310)
    cluster.wait("a next authority is made", 300, lambda: "next.pem" in secret())
    following = secret()["next.pem"]
    cluster.wait("it is published beside the first", 300, lambda: published() == 2)
    # The kubelet brings a ConfigMap's change to felix within about a minute.
    trusts = lambda node: cluster.exec(node, "sh", "-c", f"cat {FELIX_CA}").count("BEGIN CERTIFICATE") == 2
    cluster.wait("felix has both", 300, lambda: all(trusts(node) for node in cluster.nodes))
    made("next-made", 2)
    cluster.wait("the next one signs", 300, lambda: secret()["ca.pem"] == following != first)
    cluster.wait("all is ready again", 300, lambda: system_ready(cluster))
    server = addresses(cluster, second(cluster))[0]
    apply(cluster, allow("later", {"app": "server"}, {"app": "nobody"}))
    soon(lambda: not connects(cluster, "stranger", server), "a policy reaches felix by way of the next authority", 60)
    cluster.kubectl("-n", NAMESPACE, "delete", "networkpolicy", "later")


def felix_stays_small(cluster):
    """After all of it felix has little resident memory, on every node."""
    sizes = {}
    for node in cluster.nodes:
        [pid] = cluster.pids(node, "/margay-felix")
        with open(f"/proc/{pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        sizes[node] = int(fields["VmRSS"].split()[0]) * 1024
    assert max(sizes.values()) <= FELIX or not cluster.limits, f"felix has {sizes} octets resident"
    return f"{', '.join(f'{size / 1e6:.1f}' for size in sizes.values())} MB resident"


def leaves_nothing(cluster):
    """`kubectl delete -f` and `margayctl node cleanup` leave a node as it was before; the answer names what was removed."""
    node = cluster.nodes[0]
    program = programs.taken(cluster.image, "margayctl", cluster.state)
    margayctl = {each: cluster.put(each, program) for each in cluster.nodes}
    while_felix_runs = cluster.exec(node, "sh", "-c", f"{margayctl[node]} node cleanup 2>&1; true")
    assert "felix runs on this machine" in while_felix_runs, while_felix_runs
    cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=300s")
    cluster.kubectl("delete", "-f", str(programs.REPO / "manifests/margay.yaml"), "--timeout=300s")
    assert not cluster.kubectl("get", "crds", "-o", "name").strip(), "definitions are left"
    assert "margay" in cluster.exec(node, "nft", "list", "tables"), "the rules went with felix: nothing held meanwhile"
    told = cluster.exec(node, margayctl[node], "node", "cleanup")
    for each in cluster.nodes[1:]:
        cluster.exec(each, margayctl[each], "node", "cleanup")
    again = cluster.exec(node, margayctl[node], "node", "cleanup")
    assert "nothing of Margay's" in again, again
    after = belongings(cluster)
    for each in cluster.nodes:
        more, less = after[each] - cluster.before[each], cluster.before[each] - after[each]
        assert not more and not less, f"{each} is not what it was before, after `{told}`: more {sorted(more)}, less {sorted(less)}"


def belongings(cluster):
    """What a node has, by node, as lines: tables of our rules, links, addresses, routes and rules of routing, CNI's files, our folders.
    Without the kernel's own anycast routes, which come with forwarding: that is left on; and without the number of a link's other end, which a reboot changes."""
    script = """
    nft list tables | grep margay
    ip -o link | cut -d' ' -f2 | cut -d@ -f1
    ip -o addr | awk '{print $2, $3, $4}'
    for family in -4 -6; do ip $family route show table all | grep -v ^anycast; ip $family rule; ip $family neigh show nud permanent; done
    find /opt/cni /etc/cni /var/lib/margay /run/margay -mindepth 1
    readlink /opt/cni/bin/*
    true
    """
    return {node: set(cluster.exec(node, "sh", "-c", f"({script}) 2>/dev/null").splitlines()) for node in cluster.nodes}


def nobody_asks_for_more(cluster):
    """In the API server's audit log: felix never, and of the controller nothing that is refused."""
    used, refused = asked(cluster)
    refused -= granted(cluster)  # an API server that has just started does not know its roles yet
    assert not refused, f"the controller asked for what it may not: {sorted(refused)}"
    return f"{len(used)} rights are used"


def every_right_is_used(cluster):
    """In the API server's audit log: of the controller everything that it has a right to."""
    used, _ = asked(cluster)
    unused = sorted(right for right in granted(cluster) - used if right[2] != "list")  # a server that streams lists sees `watch`
    assert not unused, f"the controller has rights that it does not use: {unused}"


def asked(cluster):
    """What the controller asked the API server for, and what of it was refused: (group, resource, verb). felix asks for nothing."""
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
            # 403 is also what a namespace says that is going, to who may write there.
            if event.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid":
                refused.add((*what, event["verb"]))
    return used, refused


def granted(cluster):
    """What the roles of the controller give: (group, resource, verb)."""
    found = set()
    for kind in (["clusterrole"], ["-n", SYSTEM, "role"]):
        role = json.loads(cluster.kubectl("get", *kind, "margay-controller", "-o", "json"))
        for rule in role["rules"]:
            found |= {(group, resource, verb) for group in rule["apiGroups"] for resource in rule["resources"] for verb in rule["verbs"]}
    return found


ALL = [
    installs,
    everyone_reaches_everyone,
    addresses_are_of_the_node,
    policy_holds,
    felix_dies,
    clouds_word_is_taken_back,
    pools_are_used,
    authority_moves_on,
    nobody_asks_for_more,
    every_right_is_used,
    leaves_nothing,
]


# --- what they are made of ---


def second(cluster):
    """The server that is on another node than the clients."""
    return f"server-{cluster.nodes[1]}"


def pod(name, node, labels):
    container = {"name": "c", "image": programs.AGNHOST, "args": ["netexec", f"--http-port={PORT}"], "imagePullPolicy": "IfNotPresent"}
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 0, "tolerations": [{"operator": "Exists"}], "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}, "spec": spec}


def pool(name, cidr):
    return {"apiVersion": "margay.io/v1alpha1", "kind": "IPPool", "metadata": {"name": name}, "spec": {"cidr": cidr}}


def block_name(block):
    """As the controller names a block's object."""
    groups = str(block.network_address).split(".") if block.version == 4 else [f"{int(group, 16):x}" for group in block.network_address.exploded.split(":")]
    return "-".join([*groups, str(block.prefixlen)])


def allow(name, to, origin):
    spec = {"podSelector": {"matchLabels": to}, "ingress": [{"from": [{"podSelector": {"matchLabels": origin}}]}]}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def apply(cluster, *objects):
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def addresses(cluster, name):
    status = json.loads(cluster.kubectl("-n", NAMESPACE, "get", "pod", name, "-o", "json"))["status"]
    return [entry["ip"] for entry in status.get("podIPs", [])]


def reaches(cluster, name, address):
    """Whether a new TCP connection comes about where one must, however busy the machine is."""
    return connects(cluster, name, address, 15)


def connects(cluster, name, address, seconds=2):
    """Whether a new TCP connection comes about; one lost packet is no refusal, so it has 2 s."""
    host = f"[{address}]" if ":" in address else address
    command = ["-n", NAMESPACE, "exec", name, "--", "/agnhost", "connect", f"{host}:{PORT}", f"--timeout={seconds}s"]
    return run_status(cluster, command)


def run_status(cluster, arguments):
    try:
        cluster.kubectl(*arguments)
    except RuntimeError as error:
        if any(word in str(error) for word in ("TIMEOUT", "REFUSED", "OTHER", "exit code 1")):
            return False
        raise
    return True


def soon(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"


def ready_nodes(cluster):
    return sum(condition["type"] == "Ready" and condition["status"] == "True" for node in cluster.get("/api/v1/nodes")["items"] for condition in node["status"]["conditions"])


def system_ready(cluster):
    pods = cluster.get(f"/api/v1/namespaces/{SYSTEM}/pods")["items"]
    ready = [any(c["type"] == "Ready" and c["status"] == "True" for c in each["status"].get("conditions", [])) for each in pods]
    return len(ready) == len(cluster.nodes) + 2 and all(ready)


def felix(cluster, node):
    """The name of a node's felix."""
    selector = f"--field-selector=spec.nodeName={node}"
    return cluster.kubectl("-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=felix", selector, "-o", "name").strip()


def restarts(cluster):
    pods = cluster.get(f"/api/v1/namespaces/{SYSTEM}/pods?labelSelector=app.kubernetes.io/component=felix")["items"]
    return sum(each["restartCount"] for one in pods for each in one["status"].get("containerStatuses", []))
