//! An API server to test against, and controllers on it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::ApiResource;
use kube::{Api, Client, Config, Resource, ResourceExt};
use margay_api::v1::{IpPool, crds};
use margay_controller::controller::{self, Controller, Settings, Source};
use serde_json::{Value, json};

use crate::harness::Agent;

use super::proxy::Proxy;

/// An API server with our CRDs, and a namespace of the test's own in place of `margay-system`.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    kubeconfig: PathBuf,
    folder: tempfile::TempDir,
}

impl Cluster {
    /// `None`, said on standard error, if there is no API server.
    pub(crate) async fn start(test: &str) -> Option<Self> {
        let Some(kubeconfig) = std::env::var_os("MARGAY_TEST_KUBECONFIG") else {
            eprintln!("skipped: {test}: MARGAY_TEST_KUBECONFIG names no kubeconfig");
            return None;
        };
        let kubeconfig = PathBuf::from(kubeconfig);
        let file = Kubeconfig::read_from(&kubeconfig).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(file, &options).await;
        let client = Client::try_from(config.unwrap()).unwrap();
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        for definition in crds::all() {
            let parameters = PatchParams::apply("test").force();
            let name = definition.name_any();
            definitions
                .patch(&name, &parameters, &Patch::Apply(&definition))
                .await
                .unwrap();
            until(async || {
                let definition = definitions.get(&name).await.unwrap();
                let conditions = definition.status.and_then(|status| status.conditions);
                conditions
                    .into_iter()
                    .flatten()
                    .any(|condition| condition.type_ == "Established" && condition.status == "True")
            })
            .await;
        }
        let namespace = format!("t-{}-{}", test.replace('_', "-"), std::process::id());
        let cluster = Self {
            client,
            namespace,
            kubeconfig,
            folder: tempfile::tempdir().unwrap(),
        };
        let name = cluster.namespace.clone();
        cluster.namespace(&name).await;
        cluster
            .apply::<ServiceAccount>(
                json!({"metadata": {"name": "margay-felix", "namespace": name}}),
            )
            .await;
        Some(cluster)
    }

    /// A namespace, labelled with its name as `team`, with the account that a controller manager would make.
    pub(crate) async fn namespace(&self, name: &str) {
        self.apply::<Namespace>(json!({"metadata": {"name": name, "labels": {"team": name}}}))
            .await;
        self.apply::<ServiceAccount>(json!({"metadata": {"name": "default", "namespace": name}}))
            .await;
    }

    /// A controller named `identity`.
    pub(crate) async fn controller(&self, identity: &str) -> Controller {
        self.controller_at(identity, "127.0.0.1", 0).await
    }

    /// A controller that listens there.
    pub(crate) async fn controller_at(&self, identity: &str, ip: &str, port: u16) -> Controller {
        let address = SocketAddr::new(ip.parse().unwrap(), port);
        let settings = self.settings(identity, address, &self.kubeconfig);
        within(Controller::start(settings)).await.unwrap()
    }

    /// A controller that reaches the API server through `proxy`.
    pub(crate) async fn controller_behind(&self, identity: &str, proxy: &Proxy) -> Controller {
        let mut file = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let server = file.clusters[0].cluster.as_mut().unwrap();
        server.server = Some(format!("https://{}", proxy.address));
        let kubeconfig = self.folder.path().join("kubeconfig");
        fs::write(&kubeconfig, serde_json::to_vec(&file).unwrap()).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = self.settings(identity, address, &kubeconfig);
        within(Controller::start(settings)).await.unwrap()
    }

    fn settings(&self, identity: &str, listen: SocketAddr, kubeconfig: &Path) -> Settings {
        let path = |name: &str| self.folder.path().join(format!("{identity}-{name}"));
        Settings {
            source: Source::Kubernetes(controller::Cluster {
                kubeconfig: Some(kubeconfig.to_owned()),
                namespace: self.namespace.clone(),
                identity: identity.to_owned(),
                agents: "margay-felix".to_owned(),
            }),
            state: path("state"),
            listen,
            socket: path("socket"),
            health: None,
            heartbeat: Duration::from_secs(10),
        }
    }

    /// Where the API server is.
    pub(crate) fn server(&self) -> String {
        let file = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let server = file.clusters[0].cluster.clone().unwrap().server.unwrap();
        server.strip_prefix("https://").unwrap().to_owned()
    }

    /// A file that the API server was started with, if it runs here.
    pub(crate) fn key(&self, name: &str) -> Option<PathBuf> {
        let path = self.kubeconfig.with_file_name("pki").join(name);
        path.exists().then_some(path)
    }

    /// Applies an object, with its status.
    pub(crate) async fn apply<K: Resource<DynamicType = ()>>(&self, mut object: Value) {
        object["apiVersion"] = json!(K::api_version(&()));
        object["kind"] = json!(K::kind(&()));
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let api = self.api::<K>(object["metadata"]["namespace"].as_str());
        let parameters = PatchParams::apply("test").force();
        api.patch(&name, &parameters, &Patch::Apply(&object))
            .await
            .unwrap();
        if object.get("status").is_some() {
            api.patch_status(&name, &parameters, &Patch::Apply(&object))
                .await
                .unwrap();
        }
    }

    /// Deletes an object at once.
    pub(crate) async fn delete<K: Resource<DynamicType = ()>>(
        &self,
        namespace: Option<&str>,
        name: &str,
    ) {
        let parameters = DeleteParams::default().grace_period(0);
        self.api::<K>(namespace)
            .delete(name, &parameters)
            .await
            .unwrap();
    }

    /// All objects of a kind.
    pub(crate) async fn list<K: Resource<DynamicType = ()>>(
        &self,
        namespace: Option<&str>,
    ) -> Vec<DynamicObject> {
        let list = self.api::<K>(namespace).list(&ListParams::default()).await;
        list.unwrap().items
    }

    fn api<K: Resource<DynamicType = ()>>(&self, namespace: Option<&str>) -> Api<DynamicObject> {
        let kind = ApiResource::erase::<K>(&());
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &kind),
            None => Api::all_with(self.client.clone(), &kind),
        }
    }

    /// A node with one address, and a pod of felix on it.
    pub(crate) async fn node(&self, name: &str, address: &str) {
        self.node_with(name, address, json!({})).await;
    }

    /// The same, for pools of `test` alone ([`Self::pool`]): nodes of other tests use others.
    pub(crate) async fn node_of(&self, test: &str, name: &str, address: &str) {
        self.node_with(name, address, json!({"test": test})).await;
    }

    /// A pool for the nodes of `test` alone.
    pub(crate) async fn pool(&self, test: &str, name: &str, cidr: &str) {
        self.apply::<IpPool>(json!({
            "metadata": {"name": name},
            "spec": {"cidr": cidr, "nodeSelector": {"matchLabels": {"test": test}}},
        }))
        .await;
    }

    async fn node_with(&self, name: &str, address: &str, labels: Value) {
        self.apply::<Node>(json!({
            "metadata": {"name": name, "labels": labels},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        }))
        .await;
        self.felix(name).await;
    }

    /// A pod of felix on a node.
    pub(crate) async fn felix(&self, node: &str) {
        self.apply::<Pod>(json!({
            "metadata": {"name": format!("felix-{node}"), "namespace": self.namespace},
            "spec": {
                "serviceAccountName": "margay-felix", "nodeName": node, "hostNetwork": true,
                "containers": [{"name": "felix", "image": "felix"}],
            },
        }))
        .await;
    }

    /// Creates an object with its status, if the server takes it; of a namespace with the account that pods need.
    ///
    /// # Errors
    /// Why it does not.
    pub(crate) async fn create<K: Resource<DynamicType = ()>>(
        &self,
        object: Value,
    ) -> Result<(), String> {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let api = self.api::<K>(object["metadata"]["namespace"].as_str());
        let parsed: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        let created = api.create(&PostParams::default(), &parsed).await;
        created.map_err(|error| format!("{name}: {error}"))?;
        if let Some(status) = object.get("status") {
            // Merged, not applied: of a node's addresses, applying takes one of each type.
            let patch = Patch::Merge(json!({"status": status}));
            let patched = api
                .patch_status(&name, &PatchParams::default(), &patch)
                .await;
            patched.map_err(|error| format!("{name}: {error}"))?;
        }
        if object["kind"] == json!("Namespace") {
            let account = json!({"metadata": {"name": "default", "namespace": name}});
            self.apply::<ServiceAccount>(account).await;
        }
        Ok(())
    }

    /// The pod of a controller's replica.
    pub(crate) async fn replica(&self, name: &str, ip: &str) {
        let labels = json!({
            "app.kubernetes.io/name": "margay", "app.kubernetes.io/component": "controller",
        });
        self.apply::<Pod>(json!({
            "metadata": {"name": name, "namespace": self.namespace, "labels": labels},
            "spec": {"hostNetwork": true, "containers": [{"name": "c", "image": "i"}]},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
        }))
        .await;
    }

    /// The token that felix on a node would have.
    pub(crate) async fn token(&self, node: &str, audience: &str) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![audience.to_owned()],
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(format!("felix-{node}")),
                    uid: None,
                }),
                expiration_seconds: None,
            },
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request("margay-felix", &PostParams::default(), &request)
            .await;
        answer.unwrap().status.unwrap().token
    }

    /// An agent of a node, connected to a controller.
    pub(crate) async fn agent(&self, controller: &Controller, node: &str) -> Agent {
        let token = self.token(node, "margay").await;
        self.agent_with(controller, node, &token).await
    }

    /// The same with another token.
    pub(crate) async fn agent_with(
        &self,
        controller: &Controller,
        node: &str,
        token: &str,
    ) -> Agent {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let map = maps.get("margay-ca").await.unwrap();
        let certificates = &map.data.unwrap()["ca.pem"];
        fs::write(self.folder.path().join("ca.pem"), certificates).unwrap();
        Agent::open(controller.address(), self.folder.path(), node, token, None).await
    }

    /// A name that no other test uses, for objects that are in no namespace.
    pub(crate) fn unique(&self, name: &str) -> String {
        format!("{}-{name}", self.namespace)
    }
}

/// Asks until the answer is yes.
pub(crate) async fn until(mut condition: impl AsyncFnMut() -> bool) {
    within(async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// Waits, but not for ever: far longer than anything here takes.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(2), work)
        .await
        .expect("nothing here takes that long")
}
