use margay_policy::model::{
    ContainerPort, NamespaceScope, Object, PeerSelector, Pod, Policy, PortSelector, Protocol,
    Requirement,
};

use crate::load;

fn read(text: &str) -> (Object, Vec<String>) {
    let document = load::documents("a.yaml", text).remove(0).unwrap();
    (
        super::object(&document.object).unwrap(),
        document.warnings().to_vec(),
    )
}

fn policy(spec: &str) -> (Policy, Vec<String>) {
    let text = format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n"
    );
    match read(&text) {
        (Object::Policy(_, policy), warnings) => (policy, warnings),
        (other, _) => panic!("{other:?}"),
    }
}

fn pod(rest: &str) -> (Pod, Vec<String>) {
    match read(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\n{rest}\n"
    )) {
        (Object::Pod(_, pod), warnings) => (pod, warnings),
        (other, _) => panic!("{other:?}"),
    }
}

/// The only peer of the only ingress rule.
fn peer(peer: &str) -> (PeerSelector, Vec<String>) {
    let (policy, warnings) = policy(&format!("{{ingress: [{{from: [{peer}]}}]}}"));
    (
        policy.ingress.unwrap().remove(0).peers.unwrap().remove(0),
        warnings,
    )
}

/// The only port of the only ingress rule.
fn port(port: &str) -> (PortSelector, Vec<String>) {
    let (policy, warnings) = policy(&format!("{{ingress: [{{ports: [{port}]}}]}}"));
    (
        policy.ingress.unwrap().remove(0).ports.unwrap().remove(0),
        warnings,
    )
}

#[test]
fn absent_policy_types_follow_the_rules_present() {
    let covers = |spec: &str| {
        let (policy, warnings) = policy(spec);
        assert_eq!(warnings, [""; 0]);
        (policy.ingress.is_some(), policy.egress.is_some())
    };
    assert_eq!(covers("{}"), (true, false));
    assert_eq!(covers("{egress: []}"), (true, false));
    assert_eq!(covers("{egress: [{}]}"), (true, true));
    assert_eq!(covers("{policyTypes: [], egress: [{}]}"), (true, true));
    assert_eq!(
        covers("{policyTypes: [Egress], ingress: [{}]}"),
        (false, true)
    );
    assert_eq!(
        covers("{policyTypes: [Ingress, Ingress], egress: [{}]}"),
        (true, false)
    );
}

#[test]
fn an_unknown_policy_type_covers_both_directions() {
    let (policy, warnings) = policy("{policyTypes: [ingress]}");
    assert!(policy.ingress.is_some() && policy.egress.is_some());
    assert_eq!(
        warnings,
        [
            "spec.policyTypes[0]: `ingress` is none of Ingress, Egress: the policy covers both directions"
        ]
    );
}

#[test]
fn empty_lists_of_peers_and_ports_mean_anyone_and_everything() {
    let (policy, _) = policy("{ingress: [{from: [], ports: []}], policyTypes: [Ingress]}");
    let rule = &policy.ingress.unwrap()[0];
    assert_eq!((&rule.peers, &rule.ports), (&None, &None));
}

#[test]
fn an_absent_namespace_selector_means_the_own_namespace_and_an_empty_one_all() {
    let scope = |text: &str| match peer(text).0 {
        PeerSelector::Pods(selector) => selector.namespaces,
        other @ (PeerSelector::Cidr { .. } | PeerSelector::Unusable(_)) => panic!("{other:?}"),
    };
    assert_eq!(
        scope("{podSelector: {}}"),
        NamespaceScope::Named("shop".to_owned())
    );
    assert_eq!(
        scope("{namespaceSelector: {}}"),
        NamespaceScope::Matching(super::model::LabelSelector::default())
    );
}

#[test]
fn ports_are_defaulted_and_checked() {
    let fine = |text: &str| {
        let (port, warnings) = port(text);
        assert_eq!(warnings, [""; 0], "{text}");
        port
    };
    assert_eq!(fine("{}"), PortSelector::Protocol(Protocol::Tcp));
    assert_eq!(
        fine("{protocol: UDP}"),
        PortSelector::Protocol(Protocol::Udp)
    );
    assert_eq!(
        fine("{port: 80}"),
        PortSelector::Range(Protocol::Tcp, 80, 80)
    );
    assert_eq!(
        fine("{port: 1, endPort: 65535}"),
        PortSelector::Range(Protocol::Tcp, 1, 65535)
    );
    assert_eq!(
        fine("{port: web, protocol: SCTP}"),
        PortSelector::Named(Protocol::Sctp, "web".to_owned())
    );

    let bad = |text: &str, at: &str| {
        let (port, warnings) = port(text);
        assert!(
            matches!(port, PortSelector::Unusable(_)),
            "{text}: {port:?}"
        );
        assert_eq!(warnings.len(), 1, "{text}");
        assert!(
            warnings[0].starts_with(&format!("spec.ingress[0].ports[0].{at}: ")),
            "{}",
            warnings[0]
        );
        assert!(
            warnings[0].ends_with(": this entry matches nothing"),
            "{}",
            warnings[0]
        );
    };
    bad("{protocol: ICMP}", "protocol");
    bad("{protocol: tcp}", "protocol");
    bad("{port: 0}", "port");
    bad("{port: 65536}", "port");
    bad("{port: -1}", "port");
    bad("{port: '80'}", "port");
    bad("{port: Web}", "port");
    bad("{port: 80, endPort: 79}", "endPort");
    bad("{port: 80, endPort: 70000}", "endPort");
    bad("{port: web, endPort: 90}", "endPort");
    bad("{endPort: 90}", "endPort");
}

#[test]
fn blocks_are_read_as_kubernetes_reads_them() {
    let cidr = |text: &str| match peer(&format!("{{ipBlock: {{cidr: '{text}'}}}}")).0 {
        PeerSelector::Cidr { cidr, except } => {
            assert!(except.is_empty());
            cidr.to_string()
        }
        PeerSelector::Unusable(reason) => reason,
        PeerSelector::Pods(selector) => panic!("{selector:?}"),
    };
    assert_eq!(cidr("10.1.2.3/8"), "10.0.0.0/8");
    assert_eq!(cidr("010.001.0.0/16"), "10.1.0.0/16");
    assert_eq!(cidr("fd00::1/64"), "fd00::/64");
    assert_eq!(
        cidr("::ffff:10.0.1.0/112"),
        "`::ffff:10.0.1.0/112` is an IPv4 block written as IPv6; write 10.0.0.0/16"
    );
    assert_eq!(cidr("::ffff:10.0.0.0/64"), "::/64");
    assert_eq!(cidr("10.0.0.1/0"), "0.0.0.0/0");
    for wrong in [
        "",
        "10.0.0/24",
        "10.0.0.0/33",
        "10.0.0.256/8",
        "fd00::/129",
        "10.0.0.0/",
        "10.0.0.0/-1",
        "10.0.0.0/8/8",
        "fe80::1%eth0/64",
    ] {
        assert!(
            cidr(wrong).contains("is not a CIDR"),
            "{wrong}: {}",
            cidr(wrong)
        );
    }
    assert_eq!(
        cidr("10.0.0.0"),
        "`10.0.0.0` is not a CIDR: it has no prefix length"
    );
}

#[test]
fn a_peer_that_cannot_be_understood_matches_nothing_and_is_told() {
    let bad = |text: &str, warning: &str| {
        let (peer, warnings) = peer(text);
        assert!(
            matches!(peer, PeerSelector::Unusable(_)),
            "{text}: {peer:?}"
        );
        assert_eq!(warnings, [warning], "{text}");
    };
    bad(
        "{}",
        "spec.ingress[0].from[0]: a peer needs one of podSelector, namespaceSelector, ipBlock: this peer matches nothing",
    );
    bad(
        "{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}",
        "spec.ingress[0].from[0]: ipBlock cannot stand beside a selector; write two peers: this peer matches nothing",
    );
    bad(
        "{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0/24]}}",
        "spec.ingress[0].from[0].ipBlock.except[0]: `10.0.0/24` is not a CIDR: this peer matches nothing",
    );
    bad(
        "{ipBlock: {cidr: 10.0.0.0/8, except: ['fd00::/64']}}",
        "spec.ingress[0].from[0].ipBlock.except[0]: fd00::/64 is not inside 10.0.0.0/8: this peer matches nothing",
    );
    bad(
        "{podSelector: {matchExpressions: [{key: a, operator: Like, values: [b]}]}}",
        "spec.ingress[0].from[0].podSelector.matchExpressions[0].operator: `Like` is none of In, NotIn, Exists, DoesNotExist: matches nothing",
    );
    bad(
        "{namespaceSelector: {matchExpressions: [{key: a, operator: In}]}}",
        "spec.ingress[0].from[0].namespaceSelector.matchExpressions[0].values: In needs at least one value: matches nothing",
    );
}

#[test]
fn a_subject_that_cannot_be_understood_is_told() {
    let (policy, warnings) =
        policy("{podSelector: {matchLabels: {a: b}, matchExpressions: [{key: c, operator: Is}]}}");
    assert_eq!(policy.subject.pods.requirements.len(), 2);
    assert!(
        policy
            .subject
            .pods
            .requirements
            .iter()
            .any(|one| matches!(one, Requirement::Unusable(_)))
    );
    assert_eq!(
        warnings,
        [
            "spec.podSelector.matchExpressions[0].operator: `Is` is none of In, NotIn, Exists, DoesNotExist: pods that the rest selects are isolated, and this policy allows them nothing"
        ]
    );
}

#[test]
fn a_pod_has_the_ports_of_regular_and_init_containers() {
    let (pod, warnings) = pod(
        "spec: {nodeName: n1, containers: [{name: a, ports: [{name: web, containerPort: 80}, {containerPort: 0}]}], initContainers: [{name: b, ports: [{name: dns, containerPort: 53, protocol: UDP}, {containerPort: 9, protocol: ICMP}]}]}",
    );
    assert_eq!(
        pod.ports,
        [
            ContainerPort {
                name: Some("web".to_owned()),
                protocol: Protocol::Tcp,
                number: 80
            },
            ContainerPort {
                name: Some("dns".to_owned()),
                protocol: Protocol::Udp,
                number: 53
            },
        ]
    );
    assert_eq!(
        warnings,
        [
            "spec.containers[0].ports[1].containerPort: 0 is not a port (1 to 65535): ignored",
            "spec.initContainers[0].ports[1].protocol: `ICMP` is none of TCP, UDP, SCTP: this port is ignored",
        ]
    );
}

#[test]
fn a_pod_has_the_addresses_of_its_status() {
    let addresses = |status: &str| {
        let (pod, warnings) = pod(&format!("status: {status}"));
        (
            pod.addresses
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            warnings.len(),
        )
    };
    assert_eq!(
        addresses("{podIP: 10.0.0.1}"),
        (vec!["10.0.0.1".to_owned()], 0)
    );
    assert_eq!(
        addresses("{podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.2}, {ip: 'fd00::2'}]}"),
        (vec!["10.0.0.2".to_owned(), "fd00::2".to_owned()], 0)
    );
    assert_eq!(addresses("{podIPs: [{ip: 10.0.0}]}"), (vec![], 1));
}

#[test]
fn values_in_rules_without_effect_are_told_too() {
    let (policy, warnings) = policy("{policyTypes: [Ingress], egress: [{ports: [{port: 0}]}]}");
    assert_eq!(policy.egress, None);
    assert_eq!(
        warnings,
        ["spec.egress[0].ports[0].port: 0 is not a port (1 to 65535): this entry matches nothing"]
    );
}

#[test]
fn what_a_pod_asks_of_addresses_in_vain_is_told() {
    let text = "apiVersion: v1
kind: Pod
metadata:
  name: p
  annotations:
    cni.projectcalico.org/ipAddrs: '[\"10.0.0.1\"]'
    cni.projectcalico.org/ipv4pools: '[\"blue\"]'
    example.com/other: x
";
    let (_, warnings) = read(text);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    for (warning, words) in warnings.iter().zip([
        "metadata.annotations[cni.projectcalico.org/ipAddrs]: a pod cannot choose its address",
        "metadata.annotations[cni.projectcalico.org/ipv4pools]: a pod cannot choose its pool",
    ]) {
        assert!(warning.starts_with(words), "{warning}");
    }
}
