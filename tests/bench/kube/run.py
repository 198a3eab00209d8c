#!/usr/bin/env python3
"""`make bench-kube`: measures Margay beside the reference ptp plugin, each on a fresh cluster of namespaces; prints a table with ratios.

Rows go to target/bench/kube.jsonl too. What the figures mean: README.md beside this file.
"""

import argparse
import ast
import json
import pathlib
import re
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "kube"))
import programs  # noqa: E402
import scenarios  # noqa: E402
from cluster import Cluster, address  # noqa: E402

ALL = ["podstart", "startgap", "latency", "established", "restart", "usage"]
# Nothing is asked of ptp that takes a policy; its start gap says how soon a pod gets through on this machine.
COMPARED = ["podstart", "startgap"]
# What is compared, how to find it in the results (a path, or a function of all that a peer gave), and what Margay is to reach.
ROWS = [
    ("CNI ADD one by one, p50 ms", "podstart", ["cni_add_single_ms", "p50"], lambda ours, ptp: ours <= 4, "≤ 4"),
    ("CNI ADD one by one, max ms", "podstart", ["cni_add_single_ms", "max"], None, ""),
    ("CNI ADD in the burst, p50 ms", "podstart", ["cni_add_burst_ms", "p50"], lambda ours, ptp: ours <= ptp / 3, "≤ ⅓ of ptp"),
    ("CNI DEL, p50 ms", "podstart", ["cni_del_ms", "p50"], lambda ours, ptp: ours <= ptp, "≤ ptp"),
    ("create → Running one by one, p50 ms", "podstart", ["single_running_ms", "p50"], lambda ours, ptp: ours <= ptp, "≤ ptp"),
    ("create → Running in the burst, p50 ms", "podstart", ["burst_running_ms", "p50"], lambda ours, ptp: ours <= ptp, "≤ ptp"),
    ("the burst all ready, ms", "podstart", ["burst_all_ready_ms"], lambda ours, ptp: ours <= ptp, "≤ ptp"),
    ("start gap: pods that leaked, far", "startgap", ["other node", "leaked"], lambda ours, _: ours == 0, "0"),
    ("start gap: pods that leaked, near", "startgap", ["same node", "leaked"], lambda ours, _: ours == 0, "0"),
    ("… got out without a policy (TCP)", "startgap", ["control", "tcp_ok"], lambda ours, _: ours > 0, "> 0"),
    ("start gap: pods let in, far", "startgap", ["other node, ingress", "leaked"], lambda ours, _: ours == 0, "0"),
    ("start gap: pods let in, near", "startgap", ["same node, ingress", "leaked"], lambda ours, _: ours == 0, "0"),
    ("… let in without a policy (TCP)", "startgap", ["control_in", "tcp_ok"], lambda ours, _: ours > 0, "> 0"),
    ("allowed pods' first TCP, p50 ms", "startgap", ["allowed_first_tcp_ms", "p50"], lambda ours, _: ours <= 1, "≤ 1"),
    ("allowed pods' first TCP, max ms", "startgap", ["allowed_first_tcp_ms", "max"], lambda ours, _: ours <= 5, "≤ 5"),
    ("allowed pods that never got through", "startgap", ["allowed_never"], lambda ours, _: ours == 0, "0"),
]
CHANGES = ("ingress policy created", "ingress policy deleted", "label added to client", "label taken from client")
for what, at, among in (("latency", [], ""), ("usage", ["latency_loaded"], ", among 100 × 30")):
    for change in CHANGES:
        ROWS.append((f"{change}{among}, p50 ms", what, [*at, change, "ms", "p50"], lambda ours, _: ours <= 15, "≤ 15"))
        ROWS.append((f"{change}{among}, p99 ms", what, [*at, change, "ms", "p99"], lambda ours, _: ours <= 40, "≤ 40"))
        ROWS.append((f"{change}{among}, without effect", what, [*at, change, "never"], lambda ours, _: ours == 0, "0"))
for flow in ("ingress far", "ingress near", "egress far", "egress near"):
    for kind in ("tcp", "udp"):
        ROWS.append((f"{kind} flow cut by {flow}, ms", "established", [flow, f"{kind}_cut_ms"], lambda ours, _: ours <= 1000, "≤ 1000"))
ROWS += [
    ("felix killed: wrong probes", "restart", lambda result: sum(each["wrong"] for rounds in result.values() for each in rounds), lambda ours, _: ours == 0, "0"),
    ("… of", "restart", lambda result: sum(each["of"] for rounds in result.values() for each in rounds), lambda ours, _: ours > 0, "> 0"),
    ("felix with 100 policies × 30 pods, MB", "usage", lambda result: max(node["rss_mb"] for node in result["loaded"].values()), lambda ours, _: 0 < ours <= 20, "≤ 20"),
    ("… processor seconds to load them", "usage", lambda result: processor(result, "before", "loaded"), lambda ours, _: ours <= 0.5, "≤ 0.5"),
    ("… in 30 s of idling", "usage", lambda result: processor(result, "loaded", "loaded, 30 s later"), lambda ours, _: ours <= 0.1, "≈ 0"),
]


def processor(usage, before, after):
    """Processor seconds that the busiest felix took between two samples."""
    return round(max(usage[after][node]["cpu_s"] - usage[before][node]["cpu_s"] for node in usage[after]), 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", help="ptp,margay unless told otherwise; only margay on more than IPv4")
    parser.add_argument("--family", default="ipv4", choices=["ipv4", "ipv6", "dual"], help="of the cluster; pods dial IPv6 where there is some")
    parser.add_argument("--only", default=",".join(ALL))
    parser.add_argument("--image", help="an archive of Margay's image (default: `make image`)")
    parser.add_argument("--steps", action="store_true", help="say too where the time of an ADD goes: felix' log at debug")
    parser.add_argument("--gap", type=int, default=100, help="pods of the start gap")
    arguments = parser.parse_args()
    peers = (arguments.peers or ("ptp,margay" if arguments.family == "ipv4" else "margay")).split(",")
    if "ptp" in peers and arguments.family != "ipv4":
        parser.error("ptp is set up for IPv4 alone: --peers margay")
    results = {peer: measure(peer, arguments) for peer in peers}
    sys.exit(0 if table(results, arguments.only.split(",")) else 1)


def measure(peer, arguments):
    """All results of a peer, by measurement."""
    images = [programs.probe()]
    if peer == "margay":
        images.append(programs.archive(arguments.image))
    what = [each for each in arguments.only.split(",") if peer == "margay" or each in COMPARED]
    out = programs.REPO / "target/bench/kube.jsonl"
    out.parent.mkdir(exist_ok=True)
    with Cluster(f"bench-{peer}", family=arguments.family) as cluster:
        cluster.up(images)
        plugin = ptp(cluster) if peer == "ptp" else margay(cluster, arguments.steps)
        cluster.wait("all nodes are Ready", 120, lambda: scenarios.ready_nodes(cluster) == len(cluster.nodes))
        kube = f"{programs.HERE}/kube --name {cluster.name}"
        command = [sys.executable, HERE / "netmeas.py", f"--kubeconfig={cluster.state}/admin.conf", f"--node-exec={kube} exec {{node}} --"]
        command += [f"--peer={peer}", f"--plugin={plugin}", f"--out={out}", f"--image={programs.PROBE}", f"--gap={arguments.gap}"]
        command += [f"--pids={kube} pids {{node}} /margay-felix", f"--kill=kill -9 $({kube} pids {{node}} /margay-felix)"]
        command += ["--settle=1.2", "--restarts=2", "--usage-settle=10", "--cut=4", "--latency-loaded", *(["--ipv6"] if arguments.family != "ipv4" else []), *what]
        inside = ["nsenter", f"--net=/run/netns/{cluster.prefix}cp", "--", "env", f"PATH={programs.BIN}:/usr/sbin:/usr/bin:/sbin:/bin"]
        before = len(lines(out))
        subprocess.run([str(part) for part in inside + command], check=True, stdout=sys.stderr)
        if peer == "margay" and arguments.steps:
            tell_steps(cluster)
        return {row["what"]: row["result"] for row in lines(out)[before:]}


def margay(cluster, steps):
    cluster.kubectl("apply", "-f", str(programs.REPO / "manifests/margay.yaml"))
    if steps:
        cluster.kubectl("-n", scenarios.SYSTEM, "set", "env", "daemonset/margay-felix", "RUST_LOG=info,margay_felix::cni::pace=debug")
        cluster.kubectl("-n", scenarios.SYSTEM, "rollout", "status", "daemonset/margay-felix", "--timeout=120s")
    cluster.wait("all nodes are Ready", 120, lambda: scenarios.ready_nodes(cluster) == len(cluster.nodes))
    for node in cluster.nodes:
        # The plugin answers to this name too, which the wrapper does not.
        cluster.exec(node, "cp", "--remove-destination", "/usr/lib/cni/loopback", "/opt/cni/bin/loopback")
        wrap(cluster, node, "margay-cni")
    return "margay-cni"


def ptp(cluster):
    """ptp and host-local from Debian, static routes: the floor, without policy."""
    for number, node in enumerate(cluster.nodes, 1):
        for plugin in ("ptp", "host-local", "loopback"):
            cluster.exec(node, "cp", f"/usr/lib/cni/{plugin}", "/opt/cni/bin/")
        cluster.exec(node, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for other, peer in enumerate(cluster.nodes, 1):
            if peer != node:
                cluster.exec(node, "ip", "route", "add", f"10.244.{other}.0/24", "via", address("ipv4", cluster.number(peer)))
        ipam = {"type": "host-local", "ranges": [[{"subnet": f"10.244.{number}.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}
        config = {"cniVersion": "1.0.0", "name": "ptp", "plugins": [{"type": "ptp", "ipam": ipam}]}
        wrap(cluster, node, "ptp")
        cluster.exec(node, "sh", "-c", f"echo '{json.dumps(config)}' > /etc/cni/net.d/10-ptp.conflist")
    return "ptp"


def tell_steps(cluster):
    """Prints where felix' part of an ADD goes, of pods one by one (s) and of the burst (b)."""
    taken = {}
    for node in cluster.nodes:
        for line in cluster.kubectl("-n", scenarios.SYSTEM, "logs", scenarios.felix(cluster, node)).splitlines():
            found = re.search(r"pod=\"?netmeas/([sb])\d+.*steps=(\[.*?\])", line)
            for step, micros in ast.literal_eval(found[2]) if found else ():
                taken.setdefault(found[1], {}).setdefault(step, []).append(micros / 1000)
    for kind, steps in sorted(taken.items()):
        shown = (f"{step} {statistics.median(values):.2f} ({max(values):.1f})" for step, values in steps.items())
        print(f"ADD in felix, {'one by one' if kind == 's' else 'burst'}, p50 (max) ms: {', '.join(shown)}")


def wrap(cluster, node, plugin):
    """Puts the timing wrapper before a plugin."""
    cluster.exec(node, "mv", f"/opt/cni/bin/{plugin}", f"/opt/cni/bin/{plugin}.real")
    cluster.exec(node, "cp", programs.BIN / "probe", f"/opt/cni/bin/{plugin}")


def table(results, asked):
    """Prints the comparison; whether nothing was missed. What was asked for and is not there, or went wrong, is missed."""
    good = True
    print(f"{'':52} {'Margay':>10} {'ptp':>10} {'ratio':>7}  to reach")
    for name, what, path, reached, goal in ROWS:
        if what not in asked:
            continue
        value, peer = (find(results.get(who, {}).get(what), path) for who in ("margay", "ptp"))
        ratio = f"{value / peer:.2f}" if number(value) and number(peer) and peer else ""
        # Without ptp there is nothing to hold these against; a ptp that was to be measured and gave nothing is a miss.
        judged = reached is not None and "margay" in results and ("ptp" in results or "ptp" not in goal)
        missed = judged and not (number(value) and (number(peer) or "ptp" not in goal) and reached(value, peer))
        good &= not missed
        print(f"{name:52} {shown(value):>10} {shown(peer):>10} {ratio:>7}  {goal}{' MISSED' if missed else ''}")
    for peer, result in results.items():
        start = good_of(result, "podstart")
        for key, what in (("burst_cpu_s", "processor seconds of the burst"), ("cni_add_cpu_ms", "processor ms of the plugin's processes in an ADD"), ("add_after_watch_single_ms", "ADD begins after a watch told of the pod, one by one, ms"),
                          ("add_after_watch_burst_ms", "… in the burst, ms")):
            if key in start:
                print(f"{peer}, {what}: {json.dumps(start[key])}")
        for tag, nodes in good_of(result, "usage").items():
            if tag != "latency_loaded":
                print(f"{peer}, {tag}: " + ", ".join(f"{node} {row['rss_mb']} MB, {row['cpu_s']} s CPU" for node, row in nodes.items()))
        for phase, rounds in good_of(result, "restart").items():
            print(f"{peer} killed, {phase}: {sum(each['wrong'] for each in rounds)} wrong of {sum(each['of'] for each in rounds)} probes")
        for what, measured in result.items():
            if "error" in measured:
                good = False
                print(f"{peer}, {what}: {measured['error']}")
    return good


def good_of(result, what):
    """A measurement's result, if it did not fail."""
    measured = result.get(what, {})
    return {} if "error" in measured else measured


def find(value, path):
    if value is None or "error" in value:
        return None
    if callable(path):
        return path(value)
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def number(value):
    return isinstance(value, (int, float))


def shown(value):
    return "–" if value is None else str(value)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()
