//! A *world*: a folder of YAML documents that describes a cluster.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use margay_policy::model::Cluster;

use crate::load::{self, Object};
use crate::{convert, v1};

#[cfg(test)]
mod tests;

/// What stands in a world's folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// Everything that policy depends on.
    pub cluster: Cluster,
    /// `IPPool` objects, by file and place.
    pub pools: Vec<v1::IpPool>,
    /// `BGPPeer` objects, by file and place.
    pub peers: Vec<v1::BgpPeer>,
    /// The `NetworkConfig` named `default`, or its defaults.
    pub config: v1::NetworkConfigSpec,
    /// What was refused, skipped, or cannot be used: `file:line: reason`.
    pub problems: Vec<String>,
}

/// A world that cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}")]
pub struct WorldError {
    /// The file or folder.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Reads every `*.yaml`, `*.yml` and `*.json` of a folder and the folders in it, by name; hidden ones
/// and linked folders are left out.
///
/// Of an object that stands there twice the later counts, and that is a problem.
///
/// # Errors
/// [`WorldError`] if a folder or file cannot be read; what is wrong inside files is in
/// [`World::problems`].
pub fn read(folder: impl AsRef<Path>) -> Result<World, WorldError> {
    let mut files = Vec::new();
    list(folder.as_ref(), &mut files)?;
    let mut world = World::default();
    let mut seen = std::collections::BTreeMap::new();
    for path in files {
        let bytes = fs::read(&path).map_err(|source| WorldError {
            path: path.clone(),
            source,
        })?;
        let name = path
            .strip_prefix(folder.as_ref())
            .unwrap_or(&path)
            .display()
            .to_string();
        match std::str::from_utf8(&bytes) {
            Ok(text) => world.add(&name, text, &mut seen),
            Err(error) => world.problems.push(format!("{name}: not UTF-8: {error}")),
        }
    }
    Ok(world)
}

/// Reads documents that are at hand already; `name` is what problems call their place.
pub fn parse(name: &str, text: &str) -> World {
    let mut world = World::default();
    world.add(name, text, &mut std::collections::BTreeMap::new());
    world
}

/// Whether the name is one of a file of documents: not hidden, `.yaml`, `.yml` or `.json`.
pub fn is_document_file(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().and_then(|extension| extension.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), WorldError> {
    let wrap = |source| WorldError {
        path: folder.to_owned(),
        source,
    };
    let mut entries = fs::read_dir(folder)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(wrap)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        // A linked folder may lead round in a circle; a mounted ConfigMap's real files are hidden.
        if !hidden && entry.file_type().map_err(wrap)?.is_dir() {
            list(&path, files)?;
        } else if is_document_file(&path) && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

impl World {
    fn add(
        &mut self,
        file: &str,
        text: &str,
        seen: &mut std::collections::BTreeMap<load::Key, String>,
    ) {
        for result in load::documents(file, text) {
            let document = match result {
                Ok(document) => document,
                Err(error) => {
                    self.problems.push(error.to_string());
                    continue;
                }
            };
            let place = format!("{file}:{}", document.line);
            let key = document.object.key();
            for warning in document.warnings() {
                self.problems.push(format!("{place}: {key}: {warning}"));
            }
            if let Some(earlier) = seen.insert(key.clone(), place.clone()) {
                self.problems.push(format!(
                    "{place}: {key}: stands already at {earlier}, which is ignored"
                ));
            }
            if let Some(object) = convert::object(&document.object) {
                self.cluster.apply(object);
                continue;
            }
            match document.object {
                Object::IpPool(pool) => {
                    self.pools
                        .retain(|other| other.metadata.name != pool.metadata.name);
                    self.pools.push(*pool);
                }
                Object::BgpPeer(peer) => {
                    self.peers
                        .retain(|other| other.metadata.name != peer.metadata.name);
                    self.peers.push(*peer);
                }
                Object::NetworkConfig(config) => self.config = config.spec,
                // Named by every pod of an API server; it has no meaning for us yet.
                Object::Other { ref kind, .. } if kind == "ServiceAccount" => {}
                Object::Other { .. } => {
                    self.problems
                        .push(format!("{place}: {key}: kind not known, skipped"));
                }
                Object::Node(_)
                | Object::Namespace(_)
                | Object::Pod(_)
                | Object::NetworkPolicy(_)
                | Object::BgpFilter(_)
                | Object::Secret(_) => {}
            }
        }
    }
}
