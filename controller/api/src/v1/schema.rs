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
