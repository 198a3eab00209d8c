//! The CRDs as an API server understands them.

use kube::api::{DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::{Api, Client};

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
