//! Selector matching, for the compiler and the index (the evaluator has its own).

use std::collections::BTreeMap;

use crate::model::{
    Cluster, LabelSelector, Labels, Namespace, NamespaceScope, Pod, PodId, PodSelector, Requirement,
};

/// Whether a selector takes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selection {
    /// No.
    No,
    /// It would, but for a requirement that cannot be understood.
    Unclear,
    /// Yes.
    Yes,
}

/// Whether all requirements hold for these labels.
///
/// `NotIn` and `DoesNotExist` hold for an absent key (DESIGN §3.2 row 2).
pub fn labels_match(selector: &LabelSelector, labels: &Labels) -> Selection {
    let mut selection = Selection::Yes;
    for requirement in &selector.requirements {
        let holds = match requirement {
            Requirement::In(key, values) => {
                labels.get(key).is_some_and(|value| values.contains(value))
            }
            Requirement::NotIn(key, values) => {
                labels.get(key).is_none_or(|value| !values.contains(value))
            }
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::DoesNotExist(key) => !labels.contains_key(key),
            Requirement::Unusable(_) => {
                selection = Selection::Unclear;
                continue;
            }
        };
        if !holds {
            return Selection::No;
        }
    }
    selection
}

/// Whether a scope takes a namespace; `labels` are `None` while its object is unknown, and then only
/// its name or the selector of all takes it.
pub fn scope_matches(
    scope: &NamespaceScope,
    namespace: &str,
    labels: Option<&Labels>,
) -> Selection {
    match (scope, labels) {
        (NamespaceScope::Named(name), _) if name == namespace => Selection::Yes,
        (NamespaceScope::Named(_), _) => Selection::No,
        (NamespaceScope::Matching(selector), _) if selector.requirements.is_empty() => {
            Selection::Yes
        }
        (NamespaceScope::Matching(_), None) => Selection::No,
        (NamespaceScope::Matching(selector), Some(labels)) => labels_match(selector, labels),
    }
}

/// Whether a selector takes a pod of a namespace; `labels` are the namespace's, `None` while unknown.
pub fn pod_matches(
    selector: &PodSelector,
    namespace: &str,
    labels: Option<&Labels>,
    pod: &Pod,
) -> Selection {
    match scope_matches(&selector.namespaces, namespace, labels) {
        Selection::No => Selection::No,
        scope @ (Selection::Unclear | Selection::Yes) => {
            scope.min(labels_match(&selector.pods, &pod.labels))
        }
    }
}

/// Whether every requirement can be understood.
pub fn is_clear(selector: &PodSelector) -> bool {
    let clear = |selector: &LabelSelector| {
        !selector
            .requirements
            .iter()
            .any(|requirement| matches!(requirement, Requirement::Unusable(_)))
    };
    clear(&selector.pods)
        && match &selector.namespaces {
            NamespaceScope::Named(_) => true,
            NamespaceScope::Matching(selector) => clear(selector),
        }
}

/// Labels of a pod's namespace; `None` while its object is unknown.
pub(crate) fn namespace_labels<'a>(
    namespaces: &'a BTreeMap<String, Namespace>,
    id: &PodId,
) -> Option<&'a Labels> {
    namespaces
        .get(&id.namespace)
        .map(|namespace| &namespace.labels)
}

/// The pods of a namespace.
pub(crate) fn pods_of<'a>(
    cluster: &'a Cluster,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a PodId, &'a Pod)> {
    let pods = cluster.pods.range(PodId::new(namespace, "")..);
    pods.take_while(move |(id, _)| id.namespace == namespace)
}

/// The pods that a selector takes, or would but for what cannot be understood.
pub(crate) fn selected<'a>(
    cluster: &'a Cluster,
    selector: &'a PodSelector,
) -> impl Iterator<Item = (&'a PodId, &'a Pod, Selection)> {
    let (one, all) = match &selector.namespaces {
        NamespaceScope::Named(name) => (Some(pods_of(cluster, name)), None),
        NamespaceScope::Matching(_) => (None, Some(cluster.pods.iter())),
    };
    let pods = one.into_iter().flatten().chain(all.into_iter().flatten());
    // Pods of a namespace follow each other.
    let mut last = None;
    pods.filter_map(move |(id, pod)| {
        let scope = match last {
            Some((namespace, scope)) if namespace == id.namespace.as_str() => scope,
            Some(_) | None => {
                let labels = namespace_labels(&cluster.namespaces, id);
                let scope = scope_matches(&selector.namespaces, &id.namespace, labels);
                last = Some((id.namespace.as_str(), scope));
                scope
            }
        };
        if scope == Selection::No {
            return None;
        }
        let selection = scope.min(labels_match(&selector.pods, &pod.labels));
        (selection != Selection::No).then_some((id, pod, selection))
    })
}
