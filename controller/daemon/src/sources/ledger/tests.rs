use std::collections::BTreeMap;
use std::sync::Arc;

use margay_api::load::{Key, Object};
use margay_sync::status::{ObjectsPage, RefusedDocument};
use proptest::prelude::*;

use super::super::ObjectEvent;
use super::{Ledger, Reading};

#[test]
fn objects_come_change_and_go_with_their_file() {
    let mut ledger = Ledger::default();
    assert_eq!(
        put(
            &mut ledger,
            "a.yaml",
            &[namespace("x"), namespace("z")].concat()
        ),
        ["+x", "+z"]
    );
    assert_eq!(
        put(
            &mut ledger,
            "a.yaml",
            &[namespace("x"), namespace("z")].concat()
        ),
        [""; 0]
    );
    let labelled = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: x, labels: {a: b}}\n";
    assert_eq!(put(&mut ledger, "a.yaml", labelled), ["+x", "-z"]);
    assert_eq!(gone(&mut ledger, "a.yaml"), ["-x"]);
    assert_eq!(ledger.page(), ObjectsPage::default());
}

#[test]
fn an_object_that_moves_between_files_is_never_gone() {
    let mut ledger = Ledger::default();
    put(&mut ledger, "a.yaml", &namespace("x"));
    let moved = BTreeMap::from([
        ("a.yaml".to_owned(), Reading::Gone),
        ("b/c.yaml".to_owned(), Reading::Text(namespace("x"))),
    ]);
    assert_eq!(shown(&ledger.read(moved)), [""; 0]);
    assert_eq!(ledger.page().objects[0].file, "b/c.yaml");
}

#[test]
fn of_two_files_the_later_by_name_counts_whatever_came_first() {
    for order in [["a.yaml", "b.yaml"], ["b.yaml", "a.yaml"]] {
        let mut ledger = Ledger::default();
        for file in order {
            let text = format!(
                "apiVersion: v1\nkind: Namespace\nmetadata: {{name: x, labels: {{from: {file}}}}}\n"
            );
            put(&mut ledger, file, &text);
        }
        let page = ledger.page();
        assert_eq!(page.objects.len(), 1);
        assert_eq!(page.objects[0].file, "b.yaml");
        assert_eq!(
            page.objects[0].problems,
            ["stands also in a.yaml, which is ignored"]
        );
        assert_eq!(
            gone(&mut ledger, "b.yaml"),
            ["+x"],
            "the other one takes over"
        );
        assert_eq!(gone(&mut ledger, "a.yaml"), ["-x"]);
    }
}

#[test]
fn of_two_documents_in_a_file_the_later_counts() {
    let mut ledger = Ledger::default();
    put(
        &mut ledger,
        "a.yaml",
        &[namespace("x"), namespace("x")].concat(),
    );
    let page = ledger.page();
    assert_eq!(
        page.objects[0].problems,
        ["stands already in line 2, which is ignored"]
    );
    assert_eq!(page.objects[0].line, 6);
}

#[test]
fn a_refused_document_leaves_its_former_version_in_force() {
    let mut ledger = Ledger::default();
    put(
        &mut ledger,
        "a.yaml",
        &[policy("p", "{}"), policy("q", "{}"), namespace("x")].concat(),
    );
    // p has a field of the wrong type; q is changed; x is taken out.
    let broken = [policy("p", "7"), policy("q", "{matchLabels: {a: b}}")].concat();
    assert_eq!(put(&mut ledger, "a.yaml", &broken), ["+q", "-x"]);
    let refused = &ledger.page().refused;
    assert_eq!(refused.len(), 1);
    assert_eq!(
        refused[0].in_force.iter().collect::<Vec<_>>(),
        ["NetworkPolicy default/p"]
    );
    assert!(
        ledger
            .page()
            .objects
            .iter()
            .any(|object| object.name == "p" && object.kept)
    );
    // Once more with an error elsewhere: what is kept is kept on.
    assert_eq!(put(&mut ledger, "a.yaml", &policy("p", "8")), ["-q"]);
    assert_eq!(put(&mut ledger, "a.yaml", &policy("p", "{}")), [""; 0]);
    assert!(ledger.page().refused.is_empty());
    assert_eq!(put(&mut ledger, "a.yaml", ""), ["-p"]);
}

#[test]
fn when_nobody_can_say_what_was_refused_everything_missing_stays() {
    let mut ledger = Ledger::default();
    put(
        &mut ledger,
        "a.yaml",
        &[namespace("x"), namespace("z"), policy("p", "{}")].concat(),
    );
    let broken = format!("{}---\nkind: [Network\n", namespace("z"));
    assert_eq!(put(&mut ledger, "a.yaml", &broken), [""; 0]);
    let refused = ledger.page().refused.remove(0);
    let RefusedDocument {
        file,
        line,
        reason: _,
        in_force,
    } = refused;
    assert_eq!((file.as_str(), line), ("a.yaml", 6));
    assert_eq!(
        in_force.iter().collect::<Vec<_>>(),
        ["Namespace x", "NetworkPolicy default/p"]
    );
    assert_eq!(put(&mut ledger, "a.yaml", &namespace("z")), ["-p", "-x"]);
}

#[test]
fn a_name_or_kind_that_is_misspelled_does_not_end_a_policy() {
    for (right, wrong) in [
        ("name: p", "name: P_"),
        ("kind: NetworkPolicy", "kind: NetworkPolcy"),
    ] {
        let mut ledger = Ledger::default();
        put(&mut ledger, "a.yaml", &policy("p", "{}"));
        let broken = policy("p", "{}").replace(right, wrong);
        assert_ne!(broken, policy("p", "{}"));
        assert_eq!(put(&mut ledger, "a.yaml", &broken), [""; 0], "{wrong}");
        assert_eq!(ledger.page().refused.len(), 1, "{wrong}");
        assert_eq!(gone(&mut ledger, "a.yaml"), ["-p"], "{wrong}");
    }
}

#[test]
fn what_is_only_kept_counts_less_than_what_stands_in_another_file() {
    let mut ledger = Ledger::default();
    put(&mut ledger, "b.yaml", &policy("p", "{}"));
    put(&mut ledger, "b.yaml", &policy("p", "7"));
    assert_eq!(
        put(&mut ledger, "a.yaml", &policy("p", "{matchLabels: {a: b}}")),
        ["+p"]
    );
    assert_eq!(ledger.page().objects[0].file, "a.yaml");
}

#[test]
fn a_file_that_cannot_be_read_keeps_everything() {
    let mut ledger = Ledger::default();
    put(&mut ledger, "a.yaml", &namespace("x"));
    let unreadable = Reading::Unreadable("cannot be read: permission denied".to_owned());
    let events = ledger.read(BTreeMap::from([("a.yaml".to_owned(), unreadable)]));
    assert_eq!(shown(&events), [""; 0]);
    assert_eq!(
        ledger.page().refused[0].reason,
        "cannot be read: permission denied"
    );
}

#[test]
fn unusable_values_are_accepted_and_reported() {
    let mut ledger = Ledger::default();
    let text = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p}
spec:
  podSelector: {}
  ingress: [{from: [{ipBlock: {cidr: 300.0.0.0/8}}]}]
";
    assert_eq!(put(&mut ledger, "a.yaml", text), ["+p"]);
    let problems = &ledger.page().objects[0].problems;
    assert!(
        problems.len() == 1 && problems[0].contains("300.0.0.0/8"),
        "{problems:?}"
    );
    let other = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n";
    assert_eq!(put(&mut ledger, "b.yaml", other), ["+d"]);
    let page = ledger.page();
    let deployment = page
        .objects
        .iter()
        .find(|object| object.name == "d")
        .unwrap();
    assert_eq!(deployment.problems, ["kind not known, skipped"]);
}

#[test]
fn what_was_accepted_comes_back_after_a_restart_until_the_file_is_right_or_gone() {
    let mut before = Ledger::default();
    put(&mut before, "a.yaml", &policy("p", "{}"));
    put(&mut before, "a.yaml", &policy("p", "7"));
    let accepted = before.accepted("a.yaml").unwrap();
    let mut after = Ledger::default();
    assert_eq!(shown(&after.restore("a.yaml", accepted)), ["+p"]);
    assert_eq!(put(&mut after, "a.yaml", &policy("p", "7")), [""; 0]);
    assert_eq!(after.accepted("a.yaml"), before.accepted("a.yaml"));
    assert_eq!(gone(&mut after, "a.yaml"), ["-p"]);
    assert_eq!(after.accepted("a.yaml"), None);
}

/// What a file may hold: objects in two versions, one that is refused by its key, and one that nobody
/// can tell; also one of a misspelled kind.
fn file() -> impl Strategy<Value = String> {
    let document = prop_oneof![
        8 => (0..4_u8, 0..2_u8).prop_map(|(name, version)| {
            policy(&format!("p{name}"), &format!("{{matchLabels: {{v: a{version}}}}}"))
        }),
        1 => (0..4_u8).prop_map(|name| policy(&format!("p{name}"), "7")),
        1 => (0..4_u8).prop_map(|name| {
            policy(&format!("p{name}"), "{}").replace("kind: NetworkPolicy", "kind: NetworkPolcy")
        }),
        1 => Just("---\nkind: [\n".to_owned()),
    ];
    prop::collection::vec(document, 0..5).prop_map(|documents| documents.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn events_add_up_and_only_present_files_count(
        history in prop::collection::vec((0..3_u8, prop::option::of(file())), 1..20),
    ) {
        let mut ledger = Ledger::default();
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        let mut in_force: BTreeMap<Key, Arc<Object>> = BTreeMap::new();
        for (name, text) in history {
            let name = format!("{name}.yaml");
            let reading = text.clone().map_or(Reading::Gone, Reading::Text);
            for event in ledger.read(BTreeMap::from([(name.clone(), reading)])) {
                match event {
                    ObjectEvent::Apply(object) => {
                        let old = in_force.insert(object.key(), Arc::clone(&object));
                        prop_assert_ne!(old, Some(object), "no news");
                    }
                    ObjectEvent::Delete(key) => prop_assert!(in_force.remove(&key).is_some()),
                }
            }
            match text {
                Some(text) => drop(files.insert(name.clone(), text)),
                None => drop(files.remove(&name)),
            }
            let page = ledger.page();
            let shown: Vec<&str> = page.objects.iter().map(|object| object.name.as_str()).collect();
            let kept: Vec<&str> = in_force.keys().map(|key| key.name.as_str()).collect();
            prop_assert_eq!(shown, kept);
            // What is written down is all that a restart needs.
            let mut restarted = Ledger::default();
            for (name, text) in &files {
                restarted.restore(name, ledger.accepted(name).unwrap());
                restarted.read(BTreeMap::from([(name.clone(), Reading::Text(text.clone()))]));
            }
            prop_assert_eq!(&restarted.page(), &page);
            // Where nothing is refused, the past does not matter.
            if page.refused.is_empty() {
                let mut fresh = Ledger::default();
                for (name, text) in files.iter().rev() {
                    put(&mut fresh, name, text);
                }
                prop_assert_eq!(fresh.page(), page);
            }
        }
    }
}

fn put(ledger: &mut Ledger, file: &str, text: &str) -> Vec<String> {
    shown(&ledger.read(BTreeMap::from([(
        file.to_owned(),
        Reading::Text(text.to_owned()),
    )])))
}

fn gone(ledger: &mut Ledger, file: &str) -> Vec<String> {
    shown(&ledger.read(BTreeMap::from([(file.to_owned(), Reading::Gone)])))
}

/// `+name` for what is in force, `-name` for what is gone.
fn shown(events: &[ObjectEvent]) -> Vec<String> {
    let mut shown: Vec<String> = events
        .iter()
        .map(|event| match event {
            ObjectEvent::Apply(object) => format!("+{}", object.key().name),
            ObjectEvent::Delete(key) => format!("-{}", key.name),
        })
        .collect();
    shown.sort();
    shown
}

fn namespace(name: &str) -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
}

fn policy(name: &str, selector: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: {name}\nspec: {{podSelector: {selector}}}\n"
    )
}
