//! The lab's objects: read from any folder of YAML, kept one file per object in the folder that the
//! controller watches.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use margay_api::load::{self, Key, Object};
use margay_api::{convert, world};
use margay_policy::model::Cluster;
use serde_json::Value;

use super::topology::NodeSpec;

/// Objects as they were written, by key.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Their documents.
    pub documents: BTreeMap<Key, Value>,
    /// What was refused or skipped, in words.
    pub problems: Vec<String>,
}

impl Objects {
    /// Reads a folder (all files in it and below) or one file.
    ///
    /// # Errors
    /// If it cannot be read; documents that are refused are problems.
    pub fn read(path: &Path) -> Result<Self> {
        let mut objects = Self::default();
        objects
            .read_into(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(objects)
    }

    fn read_into(&mut self, path: &Path) -> Result<()> {
        if path.is_dir() {
            let mut entries: Vec<PathBuf> = fs::read_dir(path)?
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<_, _>>()?;
            entries.sort();
            for entry in entries
                .iter()
                .filter(|entry| entry.is_dir() || world::is_document_file(entry))
            {
                self.read_into(entry)?;
            }
        } else {
            self.add_text(&path.display().to_string(), &fs::read_to_string(path)?);
        }
        Ok(())
    }

    /// Adds the documents of a text; a later one replaces an earlier of the same key.
    pub fn add_text(&mut self, file: &str, text: &str) {
        for result in load::documents(file, text) {
            match result {
                Ok(document) => {
                    let key = document.object.key();
                    match &document.object {
                        Object::Other { kind, .. } if kind == "ServiceAccount" => {}
                        Object::Other { .. } => {
                            self.problems.push(format!(
                                "{file}:{}: {key}: kind not known, skipped",
                                document.line
                            ));
                        }
                        Object::Node(_)
                        | Object::Namespace(_)
                        | Object::Pod(_)
                        | Object::NetworkPolicy(_)
                        | Object::IpPool(_)
                        | Object::Secret(_)
                        | Object::BgpPeer(_)
                        | Object::BgpFilter(_)
                        | Object::NetworkConfig(_) => {
                            drop(self.documents.insert(key, document.raw));
                        }
                    }
                }
                Err(error) => self.problems.push(error.to_string()),
            }
        }
    }

    /// Adds one object, replacing an earlier of the same key.
    ///
    /// # Errors
    /// If it is no object that the controller would take.
    pub fn add(&mut self, document: Value) -> Result<Key> {
        let object = typed(&document)?;
        let key = object.key();
        self.documents.insert(key.clone(), document);
        Ok(key)
    }

    /// The cluster that these objects are, for the evaluator.
    pub fn cluster(&self) -> Cluster {
        let mut cluster = Cluster::default();
        for document in self.documents.values() {
            if let Some(object) = typed(document)
                .ok()
                .and_then(|object| convert::object(&object))
            {
                cluster.apply(object);
            }
        }
        cluster
    }

    /// The nodes, by name; those that only pods name too.
    pub fn nodes(&self) -> Vec<NodeSpec> {
        let mut nodes = BTreeMap::new();
        for pod in self.cluster().pods.values() {
            if let Some(name) = &pod.node {
                let spec = NodeSpec {
                    name: name.0.clone(),
                    internal: Vec::new(),
                    external: Vec::new(),
                };
                nodes.insert(name.0.clone(), spec);
            }
        }
        for document in self.documents.values() {
            if let Ok(Object::Node(node)) = typed(document) {
                let addresses = node
                    .status
                    .unwrap_or_default()
                    .addresses
                    .unwrap_or_default();
                let of = |kind: &str| -> Vec<IpAddr> {
                    let found = addresses.iter().filter(|address| address.type_ == kind);
                    found
                        .filter_map(|address| address.address.parse().ok())
                        .collect()
                };
                let name = node.metadata.name.unwrap_or_default();
                let spec = NodeSpec {
                    name: name.clone(),
                    internal: of("InternalIP"),
                    external: of("ExternalIP"),
                };
                nodes.insert(name, spec);
            }
        }
        nodes.into_values().collect()
    }

    /// Ports on which a pod's containers listen, and whether it shares its node's namespace, are in
    /// [`Cluster`]; this is its `metadata.uid`, or one made from its name.
    pub fn uid(&self, key: &Key) -> String {
        let written = self
            .documents
            .get(key)
            .and_then(|document| document.pointer("/metadata/uid"));
        written
            .and_then(Value::as_str)
            .map_or_else(|| format!("{}.{}", key.namespace, key.name), str::to_owned)
    }
}

/// A document as the object that it is.
///
/// # Errors
/// What the loader says about it.
pub fn typed(document: &Value) -> Result<Object> {
    let result = load::documents("object", &document.to_string()).pop();
    Ok(result.context("an empty document is no object")??.object)
}

/// Writes an object into `folder`, in a file of its own, at once (by renaming).
///
/// # Errors
/// If the folder cannot be written.
pub fn write(folder: &Path, key: &Key, document: &Value) -> Result<()> {
    let mut text = serde_saphyr::to_string(document)?;
    if serde_saphyr::from_str::<Value>(&text).ok().as_ref() != Some(document) {
        text = serde_json::to_string_pretty(document)?; // JSON is YAML too
    }
    let path = folder.join(file_name(key));
    let hidden = folder.join(format!(".{}", file_name(key)));
    fs::write(&hidden, text)?;
    fs::rename(&hidden, &path).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a pod object that the lab itself shall not run.
///
/// # Errors
/// If it is no object, or the folder cannot be written.
pub fn write_pod(folder: &Path, document: &Value) -> Result<()> {
    write(folder, &typed(document)?.key(), document)
}

/// Removes an object's file; absence is no error.
///
/// # Errors
/// If it cannot be removed.
pub fn delete(folder: &Path, key: &Key) -> Result<()> {
    match fs::remove_file(folder.join(file_name(key))) {
        Err(error) if !super::process::is_absent(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

/// The file of an object: `NetworkPolicy.shop.frontend.yaml`.
pub fn file_name(key: &Key) -> String {
    let parts = [&key.kind, &key.namespace, &key.name];
    let parts: Vec<&str> = parts
        .into_iter()
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    format!("{}.yaml", parts.join("."))
}
