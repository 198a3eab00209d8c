//! `margayctl ipam show`: pools and blocks.

use std::collections::BTreeSet;

use clap::Subcommand;
use margay_sync::status::{BlockStatus, IpamPage, PoolStatus};
use serde_json::json;

use crate::output::{Answer, Paint, list, table};
use crate::places::Places;

/// Namespaces of a pool that the table names; JSON has all.
const SHOWN: usize = 3;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Pools, the blocks that nodes claimed of them, and how full they are
    Show,
}

/// What the controller knows of addresses.
pub(crate) async fn run(command: Command, places: &Places) -> anyhow::Result<Answer> {
    match command {
        Command::Show => {
            let page = places.controller.get::<IpamPage>("/ipam").await?;
            Ok(Answer::new(render(&page), json!(page)))
        }
    }
}

fn render(IpamPage { pools, blocks }: &IpamPage) -> String {
    let pools = table(
        [
            "POOL",
            "BLOCKS OF",
            "BLOCKS",
            "CLAIMED",
            "USED",
            "NEW ADDRESSES",
            "NAMESPACES",
            "NAT OUTGOING",
        ],
        pools.iter().map(|pool| {
            let PoolStatus {
                cidr,
                block_size,
                disabled,
                overlaps,
                namespaces,
                nat_outgoing,
                blocks,
                claimed,
                used,
            } = pool;
            [
                cidr.to_string(),
                format!("/{block_size}"),
                number(*blocks),
                claimed.to_string(),
                used.to_string(),
                match overlaps {
                    _ if *disabled => Paint::Warn.on("no (disabled)"),
                    Some(older) => Paint::Warn.on(format!("no (overlaps {older})")),
                    None => "yes".into(),
                },
                match namespaces {
                    None => "any".into(),
                    Some(names) if names.is_empty() => Paint::Warn.on("none"),
                    Some(names) => some_of(names),
                },
                if *nat_outgoing {
                    "yes".into()
                } else {
                    "no".into()
                },
            ]
        }),
    );
    let blocks = table(
        ["BLOCK", "NODE", "USED", "FREE"],
        blocks
            .iter()
            .map(|(cidr, BlockStatus { node, size, used })| {
                let free = used.map(|used| size.saturating_sub(u64::from(used)));
                [
                    cidr.to_string(),
                    node.to_string(),
                    used.map_or("not reported".into(), |used| used.to_string()),
                    match free {
                        None => "-".into(),
                        Some(0) => Paint::Warn.on("0 (full)"),
                        Some(_) if *size == u64::MAX => number(u64::MAX),
                        Some(free) => number(free),
                    },
                ]
            }),
    );
    let blocks = if blocks.is_empty() {
        "no node has claimed a block yet\n".to_owned()
    } else {
        blocks
    };
    format!("{pools}\n{blocks}")
}

/// The first few of many names.
fn some_of(names: &BTreeSet<String>) -> String {
    let shown = list(names.iter().take(SHOWN), ", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn number(number: u64) -> String {
    if number == u64::MAX {
        "2^64 or more".to_owned()
    } else {
        number.to_string()
    }
}
