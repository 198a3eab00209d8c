//! Other tables of nftables that drop what ours lets through.
//!
//! An accept is final for its own base chain only: a packet passes once *every* base chain at the hook
//! lets it. Read with the `nftables` crate, which runs `nft`: all chains first, then the tables that have
//! base chains at our hooks, except ours, whose verdict maps the crate cannot read.

use std::collections::{BTreeMap, BTreeSet};

use nftables::expr::{Expression, MetaKey, NamedExpression};
use nftables::helper::{NftablesError, get_current_ruleset_with_args};
use nftables::schema::{Chain, NfListObject, NfObject, Nftables, Rule};
use nftables::stmt::Statement;
use nftables::types::{NfChainPolicy, NfFamily, NfHook};

use super::finding::{Finding, failure, warning};
use crate::output::{count, list};

/// Our own table.
const OURS: (&str, &str) = ("inet", "margay");

/// A table by family and name.
type TableName = (&'static str, String);
/// Rules by the chain that holds them.
type Rules<'a> = BTreeMap<&'a str, Vec<&'a Rule<'static>>>;

pub(super) fn examine() -> Vec<Finding> {
    let chains = match read(&["list", "chains"]) {
        Ok(ruleset) => ruleset,
        Err(error) => return vec![unreadable(&error)],
    };
    let tables: BTreeSet<TableName> = base_chains(&chains)
        .iter()
        .filter_map(|chain| Some((ip_family(chain.family)?, chain.table.to_string())))
        .filter(|(family, name)| (*family, name.as_str()) != OURS)
        .collect();
    let mut findings = Vec::new();
    for (family, name) in tables {
        match read(&["list", "table", family, &name]) {
            Ok(table) => findings.extend(judge(&table)),
            Err(error) => findings.push(warning(
                "MGY-D042",
                format!(
                    "table `{family} {name}` cannot be read ({})",
                    describe(&error)
                ),
                "it has chains at the hooks that pods' packets pass, and may drop some of them",
                format!("look at it yourself: nft list table {family} {name}"),
            )),
        }
    }
    findings
}

fn read(args: &[&str]) -> Result<Nftables<'static>, NftablesError> {
    get_current_ruleset_with_args(None::<&str>, args.iter().copied())
}

fn unreadable(error: &NftablesError) -> Finding {
    const REASON: &str =
        "chains of other tables may drop what ours lets through, and could not be looked at";
    match error {
        NftablesError::NftExecution { inner, .. }
            if inner.kind() == std::io::ErrorKind::NotFound =>
        {
            warning(
                "MGY-D006",
                "the program `nft` is not installed",
                format!("{REASON} (Margay itself does not use it)"),
                "apt install nftables, or your system's package of that name",
            )
        }
        NftablesError::NftFailed { stderr, .. } if stderr.contains("not permitted") => warning(
            "MGY-D007",
            "nftables cannot be read without CAP_NET_ADMIN",
            REASON,
            "run the doctor with sudo",
        ),
        NftablesError::NftFailed { stderr, .. } if stderr.contains("not supported") => failure(
            "MGY-D003",
            "nf_tables is not in the kernel",
            "policy is enforced by nf_tables: felix cannot work without it",
            "load it (modprobe nf_tables), or build the kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET",
        ),
        NftablesError::NftExecution { .. }
        | NftablesError::NftOutputEncoding { .. }
        | NftablesError::NftInvalidJson(_)
        | NftablesError::NftFailed { .. } => warning(
            "MGY-D008",
            format!("`nft list chains` did not work ({})", describe(error)),
            REASON,
            "run it yourself: nft list chains",
        ),
    }
}

fn describe(error: &NftablesError) -> String {
    match error {
        NftablesError::NftFailed { stderr, .. } if !stderr.trim().is_empty() => {
            stderr.lines().next().unwrap_or_default().trim().to_owned()
        }
        NftablesError::NftInvalidJson(error) => {
            format!("the crate `nftables` does not understand it: {error}")
        }
        NftablesError::NftExecution { .. }
        | NftablesError::NftOutputEncoding { .. }
        | NftablesError::NftFailed { .. } => error.to_string(),
    }
}

/// A foreign table's chains, and what in them stands in the way of pods' packets.
fn judge(table: &Nftables<'static>) -> Vec<Finding> {
    let mut rules: Rules = BTreeMap::new();
    for object in objects(table) {
        if let NfListObject::Rule(rule) = object {
            rules.entry(&rule.chain).or_default().push(rule);
        }
    }
    base_chains(table)
        .iter()
        .filter_map(|chain| judge_chain(chain, &rules))
        .collect()
}

fn judge_chain(chain: &Chain<'static>, rules: &Rules<'_>) -> Option<Finding> {
    let Chain { table, name, .. } = chain;
    let family = ip_family(chain.family)?;
    let hook = hook_name(chain.hook?)?;
    let own = rules
        .get(name.as_ref())
        .map(Vec::as_slice)
        .unwrap_or_default();
    let sides: &[(&str, MetaKey)] = match hook {
        "forward" => &[("iifname", MetaKey::Iifname), ("oifname", MetaKey::Oifname)],
        "output" | "postrouting" => &[("oifname", MetaKey::Oifname)],
        _ => &[("iifname", MetaKey::Iifname)],
    };
    if sides.iter().all(|(_, side)| spares(own, *side)) {
        return None;
    }
    let drops = droppers(name, rules);
    let accept = sides
        .iter()
        .map(|(side, _)| format!("nft insert rule {family} {table} {name} {side} \"mgy*\" accept"));
    let accept = list(accept, "; ");
    let managed = manager(table).map_or(String::new(), |manager| {
        format!(", by the means of {manager}")
    });
    if chain.policy == Some(NfChainPolicy::Drop) {
        return Some(failure(
            "MGY-D040",
            format!(
                "chain `{name}` of table `{family} {table}` drops what it does not accept, at hook {hook}"
            ),
            "an accept of ours is not final: pods' packets must pass this chain as well",
            format!("let it pass pods' links{managed}: {accept}"),
        ));
    }
    (drops > 0).then(|| {
        warning(
            "MGY-D041",
            format!("chain `{name}` of table `{family} {table}` at hook {hook} has {} that drop or reject", count(drops, "rule")),
            "if one of them matches pods' packets, these are lost although policy allows them",
            format!("look at them (nft list table {family} {table}), or let pods' links pass before{managed}: {accept}"),
        )
    })
}

/// Rules that drop or reject, in a chain and in those it leads to.
fn droppers(start: &str, rules: &Rules<'_>) -> usize {
    let mut seen = BTreeSet::new();
    let mut open = vec![start];
    let mut drops = 0;
    while let Some(chain) = open.pop() {
        if !seen.insert(chain) {
            continue;
        }
        for statement in rules
            .get(chain)
            .into_iter()
            .flatten()
            .flat_map(|rule| rule.expr.iter())
        {
            if let Statement::Drop(_) | Statement::Reject(_) = statement {
                drops += 1;
            }
            if let Statement::Jump(target) | Statement::Goto(target) = statement {
                open.push(&target.target);
            }
        }
    }
    drops
}

/// Whether a rule of these accepts all packets that come in, or go out, by links of ours.
fn spares(rules: &[&Rule<'static>], side: MetaKey) -> bool {
    rules.iter().any(|rule| {
        let ours = rule.expr.iter().any(|statement| {
            if let Statement::Match(matched) = statement
                && let Expression::Named(NamedExpression::Meta(meta)) = &matched.left
                && let Expression::String(name) = &matched.right
            {
                meta.key == side && name.starts_with("mgy")
            } else {
                false
            }
        });
        ours && matches!(rule.expr.last(), Some(Statement::Accept(_)))
    })
}

/// Who writes a table, where its name tells.
fn manager(table: &str) -> Option<&'static str> {
    match table {
        "firewalld" => {
            Some("firewalld (firewall-cmd --permanent --zone=trusted --add-interface=…)")
        }
        "filter" | "nat" | "mangle" | "raw" => {
            Some("whoever uses iptables-nft here (ufw, Docker, …)")
        }
        _ => None,
    }
}

/// Base chains where packets of pods pass.
fn base_chains<'a>(ruleset: &'a Nftables<'static>) -> Vec<&'a Chain<'static>> {
    let ours = |chain: &&Chain<'static>| {
        chain.hook.and_then(hook_name).is_some() && ip_family(chain.family).is_some()
    };
    objects(ruleset)
        .filter_map(|object| {
            if let NfListObject::Chain(chain) = object {
                Some(chain)
            } else {
                None
            }
        })
        .filter(ours)
        .collect()
}

fn objects<'a>(ruleset: &'a Nftables<'static>) -> impl Iterator<Item = &'a NfListObject<'static>> {
    ruleset.objects.iter().filter_map(|object| match object {
        NfObject::ListObject(object) => Some(object),
        NfObject::CmdObject(_) => None,
    })
}

/// Families whose chains see IP packets at IP hooks.
fn ip_family(family: NfFamily) -> Option<&'static str> {
    match family {
        NfFamily::IP => Some("ip"),
        NfFamily::IP6 => Some("ip6"),
        NfFamily::INet => Some("inet"),
        NfFamily::ARP | NfFamily::Bridge | NfFamily::NetDev => None,
    }
}

/// Hooks that packets from and to pods pass. A node's own packets to pods leave by output.
fn hook_name(hook: NfHook) -> Option<&'static str> {
    match hook {
        NfHook::Prerouting => Some("prerouting"),
        NfHook::Forward => Some("forward"),
        NfHook::Input => Some("input"),
        NfHook::Output => Some("output"),
        NfHook::Postrouting => Some("postrouting"),
        NfHook::Ingress | NfHook::Egress => None,
    }
}

#[cfg(test)]
mod tests;
