"""The whole proof on one cluster: our scenarios, then the upstream suite; a table at the end, and how many rows of it are what."""

import collections
import sys
import time
import traceback

import dns
import leaders
import machine
import neighbours
import nonsense
import outside
import programs
import scenarios
import suite
import upheavals
from cluster import Cluster

# Behaviours that belong to every proof; the others take long, and are for a whole one.
SHORT = [*scenarios.ALL, outside.margayctl_answers, upheavals.controllers_away]
WHOLE = [*SHORT, *outside.ALL[1:], *neighbours.ALL, *leaders.ALL, *upheavals.ALL, *nonsense.ALL, scenarios.felix_stays_small]
# These come after all that the upstream suite does.
LAST = [scenarios.felix_stays_small, scenarios.nobody_asks_for_more, scenarios.every_right_is_used, scenarios.leaves_nothing]


def main(cluster, image, short, parts, lanes, suite_only=False):
    """Raises the cluster, proves, prints, removes. Whether everything was good. On a machine whose kernel lacks what a cluster needs
    each row is skipped by its name, with what is missing."""
    wanted = [scenarios.felix_stays_small, scenarios.nobody_asks_for_more] if suite_only else SHORT if short else WHOLE
    lacking = "; ".join(machine.lacks())
    if lacking:
        names = ["cluster", *(scenario.__name__ for scenario in wanted), *(f"upstream {part}" for part in upstream(short, parts))]
        return closing([("skipped", name, f"this machine lacks {lacking}") for name in names])
    programs.kubernetes(programs.CONTROL_PLANE | programs.NODES | programs.SUITE)
    rows = []
    with cluster:
        cluster.image = image()
        images = [cluster.image, programs.probe()]
        if "services" in upstream(short, parts):
            images.append(programs.dns())
            wanted = [*wanted, dns.names_resolve]
        if not prove(cluster, lambda cluster: cluster.up(images), rows, "cluster"):
            for log in sorted(cluster.logs.glob("*.log")):
                print(f"--- the end of {log.name}", *log.read_text(errors="replace").splitlines()[-12:], sep="\n", file=sys.stderr)
            return closing(rows)
        return all_of(cluster, wanted, short, parts, lanes, rows)


def upstream(short, parts):
    return ("netpol",) if short else parts


def all_of(cluster, wanted, short, parts, lanes, rows):
    """Proves on a cluster that stands, and prints the table. Whether everything was good."""
    good = all([prove(cluster, scenario, rows) for scenario in wanted if scenario not in LAST and scenario is not scenarios.installs]) if prove(cluster, scenarios.installs, rows) else False
    if good:
        for part in upstream(short, parts):
            result = suite.run(cluster, part, suite.SHORT if short else (), lanes)
            good &= result.good
            rows.append(("ok" if result.good else "FAILED", f"upstream {part}", str(result)))
        good = all([prove(cluster, scenario, rows) for scenario in LAST if scenario in wanted]) and good
    if not good:
        tell(cluster)
    return closing(rows)


def closing(rows):
    """Prints the table and its sum. Whether nothing failed."""
    for mark, name, text in rows:
        print(f"{mark:8} {name:32} {text}")
    sums = collections.Counter(mark for mark, _, _ in rows)
    print(f"kube e2e: {sums['ok']} ok; {sums['FAILED']} failed; {sums['skipped']} skipped", flush=True)
    return not sums["FAILED"]


def prove(cluster, scenario, rows, name=None):
    name = name or scenario.__name__
    started = time.monotonic()
    try:
        told = scenario(cluster)
    except Exception as error:
        if not isinstance(error, AssertionError):
            traceback.print_exc()
        rows.append(("FAILED", name, " ".join(f"{error} ({scenario.__doc__ or name})".split())))
        return False
    took = f"{time.monotonic() - started:.0f} s"
    rows.append(("ok", name, f"{told} ({took})" if told else took))
    print(f"{name}: {took}", file=sys.stderr, flush=True)
    return True


def tell(cluster):
    """What a reader of the log needs after a failure."""
    for arguments in (
        ["get", "nodes,pods", "-A", "-o", "wide"],
        ["get", "events", "-A", "--field-selector=type=Warning"],
        ["-n", scenarios.SYSTEM, "logs", "-l", "app.kubernetes.io/name=margay", "--all-containers", "--prefix", "--tail=40"],
    ):
        try:
            told = cluster.kubectl(*arguments)
        except RuntimeError as error:
            told = error
        print(f"$ kubectl {' '.join(arguments)}", told, sep="\n", file=sys.stderr)

