//! Schemas of field types that are not ours, as an API server takes them (structural).
//!
//! What is wrong with a value is told by CEL rules, because their messages can say what to write
//! instead; `type` and lengths are there so that the server can bound what a rule costs.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A prefix in CIDR notation, of either family, without host bits.
pub(super) fn cidr(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 43,
        "x-kubernetes-validations": [
            {
                "rule": "isCIDR(self)",
                "messageExpression": "\"`\" + self + \"` is not a prefix: write an address and a length, as in 10.244.0.0/16 or fd00:10:244::/56\"",
            },
            {
                "rule": "!isCIDR(self) || cidr(self).masked() == cidr(self)",
                "messageExpression": "self + \" has host bits set: write the range's first address, as in 10.244.0.0/16 instead of 10.244.3.7/16\"",
            },
        ],
    })
}

/// An address of either family that a router can have.
pub(super) fn router_address(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 45,
        "x-kubernetes-validations": [
            {
                "rule": "isIP(self)",
                "messageExpression": "\"`\" + self + \"` is not an address: write one as in 192.0.2.1 or 2001:db8::1, without port or length\"",
            },
            {
                "rule": "!isIP(self) || !ip(self).isUnspecified()",
                "messageExpression": "self + \" is no router's address: write the one that the router listens on\"",
            },
        ],
    })
}

/// An AS number of four octets.
pub(super) fn asn(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "integer",
        "format": "int64",
        "x-kubernetes-validations": [{
            "rule": "self >= 1 && self <= 4294967295",
            "message": "not an AS number: use 1 to 4294967295; 64512 to 65534 and 4200000000 to 4294967294 are for private use",
        }],
    })
}

/// A TCP port.
pub(super) fn port(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "integer",
        "format": "int32",
        "x-kubernetes-validations": [{
            "rule": "self >= 1 && self <= 65535",
            "message": "not a port: use 1 to 65535; BGP has 179",
        }],
    })
}

/// A BGP hold time in seconds (RFC 4271 §4.2).
pub(super) fn hold_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "integer",
        "format": "int32",
        "x-kubernetes-validations": [{
            "rule": "self == 0 || (self >= 3 && self <= 65535)",
            "message": "not a hold time: use 0 (sessions never time out), or 3 to 65535 seconds",
        }],
    })
}

/// The prefix length of a pool's blocks; what fits depends on the pool, so the pool's rules say.
pub(super) fn block_size(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int32" })
}

/// A count that is not negative.
pub(super) fn count(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int64" })
}

/// Text without a bound: written by us alone.
pub(super) fn text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string" })
}

/// A label selector (`meta/v1`), with the rules of the API server's own selectors.
pub(super) fn selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {
                "type": "object",
                "description": "Labels that an object must have, all of them.",
                "maxProperties": 32,
                "additionalProperties": { "type": "string", "maxLength": 63 },
            },
            "matchExpressions": {
                "type": "array",
                "description": "Requirements that an object's labels must meet, all of them.",
                "maxItems": 32,
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {
                            "type": "string",
                            "description": "The label's key.",
                            "maxLength": 317,
                            "x-kubernetes-validations": [{
                                "rule": "size(self) > 0",
                                "message": "the label key is missing: write for example topology.kubernetes.io/zone",
                            }],
                        },
                        "operator": {
                            "type": "string",
                            "description": "In, NotIn, Exists or DoesNotExist.",
                            "maxLength": 32,
                            "x-kubernetes-validations": [{
                                "rule": "self in ['In', 'NotIn', 'Exists', 'DoesNotExist']",
                                "messageExpression": "\"`\" + self + \"` is none of In, NotIn, Exists, DoesNotExist\"",
                            }],
                        },
                        "values": {
                            "type": "array",
                            "description": "Values for In and NotIn; none for the others.",
                            "maxItems": 64,
                            "items": { "type": "string", "maxLength": 63 },
                        },
                    },
                    "x-kubernetes-validations": [
                        {
                            "rule": "!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",
                            "messageExpression": "self.operator + \" needs at least one value: write values: [VALUE], or use Exists\"",
                        },
                        {
                            "rule": "!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || size(self.values) == 0",
                            "messageExpression": "self.operator + \" takes no values: leave values out, or use In\"",
                        },
                    ],
                },
            },
        },
    })
}

/// One of these words.
pub(super) fn choice(words: &[&str]) -> Schema {
    let list: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let (rule, words) = (format!("self in [{}]", list.join(", ")), words.join(", "));
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "x-kubernetes-validations": [{
            "rule": rule,
            "messageExpression": format!("'`' + self + '` is none of {words}'"),
        }],
    })
}

/// A number of a range, with what to say of others.
fn number(least: i64, most: i64, message: &str) -> Schema {
    json_schema!({
        "type": "integer",
        "format": "int64",
        "x-kubernetes-validations": [{
            "rule": format!("self >= {least} && self <= {most}"),
            "message": message,
        }],
    })
}

pub(super) fn source_address(_: &mut SchemaGenerator) -> Schema {
    choice(&["UseNodeIP", "None"])
}

pub(super) fn export(_: &mut SchemaGenerator) -> Schema {
    choice(&["Own", "All"])
}

pub(super) fn next_hop(_: &mut SchemaGenerator) -> Schema {
    choice(&["Auto", "Self", "Keep"])
}

pub(super) fn private_as(_: &mut SchemaGenerator) -> Schema {
    choice(&["Keep", "Remove", "Replace"])
}

pub(super) fn limit_action(_: &mut SchemaGenerator) -> Schema {
    choice(&["Warn", "Block", "TearDown"])
}

pub(super) fn filter_action(_: &mut SchemaGenerator) -> Schema {
    choice(&["Accept", "Reject", "Continue"])
}

pub(super) fn route_source(_: &mut SchemaGenerator) -> Schema {
    choice(&["Own", "Aggregate", "EBGP", "IBGP"])
}

pub(super) fn family(_: &mut SchemaGenerator) -> Schema {
    choice(&["IPv4", "IPv6"])
}

pub(super) fn families(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 2,
        "items": choice(&["IPv4", "IPv6"]),
    })
}

/// Hops to a peer.
pub(super) fn hops(_: &mut SchemaGenerator) -> Schema {
    number(
        1,
        255,
        "not a number of hops: use 1 (a neighbour on the same link) to 255",
    )
}

/// A number of one octet.
pub(super) fn octet(_: &mut SchemaGenerator) -> Schema {
    number(0, 255, "use 0 to 255")
}

pub(super) fn percent(_: &mut SchemaGenerator) -> Schema {
    number(1, 100, "use 1 to 100 percent")
}

pub(super) fn prepend(_: &mut SchemaGenerator) -> Schema {
    number(1, 25, "our AS number is put in front 1 to 25 times")
}

/// The length of a prefix of either family; what fits depends on the prefix.
pub(super) fn length(_: &mut SchemaGenerator) -> Schema {
    number(0, 128, "not a prefix length: use 0 to 32, or 128 for IPv6")
}

/// A path attribute of four octets.
pub(super) fn attribute(_: &mut SchemaGenerator) -> Schema {
    number(0, 4_294_967_295, "use 0 to 4294967295")
}

/// A number of prefixes, or of seconds.
pub(super) fn prefix_count(_: &mut SchemaGenerator) -> Schema {
    number(0, 4_294_967_295, "use 0 to 4294967295")
}

/// The time of RFC 4724 §3, in seconds.
pub(super) fn restart_time(_: &mut SchemaGenerator) -> Schema {
    number(1, 4095, "not a restart time: use 1 to 4095 seconds")
}

/// The time of RFC 9494 §3, in seconds.
pub(super) fn long_lived(_: &mut SchemaGenerator) -> Schema {
    number(0, 16_777_215, "use at most 16777215 seconds")
}

pub(super) fn bfd_interval(_: &mut SchemaGenerator) -> Schema {
    number(10, 60_000, "use 10 to 60000 milliseconds")
}

pub(super) fn bfd_multiplier(_: &mut SchemaGenerator) -> Schema {
    number(1, 255, "use 1 to 255 packets; 3 is usual")
}

/// The name of a link.
pub(super) fn interface(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 15,
        "x-kubernetes-validations": [{
            "rule": "self.matches('^[^/ ]+$')",
            "messageExpression": "'`' + self + '` is not the name of a link: write one as in eth0'",
        }],
    })
}

/// The text that a peer reads of an end that is meant (RFC 9003).
pub(super) fn shutdown(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 255 })
}

/// The path of a file on the nodes.
pub(super) fn absolute_path(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 4096,
        "x-kubernetes-validations": [{
            "rule": "self.startsWith('/')",
            "messageExpression": "'`' + self + '` is not an absolute path; it is one on the nodes'",
        }],
    })
}

/// The name of an object, or of a key in it.
pub(super) fn object_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "minLength": 1, "maxLength": 253 })
}

pub(super) fn object_names(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": object_name(generator),
    })
}

pub(super) fn cidrs(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": cidr(generator),
    })
}

/// Communities of either kind.
pub(super) fn communities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": {
            "type": "string",
            "maxLength": 32,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^([0-9]{1,5}:[0-9]{1,5}|[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}|no-export|no-advertise|no-export-subconfed|graceful-shutdown)$')",
                "messageExpression": "'`' + self + '` is no community: write 64512:100 (two numbers up to 65535), 64512:100:1 (a large one), or one of graceful-shutdown, no-export, no-advertise, no-export-subconfed'",
            }],
        },
    })
}

/// A pattern over `AS_PATH`.
pub(super) fn as_path(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 512,
        "x-kubernetes-validations": [{
            "rule": "self.matches('^ *(([*]|[?]|[0-9]{1,10}(-[0-9]{1,10})?)( +|$))*$')",
            "messageExpression": "'`' + self + '` is no pattern over an AS path: write *, ?, numbers, and ranges as in `* 65000 64512-65534`'",
        }],
    })
}
