"""What must not harm: upgrades, a change of settings, a reboot, no controllers, no API server, history that is gone. Under traffic that counts packets."""

import json
import re
import time

import programs
import scenarios
from leaders import signal
from nonsense import config
from scenarios import NAMESPACE, SYSTEM, addresses, allow, apply, connects, pod, soon, system_ready
from traffic import FORBIDDEN, FRIENDS, Churn, Dialler, probe, ready, remove, under_traffic

REFLECTOR = "margay.io/route-reflector"


def controllers_away(cluster):
    """Without controllers running pods keep what they have and are denied what they were, a new pod stays closed, and starts once one is back."""

    def away(_traffic):
        cluster.kubectl("-n", SYSTEM, "scale", "deployment", "margay-controller", "--replicas=0")
        gone = lambda: not cluster.kubectl("-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=controller", "-o", "name").strip()
        cluster.wait("the controllers are gone", 300, gone)
        apply(cluster, pod("late", cluster.nodes[0], {"app": "late"}))
        refused = lambda: cluster.kubectl("-n", NAMESPACE, "events", "--for=pod/late", "-o", "json").count('"FailedCreatePodSandBox"')
        cluster.wait("the new pod is refused", 300, refused)
        started = lambda: addresses(cluster, "late")
        assert not started(), "a pod whose policy nobody knows was started"
        cluster.kubectl("-n", SYSTEM, "scale", "deployment", "margay-controller", "--replicas=2")
        cluster.wait("the new pod runs once a controller is back", 300, started)
        cluster.wait("both controllers are ready", 300, lambda: system_ready(cluster))

    try:
        return under_traffic(cluster, away)
    finally:
        cluster.kubectl("-n", SYSTEM, "scale", "deployment", "margay-controller", "--replicas=2")
        remove(cluster, "late")


def felix_is_upgraded(cluster):
    """felix is replaced on every node, one after the other: no packet is lost, none gets through."""
    return under_traffic(cluster, lambda _traffic: rollout(cluster, "daemonset/margay-felix"))


def controllers_are_upgraded(cluster):
    """The controllers are replaced, one after the other: no packet is lost, and a policy made right afterwards is in force."""
    return under_traffic(cluster, lambda _traffic: rollout(cluster, "deployment/margay-controller"))


def next_version_is_applied(cluster):
    """The next manifest, with an image of another version, is applied while pods start and end: everything is replaced, no packet is lost, none gets
    through, and pods that start meanwhile reach what they may and nothing else."""
    image = "-o", "jsonpath={.spec.template.spec.containers[0].image}"
    present = cluster.kubectl("-n", SYSTEM, "get", "daemonset", "margay-felix", *image).strip()
    following = re.sub(r"\d+$", lambda patch: str(int(patch[0]) + 1), present)
    manifest = (programs.REPO / "manifests/margay.yaml").read_text()
    assert manifest.count(programs.PRODUCT_TAG) == 3, "the manifest names its image elsewhere"
    for node in cluster.nodes:
        cluster.exec(node, "ctr", "-n", "k8s.io", "images", "tag", "--force", programs.PRODUCT_TAG, following)
    started = []

    def upgrade(traffic):
        with Churn(cluster, traffic.server) as churn:
            cluster.kubectl("apply", "-f", "-", input=manifest.replace(programs.PRODUCT_TAG, following))
            for what in ("deployment/margay-controller", "daemonset/margay-felix"):
                cluster.kubectl("-n", SYSTEM, "rollout", "status", what, "--timeout=300s")
            cluster.wait("all is ready", 300, lambda: system_ready(cluster))
        started.append(churn.started)
        pods = cluster.get(f"/api/v1/namespaces/{SYSTEM}/pods")["items"]
        images = {each["metadata"]["name"]: container["image"] for each in pods for container in each["spec"]["containers"]}
        assert set(images.values()) == {following}, f"pods have {images}"

    return f"{under_traffic(cluster, upgrade)}; {started[0]} pods started meanwhile"


def settings_are_changed(cluster):
    """A node is made the only reflector by its label and the NetworkConfig, and no more: sessions follow, and no packet is lost, between nodes
    that have lost their session with each other neither."""
    first, reflector, last = cluster.nodes
    meshed = {node: sorted(f"node-{other}" for other in cluster.nodes if other != node) for node in cluster.nodes}
    reflected = {first: [f"node-{reflector}"], reflector: meshed[reflector], last: [f"node-{reflector}"]}

    def sessions():
        found = {}
        for node in cluster.nodes:
            told = cluster.kubectl("-n", SYSTEM, "exec", scenarios.felix(cluster, node), "--", "/margayctl", "page", "/run/margay/felix.sock", "/status", check=False)
            peers = json.loads(told)["peers"] if told else {}
            found[node] = sorted(name for name, peer in peers.items() if peer["state"] == "Established")
        return found

    def change(_traffic):
        cluster.kubectl("label", "node", reflector, f"{REFLECTOR}=true")
        apply(cluster, config({"bgp": {"topology": "Reflectors"}}))
        cluster.wait("sessions are with the reflector alone", 300, lambda: sessions() == reflected)
        apply(cluster, config({}))
        cluster.wait("every node has a session with every other", 300, lambda: sessions() == meshed)

    cluster.wait("every node has a session with every other", 300, lambda: sessions() == meshed)
    try:
        return under_traffic(cluster, change, last)
    finally:
        cluster.kubectl("delete", "networkconfig", "default", "--ignore-not-found")
        cluster.kubectl("label", "node", reflector, f"{REFLECTOR}-")


def api_server_is_away(cluster):
    """For two minutes there is no API server: nothing is lost, and what changes afterwards is in force soon."""

    def away(_traffic):
        cluster.stop("kube-apiserver")
        time.sleep(120)
        cluster.start_apiserver()
        cluster.wait("the API server answers", 300, lambda: cluster.get("/readyz", text=True) == "ok")
        cluster.wait("all is ready again", 300, lambda: system_ready(cluster))

    return under_traffic(cluster, away)


def history_is_compacted(cluster):
    """While the controllers do not look, objects change, history is compacted and the API server starts anew: watches are closed
    with 410, all is listed again, and the present is in force."""
    server = addresses(cluster, scenarios.second(cluster))[0]
    apply(cluster, allow("goes", {"app": "server"}, {"app": "client"}))
    soon(lambda: not connects(cluster, "stranger", server), "the policy is in force")

    def behind(_traffic):
        signal(cluster, "STOP")
        try:
            cluster.kubectl("-n", NAMESPACE, "delete", "networkpolicy", "goes")
            for number in range(20):
                apply(cluster, allow(f"filler-{number}", {"app": "nobody"}, {"app": "client"}))
            apply(cluster, allow("comes", {"app": "stranger"}, {"app": "nobody"}))
            status = json.loads(etcd(cluster, "maintenance/status", {}))
            etcd(cluster, "kv/compaction", {"revision": status["header"]["revision"], "physical": True})
            cluster.stop("kube-apiserver")
            cluster.start_apiserver()
            cluster.wait("the API server answers", 300, lambda: cluster.get("/readyz", text=True) == "ok")
        finally:
            signal(cluster, "CONT")

    stranger = addresses(cluster, "stranger")[0]
    try:
        told = under_traffic(cluster, behind)
        soon(lambda: connects(cluster, "stranger", server), "the policy that went meanwhile is not in force any more", 60)
        soon(lambda: not connects(cluster, "client", stranger), "the policy that came meanwhile is in force", 60)
    finally:
        cluster.kubectl("-n", NAMESPACE, "delete", "networkpolicy", "--all")
    soon(lambda: connects(cluster, "client", stranger), "without policies all is open")
    cluster.wait("all is ready again", 300, lambda: system_ready(cluster))
    return told


def node_reboots(cluster):
    """A node goes down at once and comes back with its disk: its pods run again, and who may not reach them never does, from before until after;
    the other nodes lose nothing."""
    node, near = cluster.nodes[2], cluster.nodes[0]
    ports = [{"name": f"{protocol.lower()}-{port}", "protocol": protocol, "port": port} for protocol, port in (("TCP", 7000), ("TCP", 7001), ("UDP", 7002))]
    # Dialled by a Service, which leads to the pod as soon as its address is known: after the reboot it has another one.
    service = {"ipFamilyPolicy": "PreferDualStack", "publishNotReadyAddresses": True, "selector": {"app": "rebooted"}, "ports": ports}
    apply(
        cluster,
        allow("rebooted", {"app": "rebooted"}, {"app": FRIENDS}),
        probe("rebooted", node, [["server"]], "rebooted"),
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "rebooted", "namespace": NAMESPACE}, "spec": service},
    )
    ready(cluster, "rebooted")
    to = json.loads(cluster.kubectl("-n", NAMESPACE, "get", "service", "rebooted", "-o", "json"))["spec"]["clusterIPs"]
    friend, stranger = Dialler(cluster, "rebooted-friend", near, FRIENDS, to, FORBIDDEN), Dialler(cluster, "rebooted-stranger", near, "stranger", to, FORBIDDEN)
    apply(cluster, friend.pod, stranger.pod)
    ready(cluster, friend.name, stranger.name)

    def reboot(_traffic):
        soon(lambda: friend.well() and stranger.decided(0), "who may reach the node's pod does")
        begun = time.time_ns()
        cluster.reboot_node(node)
        back = time.time_ns()
        again = lambda: all(runs and runs[-1]["ok"] and runs[-1]["from"] > back for runs in friend.runs().values())
        cluster.wait("its pod runs again and is reached", 300, again)
        cluster.wait("all is ready again", 300, lambda: system_ready(cluster))
        asked = time.time_ns()
        soon(lambda: stranger.decided(asked), "all that was sent is decided")
        passed, sent = stranger.since(begun, True)
        assert not passed, f"of {sent} forbidden probes to the pod of the node that came back, these got through: {passed}"

    try:
        told = under_traffic(cluster, reboot)
    finally:
        remove(cluster, "rebooted", friend.name, stranger.name)
        cluster.kubectl("-n", NAMESPACE, "delete", "service/rebooted", "networkpolicy/rebooted", check=False)
    # Once BGP is up again, for everybody and in every family.
    reached = lambda: all(connects(cluster, name, address) for name in ("client", scenarios.second(cluster)) for address in addresses(cluster, f"server-{node}"))
    soon(reached, "pods of the other nodes reach those of the one that is back", 120)
    scenarios.everyone_reaches_everyone(cluster)
    return told


ALL = [felix_is_upgraded, controllers_are_upgraded, next_version_is_applied, settings_are_changed, node_reboots, history_is_compacted, api_server_is_away]


# --- what they are made of ---


def rollout(cluster, what):
    cluster.kubectl("-n", SYSTEM, "rollout", "restart", what)
    cluster.kubectl("-n", SYSTEM, "rollout", "status", what, "--timeout=300s")
    cluster.wait("all is ready", 300, lambda: system_ready(cluster))


def etcd(cluster, path, body):
    return cluster.exec("cp", "curl", "-sf", f"http://127.0.0.1:2379/v3/{path}", "-d", json.dumps(body))
