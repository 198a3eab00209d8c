//! The peer: text of the same shape for `nft -f -`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::shape::Shape;

/// The program `nft`.
pub(crate) struct Nft;

impl Nft {
    /// Feeds it a script, in the namespace of this thread.
    pub(crate) fn feed(script: &str) -> Result<()> {
        let mut child = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run `nft`: install the package nftables")?;
        child
            .stdin
            .take()
            .context("nft has no standard input")?
            .write_all(script.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("nft: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

/// A set per policy, a chain per policy, a verdict map to the chains.
pub(crate) fn ruleset(shape: Shape) -> String {
    let mut text = String::from("table inet peer {\n chain stamp { }\n");
    for i in 0..shape.policies {
        set(&mut text, shape, i);
        chain(&mut text, i, 80);
    }
    text.push_str(" map to_pod { type ipv4_addr : verdict; elements = {");
    for i in 0..shape.policies {
        put(
            &mut text,
            format_args!(" {} : goto p{i},", Shape::address(i)),
        );
    }
    text.push_str(
        " } }\n chain forward { type filter hook forward priority 0; ct state established,related accept; \
         ct reply ip saddr vmap @to_pod; }\n}\n",
    );
    text
}

fn put(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("a String takes everything");
}

fn set(text: &mut String, shape: Shape, i: u32) {
    put(
        text,
        format_args!(" set s{i} {{ type ipv4_addr; elements = {{"),
    );
    for member in shape.set_members(i) {
        put(text, format_args!(" {member},"));
    }
    text.push_str(" } }\n");
}

fn chain(text: &mut String, i: u32, port: u16) {
    put(text, format_args!(" chain p{i} {{\n"));
    for rule in rules(i, port) {
        put(text, format_args!("  {rule}\n"));
    }
    text.push_str(" }\n");
}

fn rules(i: u32, port: u16) -> [String; 4] {
    let rule = |protocol, port| {
        format!(
            "ct original ip saddr @s{i} meta l4proto {protocol} ct reply proto-src {port} goto stamp"
        )
    };
    [
        rule("tcp", port),
        rule("tcp", 443),
        rule("udp", 53),
        "drop".to_owned(),
    ]
}

/// One element more.
pub(crate) fn element(shape: Shape, i: u32) -> String {
    format!(
        "add element inet peer s{} {{ {} }}\n",
        i % shape.policies,
        Shape::stranger(i)
    )
}

/// A pod with a policy of its own more.
pub(crate) fn pod(shape: Shape, i: u32) -> String {
    let new = shape.policies + i;
    let mut text = String::from("table inet peer {\n");
    set(&mut text, shape, new);
    chain(&mut text, new, 80);
    text.push_str("}\n");
    put(
        &mut text,
        format_args!(
            "add element inet peer to_pod {{ {} : goto p{new} }}\n",
            Shape::address(new)
        ),
    );
    text
}

/// Other rules in a policy's chain.
pub(crate) fn replace(shape: Shape, i: u32) -> String {
    let i = i % shape.policies;
    let mut text = format!("flush chain inet peer p{i}\n");
    for rule in rules(i, 8080) {
        put(&mut text, format_args!("add rule inet peer p{i} {rule}\n"));
    }
    text
}
