//! `margayctl policy explain`, in a small world and against a stand-in controller.

use assert_cmd::cargo::cargo_bin_cmd;
use insta::assert_snapshot;
use serde_json::Value;

const WORLD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world");

/// Exit status, stdout and stderr.
fn explain(args: &[&str]) -> (i32, String, String) {
    let output = cargo_bin_cmd!("margayctl")
        .args(["policy", "explain", "--world", WORLD])
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn a_default_deny_names_every_policy_and_how_far_each_rule_missed() {
    let (status, text, _) = explain(&["watch/probe", "shop/db", "tcp/5432"]);
    assert_eq!(status, 0);
    assert_snapshot!(text, @r"
    watch/probe -> shop/db TCP port 5432 over IPv4: deny

      from  pod watch/probe (10.244.0.66 on node n2; labels app=probe; labels of its namespace team=ops)
      to    pod shop/db (10.244.0.65 on node n2; labels app=db; labels of its namespace team=shop)

    egress of watch/probe: allow, because no policy selects the pod for egress

    ingress of shop/db: deny, because 2 policies isolate the pod, and none of their rules matches (tier default):
      NetworkPolicy shop/backup (1 rule)
        [0] from 203.0.113.0/24 except 203.0.113.64/26; TCP 22
            client misses: 10.244.0.66 is not in 203.0.113.0/24
            port misses: TCP 5432 is not TCP 22
      NetworkPolicy shop/db (2 rules)
        [0] from pods app=web in namespace shop; TCP `sql`
            client misses: namespace watch is not shop; pod label app is `probe`, not `web`
            port matches
        [1] from all pods in namespaces team=ops; TCP 9187  <- closest
            client matches
            port misses: TCP 5432 is not TCP 9187
    ");
}

#[test]
fn an_allow_names_the_rule_of_either_end_and_both_families() {
    let (status, text, _) = explain(&["shop/web", "shop/db", "tcp/sql"]);
    assert_eq!(status, 0);
    assert_snapshot!(text, @r"
    shop/web -> shop/db TCP port 5432 over IPv4: allow

      from  pod shop/web (10.244.0.1 on node n1; labels app=web; labels of its namespace team=shop)
      to    pod shop/db (10.244.0.65 on node n2; labels app=db; labels of its namespace team=shop)

    egress of shop/web: allow by NetworkPolicy shop/web egress[0] (tier default)
      to pods app=db in namespace shop; any port and protocol

    ingress of shop/db: allow by NetworkPolicy shop/db ingress[0] (tier default)
      from pods app=web in namespace shop; TCP `sql`

    over IPv6 (fd00:10:244::1 to fd00:10:244::65): the same
    ");
}

#[test]
fn an_address_outside_the_cluster_is_no_pod() {
    let (_, text, _) = explain(&["203.0.113.70", "shop/db", "22"]);
    assert_snapshot!(text, @r"
    203.0.113.70 -> shop/db TCP port 22 over IPv4: deny

      from  203.0.113.70, outside the cluster: no selector takes it
      to    pod shop/db (10.244.0.65 on node n2; labels app=db; labels of its namespace team=shop)

    ingress of shop/db: deny, because 2 policies isolate the pod, and none of their rules matches (tier default):
      NetworkPolicy shop/backup (1 rule)
        [0] from 203.0.113.0/24 except 203.0.113.64/26; TCP 22  <- closest
            client misses: 203.0.113.70 is in the exception 203.0.113.64/26
            port matches
      NetworkPolicy shop/db (2 rules)
        [0] from pods app=web in namespace shop; TCP `sql`
            client misses: 203.0.113.70 is no pod that a selector can take
            port misses: TCP 22 is not TCP `sql` (`sql` is TCP 5432 on this pod)
        [1] from all pods in namespaces team=ops; TCP 9187
            client misses: 203.0.113.70 is no pod that a selector can take
            port misses: TCP 22 is not TCP 9187
    ");
}

#[test]
fn the_own_node_always_gets_through() {
    let (_, text, _) = explain(&["node/n2", "shop/db", "icmp", "--family", "4"]);
    assert_snapshot!(text, @r"
    node/n2 -> shop/db ICMP over IPv4: allow

      from  node n2 itself (192.0.2.2): no selector takes it
      to    pod shop/db (10.244.0.65 on node n2; labels app=db; labels of its namespace team=shop)

    ingress of shop/db: allow, because the pod's own node may always reach it
    ");
}

#[test]
fn programs_get_every_trial() {
    let (_, text, _) = explain(&["watch/probe", "shop/db", "tcp/5432", "-o", "json"]);
    let data: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(data[0]["verdict"]["allow"], false);
    assert_eq!(
        data[0]["ingress"][1]["rules"][1]["peer"]["misses"],
        serde_json::json!([])
    );
}

#[test]
fn names_that_do_not_exist_are_misuse_with_a_guess() {
    for (args, words) in [
        (
            ["shop/wbe", "shop/db", "1"],
            "there is no pod shop/wbe (did you mean shop/web?)",
        ),
        (["node/n7", "shop/db", "1"], "there is no node n7"),
        (
            ["shop/web", "shop/db", "udp/sql"],
            "its ports: tcp/5432 (sql)",
        ),
        (["shop/web", "node/n1", "http"], "node/n1 is none"),
        (["web", "shop/db", "1"], "write namespace/pod"),
        (
            ["shop/web", "shop/db", "quic/1"],
            "write TCP, UDP, SCTP, ICMP",
        ),
    ] {
        let (status, text, errors) = explain(&args);
        assert_eq!((status, text.as_str()), (2, ""), "{args:?}");
        assert!(errors.contains(words), "{args:?}: {errors}");
    }
}

#[test]
fn a_family_that_an_end_lacks_is_no_connection() {
    let (status, text, errors) = explain(&["watch/probe", "shop/db", "1", "--family", "6"]);
    assert_eq!((status, text.as_str()), (1, ""));
    assert_snapshot!(errors, @"margayctl: watch/probe has no IPv6 address");
}
