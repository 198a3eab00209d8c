#!/usr/bin/env python3
"""Measures the controller with many objects in an API server: memory, time to list, how soon a label reaches all nodes whose rules it changes.

    tests/kube/kube with-api -- controller/daemon/tests/scale.py --controller PROGRAM [--namespaces 200] [--pods 10000] [--policies 1000] [--nodes 100]

The API server is one that may be written to and that nobody else uses; without --kubeconfig the one that MARGAY_TEST_KUBECONFIG names. Prints a
table of what must hold, and fails if something of it does not.
"""

import argparse
import base64
import http.client
import json
import os
import pathlib
import queue
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

SYSTEM = "margay-system"
REPO = pathlib.Path(__file__).resolve().parents[3]
KUBECTL = REPO / "target/kube/bin/kubectl"
# What must hold.
MEMORY = 150  # MB resident, at most ever
SYNC = 10  # seconds from the start to serving
DELTA = 20  # milliseconds from before the call to the last node concerned
GROWTH = 5  # MB more after all pods that came and went than after the first tenth
# Nothing more is heard of a change once no node has heard of anything for so long.
QUIET = 0.3


class Api:
    """Requests to the API server, a connection per thread."""

    def __init__(self, kubeconfig):
        view = subprocess.run(
            [KUBECTL, "--kubeconfig", kubeconfig, "config", "view", "--raw", "-o", "json"],
            check=True, capture_output=True).stdout
        config = json.loads(view)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.host = cluster["server"].removeprefix("https://")
        self.context = ssl.create_default_context(cadata=self.text(cluster, "certificate-authority"))
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as both:
            both.write(self.text(user, "client-certificate") + "\n" + self.text(user, "client-key"))
            both.flush()
            self.context.load_cert_chain(both.name)
        self.local = threading.local()

    @staticmethod
    def text(entry, name):
        if name in entry:
            return open(entry[name]).read()
        return base64.b64decode(entry[f"{name}-data"]).decode()

    def send(self, method, path, body=None, kind="application/json", also=(409,)):
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPSConnection(self.host, context=self.context, timeout=60)
        try:
            self.local.connection.request(method, path, json.dumps(body) if body is not None else None, {"content-type": kind})
            answer = self.local.connection.getresponse()
        except http.client.RemoteDisconnected:
            # It was idle for too long.
            self.local.connection.close()
            return self.send(method, path, body, kind, also)
        octets = answer.read()
        if answer.status >= 300 and answer.status not in also:
            sys.exit(f"{method} {path}: {answer.status} {octets[:300]}")
        return json.loads(octets) if octets else None

    def many(self, jobs):
        inbox = queue.SimpleQueue()
        for job in jobs:
            inbox.put(job)

        def work():
            while True:
                try:
                    job = inbox.get_nowait()
                except queue.Empty:
                    return
                for request in job:
                    self.send(*request)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def node_of(number, sizes):
    """Pods of a namespace are on as many nodes as there are."""
    return (number + number // sizes.namespaces) % sizes.nodes


def pod(number, sizes):
    namespace = f"ns{number % sizes.namespaces}"
    path = f"/api/v1/namespaces/{namespace}/pods"
    name = f"p{number}"
    ip = f"10.{100 + number // 65536}.{number // 256 % 256}.{number % 256}"
    body = {
        "metadata": {"name": name, "labels": {"app": f"a{number // sizes.namespaces % 10}", "tier": "t"}},
        "spec": {"nodeName": f"n{node_of(number, sizes)}", "containers": [
            {"name": "c", "image": "registry.example/app:1", "ports": [{"name": "web", "containerPort": 8080}],
             "env": [{"name": f"VARIABLE_{n}", "value": "x" * 40} for n in range(10)]}]},
    }
    status = {"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}}
    return [("POST", path, body),
            ("PATCH", f"{path}/{name}/status", status, "application/merge-patch+json")]


def policy(number, sizes):
    namespace = f"ns{number % sizes.namespaces}"
    body = {
        "metadata": {"name": f"np{number}"},
        "spec": {"podSelector": {"matchLabels": {"app": f"a{number // sizes.namespaces % 10}"}}, "policyTypes": ["Ingress"],
                 "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": f"a{(number + 1) % 10}"}}},
                                       {"namespaceSelector": {"matchLabels": {"team": f"ns{(number + 7) % sizes.namespaces}"}}}],
                              "ports": [{"port": "web"}]}]},
    }
    return [("POST", f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies", body)]


def fill(api, sizes):
    spaces = [SYSTEM] + [f"ns{n}" for n in range(sizes.namespaces)]
    api.many([[("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": {"team": name}}}),
               ("POST", f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}})] for name in spaces])
    api.send("POST", f"/api/v1/namespaces/{SYSTEM}/serviceaccounts", {"metadata": {"name": "margay-felix"}})
    nodes = []
    for n in range(sizes.nodes):
        address = {"status": {"addresses": [{"type": "InternalIP", "address": f"192.0.{2 + n // 250}.{n % 250 + 1}"}]}}
        nodes.append([("POST", "/api/v1/nodes", {"metadata": {"name": f"n{n}"}, "spec": {"podCIDR": f"10.200.{n}.0/24", "podCIDRs": [f"10.200.{n}.0/24"]}}),
                      ("PATCH", f"/api/v1/nodes/n{n}/status", address, "application/merge-patch+json")])
    api.many(nodes)
    api.many([pod(n, sizes) for n in range(sizes.pods)])
    api.many([policy(n, sizes) for n in range(sizes.policies)])


def memory(process):
    text = open(f"/proc/{process.pid}/status").read()
    return {name: int(re.search(rf"{name}:\s+(\d+)", text)[1]) / 1024 for name in ("VmRSS", "VmHWM", "RssAnon")}


def processor(process):
    fields = open(f"/proc/{process.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Stream:
    """One node's stream. What arrives is kept as it is, with the time, and read when it does not disturb what is measured."""

    def __init__(self, port, node, token, context):
        self.node = node
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="margay-controller")
        self.text = b""
        self.step(self.tls.do_handshake)
        request = f"GET /v1/nodes/{node}/watch HTTP/1.1\r\nhost: margay-controller\r\nauthorization: Bearer {token}\r\n\r\n"
        self.step(lambda: self.tls.write(request.encode()))
        while b'"type":"in-sync"' not in self.text:
            self.text += self.step(lambda: self.tls.read(1 << 16))
        if not self.text.startswith(b"HTTP/1.1 200"):
            sys.exit(self.text[:300])
        self.snapshot = len(self.text)
        self.text = b""

    def step(self, step):
        while True:
            try:
                result = step()
                self.socket.sendall(self.outgoing.read())
                return result
            except ssl.SSLWantReadError:
                self.socket.sendall(self.outgoing.read())
                octets = self.socket.recv(1 << 16)
                if not octets:
                    sys.exit(f"the stream of {self.node} ended: {self.text[:300]}")
                self.incoming.write(octets)

    def deltas(self, octets):
        """How many deltas are complete with these octets."""
        self.incoming.write(octets)
        try:
            while True:
                self.text += self.tls.read(1 << 16)
        except ssl.SSLWantReadError:
            pass
        *lines, self.text = self.text.split(b"\n")
        return sum(b'"type":"delta"' in line for line in lines)


class Listener:
    """What arrives on all streams, and when."""

    def __init__(self, streams):
        self.streams = {stream.socket.fileno(): stream for stream in streams}
        self.arrived = queue.SimpleQueue()
        self.keeps = True
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        poll = select.epoll()
        for number in self.streams:
            poll.register(number, select.EPOLLIN)
        while True:
            for number, _ in poll.poll():
                at = time.monotonic()
                octets = self.streams[number].socket.recv(1 << 16)
                if not octets:
                    poll.unregister(number)
                elif self.keeps:
                    self.arrived.put((at, number, octets))

    def heard(self):
        """Waits until nothing more comes; when each node heard of a change, the last time."""
        heard = {}
        until = time.monotonic() + QUIET
        while (left := until - time.monotonic()) > 0:
            time.sleep(left)
            while not self.arrived.empty():
                at, number, octets = self.arrived.get()
                stream = self.streams[number]
                if stream.deltas(octets):
                    heard[stream.node] = at
                    until = max(until, at + QUIET)
        return heard


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kubeconfig", default=os.environ.get("MARGAY_TEST_KUBECONFIG"))
    parser.add_argument("--controller", required=True)
    parser.add_argument("--namespaces", type=int, default=200)
    parser.add_argument("--pods", type=int, default=10000)
    parser.add_argument("--policies", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--standing", action="store_true", help="the objects are there already")
    parser.add_argument("--changes", type=int, default=100)
    parser.add_argument("--churn", type=int, default=0, help="pods to create and delete at the end")
    sizes = parser.parse_args()
    if not sizes.kubeconfig:
        parser.error("which API server? --kubeconfig, or run it by tests/kube/kube with-api -- …")
    api = Api(sizes.kubeconfig)
    begun = time.monotonic()
    if not sizes.standing:
        subprocess.run([KUBECTL, "--kubeconfig", sizes.kubeconfig, "apply", "--server-side", "-k", REPO / "manifests/crds"],
                       check=True, stdout=subprocess.DEVNULL)
        fill(api, sizes)
        print(f"objects made in {time.monotonic() - begun:.0f} s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        port = 19480
        begun = time.monotonic()
        log = open(f"{folder}/log", "w")
        process = subprocess.Popen(
            [sizes.controller, "--kubernetes", "--kubeconfig", sizes.kubeconfig, "--identity", "scale", "--listen", f"127.0.0.1:{port}",
             "--state", f"{folder}/state", "--socket", f"{folder}/socket"], stderr=log)
        try:
            while "serving" not in open(f"{folder}/log").read():
                if process.poll() is not None:
                    sys.exit(open(f"{folder}/log").read())
                time.sleep(0.02)
            serving = time.monotonic() - begun
            print(f"serving, after {processor(process):.1f} s of processor time; memory, MB: {shown(process)}", flush=True)
            rows = [("start to serving, s", serving, SYNC)]
            rows += changes(api, sizes, process, port)
            if sizes.churn:
                rows.append(churn(api, sizes, process))
            rows.append(("memory at most ever, MB", memory(process)["VmHWM"], MEMORY))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    for what, seen, most in rows:
        print(f"{what:<60} {seen:8.1f}  at most {most:4}  {'ok' if seen <= most else 'MISSED'}")
    return int(any(seen > most for _, seen, most in rows))


def shown(process):
    return {name: round(size, 1) for name, size in memory(process).items()}


def changes(api, sizes, process, port):
    """Changes labels of pods; how soon the last of the nodes concerned knows."""
    nodes = [f"n{n}" for n in range(sizes.nodes)]
    pods = f"/api/v1/namespaces/{SYSTEM}/pods"
    api.many([[("POST", pods, {"metadata": {"name": f"felix-{node}"}, "spec": {
        "serviceAccountName": "margay-felix", "nodeName": node, "containers": [{"name": "c", "image": "felix"}]}})] for node in nodes])
    certificates = api.send("GET", f"/api/v1/namespaces/{SYSTEM}/configmaps/margay-ca")["data"]["ca.pem"]
    context = ssl.create_default_context(cadata=certificates)
    streams = []
    for node in nodes:
        request = {"spec": {"audiences": ["margay"], "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": f"felix-{node}"}}}
        token = api.send("POST", f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/margay-felix/token", request)["status"]["token"]
        streams.append(Stream(port, node, token, context))
    print(f"{len(streams)} streams, snapshots of {min(s.snapshot for s in streams)} to {max(s.snapshot for s in streams)} octets;"
          f" memory, MB: {shown(process)}", flush=True)
    listener = Listener(streams)
    listener.heard()
    numbers = [n for n in range(sizes.pods) if n % sizes.namespaces == 0]
    taken, concerned, lost = [], [], 0
    for turn in range(sizes.changes):
        number = numbers[turn // 2 % len(numbers)]
        # All policies of the namespace name a1, so every node with a pod that one of them selects has that set.
        label = "a7" if turn % 2 else "a1"
        if turn % 2 == 0:
            api.send("PATCH", f"/api/v1/namespaces/ns0/pods/p{number}", {"metadata": {"labels": {"app": "a8"}}}, "application/merge-patch+json")
            listener.heard()
        begun = time.monotonic()
        api.send("PATCH", f"/api/v1/namespaces/ns0/pods/p{number}", {"metadata": {"labels": {"app": label}}}, "application/merge-patch+json")
        heard = listener.heard()
        if heard:
            taken.append((max(heard.values()) - begun) * 1000)
            concerned.append(len(heard))
        else:
            lost += 1
    # Streams are read on, but nobody looks.
    listener.keeps = False
    taken.sort()
    print(f"label to delta, {len(taken)} changes, {min(concerned)} to {max(concerned)} nodes concerned by each:"
          f" p50 {taken[len(taken) // 2]:.1f} ms, worst {taken[-1]:.1f} ms to the last of them")
    return [
        ("changes of which no node heard", lost, 0),
        ("label to delta at the last node concerned, p50, ms", taken[len(taken) // 2], DELTA),
        ("label to delta at the last node concerned, p95, ms", taken[len(taken) * 95 // 100], DELTA),
    ]


def churn(api, sizes, process):
    """Creates and deletes pods; how much more memory is used at the end than after the first tenth."""
    done, early = 0, None
    while done < sizes.churn:
        batch = min(1000, sizes.churn - done)
        begin = 1_000_000 + done
        jobs = []
        for number in range(begin, begin + batch):
            path = f"/api/v1/namespaces/ns{number % sizes.namespaces}/pods"
            body = {"metadata": {"name": f"churn{number}", "labels": {"app": "a1"}},
                    "spec": {"nodeName": f"n{number % sizes.nodes}", "containers": [{"name": "c", "image": "i"}]}}
            jobs.append([("POST", path, body), ("DELETE", f"{path}/churn{number}", {"gracePeriodSeconds": 0})])
        api.many(jobs)
        done += batch
        if early is None and done * 10 >= sizes.churn:
            early = memory(process)["RssAnon"]
        if done % 5000 == 0 or done == sizes.churn:
            print(f"{done} pods created and deleted; memory, MB: {shown(process)}", flush=True)
    return ("memory after all pods that came and went, MB more", memory(process)["RssAnon"] - early, GROWTH)


if __name__ == "__main__":
    sys.exit(main())
