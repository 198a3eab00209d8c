"""The whole proof on one cluster: our scenarios, then the upstream suite; a table at the end."""

import sys
import time
import traceback

import programs
import scenarios
import suite
import upheavals
from cluster import Cluster


def main(cluster, image, short, parts, lanes, suite_only=False):
    """Raises the cluster, proves, prints, removes. Whether everything was good."""
    programs.kubernetes(programs.CONTROL_PLANE | programs.NODES | programs.SUITE)
    with cluster:
        started = time.monotonic()
        cluster.up([image] if short else [image, programs.probe()])
        row = ("ok", "cluster", f"{len(cluster.nodes)} nodes registered after {time.monotonic() - started:.0f} s")
        wanted = [] if suite_only else scenarios.ALL if short else scenarios.ALL + upheavals.ALL
        return all_of(cluster, wanted, short, parts, lanes, [row])


def all_of(cluster, wanted, short, parts, lanes, rows):
    """Proves on a cluster that stands, and prints the table. Whether everything was good."""
    last = [scenarios.nobody_asks_for_more, scenarios.leaves_nothing]
    good = all([prove(cluster, scenario, rows) for scenario in wanted if scenario not in last and scenario is not scenarios.installs]) if prove(cluster, scenarios.installs, rows) else False
    if good:
        for part in ("netpol",) if short else parts:
            result = suite.run(cluster, part, suite.SHORT if short else (), lanes)
            good &= result.good
            rows.append(("ok" if result.good else "FAILED", f"upstream {part}", str(result)))
        good = all([prove(cluster, scenario, rows) for scenario in wanted if scenario in last]) and good
    if not good:
        tell(cluster)
    for mark, name, text in rows:
        print(f"{mark:7} {name:32} {text}")
    return good


def prove(cluster, scenario, rows):
    started = time.monotonic()
    try:
        told = scenario(cluster)
    except Exception as error:
        if not isinstance(error, AssertionError):
            traceback.print_exc()
        rows.append(("FAILED", scenario.__name__, f"{error} ({scenario.__doc__})"))
        return False
    rows.append(("ok", scenario.__name__, told or f"{time.monotonic() - started:.0f} s"))
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

