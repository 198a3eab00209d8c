#!/usr/bin/env python3
"""`make kind`: the manifest, the image, the scenarios and the upstream suite of `make e2e` on kind (https://kind.sigs.k8s.io), for a machine with Docker.

Only how the cluster is made and reached differs; everything that is proved is in tests/kube.
"""

import argparse
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "kube"))
import e2e  # noqa: E402
import neighbours  # noqa: E402
import programs  # noqa: E402
import scenarios  # noqa: E402
import upheavals  # noqa: E402
from cluster import Cluster, run  # noqa: E402

NAME = "margay"
# What a cluster must let be done to it for these, kind's does not: why, in README.md.
NOT_HERE = [
    scenarios.nobody_asks_for_more,
    scenarios.every_right_is_used,
    neighbours.token_is_over,
    upheavals.node_reboots,
    upheavals.history_is_compacted,
    upheavals.api_server_is_away,
]


class Kind(Cluster):
    """A cluster that kind makes of containers."""

    def __init__(self):
        super().__init__(NAME, family="dual")
        self.state = programs.CACHE / "kind"

    def up(self, images=()):
        self.state.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        # The name that the suite is told, and the one that kubectl is called with.
        config = self.state / "admin.conf"
        run(["kind", "create", "cluster", "--name", NAME, "--config", HERE / "cluster.yaml", "--kubeconfig", config])
        (self.state / "kubeconfig").write_text(config.read_text())
        self.nodes = sorted(run(["kind", "get", "nodes", "--name", NAME]).split())
        for image in [programs.test_images()[0], *images]:
            run(["kind", "load", "image-archive", image, "--name", NAME])

    def __exit__(self, *_):
        self.down()

    def down(self):
        run(["kind", "delete", "cluster", "--name", NAME])

    def inside(self, node):
        # The API server's port is on this machine; nodes are containers.
        return [] if node == "cp" else ["docker", "exec", "--interactive", node]

    def netns(self, node):
        # Processes of a container are this machine's, where Docker runs on it.
        return f"/proc/{run(['docker', 'inspect', '--format', '{{.State.Pid}}', node]).strip()}/ns/net"

    def put(self, node, file):
        run(["docker", "cp", file, f"{node}:/{file.name}"])
        return f"/{file.name}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer scenarios, and six upstream specs")
    parser.add_argument("--parts", default="netpol,pods")
    parser.add_argument("--lanes", type=int, default=2)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        raise programs.Missing("this looks for processes of the nodes: run it as root")
    programs.require({"kind": "kind (https://kind.sigs.k8s.io)", "docker": "docker.io", "buildah": "buildah"})
    programs.kubernetes({**programs.CONTROL_PLANE, **programs.SUITE})
    wanted = [each for each in (e2e.SHORT if arguments.short else e2e.WHOLE) if each not in NOT_HERE]
    with Kind() as cluster:
        cluster.image = programs.product()
        cluster.up([cluster.image, programs.probe()])
        return 0 if e2e.all_of(cluster, wanted, arguments.short, arguments.parts.split(","), arguments.lanes, []) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except programs.Missing as problem:
        sys.exit(f"kind: {problem}")
