//! Network namespaces for tests, and rulesets to put into them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::{
    Base, BaseChain, Batch, Chain, Comparison, CtKey, Data, DefaultVerdict, Direction, Element,
    Expr, FieldType, Key, KeyType, MetaKey, Register, Role, Rule, Set, SetOrder, SetValue, Socket,
    TableFlags, TableId, Test, Verdict,
};
use nix::sched::{CloneFlags, unshare};

/// Runs a test in a network namespace that goes when its thread does.
pub(crate) fn in_netns(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("tests run as root");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `nft` in the namespace of this thread; what it prints.
pub(crate) fn nft(args: &[&str]) -> Result<String, String> {
    let output = Command::new("nft").args(args).output().unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

/// Feeds a script to `nft -f -`.
pub(crate) fn nft_script(script: &str) -> Result<(), String> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

pub(crate) fn table() -> TableId {
    TableId::inet("scratch")
}

pub(crate) fn plain(name: &str) -> Chain {
    Chain {
        name: name.into(),
        base: None,
    }
}

pub(crate) fn base(name: &str, hook: u32, priority: i32, chain_type: &str) -> Chain {
    let default_verdict = DefaultVerdict::Accept;
    Chain {
        name: name.into(),
        base: Some(BaseChain {
            hook,
            priority,
            chain_type: chain_type.into(),
            default_verdict,
        }),
    }
}

pub(crate) fn set(name: &str, fields: &[FieldType], order: SetOrder, value: SetValue) -> Set {
    Set {
        name: name.into(),
        key: KeyType::of(fields),
        order,
        value,
        limit: None,
    }
}

pub(crate) fn element(key: &[u8], verdict: Option<Verdict>) -> Element {
    Element {
        key: Key::of(key).unwrap(),
        role: Role::Key,
        verdict,
    }
}

pub(crate) fn range(first: [u8; 4], behind: [u8; 4]) -> [Element; 2] {
    let end = Element {
        role: Role::End,
        ..element(&behind, None)
    };
    [element(&first, None), end]
}

/// A key of several fields.
pub(crate) fn key(fields: &[&[u8]]) -> Vec<u8> {
    let mut key = Key::new();
    for field in fields {
        key.push(field);
    }
    key.octets().to_vec()
}

/// A name as `iifname` has it.
pub(crate) fn link(name: &str) -> [u8; 16] {
    let mut octets = [0; 16];
    octets[..name.len()].copy_from_slice(name.as_bytes());
    octets
}

/// Every kind of object and expression there is.
pub(crate) struct World {
    pub(crate) chains: Vec<Chain>,
    pub(crate) sets: Vec<(Set, Vec<Element>)>,
    pub(crate) rules: Vec<(&'static str, Rule)>,
}

impl World {
    pub(crate) fn batch(&self) -> Batch {
        let mut batch = Batch::new(table(), None);
        batch.add_table(TableFlags::default());
        self.fill(&mut batch);
        batch
    }

    pub(crate) fn batch_without_table(&self) -> Batch {
        let mut batch = Batch::new(table(), None);
        self.fill(&mut batch);
        batch
    }

    fn fill(&self, batch: &mut Batch) {
        for chain in &self.chains {
            batch.add_chain(chain);
        }
        for (set, elements) in &self.sets {
            batch.add_set(set);
            batch.add_elements(&set.name, elements.iter().cloned());
        }
        for (chain, rule) in &self.rules {
            batch.add_rule(chain, rule);
        }
    }
}

pub(crate) fn commit(batch: Batch) {
    Socket::open().unwrap().commit(batch).unwrap();
}

const R0: Register = Register::FIRST;

fn meta(key: MetaKey, to: u8) -> Expr {
    Expr::Meta {
        key,
        to: Register::new(to),
    }
}

fn equal(value: impl Into<Data>) -> Expr {
    Expr::Compare {
        op: Comparison::Equal,
        register: R0,
        value: value.into(),
    }
}

fn lookup(set: &str, test: Test) -> Expr {
    Expr::Lookup {
        set: set.into(),
        key: R0,
        test,
    }
}

fn goto(chain: &str) -> Verdict {
    Verdict::Goto(chain.into())
}

pub(crate) fn world() -> World {
    World {
        chains: vec![
            base("raw", 0, -300, "filter"),
            base("forward", 2, 0, "filter"),
            base("nat", 4, 90, "nat"),
            plain("known"),
            plain("judge"),
        ],
        sets: sets(),
        rules: [base_rules(), known_rules(), judge_rules()].concat(),
    }
}

fn rule(chain: &'static str, comment: &str, exprs: Vec<Expr>) -> (&'static str, Rule) {
    (chain, Rule::new(exprs, comment))
}

fn ct(key: CtKey, to: u8) -> Expr {
    Expr::Ct {
        key,
        to: Register::new(to),
    }
}

fn vmap(map: &str) -> Expr {
    Expr::VerdictMap {
        map: map.into(),
        key: R0,
    }
}

fn ours(op: Comparison) -> Expr {
    Expr::Compare {
        op,
        register: R0,
        value: Data::from(*b"mgy"),
    }
}

fn bitwise(mask: u32, xor: u32) -> Expr {
    Expr::Bitwise {
        from: R0,
        to: R0,
        mask: mask.to_ne_bytes().into(),
        xor: xor.to_ne_bytes().into(),
    }
}

fn base_rules() -> Vec<(&'static str, Rule)> {
    vec![
        rule(
            "raw",
            "not ours",
            vec![
                meta(MetaKey::InName, 0),
                ours(Comparison::NotEqual),
                Expr::Verdict(Verdict::Accept),
            ],
        ),
        rule(
            "raw",
            "",
            vec![
                meta(MetaKey::Family, 0),
                equal([2]),
                meta(MetaKey::InName, 0),
                Expr::Payload {
                    base: Base::Network,
                    offset: 12,
                    length: 4,
                    to: Register::new(4),
                },
                lookup("pod_source", Test::IsNot),
                Expr::Counter {
                    packets: 0,
                    octets: 0,
                },
                Expr::Verdict(Verdict::Drop),
            ],
        ),
        rule(
            "forward",
            "",
            vec![
                ct(CtKey::State, 0),
                Expr::Bitwise {
                    from: Register::new(0),
                    to: Register::new(0),
                    mask: 65_u32.to_ne_bytes().into(),
                    xor: [0; 4].into(),
                },
                Expr::Compare {
                    op: Comparison::NotEqual,
                    register: Register::new(0),
                    value: [0; 4].into(),
                },
                Expr::Verdict(Verdict::Drop),
            ],
        ),
        rule(
            "forward",
            "",
            vec![ct(CtKey::Source4(Direction::Original), 0), vmap("from_pod")],
        ),
        rule(
            "forward",
            "",
            vec![Expr::Verdict(Verdict::Jump("judge".into()))],
        ),
        rule("nat", "leaves the pools", vec![Expr::Masquerade]),
    ]
}

fn known_rules() -> Vec<(&'static str, Rule)> {
    vec![
        rule(
            "known",
            "fast path",
            vec![
                ct(CtKey::Mark, 0),
                bitwise(0xfff0_0000, 0),
                lookup("epoch", Test::Is),
                Expr::Verdict(Verdict::Accept),
            ],
        ),
        rule(
            "known",
            "",
            vec![
                ct(CtKey::Mark, 0),
                bitwise(0x000f_ffff, 0x0010_0000),
                Expr::SetCtMark { from: R0 },
            ],
        ),
    ]
}

fn judge_rules() -> Vec<(&'static str, Rule)> {
    let ports = Expr::Range {
        register: R0,
        test: Test::Is,
        first: 80_u16.to_be_bytes().into(),
        last: 90_u16.to_be_bytes().into(),
    };
    vec![
        rule(
            "judge",
            "web/allow-http ingress[0]",
            vec![
                meta(MetaKey::Protocol, 0),
                equal([6]),
                ct(CtKey::SourcePort(Direction::Reply), 0),
                ports,
                Expr::Verdict(goto("known")),
            ],
        ),
        rule(
            "judge",
            "",
            vec![
                Expr::Immediate {
                    to: R0,
                    value: 7_u128.to_be_bytes().into(),
                },
                ct(CtKey::Source4(Direction::Original), 4),
                lookup("members", Test::Is),
                Expr::Verdict(Verdict::Return),
            ],
        ),
        rule(
            "judge",
            "",
            vec![
                ct(CtKey::Source4(Direction::Original), 0),
                lookup("blocks", Test::Is),
                Expr::Verdict(Verdict::Accept),
            ],
        ),
        rule(
            "judge",
            "",
            vec![
                ct(CtKey::Direction, 0),
                equal([1]),
                meta(MetaKey::OutName, 0),
                ours(Comparison::Equal),
                Expr::Verdict(Verdict::Drop),
            ],
        ),
    ]
}

fn sets() -> Vec<(Set, Vec<Element>)> {
    use SetOrder::{Keys, Ranges};
    use SetValue::{Nothing, Verdict as Verdicts};
    let address = |last| [10, 0, 0, last];
    vec![
        (
            set(
                "pod_source",
                &[FieldType::LINK, FieldType::IPV4],
                Keys,
                Nothing,
            ),
            vec![element(&key(&[&link("mgy0123456789a"), &address(1)]), None)],
        ),
        (
            set("from_pod", &[FieldType::IPV4], Keys, Verdicts),
            vec![
                element(&address(1), Some(goto("judge"))),
                element(&address(2), Some(Verdict::Accept)),
            ],
        ),
        (
            Set {
                limit: Some(16),
                ..set("epoch", &[FieldType::MARK], Keys, Nothing)
            },
            vec![element(&0x0010_0000_u32.to_ne_bytes(), None)],
        ),
        (
            set(
                "members",
                &[FieldType::IPV6, FieldType::IPV4],
                Keys,
                Nothing,
            ),
            vec![element(&key(&[&7_u128.to_be_bytes(), &address(9)]), None)],
        ),
        (
            set(
                "services",
                &[
                    FieldType::IPV6,
                    FieldType::IPV4,
                    FieldType::PROTOCOL,
                    FieldType::PORT,
                ],
                Keys,
                Nothing,
            ),
            vec![element(
                &key(&[
                    &7_u128.to_be_bytes(),
                    &address(9),
                    &[6],
                    &80_u16.to_be_bytes(),
                ]),
                None,
            )],
        ),
        (
            set("blocks", &[FieldType::IPV4], Ranges, Nothing),
            [
                range([192, 0, 2, 0], [192, 0, 2, 128]),
                range([192, 0, 2, 128], [192, 0, 3, 0]),
            ]
            .concat(),
        ),
        (
            set("links", &[FieldType::LINK], Keys, Nothing),
            vec![element(&link("eth0"), None)],
        ),
    ]
}
