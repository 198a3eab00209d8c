"""Traffic that counts what is lost and what gets through while something happens, in every family of the cluster."""

import json
import threading
import time

import programs
import scenarios
from scenarios import NAMESPACE, addresses, allow, apply, connects, soon

NEAR, FAR, STRANGER, SERVER = "traffic-near", "traffic-far", "traffic-stranger", "traffic-server"
# Label of who may reach the server.
FRIENDS = "traffic"
# What friends send: flows that last, and new ones. Each probe that has no answer within 0.4 s is lost.
STREAMS = ["udp=5ms", "pingpong=20ms", "newtcp=50ms"]
FORBIDDEN = ["newudp=20ms", "newtcp=50ms"]


class Dialler:
    """A pod that dials addresses, a container for each, and prints what became of its probes."""

    def __init__(self, cluster, name, node, label, to, streams):
        self.cluster, self.name, self.to, self.streams = cluster, name, to, streams
        self.pod = probe(name, node, [["client", address, *streams] for address in to], label)

    def runs(self):
        """By stream and address: stretches of equal fate, in order; none where nothing was decided yet."""
        found = {}
        for number, address in enumerate(self.to):
            by_start = {stream.split("=")[0]: {} for stream in self.streams}
            for line in self.cluster.kubectl("-n", NAMESPACE, "logs", self.name, "-c", f"c{number}").splitlines():
                row = json.loads(line)
                if "n" in row:
                    by_start[row["s"]][row["from"]] = row  # of one that goes on the last print counts
            found |= {f"{self.name}: {stream} to {address}": [rows[at] for at in sorted(rows)] for stream, rows in by_start.items()}
        return found

    def well(self):
        """Whether every stream gets through, and has for a while."""
        return all(runs and runs[-1]["ok"] and runs[-1]["n"] > 5 for runs in self.runs().values())

    def decided(self, when):
        """Whether it is known of every stream what became of what was sent until then."""
        return all(runs and runs[-1]["to"] > when for runs in self.runs().values())

    def since(self, when, ok):
        """By stream: of what was sent since then, how many probes had that fate; and how many were sent."""
        wrong, sent = {}, 0
        for stream, runs in self.runs().items():
            after = [run for run in runs if run["to"] >= when]
            sent += sum(run["n"] for run in after)
            number = sum(run["n"] for run in after if run["ok"] == ok)
            if number:
                wrong[stream] = number
        return wrong, sent


class Traffic:
    """A policed server on a node, the second if nothing is said: a client beside it, one on the first node, and a stranger there who is to get nothing."""

    def __init__(self, cluster, node=None):
        self.cluster = cluster
        node = node or cluster.nodes[1]
        first = cluster.nodes[0]
        apply(cluster, allow("traffic", {"app": SERVER}, {"app": FRIENDS}), probe(SERVER, node, [["server"]], SERVER))
        ready(cluster, SERVER)
        self.server = addresses(cluster, SERVER)
        self.friends = [Dialler(cluster, NEAR, node, FRIENDS, self.server, STREAMS), Dialler(cluster, FAR, first, FRIENDS, self.server, STREAMS)]
        self.stranger = Dialler(cluster, STRANGER, first, STRANGER, self.server, FORBIDDEN)
        apply(cluster, *(each.pod for each in [*self.friends, self.stranger]))
        ready(cluster, NEAR, FAR, STRANGER)
        # What counts begins once all streams run as they should.
        soon(lambda: all(friend.well() for friend in self.friends) and self.stranger.decided(0), "traffic runs", 120)
        self.begun = time.time_ns()

    def end(self):
        """Nothing was lost and nothing got through; how much was sent."""
        asked = time.time_ns()
        soon(lambda: all(each.decided(asked) for each in [*self.friends, self.stranger]), "all that was sent is decided", 120)
        passed, sent = self.stranger.since(self.begun, True)
        assert not passed, f"forbidden, but it got through: {passed}"
        for friend in self.friends:
            lost, more = friend.since(self.begun, False)
            sent += more
            assert not lost, f"lost of {more} probes: {lost}"
        return sent

    def remove(self):
        remove(self.cluster, NEAR, FAR, STRANGER, SERVER)
        self.cluster.kubectl("-n", NAMESPACE, "delete", "networkpolicy", "traffic", check=False)


def under_traffic(cluster, upheaval, node=None):
    """Does it under traffic that must not notice, and has a change take effect afterwards. An upheaval may want to know the traffic."""
    traffic = Traffic(cluster, node)
    try:
        started = time.monotonic()
        upheaval(traffic)
        took = time.monotonic() - started
        sent = traffic.end()
    finally:
        traffic.remove()
    address = addresses(cluster, "client")[0]
    apply(cluster, allow("afterwards", {"app": "client"}, {"app": "nobody"}))
    soon(lambda: not connects(cluster, "stranger", address), "a policy made afterwards is in force", 60)
    cluster.kubectl("-n", NAMESPACE, "delete", "networkpolicy", "afterwards")
    soon(lambda: connects(cluster, "stranger", address), "and not any more once it is gone", 60)
    return f"{took:.0f} s, 0 of {sent} probes lost or let through"


class Churn(threading.Thread):
    """Pods that start and end for as long as it goes on, on every node two at once: one that may reach the traffic's server and one that may not.
    Both try from their first instruction."""

    def __init__(self, cluster, server):
        super().__init__(daemon=True)
        self.cluster, self.server = cluster, server
        self.enough, self.trouble, self.started = threading.Event(), None, 0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        self.enough.set()
        self.join()
        if self.trouble and not kind:
            raise self.trouble

    def run(self):
        try:
            turn = 0
            while not self.enough.is_set():
                self.once(self.server[turn % len(self.server)])
                turn += 1
        except Exception as error:  # told by who waits for us
            self.trouble = error

    def once(self, server):
        names = {f"young-{who}-{node}": (who, node) for node in self.cluster.nodes for who in ("friend", "stranger")}
        try:
            apply(self.cluster, *(probe(name, node, [["gap", server, "5"]], FRIENDS if who == "friend" else STRANGER) for name, (who, node) in names.items()))
            for name, (who, node) in names.items():
                told = lambda: [line for line in self.cluster.kubectl("-n", NAMESPACE, "logs", name, check=False).splitlines() if '"gap"' in line]
                gap = json.loads(self.cluster.wait(f"{name} has tried", 300, told)[0])
                through = gap["tcp_ok"] + gap["udp_ok"]
                assert bool(through) == (who == "friend"), f"{name}, which started meanwhile, got {through} of {gap['tcp_try'] + gap['udp_try']} probes through to {server}"
                self.started += 1
        finally:
            remove(self.cluster, *names)


# --- what they are made of ---


def probe(name, node, commands, label):
    """A pod of the program that measures, a container for each of its commands."""
    made = scenarios.pod(name, node, {"app": label})
    made["spec"]["containers"] = [{"name": f"c{number}", "image": programs.PROBE, "args": command, "imagePullPolicy": "IfNotPresent"} for number, command in enumerate(commands)]
    return made


def ready(cluster, *pods):
    cluster.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", *(f"pod/{name}" for name in pods), "--timeout=300s")


def remove(cluster, *pods):
    cluster.kubectl("-n", NAMESPACE, "delete", "--now", "--ignore-not-found", "pod", *pods, check=False)
