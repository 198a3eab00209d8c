"""The cluster's DNS, for specs that dial a Service by its name: one pod of CoreDNS (`dns/`), behind the address that the kubelet gives to pods."""

import ipaddress

import programs
from cluster import SERVICES
from scenarios import NAMESPACE, apply, run_status, soon

NAME = "coredns"
COREFILE = ".:53 {\n  errors\n  ready\n  kubernetes cluster.local in-addr.arpa ip6.arpa\n}\n"


def names_resolve(cluster):
    """A pod finds a Service by its name."""
    apply(cluster, *objects(cluster.families))
    cluster.kubectl("-n", "kube-system", "rollout", "status", f"deployment/{NAME}", "--timeout=300s")
    found = lambda: run_status(cluster, ["-n", NAMESPACE, "exec", "client", "--", "nc", "-z", "-w", "5", "kube-dns.kube-system", "53"])
    soon(found, "the DNS is found by its own name")


def objects(families):
    name = {"name": NAME, "namespace": "kube-system"}
    labels = {"k8s-app": "kube-dns"}
    reads = [
        {"apiGroups": [""], "resources": ["namespaces", "pods", "services"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    container = {
        "name": NAME,
        "image": programs.DNS,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
    }
    pod = {
        "serviceAccountName": NAME,
        # The control plane's namespace knows no way back to a pod, as it knows it to a node.
        "hostNetwork": True,
        "dnsPolicy": "Default",
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": NAME}}],
    }
    ports = [{"name": protocol.lower(), "protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    address = str(ipaddress.ip_network(SERVICES[families[0]])[10])
    rbac = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": name},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": NAME}, "rules": reads},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": NAME},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": NAME},
            "subjects": [{"kind": "ServiceAccount", **name}],
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": {"Corefile": COREFILE}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": name,
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
            "spec": {"selector": labels, "clusterIP": address, "ipFamilyPolicy": "PreferDualStack", "ports": ports},
        },
    ]
