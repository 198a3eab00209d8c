//! Tables, chains, rules, sets and elements as attributes.

use super::{
    BaseChain, ByteOrder, Chain, DefaultVerdict, Element, Family, Key, KeyType, PlacedRule, Role,
    Rule, Set, SetOrder, SetValue, Table, TableFlags, TableId,
};
use crate::error::DecodeError;
use crate::expr::{Expr, Verdict};
use crate::uapi;
use crate::wire::{Attrs, Writer};

impl Table {
    pub(crate) fn decode(family: Family, attrs: Attrs<'_>) -> Result<Self, DecodeError> {
        let name = attrs
            .need(uapi::NFTA_TABLE_NAME, "name of a table")?
            .text("name of a table")?
            .to_owned();
        let flags = attrs
            .find(uapi::NFTA_TABLE_FLAGS)?
            .map(|flags| flags.u32("flags of a table"))
            .transpose()?;
        Ok(Self {
            id: TableId { family, name },
            flags: TableFlags(flags.unwrap_or(0)),
            owner: attrs
                .find(uapi::NFTA_TABLE_OWNER)?
                .map(|owner| owner.u32("owner of a table"))
                .transpose()?,
        })
    }
}

impl Chain {
    pub(crate) fn encode(&self, w: &mut Writer) {
        w.text(uapi::NFTA_CHAIN_NAME, &self.name);
        let Some(base) = &self.base else { return };
        let hook = w.nest(uapi::NFTA_CHAIN_HOOK);
        w.u32(uapi::NFTA_HOOK_HOOKNUM, base.hook);
        w.attr(uapi::NFTA_HOOK_PRIORITY, &base.priority.to_be_bytes());
        w.close(hook);
        w.text(uapi::NFTA_CHAIN_TYPE, &base.chain_type);
        w.u32(
            uapi::NFTA_CHAIN_POLICY,
            u32::from(base.default_verdict == DefaultVerdict::Accept),
        );
    }

    pub(crate) fn decode(attrs: Attrs<'_>) -> Result<Self, DecodeError> {
        let name = attrs
            .need(uapi::NFTA_CHAIN_NAME, "name of a chain")?
            .text("name of a chain")?
            .to_owned();
        let Some(hook) = attrs.find(uapi::NFTA_CHAIN_HOOK)? else {
            return Ok(Self { name, base: None });
        };
        let hook = hook.nested();
        let policy = attrs
            .find(uapi::NFTA_CHAIN_POLICY)?
            .map(|policy| policy.u32("policy of a chain"))
            .transpose()?;
        let default_verdict = match policy {
            Some(0) => DefaultVerdict::Drop,
            Some(_) | None => DefaultVerdict::Accept,
        };
        let base = BaseChain {
            hook: hook
                .need(uapi::NFTA_HOOK_HOOKNUM, "hook of a chain")?
                .u32("hook of a chain")?,
            priority: hook
                .need(uapi::NFTA_HOOK_PRIORITY, "priority of a chain")?
                .u32("priority of a chain")?
                .cast_signed(),
            chain_type: attrs
                .need(uapi::NFTA_CHAIN_TYPE, "type of a chain")?
                .text("type of a chain")?
                .to_owned(),
            default_verdict,
        };
        Ok(Self {
            name,
            base: Some(base),
        })
    }
}

impl Rule {
    pub(crate) fn encode(&self, w: &mut Writer) {
        let list = w.nest(uapi::NFTA_RULE_EXPRESSIONS);
        for expr in &self.exprs {
            expr.encode(w);
        }
        w.close(list);
        if !self.comment.is_empty() {
            let mut userdata = Vec::with_capacity(self.comment.len() + 3);
            put_userdata(
                &mut userdata,
                uapi::NFTNL_UDATA_RULE_COMMENT,
                self.comment.as_bytes(),
                &[0],
            );
            w.attr(uapi::NFTA_RULE_USERDATA, &userdata);
        }
    }
}

impl PlacedRule {
    pub(crate) fn decode(attrs: Attrs<'_>) -> Result<Self, DecodeError> {
        let mut exprs = Vec::new();
        if let Some(list) = attrs.find(uapi::NFTA_RULE_EXPRESSIONS)? {
            for element in list.nested() {
                exprs.push(Expr::decode(element?.nested())?);
            }
        }
        let userdata = attrs
            .find(uapi::NFTA_RULE_USERDATA)?
            .map_or(&[][..], |userdata| userdata.value);
        let comment = find_userdata(userdata, uapi::NFTNL_UDATA_RULE_COMMENT).unwrap_or_default();
        Ok(Self {
            chain: attrs
                .need(uapi::NFTA_RULE_CHAIN, "chain of a rule")?
                .text("chain of a rule")?
                .to_owned(),
            handle: attrs
                .need(uapi::NFTA_RULE_HANDLE, "handle of a rule")?
                .u64("handle of a rule")?,
            rule: Rule::new(exprs, &String::from_utf8_lossy(comment)),
        })
    }
}

impl Set {
    /// `id` tells the sets of one batch apart.
    pub(crate) fn encode(&self, w: &mut Writer, id: u32) {
        w.text(uapi::NFTA_SET_NAME, &self.name);
        let order = match self.order {
            SetOrder::Keys => 0,
            SetOrder::Ranges => uapi::NFT_SET_INTERVAL,
            SetOrder::Other(flags) => flags,
        };
        let map = if self.value == SetValue::Nothing {
            0
        } else {
            uapi::NFT_SET_MAP
        };
        w.u32(uapi::NFTA_SET_FLAGS, order | map);
        w.u32(uapi::NFTA_SET_KEY_TYPE, self.key.code);
        w.u32(uapi::NFTA_SET_KEY_LEN, self.key.length);
        match self.value {
            SetValue::Nothing => {}
            SetValue::Verdict => {
                w.u32(uapi::NFTA_SET_DATA_TYPE, uapi::NFT_DATA_VERDICT);
                w.u32(uapi::NFTA_SET_DATA_LEN, 0);
            }
            SetValue::Other(kind) => w.u32(uapi::NFTA_SET_DATA_TYPE, kind),
        }
        w.u32(uapi::NFTA_SET_ID, id);
        if let Some(limit) = self.limit {
            let description = w.nest(uapi::NFTA_SET_DESC);
            w.u32(uapi::NFTA_SET_DESC_SIZE, limit);
            w.close(description);
        }
        let order: u32 = match self.key.byte_order {
            None => 0,
            Some(ByteOrder::Host) => 1,
            Some(ByteOrder::Network) => 2,
        };
        let mut userdata = Vec::with_capacity(6);
        put_userdata(
            &mut userdata,
            uapi::NFTNL_UDATA_SET_KEYBYTEORDER,
            &order.to_ne_bytes(),
            &[],
        );
        w.attr(uapi::NFTA_SET_USERDATA, &userdata);
    }

    pub(crate) fn decode(attrs: Attrs<'_>) -> Result<Self, DecodeError> {
        let number = |kind, what| attrs.find(kind)?.map(|value| value.u32(what)).transpose();
        let flags = number(uapi::NFTA_SET_FLAGS, "flags of a set")?.unwrap_or(0);
        let data = number(uapi::NFTA_SET_DATA_TYPE, "data type of a map")?.unwrap_or(0);
        Ok(Self {
            name: attrs
                .need(uapi::NFTA_SET_NAME, "name of a set")?
                .text("name of a set")?
                .to_owned(),
            key: KeyType {
                code: number(uapi::NFTA_SET_KEY_TYPE, "key type of a set")?.unwrap_or(0),
                length: attrs
                    .need(uapi::NFTA_SET_KEY_LEN, "key length of a set")?
                    .u32("key length of a set")?,
                byte_order: None,
            },
            order: match flags & !uapi::NFT_SET_MAP {
                0 => SetOrder::Keys,
                uapi::NFT_SET_INTERVAL => SetOrder::Ranges,
                flags => SetOrder::Other(flags),
            },
            value: match (flags & uapi::NFT_SET_MAP, data) {
                (0, _) => SetValue::Nothing,
                (_, uapi::NFT_DATA_VERDICT) => SetValue::Verdict,
                (_, kind) => SetValue::Other(kind),
            },
            limit: match attrs.find(uapi::NFTA_SET_DESC)? {
                Some(description) => description
                    .nested()
                    .find(uapi::NFTA_SET_DESC_SIZE)?
                    .map(|limit| limit.u32("limit of a set"))
                    .transpose()?,
                None => None,
            },
        })
    }
}

impl Element {
    /// Writes the element as one list element.
    pub(crate) fn encode(&self, w: &mut Writer) {
        let element = w.nest(uapi::NFTA_LIST_ELEM);
        if self.role == Role::End {
            w.u32(uapi::NFTA_SET_ELEM_FLAGS, uapi::NFT_SET_ELEM_INTERVAL_END);
        }
        let key = w.nest(uapi::NFTA_SET_ELEM_KEY);
        w.attr(uapi::NFTA_DATA_VALUE, self.key.octets());
        w.close(key);
        if let Some(verdict) = &self.verdict {
            let data = w.nest(uapi::NFTA_SET_ELEM_DATA);
            verdict.encode(w);
            w.close(data);
        }
        w.close(element);
    }

    pub(crate) fn decode(attrs: Attrs<'_>) -> Result<Self, DecodeError> {
        let flags = attrs
            .find(uapi::NFTA_SET_ELEM_FLAGS)?
            .map(|flags| flags.u32("flags of an element"))
            .transpose()?;
        let role = match flags.unwrap_or(0) {
            0 => Role::Key,
            uapi::NFT_SET_ELEM_INTERVAL_END => Role::End,
            _ => Role::Other,
        };
        let key = match attrs.find(uapi::NFTA_SET_ELEM_KEY)? {
            Some(key) => {
                key.nested()
                    .need(uapi::NFTA_DATA_VALUE, "key of an element")?
                    .value
            }
            None if role == Role::Other => &[],
            None => {
                return Err(DecodeError::Missing {
                    what: "key of an element",
                });
            }
        };
        let key = Key::of(key).ok_or(DecodeError::Length {
            what: "key of an element",
            says: Key::LIMIT,
            has: key.len(),
        })?;
        let verdict = match attrs.find(uapi::NFTA_SET_ELEM_DATA)? {
            Some(data) if data.nested().find(uapi::NFTA_DATA_VERDICT)?.is_some() => {
                Some(Verdict::decode(data.nested())?)
            }
            Some(_) | None => None,
        };
        Ok(Self { key, role, verdict })
    }
}

/// Appends what nft keeps for itself: a type, a length and a value (libnftnl, `udata.h`).
fn put_userdata(to: &mut Vec<u8>, kind: u8, value: &[u8], end: &[u8]) {
    to.push(kind);
    to.push(u8::try_from(value.len() + end.len()).expect("comments are cut to 128 octets"));
    to.extend_from_slice(value);
    to.extend_from_slice(end);
}

/// Finds what nft keeps for itself; `None` also if the octets are no such list.
fn find_userdata(mut userdata: &[u8], wanted: u8) -> Option<&[u8]> {
    while let [kind, length, rest @ ..] = userdata {
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        if *kind == wanted {
            return Some(value);
        }
        userdata = rest;
    }
    None
}
