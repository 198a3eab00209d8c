"""Margay among others on a node: rules that somebody flushes, another's CNI configuration, what other plugins left, a clock that says the token is over."""

import base64
import json
import textwrap
import time

import programs
from cluster import run
from leaders import kernels
from scenarios import NAMESPACE, SYSTEM, addresses, allow, apply, connects, felix, pod, reaches, restarts, second, soon, system_ready

# The token of felix, as the kubelet has put it on its node.
TOKEN = "/var/lib/kubelet/pods/*/volumes/kubernetes.io~projected/token/token"


def rules_are_flushed(cluster):
    """Somebody flushes all rules of a node, as firewalld does when it starts: the policy holds, and what is allowed passes."""
    node = cluster.nodes[1]
    server = addresses(cluster, second(cluster))
    apply(cluster, allow("only-client", {"app": "server"}, {"app": "client"}))
    for address in server:
        soon(lambda: not connects(cluster, "stranger", address), "the policy is in force")
    # Not ours to heal, and not of interest here: Services of this node.
    services = [cluster.exec(node, "nft", "-s", "list", "table", family, "kube-proxy", check=False) for family in ("ip", "ip6")]
    cluster.exec(node, "nft", "flush", "ruleset")
    flushed = time.monotonic()
    there = lambda: "inet margay" in cluster.exec(node, "nft", "list", "tables")
    cluster.wait("our rules are back", 300, there)
    took = time.monotonic() - flushed
    for address in server:
        assert not connects(cluster, "stranger", address), f"after the flush the stranger gets to {address}"
        assert reaches(cluster, "client", address), f"after the flush the client is shut out of {address}"
    for table in filter(None, services):
        run([*cluster.inside(node), "nft", "-f", "-"], input=table)
    cluster.kubectl("-n", NAMESPACE, "delete", "networkpolicy", "only-client")
    for address in server:
        soon(lambda: connects(cluster, "stranger", address), "and felix takes changes")
    return f"table inet margay seen {took * 1000:.0f} ms after the flush, with its policy"


def another_configuration(cluster):
    """Another CNI configuration lies beside ours: by the order of names a new pod is ours, and felix' log says that there is another."""
    node = cluster.nodes[1]
    other = "/etc/cni/net.d/99-other.conflist"
    content = json.dumps({"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "not-there"}]})
    run([*cluster.inside(node), "tee", other], input=content)
    try:
        before = restarts(cluster)
        cluster.kill(node, "/margay-felix")
        cluster.wait("felix is back", 300, lambda: restarts(cluster) > before and system_ready(cluster))
        log = lambda: cluster.kubectl("-n", SYSTEM, "logs", felix(cluster, node), check=False)
        cluster.wait("felix says that there is another", 300, lambda: any("99-other.conflist" in line and "ours is used" in line for line in log().splitlines()))
        apply(cluster, pod("beside", node, {"app": "beside"}))
        cluster.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "pod/beside", "--timeout=300s")
        for address in addresses(cluster, "beside"):
            assert reaches(cluster, "client", address), f"the new pod is not reached at {address}"
    finally:
        cluster.exec(node, "rm", other)
        cluster.kubectl("-n", NAMESPACE, "delete", "pod", "beside", "--now", "--ignore-not-found")


def token_is_over(cluster):
    """A node's token ended an hour ago, as by a clock that went on: felix is refused and goes on with what it has, loses and lets
    in nothing, and is in step again once the kubelet has brought a new one."""
    node = cluster.nodes[1]
    server = addresses(cluster, second(cluster))[0]
    apply(cluster, allow("only-client", {"app": "server"}, {"app": "client"}))
    soon(lambda: not connects(cluster, "stranger", server), "the policy is in force")
    good = cluster.exec(node, "sh", "-c", f"cat {TOKEN}").strip()
    claims = json.loads(decoded(good.split(".")[1]))
    now = int(time.time())
    past = signed(cluster, claims | {"iat": now - 7200, "nbf": now - 7200, "exp": now - 3600})
    # The same as ours and still good, to know that it is the time alone which is refused.
    assert reviewed(cluster, signed(cluster, claims)), "a token that is made here is no good at all"
    assert not reviewed(cluster, past), "a token of the past is good"
    run([*cluster.inside(node), "sh", "-c", f"cat > $(readlink -f {TOKEN})"], input=past)
    # felix shows its token when it connects: to the next controllers.
    cluster.kubectl("-n", SYSTEM, "rollout", "restart", "deployment/margay-controller")
    log = lambda: cluster.kubectl("-n", SYSTEM, "logs", felix(cluster, node), "--since=300s", check=False)
    cluster.wait("felix is refused", 300, lambda: any("refuses this node's token" in line and "expired" in line for line in log().splitlines()))
    assert reaches(cluster, "client", server), "the client is shut out while felix is refused"
    assert not connects(cluster, "stranger", server), "the stranger gets in while felix is refused"
    cluster.kubectl("-n", SYSTEM, "rollout", "status", "deployment/margay-controller", "--timeout=300s")
    started = time.monotonic()
    cluster.kubectl("-n", NAMESPACE, "delete", "networkpolicy", "only-client")
    soon(lambda: connects(cluster, "stranger", server), "felix is in step again", 300)
    cluster.wait("all is ready", 300, lambda: system_ready(cluster))
    return f"in step {time.monotonic() - started:.0f} s later, when the kubelet had brought the next token"


def another_plugin_is_left(cluster):
    """What Calico, flannel and kube-router leave on a node goes by the commands of manifests/README.md, and nothing else does."""
    node = cluster.nodes[1]
    guide = (programs.REPO / "manifests/README.md").read_text().split("## From another plugin")[1]
    commands = textwrap.dedent(guide.split("```sh\n")[1].split("```")[0])
    shell = lambda script: cluster.exec(node, "sh", "-ec", script)
    seen = lambda: {line.strip() for line in shell(LOOK).splitlines()}
    shell(OWN)
    try:
        ours, before = kernels(cluster)[node], seen()
        shell(LEFT)
        left = seen() - before
        assert len(left) == 20, f"what others leave is not all there: {sorted(left)}"
        cluster.exec(node, "sh", "-c", commands)
        after = seen()
        assert after == before, f"more than before: {sorted(after - before)}, less: {sorted(before - after)}"
        now = kernels(cluster)[node]
        assert now == ours, f"Margay's: more {sorted(now - ours)}, less {sorted(ours - now)}"
    finally:
        shell(NOT_OWN)
    for address in addresses(cluster, second(cluster)):
        assert reaches(cluster, "client", address), f"pods of the node are not reached at {address} any more"


ALL = [rules_are_flushed, another_configuration, another_plugin_is_left, token_is_over]


# --- what they are made of ---

# What stays, what goes, and how to see either.
OWN = "for program in iptables ip6tables; do $program -N KEPT; $program -A INPUT -j KEPT; $program -t nat -N KEPT; done"
NOT_OWN = "for program in iptables ip6tables; do $program -D INPUT -j KEPT; $program -X KEPT; $program -t nat -X KEPT; done"
LEFT = """
touch /etc/cni/net.d/10-calico.conflist /etc/cni/net.d/calico-kubeconfig /etc/cni/net.d/10-flannel.conflist /etc/cni/net.d/10-kuberouter.conflist
ip link add cali0123456789a type veth peer name other0
for bridge in cni0 kube-bridge; do ip link add $bridge type bridge; done
ip link add flannel.1 type vxlan id 1 dstport 8472 dev eth0
ip route add blackhole 192.0.2.0/26 protocol 80
ip route add blackhole 192.0.2.64/26 protocol bird
ip -6 route add blackhole 2001:db8::/64 protocol 17
iptables -N cali-INPUT; iptables -A INPUT -m comment --comment cali:Cz_u1IQiXIMmKD4c -j cali-INPUT
iptables -t nat -N FLANNEL-POSTRTG; iptables -t nat -A POSTROUTING -j FLANNEL-POSTRTG
ip6tables -N KUBE-ROUTER-FORWARD; ip6tables -A FORWARD -j KUBE-ROUTER-FORWARD
nft add table ip calico
nft add table ip6 flannel-ipv6
"""
LOOK = """
ls /etc/cni/net.d
ip -o link | cut -d: -f2 | cut -d@ -f1
ip route show type blackhole; ip -6 route show type blackhole
iptables -S; iptables -t nat -S; ip6tables -S
nft list tables
"""


def reviewed(cluster, token):
    """What the API server thinks of a token for the audience `margay`."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token, "audiences": ["margay"]}}
    answer = cluster.kubectl("create", "-f", "-", "-o", "json", input=json.dumps(review))
    return json.loads(answer)["status"].get("authenticated", False)


def signed(cluster, claims):
    """A token of these claims, by the key of the API server (ES256, RFC 7518 §3.4)."""
    text = encoded(json.dumps({"alg": "ES256", "typ": "JWT"}).encode()) + "." + encoded(json.dumps(claims).encode())
    file = cluster.state / "token"
    file.write_text(text)
    made = run(["openssl", "dgst", "-sha256", "-sign", cluster.state / "pki/sa.key", "-hex", file])
    file.unlink()
    der = bytes.fromhex(made.split()[-1])
    return f"{text}.{encoded(b''.join(integers(der)))}"


def integers(der):
    """The two numbers of a signature, 32 octets each."""
    at = 2
    for _ in range(2):
        length = der[at + 1]
        yield der[at + 2 : at + 2 + length].lstrip(b"\0").rjust(32, b"\0")
        at += 2 + length


def encoded(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
