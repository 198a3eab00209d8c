//! The definitions of our kinds for an API server, as they stand in `manifests/crds`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, JSON, JSONSchemaProps, ValidationRule,
};
use kube::CustomResourceExt;
use serde_json::json;

use super::{BgpFilter, BgpPeer, IpBlock, IpPool, NetworkConfig, NodeStatus};

/// A column of `kubectl get`: its head, its type, and where its value stands.
type Column = (&'static str, &'static str, &'static str);

/// All of them, by the name of their kind.
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut network_config = with_columns(
        NetworkConfig::crd(),
        &[
            ("ASN", "integer", ".spec.bgp.asn"),
            ("Topology", "string", ".spec.bgp.topology"),
            ("IPAM", "string", ".spec.ipam"),
        ],
    );
    if let Some(root) = root(&mut network_config) {
        root.x_kubernetes_validations = Some(vec![ValidationRule {
            rule: "self.metadata.name == 'default'".to_owned(),
            message: Some(
                "there is one NetworkConfig and it is named `default`: kubectl edit networkconfig default"
                    .to_owned(),
            ),
            ..ValidationRule::default()
        }]);
        optional_spec(root);
    }
    let mut node_status = with_columns(
        NodeStatus::crd(),
        &[
            ("Agent", "string", ".status.agent"),
            ("Policy", "string", ".status.policy"),
            ("BGP", "string", ".status.bgp"),
            ("Pods", "integer", ".status.pods"),
            ("Drift", "integer", ".status.repairs"),
            ("Version", "string", ".status.version"),
        ],
    );
    if let Some(root) = root(&mut node_status) {
        optional_spec(root);
    }
    vec![
        with_columns(
            BgpPeer::crd(),
            &[
                ("Address", "string", ".spec.peerAddress"),
                ("ASN", "integer", ".spec.peerASN"),
                ("Filters", "string", ".spec.filters"),
                ("Shutdown", "string", ".spec.shutdown"),
            ],
        ),
        with_columns(
            BgpFilter::crd(),
            &[
                ("Import", "string", ".spec.import"),
                ("Export", "string", ".spec.export"),
            ],
        ),
        with_columns(
            IpBlock::crd(),
            &[
                ("CIDR", "string", ".spec.cidr"),
                ("Node", "string", ".spec.node"),
            ],
        ),
        with_columns(
            IpPool::crd(),
            &[
                ("CIDR", "string", ".spec.cidr"),
                ("Block", "integer", ".spec.blockSize"),
                ("NAT", "boolean", ".spec.natOutgoing"),
                ("Disabled", "boolean", ".spec.disabled"),
                ("Nodes", "string", ".spec.nodeSelector"),
                ("Namespaces", "string", ".spec.namespaceSelector"),
            ],
        ),
        network_config,
        node_status,
    ]
}

fn with_columns(
    mut definition: CustomResourceDefinition,
    columns: &[Column],
) -> CustomResourceDefinition {
    let age = ("Age", "date", ".metadata.creationTimestamp");
    for version in &mut definition.spec.versions {
        let columns = columns.iter().chain([&age]);
        version.additional_printer_columns = Some(
            columns
                .map(|(head, type_, path)| CustomResourceColumnDefinition {
                    name: (*head).to_owned(),
                    type_: (*type_).to_owned(),
                    json_path: (*path).to_owned(),
                    ..CustomResourceColumnDefinition::default()
                })
                .collect(),
        );
        // The name of a type in our sources is nobody's business.
        if let Some(root) = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
        {
            root.title = None;
        }
    }
    definition
}

/// The schema of the whole object.
fn root(definition: &mut CustomResourceDefinition) -> Option<&mut JSONSchemaProps> {
    let version = definition.spec.versions.first_mut()?;
    version.schema.as_mut()?.open_api_v3_schema.as_mut()
}

/// Lets an object without `spec` be one with all defaults.
fn optional_spec(root: &mut JSONSchemaProps) {
    root.required = None;
    if let Some(spec) = root
        .properties
        .as_mut()
        .and_then(|properties| properties.get_mut("spec"))
    {
        spec.default = Some(JSON(json!({})));
    }
}
