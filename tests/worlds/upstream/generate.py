#!/usr/bin/env python3
"""Writes the worlds of this folder: the truth tables of the upstream NetworkPolicy suite
(kubernetes/kubernetes, test/e2e/network/netpol/network_policy.go), one folder a step.

Each case states its policies and, in the manner of the suite, what they change against "everybody
reaches everybody": `deny(from, to)` and `allow(from, to)`, applied in order. Nothing here evaluates a
policy. An end is `ns/pod`, `ns/*`, `*/pod` or `*`; pods to themselves are left out, as in the suite.
"""

import json
import os
import shutil

HERE = os.path.dirname(os.path.abspath(__file__))
NAMESPACES = ["x", "y", "z"]
PODS = ["a", "b", "c"]
NODES = ["n1", "n2", "n3"]


def address(ns, pod, family):
    n, p = NAMESPACES.index(ns) + 1, PODS.index(pod) + 1
    return f"10.100.{n}.{p}" if family == 4 else f"fd00:100:{n}::{p}"


def cluster(labels):
    """The cluster; `labels` adds labels to `ns` or `ns/pod`."""
    out = []
    for i, node in enumerate(NODES, 1):
        out.append({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node},
                    "status": {"addresses": [{"type": "InternalIP", "address": f"192.168.0.{i}"},
                                             {"type": "InternalIP", "address": f"fd00:192:168::{i}"}]}})
    for ns in NAMESPACES:
        out.append({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": ns, "labels": {"kubernetes.io/metadata.name": ns, "ns": ns, **labels.get(ns, {})}}})
        for i, pod in enumerate(PODS):
            ports = [{"name": f"serve-{port}-{proto.lower()}", "containerPort": port, "protocol": proto}
                     for port in (80, 81) for proto in ("TCP", "UDP")]
            out.append({"apiVersion": "v1", "kind": "Pod",
                        "metadata": {"namespace": ns, "name": pod,
                                     "labels": {"pod": pod, **labels.get(f"{ns}/{pod}", {})}},
                        "spec": {"nodeName": NODES[i], "containers": [{"name": "agnhost", "ports": ports}]},
                        "status": {"phase": "Running",
                                   "podIPs": [{"ip": address(ns, pod, 4)}, {"ip": address(ns, pod, 6)}]}})
    return out


def documents(objects):
    # JSON is YAML; one object a document keeps diffs readable.
    return "".join("---\n" + json.dumps(o, indent=1) + "\n" for o in objects)


def policy(name, ns, spec):
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": ns}, "spec": spec}


def pods(match=None, **expr):
    return selector("podSelector", match, **expr)


def namespaces(match=None, **expr):
    return selector("namespaceSelector", match, **expr)


def selector(field, match=None, In=None, NotIn=None):
    value = {}
    if match:
        value["matchLabels"] = match
    for op, given in (("In", In), ("NotIn", NotIn)):
        if given:
            value["matchExpressions"] = [{"key": k, "operator": op, "values": v} for k, v in given.items()]
    return {field: value}


def matches(pattern, ns, pod):
    if pattern == "*":
        return True
    want_ns, want_pod = pattern.split("/")
    return want_ns in ("*", ns) and want_pod in ("*", pod)


def deny(source, destination):
    return (source, destination, "deny")


def allow(source, destination):
    return (source, destination, "allow")


CASES = []


def case(name, policies, tables, labels=None):
    """One world: `tables` maps (protocol, port) to its changes against "all allowed"."""
    CASES.append((name, policies, tables, labels or {}))


TCP80, TCP81, UDP80, UDP81 = ("TCP", 80), ("TCP", 81), ("UDP", 80), ("UDP", 81)
INGRESS, EGRESS = ["Ingress"], ["Egress"]
XA = {"podSelector": {"matchLabels": {"pod": "a"}}}
ALL = {"podSelector": {}}


def ingress(subject, rules, types=None):
    return {**subject, "policyTypes": types or INGRESS, "ingress": rules}


def egress(subject, rules, types=None):
    return {**subject, "policyTypes": types or EGRESS, "egress": rules}


def tcp(port):
    return {"protocol": "TCP", "port": port}


def udp(port):
    return {"protocol": "UDP", "port": port}


deny_ingress_x = policy("deny-ingress", "x", ingress(ALL, []))
case("01-default-deny-ingress", [deny_ingress_x], {TCP80: [deny("*", "x/*")]})
case("02-default-deny-all", [policy("deny-all", "x", {**ALL, "policyTypes": ["Ingress", "Egress"]})],
     {TCP80: [deny("*", "x/*"), deny("x/*", "*")]})
case("03-pods-within-server-namespace", [policy("x-a-allows-x-b", "x", ingress(XA, [{"from": [pods({"pod": "b"})]}]))],
     {TCP80: [deny("*", "x/a"), allow("x/b", "x/a")]})
case("04-allow-ingress-for-a-target",
     [deny_ingress_x, policy("allow-all-to-a", "x", ingress(XA, [{"from": [{**pods(), **namespaces()}]}]))],
     {TCP80: [deny("*", "x/*"), allow("*", "x/a")]})
case("05-from-all-namespaces", [policy("allow-all-ns", "x", ingress(XA, [{"from": [namespaces()]}]))], {TCP80: []})
case("06-only-from-a-different-namespace",
     [policy("allow-y", "x", ingress(XA, [{"from": [namespaces({"ns": "y"})]}]))],
     {TCP80: [deny("*", "x/a"), allow("y/*", "x/a")]})
case("07-pod-selector-match-expressions",
     [policy("in-b", "x", ingress(XA, [{"from": [pods(In={"pod": ["b"]})]}]))],
     {TCP80: [deny("*", "x/a"), allow("x/b", "x/a")]})
case("08-namespace-selector-match-expressions",
     [policy("in-y", "x", ingress(XA, [{"from": [namespaces(In={"ns": ["y"]})]}]))],
     {TCP80: [deny("*", "x/a"), allow("y/*", "x/a")]})
case("09-pod-or-namespace-selector",
     [policy("b-or-not-x", "x", ingress(XA, [{"from": [namespaces(NotIn={"ns": ["x"]}), pods(In={"pod": ["b"]})]}]))],
     {TCP80: [deny("x/*", "x/a"), allow("x/b", "x/a")]})
case("10-pod-and-namespace-selector",
     [policy("b-and-not-x", "x", ingress(XA, [{"from": [{**namespaces(NotIn={"ns": ["x"]}), **pods(In={"pod": ["b"]})}]}]))],
     {TCP80: [deny("*", "x/a"), allow("y/b", "x/a"), allow("z/b", "x/a")]})
case("11-multiple-selectors",
     [policy("bc-and-not-x", "x",
             ingress(XA, [{"from": [{**namespaces(NotIn={"ns": ["x"]}), **pods(In={"pod": ["b", "c"]})}]}]))],
     {TCP80: [deny("*", "x/a"), allow("y/b", "x/a"), allow("y/c", "x/a"), allow("z/b", "x/a"), allow("z/c", "x/a")]})
case("12-any-pod-selectors",
     [policy("b-or-c", "x", ingress(XA, [{"from": [pods({"pod": "b"}), pods({"pod": "c"})]}]))],
     {TCP80: [deny("*", "x/a"), allow("x/b", "x/a"), allow("x/c", "x/a")]})
case("13-pod-in-a-different-namespace",
     [policy("y-a", "x", ingress(XA, [{"from": [{**namespaces({"ns": "y"}), **pods({"pod": "a"})}]}]))],
     {TCP80: [deny("*", "x/a"), allow("y/a", "x/a")]})
y_on_81 = policy("y-on-81", "x", ingress(XA, [{"from": [namespaces({"ns": "y"})], "ports": [tcp(81)]}]))
case("14-ports", [y_on_81], {TCP81: [deny("*", "x/a"), allow("y/*", "x/a")], TCP80: [deny("*", "x/a")]})
y_on_80 = policy("y-on-80", "x", ingress(XA, [{"from": [namespaces({"ns": "y"})], "ports": [tcp(80)]}]))
case("15-stacked-first-81", [y_on_81], {TCP81: [deny("*", "x/a"), allow("y/*", "x/a")], TCP80: [deny("*", "x/a")]})
case("15-stacked-then-80", [y_on_81, y_on_80],
     {TCP81: [deny("*", "x/a"), allow("y/*", "x/a")], TCP80: [deny("*", "x/a"), allow("y/*", "x/a")]})
allow_all_x = policy("allow-all", "x", ingress(ALL, [{}]))
case("16-allow-all", [allow_all_x], {TCP80: [], TCP81: []})
case("17-named-port", [policy("named-81", "x", ingress(XA, [{"ports": [{"port": "serve-81-tcp"}]}]))],
     {TCP81: [], TCP80: [deny("*", "x/a")]})
case("18-namespace-on-named-port",
     [policy("y-named-81", "x", ingress(XA, [{"from": [namespaces({"ns": "y"})], "ports": [{"port": "serve-81-tcp"}]}]))],
     {TCP81: [deny("*", "x/a"), allow("y/*", "x/a")], TCP80: [deny("*", "x/a")]})
case("19-egress-on-named-port", [policy("out-80", "x", egress(XA, [{"ports": [{"port": "serve-80-tcp"}]}]))],
     {TCP80: [], TCP81: [deny("x/a", "*")]})
case("20-updated-policy-before", [allow_all_x], {TCP81: []})
case("20-updated-policy-after", [policy("allow-all", "x", ingress(ALL, []))], {TCP81: [deny("*", "x/*")]})
from_ns2 = policy("from-ns2", "x", ingress(XA, [{"from": [namespaces({"ns2": "updated"})]}]))
case("21-updated-namespace-before", [from_ns2], {TCP80: [deny("*", "x/a")]})
case("21-updated-namespace-after", [from_ns2], {TCP80: [deny("*", "x/a"), allow("y/*", "x/a")]}, {"y": {"ns2": "updated"}})
from_pod2 = policy("from-pod2", "x", ingress(XA, [{"from": [pods({"pod2": "updated"})]}]))
case("22-updated-pod-before", [from_pod2], {TCP80: [deny("*", "x/a")]})
case("22-updated-pod-after", [from_pod2], {TCP80: [deny("*", "x/a"), allow("x/b", "x/a")]}, {"x/b": {"pod2": "updated"}})
case("23-own-namespace-only", [policy("own", "x", ingress(ALL, [{"from": [pods()]}]))],
     {TCP80: [deny("y/*", "x/*"), deny("z/*", "x/*")]})
target_updated = policy("target", "x", ingress({"podSelector": {"matchLabels": {"target": "isolated"}}}, []))
case("24-updated-target-before", [target_updated], {TCP80: []})
case("24-updated-target-after", [target_updated], {TCP80: [deny("*", "x/a")]}, {"x/a": {"target": "isolated"}})
case("25-egress-by-pod-selector", [policy("no-egress", "x", egress(XA, []))], {TCP80: [deny("x/a", "*")]})
case("26-egress-of-a-namespace", [policy("no-egress", "x", egress(ALL, []))], {TCP80: [deny("x/*", "*")]})
case("27-ingress-and-egress",
     [policy("both", "x", {**XA, "policyTypes": ["Ingress", "Egress"],
                           "ingress": [{"ports": [tcp(81)]}], "egress": [{"ports": [tcp(80)]}]})],
     {TCP80: [deny("*", "x/a")], TCP81: [deny("x/a", "*")]})
case("28-egress-denied-although-server-allows",
     [policy("client", "x", egress(XA, [{"to": [namespaces({"ns": "z"})]}])),
      policy("server", "y", ingress({"podSelector": {"matchLabels": {"pod": "b"}}}, [{"from": [{**namespaces({"ns": "x"}), **pods({"pod": "a"})}]}]))],
     {TCP80: [deny("x/a", "*"), allow("x/a", "z/*"), deny("*", "y/b")]})
case("29-egress-to-a-different-namespace",
     [policy("to-y-a", "x", egress(XA, [{"to": [{**namespaces({"ns": "y"}), **pods({"pod": "a"})}]}]))],
     {TCP80: [deny("x/a", "*"), allow("x/a", "y/a")]})
case("30-any-port-of-a-protocol", [policy("all-tcp", "x", ingress(XA, [{"ports": [{"protocol": "TCP"}]}]))],
     {TCP80: [], TCP81: [], UDP80: [deny("*", "x/a")], UDP81: [deny("*", "x/a")]})
case("31-ingress-allow-all-takes-precedence",
     [deny_ingress_x, policy("allow-all", "x", ingress(ALL, [{}]))], {TCP80: []})
case("32-egress-allow-all-takes-precedence",
     [policy("deny", "x", egress(ALL, [])), policy("allow", "x", egress(ALL, [{}]))], {TCP80: []})
case("33-before-deletion", [policy("deny-all", "x", {**ALL, "policyTypes": ["Ingress", "Egress"]})],
     {TCP80: [deny("*", "x/*"), deny("x/*", "*")]})
case("33-after-deletion", [], {TCP80: []})
y_b_blocks = [{"ipBlock": {"cidr": "10.100.2.2/32"}}, {"ipBlock": {"cidr": "fd00:100:2::2/128"}}]
case("34-egress-to-a-cidr", [policy("to-y-b", "x", egress(XA, [{"to": y_b_blocks}]))],
     {TCP80: [deny("x/a", "*"), allow("x/a", "y/b")]})
except_y_b = [{"ipBlock": {"cidr": "10.100.0.0/4", "except": ["10.100.2.2/32"]}},
              {"ipBlock": {"cidr": "fd00:100::/4", "except": ["fd00:100:2::2/128"]}}]
case("35-egress-except", [policy("not-y-b", "x", egress(XA, [{"to": except_y_b}]))], {TCP80: [deny("x/a", "y/b")]})
case("36-except-then-allowed", [policy("not-y-b", "x", egress(XA, [{"to": except_y_b}])),
                                policy("only-y-b", "x", egress(XA, [{"to": y_b_blocks}]))], {TCP80: []})
case("36-except-replaced", [policy("not-y-b", "x", egress(XA, [{"to": y_b_blocks}]))],
     {TCP80: [deny("x/a", "*"), allow("x/a", "y/b")]})
both_all = {**XA, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}
case("37-both-open", [policy("both", "x", both_all)], {TCP80: []})
case("37-egress-closed", [policy("both", "x", {**both_all, "egress": []})], {TCP80: [deny("x/a", "*")]})
case("37-both-closed", [policy("both", "x", {**both_all, "egress": [], "ingress": []})],
     {TCP80: [deny("x/a", "*"), deny("*", "x/a")]})
sctp81 = policy("sctp", "x", ingress(XA, [{"ports": [{"protocol": "SCTP", "port": 81}]}]))
case("38-sctp-is-not-tcp", [sctp81], {TCP80: [deny("*", "x/a")], TCP81: [deny("*", "x/a")]})
case("39-isolated-by-an-sctp-policy", [policy("sctp", "x", ingress(XA, [{"ports": [{"protocol": "SCTP"}]}]))],
     {TCP80: [deny("*", "x/a")]})
case("40-no-tcp-when-only-udp", [policy("udp", "x", ingress(XA, [{"ports": [udp(81)]}]))],
     {TCP81: [deny("*", "x/a")], UDP81: [], UDP80: [deny("*", "x/a")]})
case("41-default-namespace-label-ingress",
     [policy("from-y", "x", ingress(ALL, [{"from": [namespaces({"kubernetes.io/metadata.name": "y"})]}]))],
     {TCP80: [deny("*", "x/*"), allow("y/*", "x/*")]})
case("42-default-namespace-label-egress",
     [policy("not-to-y", "x", egress(XA, [{"to": [namespaces(NotIn={"kubernetes.io/metadata.name": ["y"]})]}]))],
     {TCP80: [deny("x/a", "y/*")]})
case("43-udp-default-deny-ingress", [deny_ingress_x], {UDP80: [deny("*", "x/*")]})
case("44-udp-ports", [policy("y-on-81", "x", ingress(XA, [{"from": [namespaces({"ns": "y"})], "ports": [udp(81)]}]))],
     {UDP81: [deny("*", "x/a"), allow("y/*", "x/a")], UDP80: [deny("*", "x/a")]})
case("45-udp-pod-in-a-different-namespace",
     [policy("y-a", "x", ingress(XA, [{"from": [{**namespaces({"ns": "y"}), **pods({"pod": "a"})}]}]))],
     {UDP80: [deny("*", "x/a"), allow("y/a", "x/a")]})


def write(name, policies, tables, labels):
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    everyone = [(ns, pod) for ns in NAMESPACES for pod in PODS]
    lines = []
    for (protocol, port), changes in tables.items():
        for source in everyone:
            for destination in everyone:
                if source == destination:
                    continue
                verdict = "allow"
                for a, b, change in changes:
                    if matches(a, *source) and matches(b, *destination):
                        verdict = change
                for family in (4, 6):
                    probe = {"from": "/".join(source), "to": "/".join(destination), "protocol": protocol,
                             "port": port, "family": family}
                    lines.append((probe, {**probe, "verdict": verdict}))
    for file, text in (("cluster.yaml", documents(cluster(labels))), ("policies.yaml", documents(policies)),
                       ("probes.jsonl", "".join(json.dumps(p) + "\n" for p, _ in lines)),
                       ("expected.jsonl", "".join(json.dumps(e) + "\n" for _, e in lines))):
        with open(os.path.join(folder, file), "w", encoding="utf-8") as out:
            out.write(text)


for entry in CASES:
    write(*entry)
