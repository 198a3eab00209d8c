"""The upstream e2e suite: its specs, in several processes at once, summed up."""

import json
import pathlib
import re
import socket
import subprocess
import tempfile
import time

import programs


def sctp():
    """Whether the machine's kernel has SCTP sockets."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        return False
    return True


# Left out where there are none.
NO_SCTP = [] if sctp() else ["SCTPConnectivity"]
# Focus and skips per part, and how many specs that are; why something is skipped is in README.md.
PARTS = {
    "netpol": (r"\[Feature:NetworkPolicy\]", NO_SCTP, 45 if NO_SCTP else 48),
    "pods": (r"\[sig-network\] Networking Granular Checks: Pods", NO_SCTP, 4 if NO_SCTP else 6),
    "services": (
        r"\[sig-network\] (Services|Networking Granular Checks: Services)",
        ["SCTPConnectivity", "SCTP service", r"\[Disruptive\]", "LoadBalancer", "ExternalName", r"\[Slow\]", "session affinity timeout", "evicted pods"],
        55,
    ),
}
# Six that cover both directions, ports, blocks, selectors of both kinds, changes, and UDP.
SHORT = [
    "NetworkPolicy between server and client should support a 'default-deny-ingress' policy",
    "should allow ingress access on one named port",
    "should enforce except clause while egress access to server in CIDR block",
    "should enforce policies to check ingress and egress policies can be controlled independently based on PodSelector",
    "should allow ingress access from updated namespace",
    "using UDP should enforce policy based on Ports",
]


class Result:
    """What came out: names of specs with seconds, and why those failed that did."""

    def __init__(self, part, specs, wanted):
        self.part, self.specs, self.wanted, self.passed, self.failed, self.took = part, specs, wanted, {}, {}, 0.0

    @property
    def good(self):
        return len(self.passed) == len(self.specs) == self.wanted and not self.failed

    def __str__(self):
        lines = [f"{self.part}: {len(self.passed)} of {len(self.specs)} specs passed in {self.took:.0f} s"]
        if len(self.specs) != self.wanted:
            lines.append(f"  it has {len(self.specs)} specs, not {self.wanted}: see PARTS in suite.py")
        lines += [f"  failed: {name} ({why})" for name, why in sorted(self.failed.items())]
        left = [name for name in self.specs if name not in self.passed and name not in self.failed]
        return "\n".join(lines + [f"  undecided: {name}" for name in left])


def command():
    bin = programs.kubernetes(programs.SUITE)
    return [str(bin / "e2e.test"), "--provider=skeleton", "--ginkgo.no-color"]


def specs(part, only=()):
    """Full names of a part's specs; those that end with one of `only`, if given."""
    focus, skips, _ = PARTS[part]
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "specs.json"
        dry = [*command(), "--ginkgo.dry-run", f"--ginkgo.focus={focus}", *skipping(skips), f"--ginkgo.json-report={report}"]
        subprocess.run(dry, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        names = sorted({name(spec) for spec in reports(report) if spec["State"] == "passed"})
    found = [each for each in names if not only or any(plain(each).endswith(ending) for ending in only)]
    absent = [ending for ending in only if not any(plain(each).endswith(ending) for each in found)]
    assert not absent, f"the suite has no such specs: {absent}"
    return found


def run(cluster, part, only=(), lanes=2, cap=2400):
    """Runs a part from the control plane's namespace, `lanes` processes at once, for at most `cap` seconds."""
    result = Result(part, specs(part, only), len(only) or PARTS[part][2])
    started, processes = time.monotonic(), []
    for lane in range(lanes):
        mine = result.specs[lane::lanes]
        if not mine:
            continue
        report = cluster.logs / f"{part}-{lane}.json"
        focus = "(" + "|".join(re.escape(each) for each in mine) + ")"
        line = command() + [f"--kubeconfig={cluster.state}/admin.conf", "--allowed-not-ready-nodes=0", f"--ginkgo.focus={focus}"]
        line += [*skipping(PARTS[part][1]), f"--ginkgo.json-report={report}", f"--kubectl-path={programs.BIN}/kubectl", "--ginkgo.v"]
        with open(cluster.logs / f"{part}-{lane}.log", "w") as log:
            child = subprocess.Popen([*cluster.inside("cp"), *line], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        processes.append((child, report))
    try:
        for child, _ in processes:
            child.wait(timeout=max(1, cap - (time.monotonic() - started)))
    except subprocess.TimeoutExpired:
        pass
    finally:
        for child, _ in processes:
            if child.poll() is None:
                child.terminate()
                child.wait()
    for _, report in processes:
        for spec in reports(report):
            if spec["State"] == "passed":
                result.passed[name(spec)] = spec["RunTime"] / 1e9
            elif spec["State"] not in ("skipped", "pending"):
                result.failed[name(spec)] = (spec.get("Failure") or {}).get("Message", spec["State"])[:300].replace("\n", " ")
    result.took = time.monotonic() - started
    return result


def skipping(skips):
    return [f"--ginkgo.skip={'|'.join(skips)}"] if skips else []


def reports(path):
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return []
    return [spec for suite in content for spec in suite["SpecReports"] if spec["LeafNodeType"] == "It"]


def name(spec):
    """As a focus is compared with it: texts and labels as ginkgo puts them together."""
    return " ".join([*(spec["ContainerHierarchyTexts"] or []), spec["LeafNodeText"]])


def plain(text):
    """Without what stands in brackets at its end."""
    return re.sub(r"( \[[^\]]*\])*$", "", text)
