#!/usr/bin/env python3
"""Measures the controller with many objects in an API server: memory, time to list, how soon a label reaches a node.

    scale.py --kubeconfig FILE --controller PROGRAM [--namespaces 200] [--pods 10000] [--policies 1000] [--nodes 100]

The API server is one that may be written to and that nobody else uses (tests/kube/kube up --api-only). Prints a table.
"""

import argparse
import base64
import http.client
import json
import os
import queue
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time

SYSTEM = "margay-system"


class Api:
    """Requests to the API server, a connection per thread."""

    def __init__(self, kubeconfig):
        view = subprocess.run(
            ["kubectl", "--kubeconfig", kubeconfig, "config", "view", "--raw", "-o", "json"],
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


def pod(number, sizes):
    namespace = f"ns{number % sizes.namespaces}"
    path = f"/api/v1/namespaces/{namespace}/pods"
    name = f"p{number}"
    ip = f"10.{100 + number // 65536}.{number // 256 % 256}.{number % 256}"
    body = {
        "metadata": {"name": name, "labels": {"app": f"a{number // sizes.namespaces % 10}", "tier": "t"}},
        "spec": {"nodeName": f"n{number % sizes.nodes}", "containers": [
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
    """One node's stream."""

    def __init__(self, port, node, token, certificates):
        context = ssl.create_default_context(cadata=certificates)
        context.check_hostname = False
        self.connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)
        self.connection.request("GET", f"/v1/nodes/{node}/watch", headers={"authorization": f"Bearer {token}"})
        self.answer = self.connection.getresponse()
        if self.answer.status != 200:
            sys.exit(self.answer.read())

    def line(self):
        return self.answer.readline()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--controller", required=True)
    parser.add_argument("--namespaces", type=int, default=200)
    parser.add_argument("--pods", type=int, default=10000)
    parser.add_argument("--policies", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--standing", action="store_true", help="the objects are there already")
    parser.add_argument("--changes", type=int, default=50)
    parser.add_argument("--churn", type=int, default=0, help="pods to create and delete at the end")
    sizes = parser.parse_args()
    api = Api(sizes.kubeconfig)
    begun = time.monotonic()
    if not sizes.standing:
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
            print(f"start to serving: {time.monotonic() - begun:.2f} s, cpu {processor(process):.1f} s")
            print("memory, MB:", {name: round(size, 1) for name, size in memory(process).items()}, flush=True)
            measure(api, sizes, process, port)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def measure(api, sizes, process, port):
    felix = {"metadata": {"name": "felix-n0"}, "spec": {"serviceAccountName": "margay-felix", "nodeName": "n0",
                                                       "containers": [{"name": "c", "image": "felix"}]}}
    api.send("POST", f"/api/v1/namespaces/{SYSTEM}/pods", felix)
    request = {"spec": {"audiences": ["margay"], "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "felix-n0"}}}
    token = api.send("POST", f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/margay-felix/token", request)["status"]["token"]
    certificates = api.send("GET", f"/api/v1/namespaces/{SYSTEM}/configmaps/margay-ca")["data"]["ca.pem"]
    stream = Stream(port, "n0", token, certificates)
    snapshot = stream.line()
    print(f"snapshot of n0: {len(snapshot)} octets")
    merge = "application/merge-patch+json"
    pods = [n for n in range(sizes.pods) if n % sizes.namespaces == 0 and n % sizes.nodes == 0]
    taken = []
    lines = queue.SimpleQueue()

    def read():
        while True:
            line = stream.line()
            lines.put((time.monotonic(), line))
            if not line:
                return

    threading.Thread(target=read, daemon=True).start()
    for turn in range(sizes.changes):
        number = pods[turn % len(pods)]
        while not lines.empty():
            lines.get()
        # The pod's own policies and the sets it is in change with it.
        label = f"a{(turn + 1) % 10}"
        path = f"/api/v1/namespaces/ns0/pods/p{number}"
        begun = time.monotonic()
        api.send("PATCH", path, {"metadata": {"labels": {"app": label}}}, merge)
        answered = time.monotonic()
        try:
            while True:
                at, line = lines.get(timeout=2)
                if b'"delta"' in line:
                    break
            taken.append(((at - begun) * 1000, (at - answered) * 1000))
        except queue.Empty:
            pass
    whole = sorted(a for a, _ in taken)
    after = sorted(b for _, b in taken)
    if whole:
        print(f"label to delta at the node, {len(whole)} changes: from before the call p50 {whole[len(whole) // 2]:.1f} ms, worst {whole[-1]:.1f} ms;"
              f" after its answer p50 {after[len(after) // 2]:.1f} ms, worst {after[-1]:.1f} ms")
    print("memory, MB:", {name: round(size, 1) for name, size in memory(process).items()}, flush=True)
    done = 0
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
        if done % 5000 == 0 or done == sizes.churn:
            print(f"{done} pods created and deleted; memory, MB:", {name: round(size, 1) for name, size in memory(process).items()}, flush=True)


if __name__ == "__main__":
    main()
