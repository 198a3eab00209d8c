//! nf_tables by netlink, for one thread at a time: what to do goes to the kernel in a [`Batch`], what it has is
//! read back as the same values, and [`Events`] tell what others change.
//!
//! The crate makes the messages itself (`linux/netfilter/nf_tables.h`), because no published one can say all that the
//! agent needs: verdict maps, constants in concatenations, generations, ownership. It has what the agent uses and nothing
//! else, and it knows nothing of policy. Expressions and objects that it cannot make are still told apart when it reads those of
//! others ([`Expr::Other`], [`SetValue::Other`], [`Role::Other`]).
//!
//! ```no_run
//! use margay_nftnl::{Batch, Chain, Expr, Rule, Socket, TableFlags, TableId, Verdict};
//!
//! let mut socket = Socket::open()?;
//! let mut batch = Batch::new(TableId::inet("example"), Some(socket.generation()?));
//! batch.add_table(TableFlags::default());
//! batch.add_chain(&Chain { name: "closed".into(), base: None });
//! batch.add_rule("closed", &Rule::new(vec![Expr::Verdict(Verdict::Drop)], "nothing passes"));
//! socket.commit(batch)?;
//! # Ok::<(), margay_nftnl::Error>(())
//! ```
#![forbid(unsafe_code)]

mod batch;
pub mod conntrack;
mod dump;
mod error;
mod events;
mod expr;
mod object;
mod socket;
mod subject;
#[cfg(test)]
mod tests;
mod uapi;
mod wire;

pub use batch::{Batch, Generation};
pub use error::{DecodeError, Error};
pub use events::{Event, Events, Process};
pub use expr::{
    Base, Comparison, CtKey, Data, Direction, Expr, MetaKey, Name, Register, Test, Verdict,
};
pub use object::{
    BaseChain, ByteOrder, Chain, DefaultVerdict, Element, Family, FieldType, Key, KeyType,
    PlacedRule, Role, Rule, Set, SetOrder, SetValue, Table, TableFlags, TableId,
};
pub use socket::Socket;
pub use subject::{Kind, Subject, Verb};
