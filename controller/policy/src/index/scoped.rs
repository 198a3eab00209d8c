//! Finds the selectors that may take a pod, without looking at all of them.

use std::collections::{BTreeMap, HashMap};

use crate::model::{LabelSelector, Labels, Namespace, NamespaceScope, PodSelector, Requirement};
use crate::selector::{self, Selection};

/// Selectors by the namespaces and labels that they need.
#[derive(Debug)]
pub(super) struct Scoped<Id> {
    /// Selectors of all namespaces, known or not.
    everywhere: Bucket<Id>,
    /// Selectors that take a namespace, by its name.
    namespaces: HashMap<String, Bucket<Id>>,
    /// Those that look at the labels of namespaces.
    matching: BTreeMap<Id, PodSelector>,
}

impl<Id> Default for Scoped<Id> {
    fn default() -> Self {
        Self {
            everywhere: Bucket::default(),
            namespaces: HashMap::new(),
            matching: BTreeMap::new(),
        }
    }
}

impl<Id: Copy + Ord> Scoped<Id> {
    /// Adds a selector.
    pub(super) fn insert(
        &mut self,
        id: Id,
        selector: &PodSelector,
        namespaces: &BTreeMap<String, Namespace>,
    ) {
        match &selector.namespaces {
            NamespaceScope::Named(name) => self.bucket(name).insert(id, &selector.pods),
            NamespaceScope::Matching(scope) if scope.requirements.is_empty() => {
                self.everywhere.insert(id, &selector.pods);
            }
            NamespaceScope::Matching(scope) => {
                for (name, namespace) in namespaces {
                    if selector::labels_match(scope, &namespace.labels) != Selection::No {
                        self.bucket(name).insert(id, &selector.pods);
                    }
                }
                self.matching.insert(id, selector.clone());
            }
        }
    }

    /// Removes a selector; it and the namespaces are as they were at its insertion or last change.
    pub(super) fn remove(
        &mut self,
        id: Id,
        selector: &PodSelector,
        namespaces: &BTreeMap<String, Namespace>,
    ) {
        match &selector.namespaces {
            NamespaceScope::Named(name) => self.remove_from(name, id, &selector.pods),
            NamespaceScope::Matching(scope) if scope.requirements.is_empty() => {
                self.everywhere.remove(id, &selector.pods);
            }
            NamespaceScope::Matching(scope) => {
                for (name, namespace) in namespaces {
                    if selector::labels_match(scope, &namespace.labels) != Selection::No {
                        self.remove_from(name, id, &selector.pods);
                    }
                }
                self.matching.remove(&id);
            }
        }
    }

    /// The labels of a namespace change; `None`: its object is unknown.
    pub(super) fn namespace_changed(
        &mut self,
        name: &str,
        before: Option<&Labels>,
        after: Option<&Labels>,
    ) {
        let matching = std::mem::take(&mut self.matching);
        for (id, selector) in &matching {
            let takes = |labels| {
                selector::scope_matches(&selector.namespaces, name, labels) != Selection::No
            };
            match (takes(before), takes(after)) {
                (false, true) => self.bucket(name).insert(*id, &selector.pods),
                (true, false) => self.remove_from(name, *id, &selector.pods),
                (false, false) | (true, true) => {}
            }
        }
        self.matching = matching;
    }

    /// All selectors that take a pod of this namespace with these labels, and some that do not. Their
    /// scope takes the namespace.
    pub(super) fn candidates(&self, namespace: &str, labels: &Labels) -> Vec<Id> {
        let mut found = Vec::new();
        self.everywhere.candidates(labels, &mut found);
        if let Some(bucket) = self.namespaces.get(namespace) {
            bucket.candidates(labels, &mut found);
        }
        found
    }

    /// Whether nothing is kept.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.everywhere.is_empty() && self.namespaces.is_empty() && self.matching.is_empty()
    }

    fn bucket(&mut self, name: &str) -> &mut Bucket<Id> {
        self.namespaces.entry(name.to_owned()).or_default()
    }

    fn remove_from(&mut self, name: &str, id: Id, pods: &LabelSelector) {
        if let Some(bucket) = self.namespaces.get_mut(name) {
            bucket.remove(id, pods);
            if bucket.is_empty() {
                self.namespaces.remove(name);
            }
        }
    }
}

/// Selectors by one label that each needs; every selector is found by at most one label of a pod.
#[derive(Debug)]
struct Bucket<Id> {
    by_value: HashMap<String, HashMap<String, Vec<Id>>>,
    by_key: HashMap<String, Vec<Id>>,
    rest: Vec<Id>,
}

impl<Id> Default for Bucket<Id> {
    fn default() -> Self {
        Self {
            by_value: HashMap::new(),
            by_key: HashMap::new(),
            rest: Vec::new(),
        }
    }
}

/// The label that a selector is found by.
enum Needs<'a> {
    /// One of these values.
    Value(&'a String, Vec<&'a String>),
    /// The key.
    Key(&'a String),
    /// None.
    Nothing,
}

fn needs(selector: &LabelSelector) -> Needs<'_> {
    let mut best = Needs::Nothing;
    for requirement in &selector.requirements {
        match (requirement, &best) {
            (Requirement::In(key, values), Needs::Nothing | Needs::Key(_)) => {
                best = Needs::Value(key, values.iter().collect());
            }
            (Requirement::In(key, values), Needs::Value(_, fewest))
                if values.len() < fewest.len() =>
            {
                best = Needs::Value(key, values.iter().collect());
            }
            (Requirement::Exists(key), Needs::Nothing) => best = Needs::Key(key),
            (
                Requirement::In(..)
                | Requirement::NotIn(..)
                | Requirement::Exists(_)
                | Requirement::DoesNotExist(_)
                | Requirement::Unusable(_),
                _,
            ) => {}
        }
    }
    best
}

impl<Id: Copy + Ord> Bucket<Id> {
    fn is_empty(&self) -> bool {
        self.by_value.is_empty() && self.by_key.is_empty() && self.rest.is_empty()
    }

    fn insert(&mut self, id: Id, selector: &LabelSelector) {
        match needs(selector) {
            Needs::Value(key, values) => {
                let by_value = self.by_value.entry(key.clone()).or_default();
                for value in values {
                    by_value.entry(value.clone()).or_default().push(id);
                }
            }
            Needs::Key(key) => self.by_key.entry(key.clone()).or_default().push(id),
            Needs::Nothing => self.rest.push(id),
        }
    }

    fn remove(&mut self, id: Id, selector: &LabelSelector) {
        match needs(selector) {
            Needs::Value(key, values) => {
                if let Some(by_value) = self.by_value.get_mut(key) {
                    for value in values {
                        remove_id(by_value, value, id);
                    }
                    if by_value.is_empty() {
                        self.by_value.remove(key);
                    }
                }
            }
            Needs::Key(key) => remove_id(&mut self.by_key, key, id),
            Needs::Nothing => self.rest.retain(|other| *other != id),
        }
    }

    fn candidates(&self, labels: &Labels, found: &mut Vec<Id>) {
        found.extend(&self.rest);
        for (key, value) in labels {
            if let Some(ids) = self
                .by_value
                .get(key)
                .and_then(|by_value| by_value.get(value))
            {
                found.extend(ids);
            }
            if let Some(ids) = self.by_key.get(key) {
                found.extend(ids);
            }
        }
    }
}

fn remove_id<Id: PartialEq>(ids: &mut HashMap<String, Vec<Id>>, name: &str, id: Id) {
    if let Some(list) = ids.get_mut(name) {
        list.retain(|other| *other != id);
        if list.is_empty() {
            ids.remove(name);
        }
    }
}
