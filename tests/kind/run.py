#!/usr/bin/env python3
"""`make kind`: the manifest, the image, the scenarios and the upstream suite of `make e2e` on kind (https://kind.sigs.k8s.io), for a machine with Docker.

Only how the cluster is made and reached differs; everything that is proved is in tests/kube. Not run where there is no Docker.
"""

import argparse
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "kube"))
import e2e  # noqa: E402
import programs  # noqa: E402
import scenarios  # noqa: E402
from cluster import Cluster, run  # noqa: E402

NAME = "margay"


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
        return [] if node == "cp" else ["docker", "exec", node]

    def kill(self, node, program):
        run(["docker", "exec", node, "pkill", "-9", "-f", f"^{program}"])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="six upstream specs")
    parser.add_argument("--parts", default="netpol,pods")
    parser.add_argument("--lanes", type=int, default=2)
    arguments = parser.parse_args()
    programs.require({"kind": "kind (https://kind.sigs.k8s.io)", "docker": "docker.io", "buildah": "buildah"})
    programs.kubernetes({**programs.CONTROL_PLANE, **programs.SUITE})
    # kind's API server keeps no audit log, and its nodes mount no images for leaves_nothing.
    wanted = [each for each in scenarios.ALL if each not in (scenarios.nobody_asks_for_more, scenarios.every_right_is_used, scenarios.leaves_nothing)]
    image = programs.product()
    with Kind() as cluster:
        cluster.up([image])
        return 0 if e2e.all_of(cluster, wanted, arguments.short, arguments.parts.split(","), arguments.lanes, []) else 1


if __name__ == "__main__":
    sys.exit(main())
