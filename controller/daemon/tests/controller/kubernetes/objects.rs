//! The CRDs as an API server understands them.

use std::fmt::Debug;

use kube::api::{DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::{Api, Client};
use margay_api::v1::{BgpPeerSpec, IpPoolSpec, NetworkConfigSpec};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json, to_value};

use super::cluster::Cluster;

const GOOD: &str = include_str!("../../../../api/tests/objects/good.yaml");
const BAD: &str = include_str!("../../../../api/tests/objects/bad.yaml");

#[tokio::test]
async fn good_objects_are_accepted() {
    let Some(cluster) = Cluster::start("good_objects_are_accepted").await else {
        return;
    };
    let mut count = 0;
    for document in GOOD.split("---\n") {
        count += 1;
        match create(&cluster.client, document).await {
            Ok(_) => {}
            // One of that name is there: this is found out after all checks.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("{document}\n{error}"),
        }
    }
    assert!(count >= 20, "{count}");
}

#[tokio::test]
async fn bad_objects_are_refused_with_what_to_write_instead() {
    let Some(cluster) = Cluster::start("bad_objects_are_refused").await else {
        return;
    };
    let mut count = 0;
    let mut wrong = Vec::new();
    for document in BAD.split("---\n") {
        let words = document
            .lines()
            .find_map(|line| line.strip_prefix("# refused: "))
            .unwrap();
        count += 1;
        match create(&cluster.client, document).await {
            Ok(_) => wrong.push(format!("accepted:\n{document}")),
            Err(kube::Error::Api(status)) if status.message.contains(words) => {}
            Err(error) => wrong.push(format!("{document}\nrefused otherwise: {error}")),
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "{}", wrong.join("\n"));
    assert!(count >= 40, "{count}");
}

#[tokio::test]
async fn the_server_fills_in_the_defaults_that_we_have() {
    let Some(cluster) = Cluster::start("the_server_fills_in").await else {
        return;
    };
    let name = cluster.unique("plain");
    let pool = json!({"cidr": "10.0.0.0/16"});
    let peer = json!({"peerAddress": "192.0.2.1", "peerASN": 64512});
    fills_in::<IpPoolSpec>(&cluster, "IPPool", &name, pool).await;
    fills_in::<BgpPeerSpec>(&cluster, "BGPPeer", &name, peer).await;
    // No test makes one.
    fills_in::<NetworkConfigSpec>(&cluster, "NetworkConfig", "default", json!({})).await;
}

/// The server answers with what our types have where nothing is said.
async fn fills_in<S>(cluster: &Cluster, kind: &str, name: &str, spec: Value)
where
    S: DeserializeOwned + Serialize + PartialEq + Debug,
{
    let document = json!({
        "apiVersion": "margay.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
    });
    let answer = create(&cluster.client, &document.to_string()).await;
    let filled = answer.unwrap().data["spec"].clone();
    let ours: S = from_value(spec).unwrap();
    assert_eq!(from_value::<S>(filled.clone()).unwrap(), ours, "{kind}");
    let Value::Object(fields) = to_value(ours).unwrap() else {
        panic!("a spec has fields");
    };
    for (field, value) in fields {
        assert_eq!(filled[&field], value, "{kind}: {field} of {filled}");
    }
}

/// A dry run; the server does everything but keep it.
async fn create(client: &Client, document: &str) -> kube::Result<DynamicObject> {
    let object: DynamicObject = serde_saphyr::from_str(document).unwrap();
    let kind = &object.types.as_ref().unwrap().kind;
    let gvk = GroupVersionKind::gvk("margay.io", "v1alpha1", kind);
    let plural = if kind == "NodeStatus" {
        "nodestatuses".to_owned()
    } else {
        format!("{}s", kind.to_lowercase())
    };
    let api: Api<DynamicObject> = Api::all_with(
        client.clone(),
        &ApiResource::from_gvk_with_plural(&gvk, &plural),
    );
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    api.create(&parameters, &object).await
}
