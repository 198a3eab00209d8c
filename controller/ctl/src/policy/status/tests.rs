use margay_policy::model::NodeName;

use super::*;

#[test]
fn a_node_has_a_policy_if_the_replica_that_it_speaks_with_says_so() {
    let page = |waiting: &[&str]| {
        let policy = PolicyStatus {
            realised: 3 - u32::try_from(waiting.len()).unwrap(),
            nodes: 3,
            waiting: waiting
                .iter()
                .map(|node| NodeName((*node).to_owned()))
                .collect(),
            problems: Vec::new(),
        };
        PolicyPage {
            policies: [("NetworkPolicy shop/web".to_owned(), policy)].into(),
        }
    };
    let mut told = page(&["n2", "n3"]);
    merge(&mut told, &page(&["n1", "n2"]));
    assert_eq!(told, page(&["n2"]));
    merge(&mut told, &PolicyPage::default());
    assert_eq!(told, page(&["n2"]), "one that does not know it yet");
}
