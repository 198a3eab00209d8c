use std::ffi::OsStr;

use super::{is_meant, result, serve};
use margay_cni::Version;

#[test]
fn only_its_own_name_means_it() {
    assert!(is_meant(Some(OsStr::new("/opt/cni/bin/loopback"))));
    assert!(is_meant(Some(OsStr::new("loopback"))));
    assert!(!is_meant(Some(OsStr::new("/opt/loopback/margay-cni"))));
    assert!(!is_meant(None));
}

#[test]
fn the_result_is_in_the_form_of_the_version() {
    let result = result("/run/netns/p".to_owned()).render(Version::V0_3_1);
    assert_eq!(result["interfaces"][0]["name"], "lo");
    assert_eq!(result["interfaces"][0]["sandbox"], "/run/netns/p");
    assert_eq!(result["ips"][0]["address"], "127.0.0.1/8");
    assert_eq!(result["ips"][1]["version"], "6");
}

#[test]
fn del_needs_nothing_but_its_sandbox() {
    let environment = |name: &str| match name {
        "CNI_COMMAND" => Some("DEL".to_owned()),
        "CNI_CONTAINERID" => Some("c1".to_owned()),
        "CNI_IFNAME" => Some("lo".to_owned()),
        _ => None,
    };
    let config = br#"{"cniVersion":"0.3.1","name":"cni-loopback","type":"loopback"}"#;
    assert_eq!(serve(environment, config).unwrap(), None);
}

#[test]
fn add_without_a_namespace_is_refused() {
    let environment = |name: &str| match name {
        "CNI_COMMAND" => Some("ADD".to_owned()),
        "CNI_CONTAINERID" => Some("c1".to_owned()),
        _ => None,
    };
    let config = br#"{"cniVersion":"0.3.1","name":"cni-loopback","type":"loopback"}"#;
    let refusal = serve(environment, config).unwrap_err();
    assert!(refusal.to_string().contains("CNI_NETNS"), "{refusal}");
}
