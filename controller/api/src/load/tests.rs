use super::*;

fn one(text: &str) -> Result<Document, DocumentError> {
    let mut results = documents("world.yaml", text);
    assert_eq!(results.len(), 1, "{results:?}");
    results.remove(0)
}

fn reason(text: &str) -> String {
    one(text).unwrap_err().to_string()
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\n";

#[test]
fn a_broken_document_is_refused_at_its_line_and_the_others_are_read() {
    let text = format!("# comment\n---\n{POD}---\nkind: [unclosed\nfoo: bar\n---\n{POD}");
    let results = documents("a/b.yaml", &text);
    assert_eq!(results.len(), 3);
    assert_eq!(results[0].as_ref().unwrap().line, 3);
    let error = results[1].as_ref().unwrap_err();
    assert_eq!(error.file, "a/b.yaml");
    assert!((7..=9).contains(&error.line), "{error}");
    assert!(error.reason.starts_with("not YAML: "), "{error}");
    assert_eq!(results[2].as_ref().unwrap().line, 10);
}

#[test]
fn a_field_of_the_wrong_type_is_named_with_its_line() {
    let text = format!("{POD}spec:\n  nodeName: n1\n  hostNetwork: maybe\n");
    assert_eq!(
        reason(&text),
        "world.yaml:6: Pod shop/web: spec.hostNetwork: invalid type: string \"maybe\", expected a boolean"
    );
    let text = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec:\n  ingress:\n  - {}\n  - ports:\n    - port: 80\n    - port: [80]\n";
    let reason = reason(text);
    assert!(
        reason.starts_with("world.yaml:9: ") && reason.contains("spec.ingress[1].ports[1].port"),
        "{reason}"
    );
}

#[test]
fn an_item_of_a_list_is_refused_at_its_own_line() {
    let text = "kind: List\napiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: a}\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: b}\n  spec:\n    hostNetwork: 7\n";
    let results = documents("world.yaml", text);
    assert!(results[0].is_ok());
    let error = results[1].as_ref().unwrap_err();
    assert_eq!((error.line, results.len()), (11, 2), "{error}");
}

#[test]
fn names_are_checked_as_an_api_server_does() {
    assert_eq!(
        reason("apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop}\n"),
        "world.yaml:1: metadata.name is missing"
    );
    for name in ["Web", "-web", "we_b", "web.", "a..b"] {
        assert!(
            reason(&format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n"
            ))
            .contains("is not a name")
        );
    }
    one("apiVersion: v1\nkind: Pod\nmetadata: {name: web.0}\n").unwrap();
    assert!(
        reason("apiVersion: v1\nkind: Namespace\nmetadata: {name: a.b}\n")
            .contains("is not a name")
    );
    assert!(
        reason("apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: a.b}\n")
            .contains("metadata.namespace")
    );
    let long = "a".repeat(254);
    assert!(
        reason(&format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: {long}}}\n"
        ))
        .contains("254 characters")
    );
}

#[test]
fn a_namespace_that_is_not_given_is_default() {
    let document = one("apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n").unwrap();
    assert_eq!(document.object.key().to_string(), "Pod default/web");
}

#[test]
fn unknown_fields_are_told_and_ignored() {
    let document = one(&format!(
        "{POD}spec:\n  nodename: n1\n  containers: [{{name: a, prots: []}}]\n"
    ))
    .unwrap();
    assert_eq!(
        document.warnings(),
        [
            "spec.containers[0].prots: unknown field, ignored",
            "spec.nodename: unknown field, ignored"
        ]
    );
}

#[test]
fn documents_of_other_kinds_are_named() {
    let document =
        one("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\n")
            .unwrap();
    assert_eq!(
        document.object.key().to_string(),
        "apps/v1 Deployment shop/web"
    );
}

#[test]
fn what_is_no_object_is_refused() {
    assert!(reason("- a\n- b\n").contains("not an object"));
    assert!(reason("just words\n").contains("not an object"));
    assert!(reason("kind: Pod\n").contains("apiVersion is missing"));
    assert!(reason("apiVersion: v1\nkind: 7\n").contains("kind is missing or not a string"));
}

#[test]
fn nothing_comes_of_nothing() {
    assert_eq!(documents("a", ""), []);
    assert_eq!(documents("a", "---\n# nothing\n---\n\n...\n"), []);
    assert_eq!(documents("a", "null\n"), []);
    assert_eq!(documents("a", "\u{feff}%YAML 1.2\n---\n").len(), 0);
}

#[test]
fn a_list_is_its_items() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n- {apiVersion: v1, kind: Pod}\n";
    let results = documents("a", text);
    assert_eq!(results[0].as_ref().unwrap().object.key().name, "a");
    assert!(results[1].is_err());
}

#[test]
fn our_own_kinds_have_defaults_and_limits() {
    let pool = |spec: &str| {
        one(&format!(
            "apiVersion: margay.io/v1alpha1\nkind: IPPool\nmetadata: {{name: a}}\nspec: {{{spec}}}\n"
        ))
    };
    let Object::IpPool(object) = pool("cidr: 10.0.0.0/16").unwrap().object else {
        panic!("no pool")
    };
    assert_eq!(
        (
            object.spec.block_prefix(),
            object.spec.nat_outgoing,
            object.spec.disabled
        ),
        (26, false, false)
    );
    assert!(
        pool("cidr: 10.0.0.0/28")
            .unwrap_err()
            .reason
            .contains("blocks of /26 do not fit")
    );
    assert!(
        pool("cidr: 10.0.0.1/16")
            .unwrap_err()
            .reason
            .contains("write 10.0.0.0/16")
    );
    assert!(
        pool("cidr: 10.0.0")
            .unwrap_err()
            .reason
            .contains("spec.cidr")
    );
    assert!(
        pool("")
            .unwrap_err()
            .reason
            .contains("missing field `cidr`")
    );

    let config =
        one("apiVersion: margay.io/v1alpha1\nkind: NetworkConfig\nmetadata: {name: default}\n")
            .unwrap();
    let Object::NetworkConfig(config) = config.object else {
        panic!("no config")
    };
    assert_eq!(
        config.spec,
        v1::NetworkConfigSpec {
            bgp: v1::BgpSpec {
                asn: 64512,
                topology: v1::Topology::Mesh,
                port: 179,
                hold_time: 90,
                ..v1::BgpSpec::default()
            },
            ..v1::NetworkConfigSpec::default()
        }
    );
    assert!(
        reason("apiVersion: margay.io/v1alpha1\nkind: NetworkConfig\nmetadata: {name: other}\n")
            .contains("is named `default`")
    );

    let peer = one("apiVersion: margay.io/v1alpha1\nkind: BGPPeer\nmetadata: {name: tor}\nspec: {peerAddress: 10.0.0.1, peerASN: 65000, colour: red}\n").unwrap();
    assert_eq!(peer.warnings(), ["spec.colour: unknown field, ignored"]);
    let Object::BgpPeer(peer) = peer.object else {
        panic!("no peer")
    };
    assert_eq!((peer.spec.peer_asn, peer.spec.port), (Some(65000), None));
}

/// Any text gives documents or reasons: a real world, bent at random.
#[test]
fn bent_documents_never_panic() {
    let world =
        margay_policy::generate::cluster(7, &margay_policy::generate::Profile::kubernetes());
    let files = crate::generate::to_yaml(&world).unwrap();
    let text = files
        .cluster
        .lines()
        .take(120)
        .chain(files.policies.lines().take(120))
        .collect::<Vec<_>>()
        .join("\n");
    let random = &mut margay_policy::generate::Random::new(1);
    let pieces = [
        "\n",
        "---\n",
        ": ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "!!int ",
        "\"",
        "'",
        "\t",
        "null",
        "-1",
        "99999999999",
        "~",
        "|",
        "\u{0}",
        "é",
    ];
    let mut accepted = 0;
    for _ in 0..400 {
        let mut bent: Vec<char> = text.chars().collect();
        for _ in 0..=random.below(6) {
            let at = random.below(bent.len());
            if random.chance(1, 2) {
                bent.remove(at);
            } else {
                let piece = random.pick(&pieces).unwrap();
                bent.splice(at..at, piece.chars());
            }
        }
        for document in documents("bent.yaml", &bent.into_iter().collect::<String>()) {
            match document {
                Ok(document) => {
                    accepted += 1;
                    drop(convert::object(&document.object));
                }
                Err(error) => assert!(error.line > 0 && !error.reason.is_empty()),
            }
        }
    }
    assert!(accepted > 1_000);
}

#[test]
fn depth_and_aliases_have_limits() {
    let deep = |open: &str| documents("a", &open.repeat(200_000)).remove(0).unwrap_err();
    assert!(deep("[").reason.starts_with("not YAML"));
    assert!(deep("{a: ").reason.starts_with("not YAML"));
    let level = |level: i32| match level {
        0 => "a0: &a0 [x, x]\n".to_owned(),
        _ => format!("a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1),
    };
    let bomb: String = (0..40).map(level).collect();
    let error = documents("a", &bomb).remove(0).unwrap_err();
    assert!(error.reason.starts_with("not YAML"), "{error}");
}

#[test]
fn what_the_parser_says_is_told_with_the_line_in_the_file() {
    let second = |text: &str| {
        let text = format!("{POD}---\n{text}");
        documents("a.yaml", &text)
            .remove(1)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        second("a:\n\t- b\n"),
        "a.yaml:6: not YAML: tabs disallowed within this context (block indentation)"
    );
    assert_eq!(
        second("a: 1\na: 2\n"),
        "a.yaml:6: not YAML: duplicate mapping key: a"
    );
    assert_eq!(
        second("a: b\n c: d\n"),
        "a.yaml:6: not YAML: mapping values are not allowed in this context"
    );
}

#[test]
fn a_kind_that_is_nearly_ours_is_refused_with_what_to_write() {
    let refused = |version: &str, kind: &str| {
        one(&format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\n"
        ))
        .unwrap_err()
        .reason
    };
    assert_eq!(
        refused("v1", "NetworkPolicy"),
        "NetworkPolicy default/a: there is no NetworkPolicy in v1; write `apiVersion: networking.k8s.io/v1`, `kind: NetworkPolicy`"
    );
    assert!(
        refused("networking.k8s.io/v1beta1", "NetworkPolicy").contains("networking.k8s.io/v1`")
    );
    assert!(refused("v1", "pod").contains("`kind: Pod`"));
    assert!(refused("margay.io/v1", "IPPool").contains("`apiVersion: margay.io/v1alpha1`"));
    assert!(
        refused("margay.io/v1alpha1", "BGPRoute")
            .contains("has IPPool, BGPPeer, BGPFilter and NetworkConfig")
    );
    // Calico's kinds are other kinds.
    let calico =
        one("apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: a}\n")
            .unwrap();
    assert!(matches!(calico.object, Object::Other { .. }));
}

#[test]
fn a_refused_document_says_which_object_it_was_to_be() {
    let key = |text: &str| one(text).unwrap_err().key.map(|key| key.to_string());
    assert_eq!(
        key("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: 7\n").as_deref(),
        Some("Pod default/a")
    );
    assert_eq!(
        key("apiVersion: v1\nkind: pod\nmetadata: {name: a, namespace: b}\n").as_deref(),
        Some("Pod b/a")
    );
    assert_eq!(
        key("apiVersion: v1\nkind: Node\nmetadata: {name: a, namespace: b}\nstatus: 7\n")
            .as_deref(),
        Some("Node a")
    );
    assert_eq!(key("apiVersion: v1\nkind: Pod\n"), None);
}
