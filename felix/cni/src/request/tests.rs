use super::*;

/// Names and values; of several values of a name the last counts.
type Variables<'a> = &'a [(&'a str, &'a str)];

const CONFIG: &str = r#"{"cniVersion":"1.1.0","name":"margay","type":"margay-cni"}"#;

#[test]
fn an_add_is_read_with_its_pod_and_the_usual_places() {
    let request = parse(&add(), CONFIG).unwrap();
    assert_eq!(
        request,
        Request {
            version: Version::V1_1_0,
            verb: Verb::Add,
            attachment: Some(Attachment {
                container: "c1".to_owned(),
                interface: "eth0".to_owned()
            }),
            namespace: Some("/run/netns/p".into()),
            pod: Some(Pod {
                namespace: "web".to_owned(),
                name: "front".to_owned(),
                uid: "u1".to_owned()
            }),
            socket: "/run/margay/cni.sock".into(),
            state: "/var/lib/margay".into(),
            dns: None,
            previous: None,
            keep: vec![],
        }
    );
}

#[test]
fn what_is_missing_or_unusable_is_refused_with_its_code_and_its_name() {
    let config = |version: &str| CONFIG.replace("1.1.0", version);
    let cases: [(Variables, String, Code, &str); 14] = [
        (
            &[("CNI_COMMAND", "")],
            config("1.1.0"),
            Code::InvalidEnvironment,
            "CNI_COMMAND is missing",
        ),
        (
            &[("CNI_COMMAND", "FLY")],
            config("1.1.0"),
            Code::InvalidEnvironment,
            "CNI_COMMAND is `FLY`",
        ),
        (
            &[("CNI_CONTAINERID", "")],
            config("1.1.0"),
            Code::InvalidEnvironment,
            "CNI_CONTAINERID is missing",
        ),
        (
            &[("CNI_CONTAINERID", "../x")],
            config("1.1.0"),
            Code::InvalidEnvironment,
            "CNI_CONTAINERID `../x`",
        ),
        (
            &[("CNI_IFNAME", "a/b")],
            config("1.1.0"),
            Code::InvalidEnvironment,
            "CNI_IFNAME `a/b`",
        ),
        (
            &[("CNI_IFNAME", "sixteen-octets-x")],
            config("1.1.0"),
            Code::InvalidEnvironment,
            "CNI_IFNAME",
        ),
        (
            &[("CNI_NETNS", "")],
            config("1.1.0"),
            Code::InvalidEnvironment,
            "CNI_NETNS is missing",
        ),
        (
            &[("CNI_ARGS", "K8S_POD_NAME=x")],
            config("1.1.0"),
            Code::InvalidEnvironment,
            "K8S_POD_NAMESPACE",
        ),
        (
            &[("CNI_ARGS", "nonsense")],
            config("1.1.0"),
            Code::InvalidEnvironment,
            "`nonsense`",
        ),
        (
            &[],
            config("0.2.0"),
            Code::IncompatibleVersion,
            "cniVersion 0.2.0",
        ),
        (
            &[("CNI_COMMAND", "CHECK")],
            config("0.3.1"),
            Code::IncompatibleVersion,
            "it came with 0.4.0",
        ),
        (
            &[("CNI_COMMAND", "GC")],
            config("1.0.0"),
            Code::IncompatibleVersion,
            "it came with 1.1.0",
        ),
        (&[], "{\"cniVersion\":".to_owned(), Code::Decode, "not JSON"),
        (
            &[],
            CONFIG.replace("\"name\"", "\"nom\""),
            Code::InvalidConfig,
            "no name",
        ),
    ];
    for (changes, config, code, part) in cases {
        let mut environment = add();
        environment.extend_from_slice(changes);
        let refusal = parse(&environment, &config).unwrap_err();
        assert_eq!(refusal.code, code, "{changes:?} {config}");
        assert!(refusal.to_string().contains(part), "{refusal}");
    }
}

#[test]
fn check_and_gc_need_what_they_compare_with() {
    let check = parse(&[&add()[..], &[("CNI_COMMAND", "CHECK")]].concat(), CONFIG).unwrap_err();
    assert!(check.to_string().contains("prevResult"), "{check}");
    let gc = parse(&[("CNI_COMMAND", "GC")], CONFIG).unwrap_err();
    assert!(gc.to_string().contains("valid-attachments"), "{gc}");
    let some = r#"{"cniVersion":"1.1.0","name":"margay","cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"}]}"#;
    assert_eq!(parse(&[("CNI_COMMAND", "GC")], some).unwrap().keep.len(), 1);
}

#[test]
fn del_needs_neither_namespace_nor_pod() {
    let del = [
        ("CNI_COMMAND", "DEL"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "eth0"),
    ];
    let request = parse(&del, CONFIG).unwrap();
    assert_eq!((request.namespace, request.pod), (None, None));
}

#[test]
fn version_is_asked_for_with_anything() {
    for config in ["", "{}", CONFIG, r#"{"cniVersion":"9.9.9"}"#] {
        assert_eq!(
            parse(&[("CNI_COMMAND", "VERSION")], config).unwrap().verb,
            Verb::Version,
            "{config}"
        );
    }
}

#[test]
fn any_octets_give_a_value_or_a_refusal() {
    for config in [
        &b"\xff\xfe"[..],
        b"[]",
        b"null",
        b"{\"prevResult\":5}",
        b"{\"cniVersion\":4,\"name\":[]}",
    ] {
        let environment = add();
        let refusal = Request::parse(|name| lookup(&environment, name), config).unwrap_err();
        assert!(
            matches!(refusal.code, Code::Decode | Code::IncompatibleVersion),
            "{refusal}"
        );
    }
}

fn add() -> Vec<(&'static str, &'static str)> {
    vec![
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/p"),
        ("CNI_IFNAME", "eth0"),
        (
            "CNI_ARGS",
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=front;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u1",
        ),
    ]
}

fn parse(environment: &[(&str, &str)], config: &str) -> Result<Request, Refusal> {
    Request::parse(|name| lookup(environment, name), config.as_bytes())
}

/// The last value of a name.
fn lookup(environment: &[(&str, &str)], name: &str) -> Option<String> {
    let found = environment.iter().rev().find(|(key, _)| *key == name);
    found.map(|(_, value)| (*value).to_owned())
}
