//! Block claims.

use std::collections::BTreeSet;

use hyper::{Method, StatusCode};
use ipnet::IpNet;
use margay_sync::message::{BlockClaimed, ClaimBlock, Family, NodeState};
use margay_sync::replica::Replica;
use margay_sync::status::IpamPage;

use crate::harness::{Agent, World, claim_of, json, pod, refusal};

#[tokio::test]
async fn a_claimed_block_is_the_nodes_own_over_a_restart() {
    let mut world = World::start().await;
    let mut agent = world.agent("n1").await;
    let mut stream = agent.watch(Replica::default()).await;
    let first = claim(&mut agent, Family::V4).await;
    let second = claim(&mut agent, Family::V6).await;
    let mine = BTreeSet::from([first, second]);
    stream
        .until(|state| state.network.as_ref().unwrap().blocks == mine)
        .await;
    let other = claim(&mut world.agent("n2").await, Family::V4).await;
    assert!(!mine.contains(&other));
    world.restart().await;
    let mut agent = world.agent("n1").await;
    let mut stream = agent.watch(Replica::default()).await;
    assert_eq!(
        stream.in_sync().await.network.as_ref().unwrap().blocks,
        mine
    );
    let third = claim(&mut agent, Family::V4).await;
    assert!(third != other && !mine.contains(&third));
    let page: IpamPage = world.page("/ipam").await;
    assert_eq!(page.blocks.len(), 4);
}

#[tokio::test]
async fn many_claims_at_once_never_give_a_block_twice() {
    let world = World::start().await;
    let mut blocks = BTreeSet::new();
    let (mut n1, mut n2, mut n3) = (
        world.agent("n1").await,
        world.agent("n2").await,
        world.agent("n3").await,
    );
    for _ in 0..5 {
        let claims = tokio::join!(
            claim(&mut n1, Family::V4),
            claim(&mut n2, Family::V4),
            claim(&mut n3, Family::V4)
        );
        for block in [claims.0, claims.1, claims.2] {
            assert!(blocks.insert(block), "{block} twice");
        }
    }
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let world = World::start().await;
    let mut stranger = world.agent("n9").await;
    let refused = stranger
        .send(Method::POST, "blocks", &claim_of(Family::V4))
        .await;
    let sentence =
        "there is no Node object named n9: a node gets blocks once it has one".to_owned();
    assert_eq!(refusal(refused).await, (404, sentence));
    world.write(
        "pool.yaml",
        "apiVersion: margay.io/v1alpha1\nkind: IPPool\nmetadata: {name: tiny}\nspec: {cidr: 10.0.0.0/26}\n",
    );
    world
        .page_until::<IpamPage>("/ipam", |page| page.pools.len() == 1)
        .await;
    let mut agent = world.agent("n1").await;
    claim(&mut agent, Family::V4).await;
    let refused = agent
        .send(Method::POST, "blocks", &claim_of(Family::V4))
        .await;
    let sentence = "all IPv4 blocks of 10.0.0.0/26 are claimed: add an IPPool".to_owned();
    assert_eq!(refusal(refused).await, (409, sentence));
    let refused = agent
        .send(Method::POST, "blocks", &claim_of(Family::V6))
        .await;
    let (status, sentence) = refusal(refused).await;
    assert!(
        status == 409 && sentence.starts_with("no enabled IPv6 pool"),
        "{sentence}"
    );
}

#[tokio::test]
async fn a_node_hears_which_pools_the_namespaces_of_its_pods_have() {
    let world = World::start().await;
    let bank = |team: &str| {
        let labels = format!("{{team: {team}}}");
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: bank, labels: {labels}}}\n")
    };
    let teller = pod("teller", 1, "x").replace("{name: teller,", "{name: teller, namespace: bank,");
    world.write("bank.yaml", &bank("bank"));
    world.write(
        "pools.yaml",
        "apiVersion: margay.io/v1alpha1\nkind: IPPool\nmetadata: {name: any}\nspec: {cidr: 10.1.0.0/16}\n---\n\
         apiVersion: margay.io/v1alpha1\nkind: IPPool\nmetadata: {name: bank}\n\
         spec: {cidr: 10.2.0.0/16, namespaceSelector: {matchLabels: {team: bank}}}\n",
    );
    let mut agent = world.agent("n1").await;
    let mut stream = agent.watch(Replica::default()).await;
    let pools_of = |state: &NodeState, namespace: &str| -> Vec<String> {
        let sources = state.network.as_ref().unwrap().sources(namespace);
        let pools = sources.into_iter().flatten();
        let pools = pools.flat_map(|source| source.pools().clone());
        pools.map(|pool| pool.to_string()).collect()
    };
    let has = |pools: &'static [&str]| move |state: &NodeState| pools_of(state, "bank") == pools;
    // Nothing of the namespace is here yet, so it is nothing to the node.
    let two_pools = |state: &NodeState| state.network.as_ref().unwrap().pools.len() == 2;
    assert_eq!(pools_of(stream.until(two_pools).await, "bank"), [""; 0]);
    world.write("teller.yaml", &teller);
    stream.until(has(&["10.2.0.0/16"])).await;
    world.write("bank.yaml", &bank("none"));
    stream.until(has(&["10.1.0.0/16"])).await;
    world.write("bank.yaml", &bank("bank"));
    stream.until(has(&["10.2.0.0/16"])).await;
    let of_bank = ClaimBlock {
        family: Family::V4,
        pools: ["10.2.0.0/16".parse().unwrap()].into(),
    };
    let claimed: BlockClaimed = json(agent.send(Method::POST, "blocks", &of_bank).await).await;
    assert!(
        claimed.block.to_string().starts_with("10.2."),
        "{claimed:?}"
    );
    let any = claim(&mut agent, Family::V4).await;
    assert!(any.to_string().starts_with("10.1."), "{any}");
    world.remove("teller.yaml");
    stream.until(has(&[])).await;
}

async fn claim(agent: &mut Agent, family: Family) -> IpNet {
    let response = agent.send(Method::POST, "blocks", &claim_of(family)).await;
    assert_eq!(response.status(), StatusCode::OK);
    json::<BlockClaimed>(response).await.block
}
