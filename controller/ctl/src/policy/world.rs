//! The objects to judge by: a folder of YAML.

use std::path::Path;

use margay_api::world::{self, World};
use margay_policy::model::Cluster;
use margay_policy::verdict::FlowError;

use crate::output::remark;
use crate::similar::did_you_mean;

/// Reads a world; what is wrong inside its files is told on stderr.
pub(super) fn read(folder: &Path) -> anyhow::Result<World> {
    let world = world::read(folder)?;
    for problem in &world.problems {
        remark(format_args!("{}/{problem}", folder.display()));
    }
    Ok(world)
}

/// Whether whoever asked mistook a name, as against an end that has no address at present.
pub(super) fn is_mistake(error: &FlowError) -> bool {
    match error {
        FlowError::UnknownPod(_) | FlowError::UnknownNode(_) | FlowError::WrongFamily { .. } => {
            true
        }
        FlowError::Unscheduled(_)
        | FlowError::Finished(_)
        | FlowError::NoAddress { .. }
        | FlowError::Superseded { .. } => false,
    }
}

/// Why there can be no such flow, with names that were perhaps meant.
pub(super) fn with_guess(error: &FlowError, cluster: &Cluster) -> String {
    let guess = match error {
        FlowError::UnknownPod(id) => {
            let names: Vec<String> = cluster.pods.keys().map(ToString::to_string).collect();
            did_you_mean(&id.to_string(), names.iter().map(String::as_str))
        }
        FlowError::UnknownNode(name) => {
            did_you_mean(&name.0, cluster.nodes.keys().map(|name| name.0.as_str()))
        }
        FlowError::Unscheduled(_)
        | FlowError::Finished(_)
        | FlowError::NoAddress { .. }
        | FlowError::Superseded { .. }
        | FlowError::WrongFamily { .. } => String::new(),
    };
    format!("{error}{guess}")
}
