//! What the runtime asks: environment and network configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Code, Refusal};
use crate::result::{self, Attached};
use crate::version::Version;

/// Where felix listens unless the configuration says otherwise.
const SOCKET: &str = "/run/margay/cni.sock";
/// Where felix keeps its state unless the configuration says otherwise.
const STATE: &str = "/var/lib/margay";

/// Operations of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    /// Attach.
    Add,
    /// Detach.
    Del,
    /// Is everything as it was made?
    Check,
    /// Can ADD be served?
    Status,
    /// Remove what is not attached any more.
    Gc,
    /// Which versions are spoken?
    Version,
}

/// One sandbox's interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attachment {
    /// The runtime's id of the sandbox.
    #[serde(rename = "containerID")]
    pub container: String,
    /// The interface's name in the sandbox.
    #[serde(rename = "ifname")]
    pub interface: String,
}

/// The pod, as `CNI_ARGS` tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// `K8S_POD_NAMESPACE`.
    pub namespace: String,
    /// `K8S_POD_NAME`.
    pub name: String,
    /// `K8S_POD_UID`; empty if absent.
    pub uid: String,
}

/// A request, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The version to answer in.
    pub version: Version,
    /// What to do.
    pub verb: Verb,
    /// The sandbox's interface; `None` for verbs that concern no single one.
    pub attachment: Option<Attachment>,
    /// The sandbox's network namespace; required for ADD and CHECK.
    pub namespace: Option<PathBuf>,
    /// The pod; required for ADD.
    pub pod: Option<Pod>,
    /// felix' socket.
    pub socket: PathBuf,
    /// felix' state folder, for tombstones.
    pub state: PathBuf,
    /// `dns` of the configuration, passed through to the result.
    pub dns: Option<Value>,
    /// The result of the plugin before in the chain, or of ADD.
    pub previous: Option<Attached>,
    /// Attachments to keep (GC).
    pub keep: Vec<Attachment>,
}

/// The network configuration; fields that are not ours are ignored.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    cni_version: Option<Value>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    socket: Option<PathBuf>,
    #[serde(default)]
    state: Option<PathBuf>,
    #[serde(default)]
    dns: Option<Value>,
    #[serde(default)]
    prev_result: Option<Value>,
    #[serde(default, rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<Attachment>>,
}

/// The version to answer in: the one of the configuration if it is spoken, the newest otherwise.
pub fn answer_version(config: &[u8]) -> Version {
    serde_json::from_slice::<Value>(config)
        .ok()
        .and_then(|config| Version::named(config.get("cniVersion")?.as_str()?))
        .unwrap_or(Version::NEWEST)
}

impl Request {
    /// Reads a request; `environment` gives the variables.
    ///
    /// # Errors
    /// [`Refusal`] with the specification's code.
    pub fn parse(
        environment: impl Fn(&str) -> Option<String>,
        config: &[u8],
    ) -> Result<Self, Refusal> {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let verb = verb(variable("CNI_COMMAND"))?;
        let config = read_config(config, verb)?;
        let version = version(config.cni_version.as_ref(), verb)?;
        if verb != Verb::Version && config.name.as_deref().unwrap_or("").is_empty() {
            return Err(Refusal::new(
                Code::InvalidConfig,
                "the network configuration has no name",
            ));
        }
        let single = matches!(verb, Verb::Add | Verb::Del | Verb::Check);
        let attachment = single.then(|| attachment(&variable)).transpose()?;
        let namespace = variable("CNI_NETNS").map(PathBuf::from);
        if matches!(verb, Verb::Add | Verb::Check) && namespace.is_none() {
            return Err(missing(
                "CNI_NETNS",
                "the path of the sandbox's network namespace",
            ));
        }
        let pod = if single {
            pod(variable("CNI_ARGS").as_deref().unwrap_or(""))?
        } else {
            None
        };
        if verb == Verb::Add && pod.is_none() {
            return Err(missing(
                "K8S_POD_NAMESPACE and K8S_POD_NAME in CNI_ARGS",
                "Margay attaches Kubernetes pods",
            ));
        }
        let previous = config.prev_result.map(result::parse).transpose()?;
        if verb == Verb::Check && previous.is_none() {
            return Err(Refusal::new(
                Code::InvalidConfig,
                "CHECK needs prevResult in the network configuration: the result of ADD",
            ));
        }
        if verb == Verb::Gc && config.valid_attachments.is_none() {
            return Err(Refusal::new(
                Code::InvalidConfig,
                "GC needs cni.dev/valid-attachments in the network configuration",
            ));
        }
        Ok(Self {
            version,
            verb,
            attachment,
            namespace,
            pod,
            socket: config.socket.unwrap_or_else(|| SOCKET.into()),
            state: config.state.unwrap_or_else(|| STATE.into()),
            dns: config.dns,
            previous,
            keep: config.valid_attachments.unwrap_or_default(),
        })
    }
}

fn verb(command: Option<String>) -> Result<Verb, Refusal> {
    let Some(command) = command else {
        return Err(missing(
            "CNI_COMMAND",
            "this program is started by a container runtime, not by hand",
        ));
    };
    match command.as_str() {
        "ADD" => Ok(Verb::Add),
        "DEL" => Ok(Verb::Del),
        "CHECK" => Ok(Verb::Check),
        "STATUS" => Ok(Verb::Status),
        "GC" => Ok(Verb::Gc),
        "VERSION" => Ok(Verb::Version),
        other => Err(Refusal::new(
            Code::InvalidEnvironment,
            format!("CNI_COMMAND is `{other}`: ADD, DEL, CHECK, STATUS, GC and VERSION exist"),
        )),
    }
}

fn read_config(config: &[u8], verb: Verb) -> Result<Config, Refusal> {
    // Runtimes ask for VERSION also without a configuration.
    let config: &[u8] = if verb == Verb::Version && config.trim_ascii().is_empty() {
        b"{}"
    } else {
        config
    };
    serde_json::from_slice(config).map_err(|error| {
        let what = if error.is_data() {
            "the network configuration on standard input has a field of the wrong type"
        } else {
            "the network configuration on standard input is not JSON"
        };
        Refusal::new(Code::Decode, what).with(error.to_string())
    })
}

fn version(named: Option<&Value>, verb: Verb) -> Result<Version, Refusal> {
    let spoken = Version::ALL.map(Version::as_str).join(", ");
    let version = match named {
        // VERSION may come without, and a configuration without is of 0.1.0 by the specification.
        None if verb == Verb::Version => return Ok(Version::NEWEST),
        None => {
            return Err(Refusal::new(
                Code::IncompatibleVersion,
                "the network configuration has no cniVersion",
            )
            .with(format!("use one of {spoken}")));
        }
        Some(Value::String(text)) => match Version::named(text) {
            Some(version) => version,
            // The answer to VERSION is just the list.
            None if verb == Verb::Version => return Ok(Version::NEWEST),
            None => {
                return Err(Refusal::new(
                    Code::IncompatibleVersion,
                    format!("cniVersion {text} is not spoken"),
                )
                .with(format!("use one of {spoken}")));
            }
        },
        Some(other) => {
            return Err(Refusal::new(
                Code::Decode,
                format!("cniVersion is {other}, not a text"),
            ));
        }
    };
    let since = match verb {
        Verb::Add | Verb::Del | Verb::Version => Version::V0_3_1,
        Verb::Check => Version::V0_4_0,
        Verb::Status | Verb::Gc => Version::V1_1_0,
    };
    if version < since {
        let (has, needs) = (version.as_str(), since.as_str());
        return Err(Refusal::new(
            Code::IncompatibleVersion,
            format!("cniVersion {has} has no such command: it came with {needs}"),
        ));
    }
    Ok(version)
}

fn attachment(variable: &impl Fn(&str) -> Option<String>) -> Result<Attachment, Refusal> {
    let container = variable("CNI_CONTAINERID")
        .ok_or_else(|| missing("CNI_CONTAINERID", "the id of the sandbox"))?;
    let valid = container.starts_with(|c: char| c.is_ascii_alphanumeric())
        && container
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
        && container.len() <= 200;
    if !valid {
        return Err(Refusal::new(
            Code::InvalidEnvironment,
            format!(
                "CNI_CONTAINERID `{container}` is unusable: letters, digits, `_`, `.`, `-`, at most 200, not beginning with a sign"
            ),
        ));
    }
    let interface = variable("CNI_IFNAME")
        .ok_or_else(|| missing("CNI_IFNAME", "the interface's name in the sandbox"))?;
    let valid = interface.len() <= 15
        && !matches!(interface.as_str(), "." | ".." | "lo")
        && !interface
            .chars()
            .any(|c| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    if !valid {
        return Err(Refusal::new(
            Code::InvalidEnvironment,
            format!(
                "CNI_IFNAME `{interface}` is no interface name: at most 15 octets, without `/`, `:` and blanks"
            ),
        ));
    }
    Ok(Attachment {
        container,
        interface,
    })
}

/// The pod that `CNI_ARGS` (`KEY=VALUE;…`) names.
fn pod(args: &str) -> Result<Option<Pod>, Refusal> {
    let (mut namespace, mut name, mut uid) = (None, None, None);
    for pair in args.split(';').filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Refusal::new(
                Code::InvalidEnvironment,
                format!("CNI_ARGS has `{pair}`, which is not KEY=VALUE"),
            ));
        };
        match key {
            "K8S_POD_NAMESPACE" => namespace = Some(value),
            "K8S_POD_NAME" => name = Some(value),
            "K8S_POD_UID" => uid = Some(value),
            _ => {}
        }
    }
    let named = |text: Option<&str>| {
        text.filter(|text| !text.is_empty() && !text.contains('/'))
            .map(str::to_owned)
    };
    Ok(named(namespace)
        .zip(named(name))
        .map(|(namespace, name)| Pod {
            namespace,
            name,
            uid: uid.unwrap_or("").to_owned(),
        }))
}

fn missing(what: &str, why: &str) -> Refusal {
    Refusal::new(Code::InvalidEnvironment, format!("{what} is missing")).with(why)
}

#[cfg(test)]
mod tests;
