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
# What is compared, how to find it in the results, and what Margay is to reach (None: reported only).
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
    ("start gap: pods let in, far", "startgap", ["other node, ingress", "leaked"], lambda ours, _: ours == 0, "0"),
    ("start gap: pods let in, near", "startgap", ["same node, ingress", "leaked"], lambda ours, _: ours == 0, "0"),
    ("… let in without a policy (TCP)", "startgap", ["control_in", "tcp_ok"], lambda ours, _: ours > 0, "> 0"),
    ("allowed pods' first TCP, p50 ms", "startgap", ["allowed_first_tcp_ms", "p50"], lambda ours, _: ours <= 1, "≤ 1"),
    ("allowed pods' first TCP, max ms", "startgap", ["allowed_first_tcp_ms", "max"], lambda ours, _: ours <= 5, "≤ 5"),
]
for change in ("ingress policy created", "ingress policy deleted", "label added to client", "label taken from client"):
    ROWS.append((f"{change}, p50 ms", "latency", [change, "ms", "p50"], lambda ours, _: ours <= 15, "≤ 15"))
    ROWS.append((f"{change}, p99 ms", "latency", [change, "ms", "p99"], lambda ours, _: ours <= 40, "≤ 40"))
for flow in ("ingress far", "ingress near", "egress far", "egress near"):
    for kind in ("tcp", "udp"):
        ROWS.append((f"{kind} flow cut by {flow}, ms", "established", [flow, f"{kind}_cut_ms"], lambda ours, _: ours <= 1000, "≤ 1000"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default="ptp,margay")
    parser.add_argument("--only", default=",".join(ALL))
    parser.add_argument("--image", help="an archive of Margay's image (default: `make image`)")
    parser.add_argument("--steps", action="store_true", help="say too where the time of an ADD goes: felix' log at debug")
    parser.add_argument("--gap", type=int, default=100, help="pods of the start gap")
    arguments = parser.parse_args()
    results = {peer: measure(peer, arguments) for peer in arguments.peers.split(",")}
    sys.exit(0 if table(results) else 1)


def measure(peer, arguments):
    """All results of a peer, by measurement."""
    images = [programs.probe()]
    if peer == "margay":
        images.append(programs.archive(arguments.image))
    what = [each for each in arguments.only.split(",") if peer == "margay" or each == "podstart"]
    out = programs.REPO / "target/bench/kube.jsonl"
    out.parent.mkdir(exist_ok=True)
    with Cluster(f"bench-{peer}", family="ipv4") as cluster:
        cluster.up(images)
        plugin = ptp(cluster) if peer == "ptp" else margay(cluster, arguments.steps)
        cluster.wait("all nodes are Ready", 120, lambda: scenarios.ready_nodes(cluster) == len(cluster.nodes))
        kube = f"{programs.HERE}/kube --name {cluster.name}"
        command = [sys.executable, HERE / "netmeas.py", f"--kubeconfig={cluster.state}/admin.conf", f"--node-exec={kube} exec {{node}} --"]
        command += [f"--peer={peer}", f"--plugin={plugin}", f"--out={out}", f"--image={programs.PROBE}", f"--gap={arguments.gap}"]
        command += [f"--pids={kube} pids {{node}} /margay-felix", f"--kill=kill -9 $({kube} pids {{node}} /margay-felix)"]
        command += ["--settle=1.2", "--restarts=2", "--usage-settle=10", "--cut=4", "--latency-loaded", *what]
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


def table(results):
    """Prints the comparison; whether nothing was missed."""
    ptp, ours, good = results.get("ptp", {}), results.get("margay", {}), True
    print(f"{'':45} {'Margay':>10} {'ptp':>10} {'ratio':>7}  to reach")
    for name, what, path, reached, goal in ROWS:
        value, peer = find(ours.get(what), path), find(ptp.get(what), path)
        if value is None:
            continue
        ratio = f"{value / peer:.2f}" if isinstance(value, (int, float)) and peer else ""
        comparable = isinstance(value, (int, float)) and not ("ptp" in goal and peer is None)
        missed = reached is not None and (not isinstance(value, (int, float)) or (comparable and not reached(value, peer)))
        good &= not missed
        print(f"{name:45} {value!s:>10} {peer if peer is not None else '–'!s:>10} {ratio:>7}  {goal}{' MISSED' if missed else ''}")
    for peer, result in results.items():
        start = result.get("podstart", {})
        for key, what in (("burst_cpu_s", "processor seconds of the burst"), ("cni_add_cpu_ms", "processor ms of the plugin's processes in an ADD"), ("add_after_watch_single_ms", "ADD begins after a watch told of the pod, one by one, ms"),
                          ("add_after_watch_burst_ms", "… in the burst, ms")):
            if key in start:
                print(f"{peer}, {what}: {json.dumps(start[key])}")
    for tag, nodes in (ours.get("usage") or {}).items():
        if tag != "latency_loaded":
            print(f"felix, {tag}: " + ", ".join(f"{node} {row['rss_mb']} MB, {row['cpu_s']} s CPU" for node, row in nodes.items()))
    for kind, value in ((ours.get("usage") or {}).get("latency_loaded") or {}).items():
        print(f"with 100 policies × 30 pods, {kind}: {json.dumps(value)}")
    for phase, rounds in (ours.get("restart") or {}).items():
        print(f"felix killed, {phase}: {sum(each['wrong'] for each in rounds)} wrong of {sum(each['of'] for each in rounds)} probes")
    for what, result in ours.items():
        if "error" in result:
            good = False
            print(f"{what}: {result['error']}")
    return good


def find(value, path):
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()
