"""A Kubernetes cluster on one machine: its nodes and its control plane are namespaces, everything else is the real thing.

Nothing of the machine's own is touched, and nothing is left: the switch is a namespace, every node has its own process-id
namespace whose first process takes all others along, and all state is one tmpfs.
"""

import base64
import contextlib
import fcntl
import ipaddress
import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time

import programs

HERE = pathlib.Path(__file__).resolve().parent
RUN = pathlib.Path("/run/margay-kube")
CGROUPS = pathlib.Path("/sys/fs/cgroup")
CONTROL_PLANE = 10  # last part of its addresses; node i has 10 + i
SERVICES = {"ipv4": "10.96.0.0/16", "ipv6": "fd00:10:96::/112"}
PODS = {"ipv4": "10.244.0.0/16", "ipv6": "fd00:10:244::/56"}
UNDERLAY = {"ipv4": "172.30.0.0/24", "ipv6": "fd00:172:30::/64"}
FAMILIES = {"ipv4": ["ipv4"], "ipv6": ["ipv6"], "dual": ["ipv4", "ipv6"]}


class Cluster:
    """One cluster, up or to be raised. As a context manager it is removed at the end, whatever happened."""

    def __init__(self, name="kube", nodes=3, family="dual", proxy_mode="nftables", logs=None):
        self.name, self.nodes, self.families, self.proxy_mode = name, [f"n{i + 1}" for i in range(nodes)], FAMILIES[family], proxy_mode
        self.state = RUN / name
        self.logs = programs.CACHE / "logs" / (logs or name)
        self.prefix = None
        self.lock = None
        self.image = None  # archive of Margay's image, for who takes programs out of it
        self.limits = False  # whether times and sizes are judged: of a release, where little else is at work

    # --- life ---

    def __enter__(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, _frame: sys.exit(128 + number))
        return self

    def __exit__(self, *_):
        if self.lock:
            self.down()

    @classmethod
    def standing(cls, name="kube"):
        """The one of that name that is up."""
        try:
            settings = json.loads((RUN / name / "settings.json").read_text())
        except OSError:
            raise programs.Missing(f"no cluster `{name}` is up: `make kube-up` raises one") from None
        cluster = cls(name, len(settings["nodes"]), settings["family"], settings["proxy_mode"])
        cluster.prefix = settings["prefix"]
        return cluster

    def claim(self):
        """Takes the name and makes the folder of the state; removes what a dead owner left."""
        if os.geteuid() != 0:
            raise programs.Missing("this makes network namespaces: run it as root")
        RUN.mkdir(parents=True, exist_ok=True)
        with directory(RUN) as claims:
            fcntl.flock(claims, fcntl.LOCK_EX)  # between a lock's making and its being taken it looks like a dead owner's
            for stale in sorted(RUN.glob("*/lock")):
                if not (stale.parent / "standing").exists() and unlocked(stale):
                    Cluster(stale.parent.name).down()
            if self.state.exists():
                raise programs.Missing(f"a cluster `{self.name}` is up: `make kube-down` ends it")
            self.state.mkdir(parents=True)
            # A mount of its own, so that overlays work wherever the machine's own folders are; it goes in one stroke.
            run(["mount", "-t", "tmpfs", "-o", "mode=0755", "margay-kube", str(self.state)])
            self.lock = open(self.state / "lock", "w")
            fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.prefix = f"mgk{secrets.token_hex(3)}-"
        family = next(key for key, value in FAMILIES.items() if value == self.families)
        settings = {"prefix": self.prefix, "nodes": self.nodes, "family": family, "proxy_mode": self.proxy_mode}
        (self.state / "settings.json").write_text(json.dumps(settings))
        shutil.rmtree(self.logs, ignore_errors=True)
        for folder in (self.state / "pki", self.state / "pids", self.logs):
            folder.mkdir(parents=True)

    def keep(self):
        """Lets it stand after this process."""
        (self.state / "standing").write_text("")

    def down(self):
        """Removes it: processes, namespaces, cgroups, mounts, state. Absence is no error."""
        try:
            self.prefix = json.loads((self.state / "settings.json").read_text())["prefix"]
        except OSError:
            self.prefix = None
        for file in sorted((self.state / "pids").glob("*")):
            end(file)
        if self.prefix:
            for node in self.nodes_of_record():
                remove_cgroup(f"{self.prefix}{node}")
            for path in sorted(pathlib.Path("/run/netns").glob(f"{self.prefix}*")):
                for pid in run(["ip", "netns", "pids", path.name]).split():
                    kill(int(pid))
                run(["ip", "netns", "del", path.name])
        if self.state.exists():
            while os.path.ismount(self.state):
                run(["umount", "--lazy", str(self.state)])
            shutil.rmtree(self.state)
        if self.lock:
            self.lock.close()
            self.lock = None
        with contextlib.suppress(OSError):  # others may be up
            RUN.rmdir()

    def nodes_of_record(self):
        names = {path.name for path in CGROUPS.glob(f"*/{self.prefix}*")} | {path.name for path in CGROUPS.glob(f"{self.prefix}*")}
        return [name.removeprefix(self.prefix) for name in sorted(names)]

    # --- raising ---

    def up_api(self):
        """etcd and kube-apiserver alone."""
        programs.require({name: programs.NEEDS[name] for name in ("ip", "openssl", "nsenter")})
        bin = programs.kubernetes(programs.CONTROL_PLANE)
        self.claim()
        self.network([])
        self.credentials([])
        self.control_plane(bin)

    def up(self, images=()):
        """The whole cluster; `images` are archives for every node. Nodes are Ready once they have a CNI configuration."""
        programs.require(programs.NEEDS)
        bin = programs.kubernetes(programs.CONTROL_PLANE | programs.NODES)
        archives = [*programs.test_images(), *images]
        self.claim()
        self.network(self.nodes)
        self.credentials(self.nodes)
        self.control_plane(bin)
        pki = self.state / "pki"
        self.start(
            "kube-controller-manager",
            [bin / "kube-controller-manager", f"--kubeconfig={self.state}/kcm.conf", f"--service-account-private-key-file={pki}/sa.key"]
            + [f"--root-ca-file={pki}/ca.crt", f"--cluster-cidr={self.ranges(PODS)}", "--allocate-node-cidrs=true"]
            + ["--use-service-account-credentials", f"--cluster-signing-cert-file={pki}/ca.crt", f"--cluster-signing-key-file={pki}/ca.key"]
            + [f"--service-cluster-ip-range={self.ranges(SERVICES)}", "--leader-elect=false"],
        )
        self.start("kube-scheduler", [bin / "kube-scheduler", f"--kubeconfig={self.state}/sched.conf", "--leader-elect=false"])
        for node in self.nodes:
            self.start_node(node, archives)
        self.wait("nodes registered", 300, lambda: len(self.get("/api/v1/nodes")["items"]) == len(self.nodes))

    def network(self, nodes):
        """The switch, and everybody's link to it. Default route to the control plane, which forwards nothing: without one an
        address of a Service that kube-proxy does not know yet would be unreachable at once instead of silent."""
        switch = f"{self.prefix}sw"
        run(["ip", "netns", "add", switch])
        run(["ip", "-n", switch, "link", "add", "br0", "type", "bridge"])
        run(["ip", "-n", switch, "link", "set", "br0", "up"])
        for name, number in [("cp", CONTROL_PLANE)] + [(node, self.number(node)) for node in nodes]:
            self.join(name, number)

    def join(self, name, number):
        netns, switch = f"{self.prefix}{name}", f"{self.prefix}sw"
        run(["ip", "netns", "add", netns])
        # As of a machine, its hardware address outlives a reboot.
        mac = f"02:6d:67:79:00:{number:02x}"
        run(["ip", "link", "add", "eth0", "address", mac, "netns", netns, "type", "veth", "peer", "name", name, "netns", switch])
        run(["ip", "-n", switch, "link", "set", name, "master", "br0", "up"])
        for link in ("lo", "eth0"):
            run(["ip", "-n", netns, "link", "set", link, "up"])
        for family in self.families:
            length = UNDERLAY[family].split("/")[1]
            nodad = ["nodad"] if family == "ipv6" else []
            run(["ip", "-n", netns, "addr", "add", f"{address(family, number)}/{length}", "dev", "eth0", *nodad])
            if name != "cp":
                run(["ip", "-n", netns, "route", "add", "default", "via", address(family, CONTROL_PLANE)])

    def credentials(self, nodes):
        """A certificate authority, everybody's certificates, and kubeconfigs."""
        pki = self.state / "pki"
        key(pki / "ca.key")
        run(["openssl", "req", "-x509", "-new", "-key", str(pki / "ca.key"), "-subj", f"/CN=kube-{self.name}", "-days", "30", "-out", str(pki / "ca.crt")])
        names = ["DNS:kubernetes", "DNS:kubernetes.default", "DNS:kubernetes.default.svc", "DNS:localhost", "IP:127.0.0.1"]
        for family in self.families:
            names += [f"IP:{ipaddress.ip_network(SERVICES[family])[1]}", f"IP:{address(family, CONTROL_PLANE)}"]
        self.certificate("apiserver", "/CN=kube-apiserver", names)
        self.certificate("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client")
        for user, subject in [
            ("admin", "/O=system:masters/CN=admin"),
            ("kcm", "/CN=system:kube-controller-manager"),
            ("sched", "/CN=system:kube-scheduler"),
            ("kproxy", "/CN=system:kube-proxy"),
        ]:
            self.certificate(user, subject)
            self.kubeconfig(user, self.server())
        for node in nodes:
            addresses = [f"IP:{each}" for each in self.addresses(node)]
            self.certificate(node, f"/O=system:nodes/CN=system:node:{node}", [f"DNS:{node}", *addresses])
            self.kubeconfig(node, self.server())
        key(pki / "sa.key")
        run(["openssl", "pkey", "-in", str(pki / "sa.key"), "-pubout", "-out", str(pki / "sa.pub")])

    def certificate(self, name, subject, names=()):
        pki = self.state / "pki"
        key(pki / f"{name}.key")
        request = run(["openssl", "req", "-new", "-key", str(pki / f"{name}.key"), "-subj", subject])
        extensions = pki / f"{name}.ext"
        extensions.write_text(f"subjectAltName={','.join(names)}" if names else "basicConstraints=CA:FALSE")
        run(
            ["openssl", "x509", "-req", "-CA", str(pki / "ca.crt"), "-CAkey", str(pki / "ca.key"), "-CAcreateserial", "-days", "30"]
            + ["-out", str(pki / f"{name}.crt"), "-extfile", str(extensions)],
            input=request,
        )

    def kubeconfig(self, user, server, file=None):
        pki = self.state / "pki"
        data = {name: base64.b64encode((pki / name).read_bytes()).decode() for name in ("ca.crt", f"{user}.crt", f"{user}.key")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "k", "cluster": {"server": server, "certificate-authority-data": data["ca.crt"]}}],
            "users": [{"name": "u", "user": {"client-certificate-data": data[f"{user}.crt"], "client-key-data": data[f"{user}.key"]}}],
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        }
        path = self.state / (file or f"{user}.conf")
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        return path

    def control_plane(self, bin):
        """etcd and kube-apiserver in a namespace, and a way in from this machine's loopback."""
        self.hold("cp")
        pki = self.state / "pki"
        self.start(
            "etcd",
            [bin / "etcd", f"--data-dir={self.state}/etcd", "--unsafe-no-fsync", "--listen-peer-urls=http://127.0.0.1:2380"]
            + ["--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379", "--log-level=warn"],
        )
        (self.state / "audit.yaml").write_text(json.dumps(AUDIT_POLICY))
        self.start_apiserver(bin)
        here = self.forward()
        self.kubeconfig("admin", here, "kubeconfig")
        self.wait("the API server answers", 300, lambda: self.get("/readyz", text=True) == "ok")

    def start_apiserver(self, bin=programs.BIN):
        pki = self.state / "pki"
        self.start(
            "kube-apiserver",
            [bin / "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", f"--advertise-address={address(self.families[0], CONTROL_PLANE)}"]
            + ["--secure-port=6443", f"--service-cluster-ip-range={self.ranges(SERVICES)}", "--allow-privileged"]
            + ["--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", f"--client-ca-file={pki}/ca.crt"]
            + [f"--tls-cert-file={pki}/apiserver.crt", f"--tls-private-key-file={pki}/apiserver.key"]
            + [f"--service-account-key-file={pki}/sa.pub", f"--service-account-signing-key-file={pki}/sa.key"]
            + ["--service-account-issuer=https://kubernetes.default.svc", "--kubelet-preferred-address-types=InternalIP"]
            + [f"--kubelet-client-certificate={pki}/kubelet-client.crt", f"--kubelet-client-key={pki}/kubelet-client.key"]
            + [f"--audit-policy-file={self.state}/audit.yaml", f"--audit-log-path={self.logs}/audit.log", "--audit-log-maxsize=2000"],
        )

    def forward(self):
        """Listens on this machine's loopback and connects inside: the socket is made here, its server lives there."""
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        os.set_inheritable(listener.fileno(), True)
        target = address(self.families[0], CONTROL_PLANE)
        self.start("forward", [sys.executable, HERE / "forward.py", str(listener.fileno()), target, "6443"], keep=[listener.fileno()])
        listener.close()
        return f"https://127.0.0.1:{port}"

    def start_node(self, node, archives):
        """The node's first process, which mounts, starts the rest and ends with all of it. The same again after a reboot."""
        make_cgroup(f"{self.prefix}{node}")
        settings = {
            "name": node,
            "state": str(self.state),
            "bin": str(programs.BIN),
            "logs": str(self.logs),
            "cgroup": f"/{self.prefix}{node}",
            "addresses": self.addresses(node),
            "cluster_cidr": self.ranges(PODS),
            "cluster_dns": str(ipaddress.ip_network(SERVICES[self.families[0]])[10]),
            "proxy_mode": self.proxy_mode,
            "images": [str(path) for path in archives],
        }
        (self.state / f"{node}.json").write_text(json.dumps(settings))
        self.hold(node, [sys.executable, str(HERE / "node.py"), str(self.state / f"{node}.json")])

    def stop_node(self, node):
        """As pulling the plug: every process at once; its disk stays, its namespaces go."""
        end(self.state / "pids" / node)
        remove_cgroup(f"{self.prefix}{node}")
        run(["ip", "netns", "del", f"{self.prefix}{node}"])
        switch = f"{self.prefix}sw"
        self.wait(f"the link of {node} is gone", 10, lambda: node not in run(["ip", "-n", switch, "-o", "link"]))

    def reboot_node(self, node):
        """Off and on again."""
        archives = json.loads((self.state / f"{node}.json").read_text())["images"]
        self.stop_node(node)
        self.join(node, self.number(node))
        self.start_node(node, archives)

    # --- processes ---

    def hold(self, name, command=("sleep", "infinity")):
        """The first process of new process-id, mount and host-name namespaces in the network namespace `name`."""
        enter = ["nsenter", f"--net=/run/netns/{self.prefix}{name}", "--", "unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts"]
        self.spawn(name, [*enter, "--propagation", "private", "--mount-proc", *command])
        children = pathlib.Path(f"/proc/{self.pid(name)}/task/{self.pid(name)}/children")
        self.wait(f"{name} has its first process", 10, lambda: children.read_text().split())
        (self.state / f"{name}.init").write_text(children.read_text().split()[0])

    def start(self, name, command, keep=()):
        """A process of the control plane."""
        enter = ["nsenter", f"--target={(self.state / 'cp.init').read_text()}", "--net", "--"]
        self.spawn(name, [*enter, *map(str, command)], keep)

    def stop(self, name):
        """Ends a process of the control plane."""
        end(self.state / "pids" / name)

    def spawn(self, name, command, keep=()):
        with open(self.logs / f"{name}.log", "ab") as log:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=keep, cwd="/")
        (self.state / "pids" / name).write_text(f"{child.pid} {started(child.pid)}")

    def pid(self, name):
        return int((self.state / "pids" / name).read_text().split()[0])

    def pids(self, node, program):
        """Ids, on this machine, of the processes in a node's network namespace that run the program of that path."""
        netns = os.stat(self.netns(node))
        found = []
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                own = os.stat(process / "ns/net")
                if (own.st_dev, own.st_ino) == (netns.st_dev, netns.st_ino) and os.readlink(process / "exe") == program:
                    found.append(int(process.name))
            except OSError:
                pass
        return found

    def netns(self, node):
        """The file of a node's network namespace."""
        return f"/run/netns/{self.prefix}{node}"

    @staticmethod
    def signal(pid, name):
        """Sends one of those processes a signal."""
        os.kill(pid, getattr(signal, f"SIG{name}"))

    def kill(self, node, program):
        """kill -9 of a program on a node."""
        for pid in self.pids(node, program):
            kill(pid)

    def inside(self, node):
        """A command's prefix that runs it on a node (`cp` is the control plane)."""
        return ["nsenter", f"--target={(self.state / f'{node}.init').read_text()}", "--net", "--mount", "--pid", "--uts", "--"]

    def exec(self, node, *command, check=True):
        """Runs a command on a node; its output."""
        return run([*self.inside(node), *map(str, command)], check=check)

    def put(self, node, file):
        """Brings a file to a node; its path there. These see the machine's own files, those of the state among them."""
        return file

    # --- the API ---

    def kubectl(self, *arguments, input=None, check=True):
        """Runs kubectl; its output."""
        return run([str(programs.BIN / "kubectl"), f"--kubeconfig={self.state}/kubeconfig", *arguments], input=input, check=check)

    def get(self, path, text=False):
        """GET of an API path as JSON, or as text; None while it cannot be had."""
        output = subprocess.run(
            [str(programs.BIN / "kubectl"), f"--kubeconfig={self.state}/kubeconfig", "get", "--raw", path], capture_output=True, text=True
        )
        if output.returncode:
            return "" if text else {"items": []}
        return output.stdout if text else json.loads(output.stdout)

    def wait(self, what, seconds, condition):
        """Waits until a condition holds; what it last gave."""
        deadline = time.monotonic() + seconds
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds} s: {what} (logs: {self.logs})")
            time.sleep(0.1)

    # --- small things ---

    def number(self, node):
        return CONTROL_PLANE + int(node.removeprefix("n"))

    def addresses(self, node):
        return [address(family, self.number(node)) for family in self.families]

    def ranges(self, of):
        return ",".join(of[family] for family in self.families)

    def server(self):
        host = address(self.families[0], CONTROL_PLANE)
        return f"https://[{host}]:6443" if ":" in host else f"https://{host}:6443"


# Who asked for what: enough to compare with RBAC, without bodies.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "userGroups": ["system:serviceaccounts:margay-system"]},
        {"level": "None"},
    ],
}


def address(family, number):
    """An address of the underlay, by its last part."""
    network = ipaddress.ip_network(UNDERLAY[family])
    return str(network[number] if family == "ipv4" else network[int(str(number), 16)])


def key(path):
    run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(path)])
    path.chmod(0o600)


def run(command, input=None, check=True, environment=None):
    """Runs a command; its output, or its complaint as an error."""
    done = subprocess.run([str(part) for part in command], input=input or "", capture_output=True, text=True, env=environment)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@contextlib.contextmanager
def directory(path):
    """A descriptor of a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def unlocked(path):
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def started(pid):
    """When a process was started, which with its id names it for good; None if it is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return None


def end(file):
    """Ends the process whose id and start a file holds, and waits for it."""
    try:
        pid, since = file.read_text().split()
    except FileNotFoundError:
        return
    if started(int(pid)) == since:
        kill(int(pid))
        deadline = time.monotonic() + 20
        while started(int(pid)) == since and not zombie(int(pid)) and time.monotonic() < deadline:
            time.sleep(0.02)
    file.unlink()


def zombie(pid):
    """Whether nothing of a process is left but its name. The first of its threads may end before the others, which keep its sockets."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
    try:
        ended = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        return ended and len(os.listdir(f"/proc/{pid}/task")) == 1
    except OSError:
        return True


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def hierarchies():
    """Where cgroups are made: every hierarchy of version 1, or the one of version 2."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in sorted(CGROUPS.iterdir()) if path.is_dir() and not path.is_symlink() and path.name != "unified"]


def make_cgroup(name):
    for hierarchy in hierarchies():
        (hierarchy / name).mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):  # of version 1: empty ones take no process
            if hierarchy.name == "cpuset":
                (hierarchy / name / file).write_text((hierarchy / file).read_text())


def remove_cgroup(name):
    """Ends what is left in it and removes it, children first. (Beside version 1, runc makes one in version 2 too.)"""
    deadline = time.monotonic() + 20
    for hierarchy in [*hierarchies(), CGROUPS / "unified"]:
        top = hierarchy / name
        while top.exists():
            for folder in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True) + [top]:
                try:
                    for pid in (folder / "cgroup.procs").read_text().split():
                        kill(int(pid))
                    folder.rmdir()
                except FileNotFoundError:
                    pass
                except OSError:
                    if time.monotonic() > deadline:
                        raise
            time.sleep(0.02)
