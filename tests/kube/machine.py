"""What a cluster with nodes needs of the machine's kernel: each thing tried by itself, in namespaces of its own."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import programs
from cluster import CGROUPS, hierarchies, make_cgroup, remove_cgroup, run

# By name in the user's words: a shell script that runs in mount, network and process-id namespaces of its own.
TRIALS = {
    "overlay file systems": "mount -t tmpfs none /mnt && cd /mnt && mkdir low up work all && mount -t overlay none -o lowerdir=low,upperdir=up,workdir=work all && touch all/file",
    "links between network namespaces": "ip link add br0 type bridge && ip link add veth0 type veth peer name veth1 && ip link set veth0 master br0 up && ip link set br0 up",
    "settings of a network namespace": "echo 1 > /proc/sys/net/ipv4/ip_forward && echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
    "nftables with NAT": "nft 'table inet trial { chain nat { type nat hook postrouting priority 100; ct state new masquerade; }; }'",
}


def lacks():
    """What the machine lacks, each with the reason that was given; empty if a cluster can be raised."""
    found = []
    for what, script in TRIALS.items():
        found += trial(what, ["unshare", "--mount", "--net", "--pid", "--fork", "--propagation=private", "sh", "-c", script])
    # Only what has its control groups can run in them.
    return found + (cgroups() or container())


def trial(what, command):
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env={**os.environ, "PATH": path})
    return [f"{what}: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"] if done.returncode else []


def cgroups():
    """A group in every hierarchy that processes may join; in version 2 with the controllers that the kubelet sets."""
    name = f"margay-trial-{os.getpid()}"
    try:
        make_cgroup(name)
        for hierarchy in hierarchies():
            refused = trial(f"control groups at {hierarchy}", ["sh", "-c", f"echo $$ > {hierarchy / name}/cgroup.procs"])
            if refused:
                return refused
        if hierarchies() == [CGROUPS]:
            absent = {"cpu", "memory", "pids"} - set((CGROUPS / name / "cgroup.controllers").read_text().split())
            if absent:
                return [f"control groups: no {', '.join(sorted(absent))} below {CGROUPS}"]
    except OSError as error:
        return [f"control groups: {error}"]
    finally:
        remove_cgroup(name)
    return []


def container():
    """runc runs a program as it runs every container."""
    with tempfile.TemporaryDirectory(prefix="margay-trial-") as folder:
        bundle = pathlib.Path(folder)
        (bundle / "rootfs").mkdir()
        run(["cp", programs.busybox(), bundle / "rootfs/busybox"])
        run(["runc", "spec", "--bundle", bundle])
        spec = json.loads((bundle / "config.json").read_text())
        name = f"margay-trial-{os.getpid()}"
        spec["process"] |= {"terminal": False, "args": ["/busybox", "true"]}
        spec["linux"]["cgroupsPath"] = f"/{name}"
        (bundle / "config.json").write_text(json.dumps(spec))
        try:
            return trial("containers of runc", ["runc", "--root", f"{bundle}/state", "run", "--bundle", folder, name])
        finally:
            remove_cgroup(name)


if __name__ == "__main__":
    lacking = lacks()
    print(*(lacking or ["this machine has what a cluster needs"]), sep="\n")
    sys.exit(bool(lacking))
