"""Who of the controllers writes, and what becomes of it when that one is stopped or killed. Under traffic."""

import datetime
import json
import re
import time

from scenarios import NAMESPACE, SYSTEM, allow, apply, system_ready
from traffic import under_traffic

# In how many seconds another writes.
LIMIT = 10


def two_lead(cluster):
    """The leader is stopped until another leads, and goes on: nothing is lost, one leads in the end, each node has its status once."""

    def both(_traffic):
        first = cluster.wait("somebody leads", 300, lambda: holder(cluster))
        node = node_of(cluster, first)
        signal(cluster, "STOP", [node])
        try:
            cluster.wait("another leads", 300, lambda: holder(cluster) not in ("", first))
        finally:
            signal(cluster, "CONT", [node])
        cluster.wait("all is ready again", 300, lambda: system_ready(cluster))

    told = under_traffic(cluster, both)
    names = cluster.kubectl("get", "nodestatuses", "-o", "name").split()
    assert len(names) == len(cluster.nodes), f"statuses of nodes: {names}"
    return told


def leader_is_killed(cluster):
    """The leader is killed, and again whenever it is back, until another leads, soon: what that one has to write it writes. The nodes'
    streams move to it and go on without a snapshot, and no kernel notices any of it."""
    seen = []

    def killed(_traffic):
        first = cluster.wait("somebody leads", 300, lambda: holder(cluster))
        moving = with_streams(cluster, first)
        node = node_of(cluster, first)
        before, counted = kernels(cluster), messages(cluster)
        at = time.time()
        last = at
        cluster.kill(node, "/margay-controller")
        while (lease := lease_of(cluster)).get("holderIdentity", "") in ("", first):
            assert time.time() < at + 60, "nobody else leads within a minute"
            cluster.kill(node, "/margay-controller")
            if lease.get("renewTime"):
                last = max(last, seconds(lease["renewTime"]))  # one that was back for a moment led once more
        took = seconds(lease["acquireTime"]) - last
        assert took < LIMIT, f"another leads {took:.1f} s after its predecessor was killed"
        cluster.wait("every node has a stream", 300, lambda: all(up for up, _ in felixes(cluster).values()) and streams_of(cluster) == len(cluster.nodes))
        cluster.wait("all is ready again", 300, lambda: system_ready(cluster))
        told = {name: {kind: number - counted[name].get(kind, 0) for kind, number in now.items()} for name, now in messages(cluster).items()}
        snapshots = {name: kinds["snapshot"] for name, kinds in told.items() if kinds.get("snapshot")}
        assert not snapshots, f"streams began with snapshots: {snapshots}"
        resumed = sum(kinds.get("same", 0) for kinds in told.values())
        assert resumed >= moving, f"{moving} streams had to move, and {resumed} were told that what they had is right"
        for name, after in kernels(cluster).items():
            more, less = sorted(after - before[name]), sorted(before[name] - after)
            assert not more and not less, f"the kernel of {name} noticed: more {more}, less {less}"
        apply(cluster, allow("lonely", {"app": "lonely"}, {"app": "client"}))
        uid = cluster.kubectl("-n", NAMESPACE, "get", "networkpolicy", "lonely", "-o", "jsonpath={.metadata.uid}")
        events = lambda: cluster.get(f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events")["items"]
        told_by = lambda: [event["reportingInstance"] for event in events() if event["regarding"].get("uid") == uid]
        writers = cluster.wait("the next leader writes", 300, told_by)
        assert writers == [holder(cluster)] != [first], f"{writers} wrote, {holder(cluster)} leads after {first}"
        seen.append(f"another led after {took:.1f} s; {resumed} streams moved, 0 snapshots")

    try:
        told = under_traffic(cluster, killed)
    finally:
        cluster.kubectl("-n", NAMESPACE, "delete", "networkpolicy", "lonely", check=False)
    return f"{seen[0]}; {told}"


ALL = [two_lead, leader_is_killed]


# --- what they are made of ---


def signal(cluster, name, nodes=None):
    """Sends the controllers of nodes a signal; it stops or goes on with all of its threads."""
    for node in nodes or cluster.nodes:
        for pid in cluster.pids(node, "/margay-controller"):
            cluster.signal(pid, name)


def lease_of(cluster):
    """What the Lease says, which decides who leads."""
    return json.loads(cluster.kubectl("-n", SYSTEM, "get", "lease", "margay-controller", "-o", "json"))["spec"]


def holder(cluster):
    """The pod that leads; empty if none does."""
    return cluster.kubectl("-n", SYSTEM, "get", "lease", "margay-controller", "-o", "jsonpath={.spec.holderIdentity}", check=False).strip()


def seconds(at):
    """A time of the API as seconds since 1970."""
    return datetime.datetime.fromisoformat(at).timestamp()


def node_of(cluster, pod):
    return cluster.kubectl("-n", SYSTEM, "get", "pod", pod, "-o", "jsonpath={.spec.nodeName}").strip()


def controllers(cluster):
    """Names of the controllers' pods."""
    return [name.removeprefix("pod/") for name in cluster.kubectl("-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=controller", "-o", "name").split()]


def streams(cluster, pod):
    """How many nodes have their stream from that controller."""
    asked = cluster.kubectl("-n", SYSTEM, "exec", pod, "--", "/margayctl", "page", "/run/margay/controller.sock", "/status", check=False)
    return json.loads(asked)["connected"] if asked else 0


def streams_of(cluster):
    return sum(streams(cluster, pod) for pod in controllers(cluster))


def with_streams(cluster, leader):
    """How many streams the leader has; if none, the others are killed first, which brings it some."""
    if not streams(cluster, leader):
        for other in controllers(cluster):
            if other != leader:
                cluster.kill(node_of(cluster, other), "/margay-controller")
        cluster.wait("the leader has streams", 300, lambda: streams(cluster, leader))
        cluster.wait("all is ready", 300, lambda: system_ready(cluster) and streams_of(cluster) == len(cluster.nodes))
    assert holder(cluster) == leader, "another leads although nobody touched the leader"
    return streams(cluster, leader)


def felixes(cluster):
    """By node: whether felix has a stream, and the messages that it was told since it started, by kind."""
    found = {}
    for node in cluster.nodes:
        text = cluster.exec(node, "curl", "-sf", "http://127.0.0.1:9099/metrics")
        kinds = {kind: int(number) for kind, number in re.findall(r'^margay_felix_stream_messages_total\{kind="(.*)"\} (\d+)$', text, re.M)}
        found[node] = ("margay_felix_controller_up 1\n" in text, kinds)
    return found


def messages(cluster):
    found = {node: kinds for node, (_, kinds) in felixes(cluster).items()}
    assert all(found.values()), f"felix does not count what it is told: {found}"
    return found


def kernels(cluster):
    """By node: what felix keeps in the kernel, as lines: elements of sets apart, without counters; routes and links."""
    found = {}
    for node in cluster.nodes:
        rules = re.split(r"[,\n]", cluster.exec(node, "nft", "-s", "list", "table", "inet", "margay"))
        rest = cluster.exec(node, "sh", "-c", "for family in -4 -6; do ip $family route show table all; done; ip -o link | cut -d: -f2")
        found[node] = {line.strip() for line in [*rules, *rest.splitlines()]}
    return found
