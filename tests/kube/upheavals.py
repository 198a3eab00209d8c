"""What must not harm: upgrades, a reboot, an API server or history that is gone, two leaders. Each under traffic that counts packets."""

import json
import time

import programs
import scenarios
from scenarios import NAMESPACE, SYSTEM, addresses, allow, apply, connects, soon, system_ready

NEAR, FAR, STRANGER, SERVER = "traffic-near", "traffic-far", "traffic-stranger", "traffic-server"


class Traffic:
    """A policed server on the second node: a client beside it, one on the first node, and a stranger there who is to get nothing.

    Long flows and new ones; each probe that has no answer within 0.4 s is lost.
    """

    def __init__(self, cluster):
        self.cluster = cluster
        first, second = cluster.nodes[:2]
        apply(cluster, allow("traffic", {"app": SERVER}, {"app": "traffic"}), probe(SERVER, second, ["server"], SERVER))
        self.ready(SERVER)
        server = addresses(cluster, SERVER)[0]
        streams = ["client", server, "udp=5ms", "pingpong=20ms", "newtcp=50ms"]
        apply(
            cluster,
            probe(NEAR, second, streams, "traffic"),
            probe(FAR, first, streams, "traffic"),
            probe(STRANGER, first, ["client", server, "newudp=20ms", "newtcp=50ms"], STRANGER),
        )
        for name in (NEAR, FAR, STRANGER):
            self.ready(name)
        self.begin()

    def ready(self, name):
        self.cluster.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=300s")

    def begin(self):
        """What counts begins once all streams run as they should."""
        soon(lambda: all(runs and runs[-1]["ok"] and runs[-1]["n"] > 5 for name in (NEAR, FAR) for runs in self.runs(name).values()), "traffic runs")
        self.since = time.time_ns()

    def runs(self, name):
        """By stream: stretches of equal fate, in order."""
        found = {"": []} if name != STRANGER else {}
        for line in self.cluster.kubectl("-n", NAMESPACE, "logs", name).splitlines():
            row = json.loads(line)
            if "n" in row:
                found.pop("", None)
                found.setdefault(row["s"], {})[row["from"]] = row  # of one that goes on the last print counts
        return {stream: [rows[at] for at in sorted(rows)] if rows else [] for stream, rows in found.items()}

    def verdict(self):
        """Waits until what was sent is decided, and says what was lost and what got through that must not."""
        asked = time.time_ns()
        decided = lambda: all(runs and runs[-1]["to"] > asked for name in (NEAR, FAR, STRANGER) for runs in self.runs(name).values())
        soon(decided, "all that was sent is decided")
        lost, passed, sent = {}, {}, 0
        for name in (NEAR, FAR, STRANGER):
            for stream, runs in self.runs(name).items():
                after = [run for run in runs if run["to"] >= self.since]
                wrong = [run for run in after if run["ok"] == (name == STRANGER)]
                sent += sum(run["n"] for run in after)
                if wrong:
                    (passed if name == STRANGER else lost)[f"{name} {stream}"] = sum(run["n"] for run in wrong)
        return lost, passed, sent

    def end(self):
        """Nothing was lost and nothing got through; how much was sent."""
        try:
            lost, passed, sent = self.verdict()
            assert not passed, f"forbidden, but it got through: {passed}"
            assert not lost, f"lost of {sent} probes: {lost}"
            return sent
        finally:
            self.cluster.kubectl("-n", NAMESPACE, "delete", "--now", "pod", NEAR, FAR, STRANGER, SERVER, check=False)
            self.cluster.kubectl("-n", NAMESPACE, "delete", "networkpolicy", "traffic", check=False)


def felix_is_upgraded(cluster):
    """felix is replaced on every node, one after the other, as by the next manifest: no packet is lost, none gets through."""
    return under_traffic(cluster, lambda: rollout(cluster, "daemonset/margay-felix"))


def controllers_are_upgraded(cluster):
    """The controllers are replaced, one after the other: no packet is lost, and a policy made right afterwards is in force."""
    return under_traffic(cluster, lambda: rollout(cluster, "deployment/margay-controller"))


def api_server_is_away(cluster):
    """For two minutes there is no API server: nothing is lost, and what changes afterwards is in force soon."""

    def away():
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

    def behind():
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


def two_lead(cluster):
    """The leader is stopped until another leads, and goes on: nothing is lost, one leads in the end, each node has its status once."""

    def holder():
        lease = cluster.kubectl("-n", SYSTEM, "get", "lease", "margay-controller", "-o", "jsonpath={.spec.holderIdentity}", check=False)
        return lease.strip()

    def both():
        first = cluster.wait("somebody leads", 300, holder)
        node = cluster.kubectl("-n", SYSTEM, "get", "pod", first, "-o", "jsonpath={.spec.nodeName}")
        signal(cluster, "STOP", [node])
        try:
            cluster.wait("another leads", 300, lambda: holder() not in ("", first))
        finally:
            signal(cluster, "CONT", [node])
        cluster.wait("all is ready again", 300, lambda: system_ready(cluster))

    told = under_traffic(cluster, both)
    names = cluster.kubectl("get", "nodestatuses", "-o", "name").split()
    assert len(names) == len(cluster.nodes), f"statuses of nodes: {names}"
    return told


def node_reboots(cluster):
    """A node goes down at once and comes back with its disk: its pods run again and are policed, the other nodes lose nothing."""
    node = cluster.nodes[2]

    def reboot():
        cluster.reboot_node(node)
        server = f"server-{node}"
        back = lambda: any(connects(cluster, "client", address) for address in addresses(cluster, server))
        cluster.wait(f"{server} runs again and is reached", 300, back)
        cluster.wait("all is ready again", 300, lambda: system_ready(cluster))

    told = under_traffic(cluster, reboot)
    # Once BGP is up again, for everybody and in every family.
    reached = lambda: all(connects(cluster, name, address) for name in ("client", scenarios.second(cluster)) for address in addresses(cluster, f"server-{node}"))
    soon(reached, "pods of the other nodes reach those of the one that is back", 120)
    scenarios.everyone_reaches_everyone(cluster)
    return told


ALL = [felix_is_upgraded, controllers_are_upgraded, two_lead, node_reboots, history_is_compacted, api_server_is_away]


# --- what they are made of ---


def under_traffic(cluster, upheaval):
    """Does it under traffic that must not notice, and has a change take effect afterwards."""
    traffic = Traffic(cluster)
    started = time.monotonic()
    try:
        upheaval()
    except BaseException:
        cluster.kubectl("-n", NAMESPACE, "delete", "--now", "pod", NEAR, FAR, STRANGER, SERVER, check=False)
        raise
    took = time.monotonic() - started
    sent = traffic.end()
    address = addresses(cluster, "client")[0]
    apply(cluster, allow("afterwards", {"app": "client"}, {"app": "nobody"}))
    soon(lambda: not connects(cluster, "stranger", address), "a policy made afterwards is in force", 60)
    cluster.kubectl("-n", NAMESPACE, "delete", "networkpolicy", "afterwards")
    soon(lambda: connects(cluster, "stranger", address), "and not any more once it is gone", 60)
    return f"{took:.0f} s, 0 of {sent} probes lost or let through"


def rollout(cluster, what):
    cluster.kubectl("-n", SYSTEM, "rollout", "restart", what)
    cluster.kubectl("-n", SYSTEM, "rollout", "status", what, "--timeout=300s")
    cluster.wait("all is ready", 300, lambda: system_ready(cluster))


def signal(cluster, name, nodes=None):
    """Sends the controllers of nodes a signal; it stops or goes on with all of its threads."""
    for node in nodes or cluster.nodes:
        for pid in cluster.pids(node, "/margay-controller"):
            cluster.signal(pid, name)


def etcd(cluster, path, body):
    return cluster.exec("cp", "curl", "-sf", f"http://127.0.0.1:2379/v3/{path}", "-d", json.dumps(body))


def probe(name, node, arguments, label):
    made = scenarios.pod(name, node, {"app": label})
    made["spec"]["containers"] = [{"name": "c", "image": programs.PROBE, "args": arguments, "imagePullPolicy": "IfNotPresent"}]
    return made
