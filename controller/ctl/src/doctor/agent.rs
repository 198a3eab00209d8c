//! felix itself: whether it answers, and what it says is wrong.

use std::collections::BTreeSet;

use margay_sync::status::{Link, NodeStatus};

use super::finding::{Finding, failure, warning};
use crate::output::{count, list};

pub(super) fn examine(felix: Option<&anyhow::Result<NodeStatus>>) -> Vec<Finding> {
    match felix {
        Some(Ok(status)) => judge(status),
        Some(Err(error)) => vec![failure(
            "MGY-D060",
            format!("felix does not answer: {error:#}"),
            "running pods keep their rules and routes, but new pods cannot start and changes wait",
            "start margay-felix, and look at its log if it ends again",
        )],
        None => vec![warning(
            "MGY-D064",
            "felix does not run here",
            "no pod can be connected on this machine; before an installation that is as expected",
            "start margay-felix, or say --run DIR if it keeps its socket elsewhere",
        )],
    }
}

fn judge(status: &NodeStatus) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Link::Down { reason } = &status.controller {
        findings.push(failure(
            "MGY-D061",
            format!("felix has no stream from the controller: {reason}"),
            "policy stays as it was last heard, and new pods whose policy is not known stay closed",
            "check that the controller runs and that its port, token and CA are those felix was started with",
        ));
    }
    if let (Some(received), realised) = (&status.received, &status.realised)
        && realised.as_ref() != Some(received)
    {
        findings.push(warning(
            "MGY-D062",
            format!(
                "the kernel has revision {}, but {} was received",
                realised
                    .as_ref()
                    .map_or("none".to_owned(), |realised| realised.count.to_string()),
                received.count
            ),
            "for moments this is normal; if it stays, the kernel refuses the change",
            "run it again; if it stays, look at felix' log for the message that was refused",
        ));
    }
    if !status.drift.is_empty() {
        let known: BTreeSet<&str> = status
            .drift
            .iter()
            .map(|drift| drift.by.as_str())
            .filter(|by| !by.is_empty())
            .collect();
        let who = if known.is_empty() {
            "nobody known".to_owned()
        } else {
            list(known, ", ")
        };
        findings.push(warning(
            "MGY-D063",
            format!("{} of what others changed of ours (by {who})", count(status.drift.len(), "repair")),
            "until felix put it back, packets may have passed or been lost that should not",
            "see `margayctl drift`, and keep that program away from table `inet margay`, links `mgy*` and our routes",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use margay_sync::message::Revision;
    use margay_sync::status::Drift;

    use super::*;

    fn ids(status: NodeStatus) -> Vec<&'static str> {
        judge(&status).iter().map(|finding| finding.id).collect()
    }

    #[test]
    fn a_felix_in_step_has_no_finding() {
        let revision = Some(Revision {
            run: "a".into(),
            count: 3,
        });
        let status = NodeStatus {
            controller: Link::Up,
            received: revision.clone(),
            realised: revision,
            ..NodeStatus::default()
        };
        assert_eq!(ids(status), [""; 0]);
    }

    #[test]
    fn each_trouble_has_its_id() {
        let down = Link::Down {
            reason: "connection refused".into(),
        };
        assert_eq!(
            ids(NodeStatus {
                controller: down,
                ..NodeStatus::default()
            }),
            ["MGY-D061"]
        );
        let received = Some(Revision {
            run: "a".into(),
            count: 3,
        });
        assert_eq!(
            ids(NodeStatus {
                received,
                ..NodeStatus::default()
            }),
            ["MGY-D062"]
        );
        let drift = vec![Drift {
            at: "2026-01-01T00:00:00Z".into(),
            what: "table".into(),
            name: "inet margay".into(),
            by: "nft (pid 12)".into(),
            repair_microseconds: 900,
        }];
        assert_eq!(
            ids(NodeStatus {
                drift,
                ..NodeStatus::default()
            }),
            ["MGY-D063"]
        );
    }
}
