"""Objects that make no sense: the API server refuses them, or their owner is told on the object, and running traffic does not notice."""

import copy
import json

from cluster import PODS, UNDERLAY
from scenarios import NAMESPACE, addresses, apply, pod, pool, reaches
from traffic import under_traffic

# What the schema refuses of a NetworkConfig and of an IPPool, and a word of the reason.
NO_CONFIG = [
    ({"bgp": {"asn": 0}}, "asn"),
    ({"bgp": {"holdTime": 1}}, "holdTime"),
    ({"bgp": {"port": 70000}}, "port"),
    ({"bgp": {"topology": "Ring"}}, "Ring"),
    ({"bgp": {"serviceRanges": ["10.0.0.1/8"]}}, "host bits"),
    ({"bgp": "none"}, "bgp"),
    ({"ipam": "Calico"}, "Calico"),
]
NO_POOL = [
    ({"cidr": "10.251.0.0/28"}, "blockSize"),  # smaller than a usual block
    ({"cidr": "10.251.0.0/24", "blockSize": 22}, "blockSize"),
    ({"cidr": "10.251.0.1/24"}, "host bits"),
    ({"cidr": "all"}, "all"),
]


def nonsense_is_refused_or_told(cluster):
    """A NetworkConfig edited to nonsense, pools that cannot be, and a pod that wants a foreign and a taken address, all under traffic."""
    before = cluster.kubectl("get", "networkconfig", "default", "-o", "json", check=False)
    try:
        return under_traffic(cluster, lambda _traffic: nonsense(cluster))
    finally:
        cluster.kubectl("-n", NAMESPACE, "delete", "pod", "picky", "envious", "--now", "--ignore-not-found")
        cluster.kubectl("delete", "ippools", "--all")
        if not before:
            cluster.kubectl("delete", "networkconfig", "default", "--ignore-not-found")


ALL = [nonsense_is_refused_or_told]


# --- what it is made of ---


def nonsense(cluster):
    family = cluster.families[0]
    apply(cluster, config({}))
    for spec, word in NO_CONFIG:
        refused(cluster, config(spec), word)
    for spec, word in NO_POOL:
        refused(cluster, pool("nonsense", "") | {"spec": spec}, word)
    # What a schema cannot see, since it is about other objects.
    apply(cluster, config({"bgp": {"serviceRanges": [PODS[family], UNDERLAY[family]]}}))
    told(cluster, "default", "is not announced", 2)
    nobodys = pool("nobodys", "fd00:10:251::/112" if family == "ipv6" else "10.251.0.0/16")
    nobodys["spec"]["nodeSelector"] = {"matchLabels": {"no": "such"}}
    apply(cluster, nobodys)
    told(cluster, "nobodys", "selects no node")
    cluster.kubectl("delete", "ippool", "nobodys")
    apply(cluster, config({}))
    node = cluster.nodes[0]
    taken = addresses(cluster, "client")
    for name, wanted in (("picky", ["192.0.2.7"]), ("envious", taken)):
        asks = pod(name, node, {"app": name})
        asks["metadata"]["annotations"] = {"cni.projectcalico.org/ipAddrs": json.dumps(wanted)}
        apply(cluster, asks)
        told(cluster, name, "cannot choose its address")
        cluster.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=300s")
        given = addresses(cluster, name)
        assert not set(given) & {*wanted, *taken}, f"{name} has {given}"
        assert all(reaches(cluster, "client", address) for address in given), f"{name} is not reached at {given}"


def config(spec):
    return {"apiVersion": "margay.io/v1alpha1", "kind": "NetworkConfig", "metadata": {"name": "default"}, "spec": copy.deepcopy(spec)}


def refused(cluster, thing, word):
    """The API server refuses it, in words that name what is wrong."""
    try:
        cluster.kubectl("apply", "-f", "-", input=json.dumps(thing))
    except RuntimeError as error:
        # After the command, which kubectl's complaint follows.
        assert word in str(error).split(": ", 1)[1], f"{thing['spec']} is refused without `{word}`: {error}"
        return
    raise AssertionError(f"the API server takes {thing['kind']} {thing['spec']}")


def told(cluster, name, words, number=1):
    """An event on the object says so."""
    events = lambda: [each for each in cluster.get("/apis/events.k8s.io/v1/events")["items"] if each["regarding"].get("name") == name and words in each.get("note", "")]
    cluster.wait(f"events on {name} say `{words}`", 300, lambda: sum(event["note"].count(words) for event in events()) >= number)
