use super::*;

#[test]
fn a_usual_peer_is_few_words_and_an_older_one_is_understood() {
    let peer = BgpPeer::new("192.0.2.1".parse().unwrap(), 64512);
    let text = serde_json::to_string(&peer).unwrap();
    assert_eq!(
        text,
        r#"{"address":"192.0.2.1","port":179,"asn":64512,"hold_time":90}"#
    );
    assert_eq!(serde_json::from_str::<BgpPeer>(&text).unwrap(), peer);
    let bgp: Bgp = serde_json::from_str(r#"{"asn":64512,"port":179,"peers":{}}"#).unwrap();
    assert_eq!((bgp.asn, bgp.services.len()), (64512, 0));
}

#[test]
fn everything_that_is_said_of_a_peer_arrives() {
    let mut peer = BgpPeer::new("192.0.2.1".parse().unwrap(), 64512);
    peer.details.password = Some(Password::Text("secret".to_owned()));
    peer.details.distance = Distance::Security(1);
    peer.details.limits = [(
        Family::V6,
        Limit {
            max: 3,
            warn_percent: 75,
            action: LimitAction::TearDown(Some(60)),
        },
    )]
    .into();
    peer.details.import = vec![Rule {
        when: vec![
            Condition::Community(vec![1], vec![[1, 2, 3]]),
            Condition::AsPath(vec![None, Some((65000, 65000))]),
        ],
        changes: vec![Change::AddLarge([1, 2, 3])],
        then: Some(Decision::Accept),
    }];
    let text = serde_json::to_string(&peer).unwrap();
    assert_eq!(serde_json::from_str::<BgpPeer>(&text).unwrap(), peer);
}

#[test]
fn a_password_is_not_shown() {
    let password = Password::Text("hunter2".to_owned());
    assert!(!format!("{password:?}").contains("hunter2"));
}
