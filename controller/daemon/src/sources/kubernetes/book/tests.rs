use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use margay_policy::model::NodeName;

use super::super::reduce;
use super::*;

#[test]
fn what_is_listed_again_changes_nothing_and_what_is_not_is_deleted() {
    let mut book = Book::default();
    let first = listed(&mut book, &["a", "b"]);
    assert_eq!(kinds_of(&first), ["apply a", "apply b"]);
    assert!(book.is_listed(Kind::Pod));
    let again = listed(&mut book, &["b", "a"]);
    assert_eq!(kinds_of(&again), Vec::<String>::new());
    let less = listed(&mut book, &["b"]);
    assert_eq!(kinds_of(&less), ["delete a"]);
}

#[test]
fn a_list_that_breaks_off_deletes_nothing() {
    let mut book = Book::default();
    listed(&mut book, &["a", "b"]);
    assert!(book.note(Kind::Pod, Notice::Begin).is_empty());
    assert!(
        book.note(Kind::Pod, Notice::Listed(pod("b", "1")))
            .is_empty()
    );
    // The watch fails, and the next list begins.
    assert!(book.note(Kind::Pod, Notice::Begin).is_empty());
    let rest = [
        book.note(Kind::Pod, Notice::Listed(pod("a", "1"))),
        book.note(Kind::Pod, Notice::Listed(pod("b", "1"))),
        book.note(Kind::Pod, Notice::End),
    ];
    assert_eq!(kinds_of(&rest.concat()), Vec::<String>::new());
}

#[test]
fn an_object_made_while_the_list_comes_is_not_deleted_at_its_end() {
    let mut book = Book::default();
    listed(&mut book, &["a"]);
    book.note(Kind::Pod, Notice::Begin);
    book.note(
        Kind::Pod,
        Notice::Delete {
            namespace: "default".to_owned(),
            name: "a".to_owned(),
        },
    );
    book.note(Kind::Pod, Notice::Apply(pod("a", "2")));
    assert_eq!(
        kinds_of(&book.note(Kind::Pod, Notice::End)),
        Vec::<String>::new()
    );
}

#[test]
fn only_what_is_read_of_an_object_counts_as_a_change() {
    let mut book = Book::default();
    let mut object = Pod {
        metadata: ObjectMeta {
            name: Some("a".to_owned()),
            resource_version: Some("1".to_owned()),
            ..ObjectMeta::default()
        },
        ..Pod::default()
    };
    let apply = |book: &mut Book, object: &Pod| {
        book.note(Kind::Pod, Notice::Apply(reduce::pod(object.clone())))
    };
    assert_eq!(apply(&mut book, &object).len(), 1);
    object.metadata.resource_version = Some("2".to_owned());
    object.metadata.annotations = Some([("seen".to_owned(), "yes".to_owned())].into());
    assert_eq!(apply(&mut book, &object).len(), 0);
    object.metadata.labels = Some([("app".to_owned(), "a".to_owned())].into());
    assert_eq!(apply(&mut book, &object).len(), 1);
}

#[test]
fn a_refused_version_leaves_in_force_what_was_accepted_and_is_told() {
    let mut book = Book::default();
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some("shop".to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    book.note(Kind::Namespace, Notice::Apply(reduce::namespace(namespace)));
    let refused = Item {
        namespace: String::new(),
        name: "shop".to_owned(),
        uid: String::new(),
        content: Content::Refused("spec.cidr: nonsense".to_owned()),
    };
    assert!(
        book.note(Kind::Namespace, Notice::Apply(refused))
            .is_empty()
    );
    let page = book.page();
    assert!(page.objects[0].kept, "{page:?}");
    assert_eq!(
        page.refused[0].reason,
        "Namespace shop: spec.cidr: nonsense"
    );
    assert_eq!(page.refused[0].in_force.len(), 1);
}

#[test]
fn a_block_comes_with_its_node_and_goes_with_its_object() {
    let block = |node: &str| Item {
        namespace: String::new(),
        name: "10-0-0-0-26".to_owned(),
        uid: String::new(),
        content: Content::Block("10.0.0.0/26".parse().unwrap(), NodeName(node.to_owned())),
    };
    let net: IpNet = "10.0.0.0/26".parse().unwrap();
    let mut book = Book::default();
    assert_eq!(
        book.note(Kind::IpBlock, Notice::Apply(block("n1"))),
        [Output::Block(net, Some(NodeName("n1".to_owned())))]
    );
    assert_eq!(book.note(Kind::IpBlock, Notice::Apply(block("n1"))), []);
    let gone = Notice::Delete {
        namespace: String::new(),
        name: "10-0-0-0-26".to_owned(),
    };
    assert_eq!(book.note(Kind::IpBlock, gone), [Output::Block(net, None)]);
}

/// Lists these pods.
fn listed(book: &mut Book, names: &[&str]) -> Vec<Output> {
    let mut outputs = book.note(Kind::Pod, Notice::Begin);
    for name in names {
        outputs.extend(book.note(Kind::Pod, Notice::Listed(pod(name, "1"))));
    }
    outputs.extend(book.note(Kind::Pod, Notice::End));
    outputs
}

fn pod(name: &str, uid: &str) -> Item {
    reduce::pod(Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("default".to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectMeta::default()
        },
        ..Pod::default()
    })
}

fn kinds_of(outputs: &[Output]) -> Vec<String> {
    let words = outputs.iter().map(|output| match output {
        Output::Object(ObjectEvent::Apply(object)) => format!("apply {}", object.key().name),
        Output::Object(ObjectEvent::Delete(key)) => format!("delete {}", key.name),
        Output::Block(block, node) => format!("{block} {node:?}"),
    });
    words.collect()
}
