"""What a user of the cluster sees from outside of it, with a kubeconfig: by margayctl, by `kubectl margay`, and by kubectl alone."""

import ipaddress
import json
import os
import re

import programs
from cluster import run
from nonsense import config
from scenarios import NAMESPACE, PORT, addresses, allow, apply, pod, second


def margayctl_answers(cluster):
    """margayctl, by a kubeconfig and as `kubectl margay`, tells from outside of this cluster and no other."""
    ask = asking(cluster)
    names = set(cluster.nodes)
    pods = {node: (f"{NAMESPACE}/server-{node}", set(addresses(cluster, f"server-{node}"))) for node in cluster.nodes}
    apply(cluster, allow("only-client", {"app": "server"}, {"app": "client"}))
    try:
        policy = f"NetworkPolicy {NAMESPACE}/only-client"
        realised = lambda: ask("policy", "status")["policies"].get(policy, {}).get("realised") == len(names)
        cluster.wait("the policy is realised on every node", 120, realised)

        # What scenarios before this one shook settles by itself.
        connected = lambda: ask("status")["controller"]["connected"] == len(names)
        cluster.wait("every node has a stream", 120, connected)
        status = ask("status")
        assert status["controller"]["nodes"] == len(names), status["controller"]
        assert set(status["nodes"]) == names, f"status tells of {sorted(status['nodes'])}"
        for node, (name, has) in pods.items():
            assert status["nodes"][node]["source"] == "felix", f"{node} is known by {status['nodes'][node]['source']}"
            told = status["nodes"][node]["status"]["pods"].get(name, {}).get("addresses", [])
            assert set(told) == has, f"{name} has {has}, and status says {told}"

        states = lambda: {node: {peer: each["state"] for peer, each in told["peers"].items()} for node, told in ask("bgp", "status").items()}
        wanted = {node: {f"node-{other}": "Established" for other in names - {node}} for node in names}
        cluster.wait(f"bgp status is {wanted}", 120, lambda: states() == wanted)

        # Of every node: its pod's routes, and where the other nodes' ranges are learned from.
        local = {(node, address, "pod") for node, (_, has) in pods.items() for address in has}
        learned = {(node, cidr, f"bgp node-{other}") for node in names for other in names - {node} for cidr in ranges(cluster, other)}

        def kept():
            routes = [(node, route["prefix"], route["source"]) for node, all in ask("routes").items() for route in all]
            return local | learned <= {(node, prefix.removesuffix("/32").removesuffix("/128"), "pod") if source.startswith("pod ") else (node, prefix, source) for node, prefix, source in routes}

        def heard():
            return learned <= {(node, path["prefix"], f"bgp {path['peer']}") for node, all in ask("bgp", "routes").items() for path in all}

        cluster.wait("routes tells of every pod and range", 120, kept)
        cluster.wait("bgp routes tells of every range", 120, heard)

        node = cluster.nodes[0]
        rules = ask("ruleset", node, plain=True)
        local, elsewhere = addresses(cluster, f"server-{node}"), addresses(cluster, second(cluster))
        assert all(address in rules for address in local) and not any(address in rules for address in elsewhere), f"these are not the rules of {node}: {rules}"

        family, address = ("-6" if ":" in local[0] else "-4"), local[0]
        cluster.exec(node, "ip", family, "route", "del", address)
        cluster.wait("drift tells of a route that was taken away", 60, lambda: any(address in each["name"] for each in ask("drift", node)[node]))

        blocks = {cidr: block["node"] for cidr, block in ask("ipam", "show")["blocks"].items()}
        wanted = {cidr: each for each in names for cidr in ranges(cluster, each)}
        assert wanted.items() <= blocks.items() and set(blocks.values()) == names, blocks  # nodes may have blocks of a pool besides

        for who, allowed in (("client", True), ("stranger", False)):
            explained = ask("policy", "explain", f"{NAMESPACE}/{who}", f"{NAMESPACE}/{second(cluster)}", f"tcp/{PORT}")
            assert [each["verdict"]["allow"] for each in explained] == [allowed] * len(cluster.families), f"{who}: {explained}"
            assert "only-client" in json.dumps(explained), f"it is the policy that decides: {explained}"

        assert set(ask("status", plugin=True)["nodes"]) == names, "kubectl margay tells of another cluster"
        told = ask("bgp", "status", plain=True, plugin=True)
        assert all(re.search(rf"^{node} .*Established", told, re.M) for node in names), told
    finally:
        cluster.kubectl("-n", NAMESPACE, "delete", "networkpolicy", "only-client")


def kubectl_shows(cluster):
    """`kubectl get` of our kinds has the columns that a user needs, with what there is."""
    spec = {"peerAddress": "192.0.2.1", "peerASN": 64513, "nodeSelector": {"matchLabels": {"no": "such"}}}
    apply(cluster, config({}), {"apiVersion": "margay.io/v1alpha1", "kind": "BGPPeer", "metadata": {"name": "router"}, "spec": spec})
    try:
        [row] = columns(cluster, "networkconfigs", ["NAME", "ASN", "TOPOLOGY"])
        assert (row["NAME"], row["ASN"], row["TOPOLOGY"]) == ("default", "64512", "Mesh"), row
        [row] = columns(cluster, "bgppeers", ["NAME", "ADDRESS", "ASN"])
        assert (row["NAME"], row["ADDRESS"], row["ASN"]) == ("router", "192.0.2.1", "64513"), row
        whole = lambda: sorted((row["NAME"], row["AGENT"]) for row in columns(cluster, "nodestatuses", ["NAME", "AGENT", "POLICY", "BGP", "PODS", "VERSION"]))
        cluster.wait("every node's status is Connected", 60, lambda: whole() == [(node, "Connected") for node in sorted(cluster.nodes)])
        listed = cluster.kubectl("get", "margay", "-A", "-o", "name").split()
        for name in ("networkconfig.margay.io/default", "bgppeer.margay.io/router", f"nodestatus.margay.io/{cluster.nodes[0]}"):
            assert name in listed, f"`kubectl get margay` does not list {name}: {listed}"
    finally:
        cluster.kubectl("delete", "bgppeer/router", "networkconfig/default")


def owners_read_it(cluster):
    """Who describes a pod, or asks for the events of a policy, reads in words what is wrong with it."""
    asks = pod("asks", cluster.nodes[0], {"app": "asks"})
    asks["metadata"]["annotations"] = {"cni.projectcalico.org/ipAddrs": json.dumps(["192.0.2.7"])}
    unknown = allow("unknown-port", {"app": "server"}, {"app": "client"})
    unknown["spec"]["ingress"][0]["ports"] = [{"port": "no-such-name"}]
    closed = allow("closed", {"app": "nobody"}, {"app": "client"})
    closed["spec"]["ingress"][0]["from"] = [{"ipBlock": {"cidr": "::ffff:192.0.2.0/120"}}]
    apply(cluster, asks, allow("lonely", {"app": "nobody"}, {"app": "client"}), unknown, closed)
    try:
        for command, words in (
            (["describe", "pod", "asks"], ["Ignored", "cannot choose its address"]),
            (["events", "--for=networkpolicy/lonely"], ["SelectsNothing"]),
            (["events", "--for=networkpolicy/unknown-port"], ["UnknownPort", "no-such-name"]),
            (["events", "--for=networkpolicy/closed"], ["FailsClosed", "::ffff:"]),
        ):
            said = lambda: cluster.kubectl("-n", NAMESPACE, *command)
            cluster.wait(f"`kubectl {' '.join(command)}` says {words}", 60, lambda: all(word in said() for word in words))
    finally:
        cluster.kubectl("-n", NAMESPACE, "delete", "pod/asks", "networkpolicy/lonely", "networkpolicy/unknown-port", "networkpolicy/closed", "--now")


ALL = [margayctl_answers, kubectl_shows, owners_read_it]


# --- what they are made of ---


def asking(cluster):
    """A function that asks margayctl, as a program on this machine, with the cluster's kubeconfig alone; its answer as a value, or as text."""
    folder = cluster.state / "outside"
    folder.mkdir(exist_ok=True)
    program, link = programs.taken(cluster.image, "margayctl", folder), folder / "kubectl-margay"
    link.unlink(missing_ok=True)
    link.symlink_to(program)
    kubeconfig = str(cluster.state / "kubeconfig")
    clean = {name: value for name, value in os.environ.items() if name not in ("KUBECONFIG", "MARGAY_RUN")}

    def ask(*words, plain=False, plugin=False):
        form = [] if plain else ["--output", "json"]
        if plugin:
            # kubectl takes no options before a plugin's name.
            environment = clean | {"KUBECONFIG": kubeconfig, "PATH": f"{folder}:{clean['PATH']}"}
            said = run([programs.BIN / "kubectl", "margay", *words, *form], environment=environment)
        else:
            said = run([program, "--kubeconfig", kubeconfig, *words, *form], environment=clean)
        return said if plain else json.loads(said)

    return ask


def ranges(cluster, node):
    """The node's podCIDRs."""
    return [str(ipaddress.ip_network(each)) for each in json.loads(cluster.kubectl("get", "node", node, "-o", "json"))["spec"]["podCIDRs"]]


def columns(cluster, kind, wanted):
    """The rows of `kubectl get`, by column; those that are wanted are there and not empty."""
    head, *lines = cluster.kubectl("get", kind).splitlines()
    places = [match.start() for match in re.finditer(r"\S+(?: \S+)*", head)]
    ends = [*places[1:], None]
    cut = lambda line: [line[place:end].strip() for place, end in zip(places, ends)]
    rows = [dict(zip(cut(head), cut(line))) for line in lines]
    assert rows, f"`kubectl get {kind}` lists nothing"
    for row in rows:
        absent = [name for name in wanted if row.get(name) in (None, "", "<none>")]
        assert not absent, f"`kubectl get {kind}` does not say {absent}: {row}"
    return rows
