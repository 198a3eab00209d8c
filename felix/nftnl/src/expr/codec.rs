//! Expressions as attributes.

use super::{Base, Comparison, CtKey, Data, Direction, Expr, MetaKey, Register, Test, Verdict};
use crate::error::DecodeError;
use crate::uapi;
use crate::wire::{Attr, Attrs, Writer};

impl Expr {
    /// The kernel's name of this kind of expression.
    pub fn name(&self) -> &str {
        match self {
            Self::Meta { .. } => "meta",
            Self::Payload { .. } => "payload",
            Self::Ct { .. } | Self::SetCtMark { .. } => "ct",
            Self::Compare { .. } => "cmp",
            Self::Bitwise { .. } => "bitwise",
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::Lookup { .. } | Self::VerdictMap { .. } => "lookup",
            Self::Range { .. } => "range",
            Self::Masquerade => "masq",
            Self::Counter { .. } => "counter",
            Self::Other { name, .. } => name,
        }
    }

    /// Writes the expression as one list element.
    pub(crate) fn encode(&self, w: &mut Writer) {
        let element = w.nest(uapi::NFTA_LIST_ELEM);
        w.text(uapi::NFTA_EXPR_NAME, self.name());
        let data = w.nest(uapi::NFTA_EXPR_DATA);
        match self {
            Self::Meta { key, to } => {
                w.u32(uapi::NFTA_META_DREG, to.code());
                w.u32(uapi::NFTA_META_KEY, key.code());
            }
            Self::Payload {
                base,
                offset,
                length,
                to,
            } => {
                w.u32(uapi::NFTA_PAYLOAD_DREG, to.code());
                w.u32(uapi::NFTA_PAYLOAD_BASE, base.code());
                w.u32(uapi::NFTA_PAYLOAD_OFFSET, *offset);
                w.u32(uapi::NFTA_PAYLOAD_LEN, *length);
            }
            Self::Ct { key, to } => {
                let (code, direction) = key.code();
                w.u32(uapi::NFTA_CT_DREG, to.code());
                w.u32(uapi::NFTA_CT_KEY, code);
                if let Some(direction) = direction {
                    w.attr(
                        uapi::NFTA_CT_DIRECTION,
                        &[u8::from(direction == Direction::Reply)],
                    );
                }
            }
            Self::SetCtMark { from } => {
                w.u32(uapi::NFTA_CT_KEY, CtKey::Mark.code().0);
                w.u32(uapi::NFTA_CT_SREG, from.code());
            }
            Self::Compare {
                op,
                register,
                value,
            } => {
                w.u32(uapi::NFTA_CMP_SREG, register.code());
                w.u32(uapi::NFTA_CMP_OP, op.code());
                constant(w, uapi::NFTA_CMP_DATA, value);
            }
            Self::Bitwise {
                from,
                to,
                mask,
                xor,
            } => {
                w.u32(uapi::NFTA_BITWISE_SREG, from.code());
                w.u32(uapi::NFTA_BITWISE_DREG, to.code());
                w.u32(uapi::NFTA_BITWISE_LEN, u32::from(mask.length));
                constant(w, uapi::NFTA_BITWISE_MASK, mask);
                constant(w, uapi::NFTA_BITWISE_XOR, xor);
            }
            Self::Immediate { to, value } => {
                w.u32(uapi::NFTA_IMMEDIATE_DREG, to.code());
                constant(w, uapi::NFTA_IMMEDIATE_DATA, value);
            }
            Self::Verdict(verdict) => {
                w.u32(uapi::NFTA_IMMEDIATE_DREG, VERDICT_REGISTER);
                let value = w.nest(uapi::NFTA_IMMEDIATE_DATA);
                verdict.encode(w);
                w.close(value);
            }
            Self::Lookup { set, key, test } => {
                w.text(uapi::NFTA_LOOKUP_SET, set);
                w.u32(uapi::NFTA_LOOKUP_SREG, key.code());
                w.u32(uapi::NFTA_LOOKUP_FLAGS, test.code());
            }
            Self::VerdictMap { map, key } => {
                w.text(uapi::NFTA_LOOKUP_SET, map);
                w.u32(uapi::NFTA_LOOKUP_SREG, key.code());
                w.u32(uapi::NFTA_LOOKUP_DREG, VERDICT_REGISTER);
            }
            Self::Range {
                register,
                test,
                first,
                last,
            } => {
                w.u32(uapi::NFTA_RANGE_SREG, register.code());
                w.u32(uapi::NFTA_RANGE_OP, test.code());
                constant(w, uapi::NFTA_RANGE_FROM_DATA, first);
                constant(w, uapi::NFTA_RANGE_TO_DATA, last);
            }
            Self::Masquerade => {}
            Self::Counter { packets, octets } => {
                w.u64(uapi::NFTA_COUNTER_BYTES, *octets);
                w.u64(uapi::NFTA_COUNTER_PACKETS, *packets);
            }
            Self::Other { attributes, .. } => w.bytes.extend_from_slice(attributes),
        }
        w.close(data);
        w.close(element);
    }

    /// Reads one list element. What this crate has no value for becomes [`Expr::Other`].
    pub(crate) fn decode(element: Attrs<'_>) -> Result<Self, DecodeError> {
        let name = element
            .need(uapi::NFTA_EXPR_NAME, "name of an expression")?
            .text("name of an expression")?;
        let data = element
            .find(uapi::NFTA_EXPR_DATA)?
            .map_or(Attrs(&[]), Attr::nested);
        match Self::known(name, data) {
            Ok(Some(expr)) => Ok(expr),
            Ok(None) | Err(_) => Ok(Self::Other {
                name: name.to_owned(),
                attributes: data.0.to_vec(),
            }),
        }
    }

    fn known(name: &str, data: Attrs<'_>) -> Result<Option<Self>, DecodeError> {
        let number = |kind, what| data.need(kind, what)?.u32(what);
        let register = |kind| register_of(number(kind, "register")?);
        Ok(Some(match name {
            "meta" => Self::Meta {
                key: MetaKey::of(number(uapi::NFTA_META_KEY, "meta key")?)?,
                to: register(uapi::NFTA_META_DREG)?,
            },
            "payload" => Self::Payload {
                base: Base::of(number(uapi::NFTA_PAYLOAD_BASE, "payload base")?)?,
                offset: number(uapi::NFTA_PAYLOAD_OFFSET, "payload offset")?,
                length: number(uapi::NFTA_PAYLOAD_LEN, "payload length")?,
                to: register(uapi::NFTA_PAYLOAD_DREG)?,
            },
            "ct" => return known_ct(data).map(Some),
            "cmp" => Self::Compare {
                op: Comparison::of(number(uapi::NFTA_CMP_OP, "comparison")?)?,
                register: register(uapi::NFTA_CMP_SREG)?,
                value: constant_of(data, uapi::NFTA_CMP_DATA)?,
            },
            "bitwise" => {
                if let Some(op) = data
                    .find(uapi::NFTA_BITWISE_OP)?
                    .map(|op| op.u32("bitwise operation"))
                    .transpose()?
                    && op != 0
                {
                    return Ok(None); // a shift
                }
                Self::Bitwise {
                    from: register(uapi::NFTA_BITWISE_SREG)?,
                    to: register(uapi::NFTA_BITWISE_DREG)?,
                    mask: constant_of(data, uapi::NFTA_BITWISE_MASK)?,
                    xor: constant_of(data, uapi::NFTA_BITWISE_XOR)?,
                }
            }
            "immediate" if number(uapi::NFTA_IMMEDIATE_DREG, "register")? == VERDICT_REGISTER => {
                let value = data.need(uapi::NFTA_IMMEDIATE_DATA, "constant")?.nested();
                Self::Verdict(Verdict::decode(value)?)
            }
            "immediate" => Self::Immediate {
                to: register(uapi::NFTA_IMMEDIATE_DREG)?,
                value: constant_of(data, uapi::NFTA_IMMEDIATE_DATA)?,
            },
            "lookup" => return known_lookup(data),
            "range" => Self::Range {
                register: register(uapi::NFTA_RANGE_SREG)?,
                test: Test::of(number(uapi::NFTA_RANGE_OP, "range operation")?)?,
                first: constant_of(data, uapi::NFTA_RANGE_FROM_DATA)?,
                last: constant_of(data, uapi::NFTA_RANGE_TO_DATA)?,
            },
            "masq" if data.0.is_empty() => Self::Masquerade,
            "counter" => Self::Counter {
                packets: data
                    .need(uapi::NFTA_COUNTER_PACKETS, "packets")?
                    .u64("packets")?,
                octets: data
                    .need(uapi::NFTA_COUNTER_BYTES, "octets")?
                    .u64("octets")?,
            },
            _ => return Ok(None),
        }))
    }
}

/// `NFT_REG_VERDICT`.
const VERDICT_REGISTER: u32 = 0;

fn register_of(code: u32) -> Result<Register, DecodeError> {
    Register::of(code).ok_or(DecodeError::Value {
        what: "register",
        value: code,
    })
}

fn constant(w: &mut Writer, kind: u16, value: &Data) {
    let nested = w.nest(kind);
    w.attr(uapi::NFTA_DATA_VALUE, value.octets());
    w.close(nested);
}

fn constant_of(data: Attrs<'_>, kind: u16) -> Result<Data, DecodeError> {
    let value = data
        .need(kind, "constant")?
        .nested()
        .need(uapi::NFTA_DATA_VALUE, "constant")?
        .value;
    Data::new(value).ok_or(DecodeError::Missing {
        what: "constant of 1 to 16 octets",
    })
}

fn known_ct(data: Attrs<'_>) -> Result<Expr, DecodeError> {
    let key = data.need(uapi::NFTA_CT_KEY, "ct key")?.u32("ct key")?;
    let direction = data
        .find(uapi::NFTA_CT_DIRECTION)?
        .map(|direction| direction.u8("ct direction"))
        .transpose()?;
    let key = CtKey::of(key, direction)?;
    match data.find(uapi::NFTA_CT_SREG)? {
        Some(from) if key == CtKey::Mark => Ok(Expr::SetCtMark {
            from: register_of(from.u32("register")?)?,
        }),
        Some(_) => Err(DecodeError::Missing {
            what: "ct mark as what is written",
        }),
        None => {
            let to = register_of(data.need(uapi::NFTA_CT_DREG, "register")?.u32("register")?)?;
            Ok(Expr::Ct { key, to })
        }
    }
}

fn known_lookup(data: Attrs<'_>) -> Result<Option<Expr>, DecodeError> {
    let set = data
        .need(uapi::NFTA_LOOKUP_SET, "set of a lookup")?
        .text("set of a lookup")?
        .to_owned();
    let key = register_of(
        data.need(uapi::NFTA_LOOKUP_SREG, "register")?
            .u32("register")?,
    )?;
    let flags = data
        .find(uapi::NFTA_LOOKUP_FLAGS)?
        .map(|flags| flags.u32("lookup flags"))
        .transpose()?
        .unwrap_or(0);
    match data
        .find(uapi::NFTA_LOOKUP_DREG)?
        .map(|to| to.u32("register"))
        .transpose()?
    {
        None => Ok(Some(Expr::Lookup {
            set,
            key,
            test: Test::of(flags)?,
        })),
        Some(VERDICT_REGISTER) if flags == 0 => Ok(Some(Expr::VerdictMap { map: set, key })),
        Some(_) => Ok(None),
    }
}

impl Test {
    fn code(self) -> u32 {
        match self {
            Self::Is => 0,
            Self::IsNot => 1,
        }
    }

    fn of(code: u32) -> Result<Self, DecodeError> {
        match code {
            0 => Ok(Self::Is),
            1 => Ok(Self::IsNot),
            value => Err(DecodeError::Value {
                what: "test",
                value,
            }),
        }
    }
}

impl CtKey {
    fn code(self) -> (u32, Option<Direction>) {
        match self {
            Self::State => (0, None),
            Self::Direction => (1, None),
            Self::Mark => (3, None),
            Self::Protocol => (10, None),
            Self::SourcePort(direction) => (11, Some(direction)),
            Self::DestinationPort(direction) => (12, Some(direction)),
            Self::Source4(direction) => (19, Some(direction)),
            Self::Destination4(direction) => (20, Some(direction)),
            Self::Source6(direction) => (21, Some(direction)),
            Self::Destination6(direction) => (22, Some(direction)),
        }
    }

    fn of(code: u32, direction: Option<u8>) -> Result<Self, DecodeError> {
        let directed = match direction {
            None => Err(DecodeError::Missing {
                what: "ct direction",
            }),
            Some(0) => Ok(Direction::Original),
            Some(1) => Ok(Direction::Reply),
            Some(value) => Err(DecodeError::Value {
                what: "ct direction",
                value: value.into(),
            }),
        };
        Ok(match code {
            0 => Self::State,
            1 => Self::Direction,
            3 => Self::Mark,
            10 => Self::Protocol,
            11 => Self::SourcePort(directed?),
            12 => Self::DestinationPort(directed?),
            19 => Self::Source4(directed?),
            20 => Self::Destination4(directed?),
            21 => Self::Source6(directed?),
            22 => Self::Destination6(directed?),
            value => {
                return Err(DecodeError::Value {
                    what: "ct key",
                    value,
                });
            }
        })
    }
}

impl Verdict {
    /// Writes `NFTA_DATA_VERDICT`.
    pub(crate) fn encode(&self, w: &mut Writer) {
        let nested = w.nest(uapi::NFTA_DATA_VERDICT);
        let (code, chain) = match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Continue => (-1, None),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Goto(chain) => (-4, Some(chain)),
            Self::Return => (-5, None),
        };
        w.attr(uapi::NFTA_VERDICT_CODE, &i32::to_be_bytes(code));
        if let Some(chain) = chain {
            w.text(uapi::NFTA_VERDICT_CHAIN, chain);
        }
        w.close(nested);
    }

    /// Reads the `NFTA_DATA_VERDICT` among these attributes.
    pub(crate) fn decode(data: Attrs<'_>) -> Result<Self, DecodeError> {
        let verdict = data.need(uapi::NFTA_DATA_VERDICT, "verdict")?.nested();
        let code = verdict
            .need(uapi::NFTA_VERDICT_CODE, "verdict")?
            .u32("verdict")?;
        let chain = || {
            Ok(verdict
                .need(uapi::NFTA_VERDICT_CHAIN, "chain of a verdict")?
                .text("chain of a verdict")?
                .to_owned())
        };
        Ok(match code.cast_signed() {
            0 => Self::Drop,
            1 => Self::Accept,
            -1 => Self::Continue,
            -3 => Self::Jump(chain()?),
            -4 => Self::Goto(chain()?),
            -5 => Self::Return,
            _ => {
                return Err(DecodeError::Value {
                    what: "verdict",
                    value: code,
                });
            }
        })
    }
}
