//! Block claims.

use std::collections::BTreeSet;

use hyper::{Method, StatusCode};
use ipnet::IpNet;
use margay_sync::message::{BlockClaimed, ClaimBlock, Family};
use margay_sync::replica::Replica;
use margay_sync::status::IpamPage;

use crate::harness::{Agent, World, json, refusal};

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
        .send(Method::POST, "blocks", &ClaimBlock { family: Family::V4 })
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
        .send(Method::POST, "blocks", &ClaimBlock { family: Family::V4 })
        .await;
    let sentence = "all IPv4 blocks of 10.0.0.0/26 are claimed: add an IPPool".to_owned();
    assert_eq!(refusal(refused).await, (409, sentence));
    let refused = agent
        .send(Method::POST, "blocks", &ClaimBlock { family: Family::V6 })
        .await;
    let (status, sentence) = refusal(refused).await;
    assert!(
        status == 409 && sentence.starts_with("no enabled IPv6 pool"),
        "{sentence}"
    );
}

async fn claim(agent: &mut Agent, family: Family) -> IpNet {
    let response = agent
        .send(Method::POST, "blocks", &ClaimBlock { family })
        .await;
    assert_eq!(response.status(), StatusCode::OK);
    json::<BlockClaimed>(response).await.block
}
