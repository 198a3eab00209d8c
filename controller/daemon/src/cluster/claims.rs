//! Block claims as `IPBlock` objects: to create the one that a range is named by is the claim.
//!
//! Any replica may claim, because two cannot create one object; so an agent gets its block from the replica that
//! it is connected to, also while no replica leads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use kube::api::PostParams;
use kube::{Api, Client};
use margay_api::v1::IpBlock;
use margay_api::v1::ipblock::name_of;
use margay_policy::model::NodeName;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{info, warn};

use super::events::Events;
use super::{FIELD_MANAGER, answer};
use crate::allocate::{Claims, Refused, Request, choose};
use crate::index_task::{Input, PageRequest};
use crate::network::Inputs;

/// How often to try another block when one turns out to be taken.
const TRIES: usize = 16;

/// How long a pod may be without an address before its owner is told that there is none.
const PATIENCE: Duration = Duration::from_secs(3);

/// Serves requests until there are no more.
pub(crate) async fn run(
    client: Client,
    identity: &str,
    inputs: watch::Receiver<Arc<Inputs>>,
    mut requests: mpsc::Receiver<Request>,
    index: mpsc::Sender<Input>,
) {
    let events = Arc::new(Events::new(&client, identity));
    let mut told = JoinSet::new();
    let claimer = Claimer {
        api: Api::all(client),
        inputs,
        index,
    };
    while let Some(Request {
        node,
        family,
        pools,
        answer,
    }) = requests.recv().await
    {
        let result = claimer.claim(&node, family, &pools).await;
        match &result {
            Ok(block) => info!(%node, %block, "a block is claimed"),
            Err(error) => {
                warn!(%node, %error, "no block for a node");
                while told.try_join_next().is_some() {}
                let words = error.to_string();
                told.spawn(tell(
                    claimer.index.clone(),
                    Arc::clone(&events),
                    node,
                    pools,
                    words,
                ));
            }
        }
        // Who does not wait any more finds the block in its network.
        let _ = answer.send(result);
    }
}

/// Tells the owners of pods that still have no address after a while.
async fn tell(
    index: mpsc::Sender<Input>,
    events: Arc<Events>,
    node: NodeName,
    pools: BTreeSet<IpNet>,
    why: String,
) {
    sleep(PATIENCE).await;
    let (answer, waiting) = oneshot::channel();
    let ask = Input::Page(PageRequest::Waiting(node.clone(), pools, answer));
    if index.send(ask).await.is_ok()
        && let Ok((uid, pods)) = waiting.await
    {
        events.no_address(&node, &uid, pods, &why).await;
    }
}

struct Claimer {
    api: Api<IpBlock>,
    inputs: watch::Receiver<Arc<Inputs>>,
    index: mpsc::Sender<Input>,
}

impl Claimer {
    async fn claim(
        &self,
        node: &NodeName,
        family: margay_ipam::Family,
        pools: &BTreeSet<IpNet>,
    ) -> Result<IpNet, Refused> {
        // What others turned out to have, before the watch tells.
        let mut taken = Claims::new();
        for _ in 0..TRIES {
            let inputs = Arc::clone(&self.inputs.borrow());
            let mut claims = inputs.claims.clone();
            claims.extend(taken.clone());
            let block = choose(&inputs, &claims, node, family, pools)?;
            let owner = self.create(block, node).await?;
            // Told at once: the next request must not choose it again.
            let told = Input::Blocks(vec![(block, Some(owner.clone()))]);
            if self.index.send(told).await.is_err() {
                return Err(Refused::Api("the controller is stopping".to_owned()));
            }
            if owner == *node {
                return Ok(block);
            }
            taken.insert(block, owner);
        }
        Err(Refused::Race)
    }

    /// Creates the object, or says who did.
    async fn create(&self, block: IpNet, node: &NodeName) -> Result<NodeName, Refused> {
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let object = IpBlock::claim(block, &node.0);
        match answer(self.api.create(&parameters, &object)).await {
            Ok(_) => Ok(node.clone()),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let object = answer(self.api.get(&name_of(block))).await;
                object
                    .map(|object| NodeName(object.spec.node))
                    .map_err(|error| Refused::Api(error.to_string()))
            }
            Err(error) => Err(Refused::Api(error.to_string())),
        }
    }
}
