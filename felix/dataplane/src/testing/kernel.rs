//! What the kernel refuses, as a model.

use std::collections::BTreeMap;

use crate::diff::{Actual, ActualBase, ActualChain, ActualRule, ActualSet, Operation, set_names};
use crate::ruleset::{
    Action, ChainName, Family, Field, Key, KeyType, KeyValue, Match, Rule, Ruleset, Set, SetKind,
    Verdict,
};

/// Levels of chains below a base chain.
const DEPTH: usize = 15;

/// Applies a batch, or says what the kernel would refuse.
pub(crate) fn apply(actual: &mut Actual, operations: &[Operation]) -> Result<(), String> {
    for operation in operations {
        step(actual, operation).map_err(|refusal| format!("{operation:?}: {refusal}"))?;
    }
    let bases = actual
        .chains
        .iter()
        .filter(|(_, chain)| chain.base != ActualBase::Known(None));
    for (name, _) in bases {
        validate(actual, name, 0, &mut |_| ())?;
    }
    Ok(())
}

/// How often a kernel that remembers nothing walks each chain to validate the table.
pub(crate) fn walks(ruleset: &Ruleset) -> BTreeMap<ChainName, usize> {
    let actual = Actual::from(ruleset);
    let mut walks = BTreeMap::new();
    for (name, chain) in &ruleset.chains {
        if chain.hook.is_some() {
            let mut walk = |name: &str| *walks.entry(name.to_owned()).or_default() += 1;
            validate(&actual, name, 0, &mut walk).expect("a ruleset of ours is valid");
        }
    }
    walks
}

/// Loads a whole ruleset.
pub(crate) fn load(ruleset: &Ruleset) -> Result<(), String> {
    let mut actual = Actual::default();
    let operations = crate::diff::diff(&actual, ruleset);
    apply(&mut actual, &operations)?;
    if actual == Actual::from(ruleset) {
        Ok(())
    } else {
        Err("another ruleset".to_owned())
    }
}

fn step(actual: &mut Actual, operation: &Operation) -> Result<(), String> {
    match operation {
        Operation::AddSet {
            set,
            key,
            kind,
            room,
        } => {
            let new = Set {
                key: key.clone(),
                kind: *kind,
                room: *room,
                elements: BTreeMap::new(),
            };
            if key.is_empty() || *kind == SetKind::Ranges && key.len() != 1 {
                return Err("bad key".into());
            }
            match actual.sets.insert(set.clone(), ActualSet::Known(new)) {
                None => Ok(()),
                Some(_) => Err("exists".into()),
            }
        }
        Operation::AddChain { chain, hook } => {
            let new = ActualChain {
                base: ActualBase::Known(*hook),
                rules: Vec::new(),
            };
            match actual.chains.insert(chain.clone(), new) {
                None => Ok(()),
                Some(_) => Err("exists".into()),
            }
        }
        Operation::FlushChain { chain } => {
            actual.chains.get_mut(chain).ok_or("absent")?.rules.clear();
            Ok(())
        }
        Operation::DeleteChain { chain } => {
            if references(actual).contains(chain) {
                return Err("in use".into());
            }
            let old = actual.chains.remove(chain).ok_or("absent")?;
            if old.rules.is_empty() {
                Ok(())
            } else {
                Err("not empty".into())
            }
        }
        Operation::DeleteSet { set } => {
            if known_rules(actual).any(|rule| set_names(rule).any(|name| name == set)) {
                return Err("in use".into());
            }
            actual
                .sets
                .remove(set)
                .map(|_| ())
                .ok_or_else(|| "absent".into())
        }
        Operation::AddRule { chain, rule } => {
            check_rule(actual, rule)?;
            actual
                .chains
                .get_mut(chain)
                .ok_or("absent")?
                .rules
                .push(ActualRule::Known(rule.clone()));
            Ok(())
        }
        Operation::AddElements { set, elements } => {
            for (_, verdict) in elements {
                if let Some(verdict) = verdict {
                    check_verdict(actual, verdict)?;
                }
            }
            let set = known_set(actual, set)?;
            for (key, verdict) in elements {
                check_key(set, key)?;
                if verdict.is_some() != (set.kind == SetKind::Map) {
                    return Err("a verdict in a set, or none in a map".into());
                }
                if set.elements.insert(key.clone(), verdict.clone()).is_some() {
                    return Err(format!("{key:?} exists"));
                }
            }
            if set
                .room
                .is_some_and(|room| set.elements.len() > room as usize)
            {
                return Err("too many elements".into());
            }
            overlap(set)
        }
        Operation::DeleteElements { set, keys } => {
            let set = known_set(actual, set)?;
            for key in keys {
                set.elements
                    .remove(key)
                    .ok_or_else(|| format!("{key:?} absent"))?;
            }
            Ok(())
        }
    }
}

fn known_set<'a>(actual: &'a mut Actual, name: &str) -> Result<&'a mut Set, String> {
    match actual.sets.get_mut(name) {
        Some(ActualSet::Known(set)) => Ok(set),
        Some(ActualSet::Foreign) => Err("foreign".into()),
        None => Err("absent".into()),
    }
}

fn overlap(set: &Set) -> Result<(), String> {
    let nets = set.elements.keys().filter_map(|key| match key.as_slice() {
        [KeyValue::Prefix(net)] => Some(net),
        _ => None,
    });
    let nets: Vec<_> = nets.collect();
    let overlaps = nets.windows(2).any(|pair| pair[0].contains(pair[1]));
    if overlaps {
        Err("overlap".into())
    } else {
        Ok(())
    }
}

fn known_rules(actual: &Actual) -> impl Iterator<Item = &Rule> {
    actual
        .chains
        .values()
        .flat_map(|chain| &chain.rules)
        .filter_map(|rule| match rule {
            ActualRule::Known(rule) => Some(rule),
            ActualRule::Foreign => None,
        })
}

fn target(verdict: &Verdict) -> Option<&ChainName> {
    match verdict {
        Verdict::Jump(name) | Verdict::Goto(name) => Some(name),
        Verdict::Accept | Verdict::Drop | Verdict::Return => None,
    }
}

fn rule_target(rule: &Rule) -> Option<&ChainName> {
    match &rule.action {
        Action::Verdict(verdict) => target(verdict),
        Action::Map(..) | Action::Stamp(_) | Action::Masquerade => None,
    }
}

/// Chains that rules and elements go to.
fn references(actual: &Actual) -> Vec<ChainName> {
    let rules = known_rules(actual).filter_map(rule_target);
    let elements = actual.sets.values().flat_map(|set| match set {
        ActualSet::Known(set) => set
            .elements
            .values()
            .flatten()
            .filter_map(target)
            .collect::<Vec<_>>(),
        ActualSet::Foreign => Vec::new(),
    });
    rules.chain(elements).cloned().collect()
}

fn check_verdict(actual: &Actual, verdict: &Verdict) -> Result<(), String> {
    let Some(name) = target(verdict) else {
        return Ok(());
    };
    match actual.chains.get(name) {
        Some(chain) if chain.base == ActualBase::Known(None) => Ok(()),
        Some(_) => Err(format!("{name} is a base chain")),
        None => Err(format!("no chain {name}")),
    }
}

fn check_rule(actual: &mut Actual, rule: &Rule) -> Result<(), String> {
    if let Action::Verdict(verdict) = &rule.action {
        check_verdict(actual, verdict)?;
    }
    if rule.comment.len() > 128 {
        return Err("long comment".into());
    }
    if let Action::Map(fields, map) = &rule.action {
        let map = known_set(actual, map)?;
        if map.kind != SetKind::Map || map.key != fields.iter().map(field_type).collect::<Vec<_>>()
        {
            return Err("map of another type".into());
        }
    }
    for matches in &rule.matches {
        match matches {
            Match::In(fields, set, _) => {
                let set = known_set(actual, set)?;
                if set.key != fields.iter().map(field_type).collect::<Vec<_>>() {
                    return Err("set of another type".into());
                }
            }
            Match::Address(field, net, _) => {
                let wanted = match net {
                    ipnet::IpNet::V4(_) => KeyType::Ip4,
                    ipnet::IpNet::V6(_) => KeyType::Ip6,
                };
                if field_type(field) != wanted {
                    return Err("address of another family".into());
                }
            }
            Match::ServerPort(first, last) if first > last => return Err("empty range".into()),
            Match::OurLink(..)
            | Match::Family(_)
            | Match::Protocol(_)
            | Match::Icmp6Types(_)
            | Match::CtStates(_)
            | Match::Direction(_)
            | Match::ServerPort(..) => {}
        }
    }
    Ok(())
}

fn address_type(family: Family) -> KeyType {
    match family {
        Family::V4 => KeyType::Ip4,
        Family::V6 => KeyType::Ip6,
    }
}

fn field_type(field: &Field) -> KeyType {
    match field {
        Field::InLink | Field::OutLink => KeyType::Link,
        Field::Source(f) | Field::Destination(f) | Field::Client(f) | Field::Server(f) => {
            address_type(*f)
        }
        Field::Protocol => KeyType::Protocol,
        Field::ServerPort => KeyType::Port,
        Field::Id(_) => KeyType::Id,
        Field::Epoch => KeyType::Mark,
    }
}

fn check_key(set: &Set, key: &Key) -> Result<(), String> {
    let types: Vec<KeyType> = key
        .iter()
        .map(|value| match value {
            KeyValue::Link(_) => KeyType::Link,
            KeyValue::Address(address) => address_type(Family::of(address)),
            KeyValue::Prefix(net) => address_type(Family::of(&net.addr())),
            KeyValue::Id(_) => KeyType::Id,
            KeyValue::Protocol(_) => KeyType::Protocol,
            KeyValue::Port(_) => KeyType::Port,
            KeyValue::Mark(_) => KeyType::Mark,
        })
        .collect();
    let ranges = key.iter().any(|value| matches!(value, KeyValue::Prefix(_)));
    if types == set.key && ranges == (set.kind == SetKind::Ranges) {
        Ok(())
    } else {
        Err("key type".into())
    }
}

/// Loops and depth; a `goto` counts as a `jump` does.
fn validate(
    actual: &Actual,
    name: &str,
    depth: usize,
    walk: &mut impl FnMut(&str),
) -> Result<(), String> {
    if depth > DEPTH {
        return Err(format!("{name}: too many links"));
    }
    walk(name);
    let rules = actual
        .chains
        .get(name)
        .into_iter()
        .flat_map(|chain| &chain.rules);
    for rule in rules {
        let ActualRule::Known(rule) = rule else {
            continue;
        };
        if let Some(next) = rule_target(rule) {
            validate(actual, next, depth + 1, walk)?;
        }
        if let Action::Map(_, map) = &rule.action
            && let Some(ActualSet::Known(map)) = actual.sets.get(map)
        {
            for next in map.elements.values().flatten().filter_map(target) {
                validate(actual, next, depth + 1, walk)?;
            }
        }
    }
    Ok(())
}
