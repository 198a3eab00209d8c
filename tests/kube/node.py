"""The first process of a node: makes the node's view of the file system, starts containerd, kube-proxy and kubelet, and reaps.

It runs in process-id, mount, host-name and network namespaces of its own; when it ends, the kernel ends everything in them.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

# Folders of the machine that a node has for itself.
OWN = ["/var/lib/kubelet", "/var/lib/containerd", "/var/lib/cni", "/var/lib/margay", "/var/log/pods", "/var/log/containers", "/opt/cni/bin", "/etc/cni/net.d"]


def main():
    settings = json.loads(pathlib.Path(sys.argv[1]).read_text())
    name, logs, disk = settings["name"], pathlib.Path(settings["logs"]), pathlib.Path(settings["state"]) / settings["name"]
    subprocess.run(["hostname", name], check=True)
    mounts(disk)
    run = pathlib.Path("/run")
    containerd = run / "containerd.toml"
    containerd.write_text(CONTAINERD)
    start(["containerd", "-c", containerd], logs / f"{name}-containerd.log")
    wait("containerd answers", lambda: quiet(["ctr", "version"]))
    for image in settings["images"]:
        subprocess.run(["ctr", "-n", "k8s.io", "image", "import", image], check=True)
    bin, state = settings["bin"], settings["state"]
    start(
        [f"{bin}/kube-proxy", f"--kubeconfig={state}/kproxy.conf", f"--hostname-override={name}", f"--proxy-mode={settings['proxy_mode']}"]
        + [f"--cluster-cidr={settings['cluster_cidr']}", "--conntrack-max-per-core=0"]
        + ["--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0"],
        logs / f"{name}-kube-proxy.log",
    )
    config = run / "kubelet.json"
    config.write_text(json.dumps(kubelet(settings)))
    start(
        [f"{bin}/kubelet", f"--config={config}", f"--kubeconfig={state}/{name}.conf", f"--hostname-override={name}"]
        + [f"--node-ip={','.join(settings['addresses'])}"],
        logs / f"{name}-kubelet.log",
    )
    while True:  # children of children that died come to the first process
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(1)


def mounts(disk):
    quiet(["mount", "--make-rprivate", "/"], check=True)
    pairs = []
    for folder in OWN:
        own = disk / folder.strip("/").replace("/", "-")
        own.mkdir(parents=True, exist_ok=True)
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        pairs.append((own, folder))
    # The state lies below /run: it must stay in sight when /run becomes the node's own.
    state = disk.parent
    aside = pathlib.Path("/mnt")
    quiet(["mount", "--bind", state, aside], check=True)
    quiet(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"], check=True)
    state.mkdir(parents=True)
    quiet(["mount", "--move", aside, state], check=True)
    for folder in ("/run/netns", "/run/lock"):
        pathlib.Path(folder).mkdir()
    for own, folder in pairs:
        quiet(["mount", "--bind", own, folder], check=True)
    quiet(["mount", "--make-rshared", "/"], check=True)


CONTAINERD = """
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.10"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
"""


def kubelet(settings):
    pki = f"{settings['state']}/pki"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}, "x509": {"clientCAFile": f"{pki}/ca.crt"}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{pki}/{settings['name']}.crt",
        "tlsPrivateKeyFile": f"{pki}/{settings['name']}.key",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": settings["cgroup"],
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "clusterDNS": [settings["cluster_dns"]],
        "clusterDomain": "cluster.local",
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "resolvConf": "",
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        "oomScoreAdj": 0,
        "maxPods": 250,
    }


def start(command, log):
    with open(log, "ab") as file:
        subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=file, stderr=file)


def quiet(command, check=False):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{command}: {done.stderr}")
    return done.returncode == 0


def wait(what, condition):
    deadline = time.monotonic() + 300
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.05)


main()
