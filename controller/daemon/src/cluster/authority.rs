//! The certificate authority in the API server: its keys in a Secret, its certificates in a `ConfigMap`.
//!
//! It is made by whichever replica comes first, and every replica signs a server certificate for itself.
//! Some time before it expires a next authority is made; agents get the certificates of both, and after a
//! day, when all have them, the next one signs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::clock;
use crate::tls::{self, Authority, Credentials};

/// Name of both objects.
const NAME: &str = "margay-ca";
/// The certificates for agents, in the `ConfigMap`.
const CERTIFICATES: &str = "ca.pem";
/// How often to look whether something is due.
const LOOK: Duration = Duration::from_mins(1);
const RETRY: Duration = Duration::from_secs(2);
const DAY: u64 = 24 * 3600;
/// How long an authority lives.
const LIFE: u64 = 365 * DAY;
/// How long before its end the next one is made.
const EARLY: u64 = 60 * DAY;
/// How long agents have for taking over the certificate of the next one.
const OVERLAP: u64 = DAY;
/// How old a server certificate gets.
const RENEW: u64 = 30 * DAY;

/// Authorities as they stand in the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ring {
    /// Signs.
    now: Term,
    /// Will sign.
    next: Option<Term>,
    /// Certificate of the one that signed before, and its end.
    old: Option<(String, u64)>,
}

/// An authority with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    authority: Authority,
    /// Seconds since 1970.
    made: u64,
}

/// Reads or makes the authority, waiting for the API server as long as it takes, and keeps it and the
/// server certificate fresh for as long as somebody listens.
pub(crate) async fn open(
    client: &Client,
    namespace: &str,
) -> anyhow::Result<watch::Receiver<Arc<Credentials>>> {
    let keeper = Keeper {
        secrets: Api::namespaced(client.clone(), namespace),
        maps: Api::namespaced(client.clone(), namespace),
    };
    let ring = loop {
        match keeper.look().await {
            Ok(ring) => break ring,
            Err(error) => {
                warn!(
                    error = format!("{error:#}"),
                    "waiting for the certificate authority"
                );
                sleep(RETRY).await;
            }
        }
    };
    let (sender, receiver) = watch::channel(Arc::new(credentials(&ring)?));
    tokio::spawn(keeper.keep(ring, sender));
    Ok(receiver)
}

struct Keeper {
    secrets: Api<Secret>,
    maps: Api<ConfigMap>,
}

impl Keeper {
    async fn keep(self, mut known: Ring, sender: watch::Sender<Arc<Credentials>>) {
        let mut signed = clock::unix_seconds();
        loop {
            tokio::select! {
                () = sleep(LOOK) => {}
                () = sender.closed() => return,
            }
            let ring = match self.look().await {
                Ok(ring) => ring,
                Err(error) => {
                    warn!(
                        error = format!("{error:#}"),
                        "cannot look after the certificate authority"
                    );
                    continue;
                }
            };
            let now = clock::unix_seconds();
            if ring == known && now.saturating_sub(signed) < RENEW {
                continue;
            }
            match credentials(&ring) {
                Ok(credentials) => {
                    info!("a new server certificate");
                    sender.send_replace(Arc::new(credentials));
                    (known, signed) = (ring, now);
                }
                Err(error) => warn!(
                    error = format!("{error:#}"),
                    "cannot make a server certificate"
                ),
            }
        }
    }

    /// Reads the authority, does to it what is due, and sees that agents have its certificates.
    async fn look(&self) -> anyhow::Result<Ring> {
        let now = clock::unix_seconds();
        let secret = self.secrets.get_opt(NAME).await;
        let ring = match secret.with_context(|| format!("cannot read the Secret {NAME}"))? {
            None => {
                let ring = Ring {
                    now: Term {
                        authority: tls::authority()?,
                        made: now,
                    },
                    next: None,
                    old: None,
                };
                let (parameters, secret) = (PostParams::default(), to_secret(&ring, None));
                let created = self.secrets.create(&parameters, &secret);
                // If another replica was faster, the next look finds its.
                created
                    .await
                    .with_context(|| format!("cannot create the Secret {NAME}"))?;
                info!("made a certificate authority");
                ring
            }
            Some(secret) => {
                let ring = from_secret(&secret)?;
                match advance(&ring, now)? {
                    None => ring,
                    Some(next) => {
                        // Refused if another replica was faster: what we read is named by its version.
                        let secret = to_secret(&next, secret.metadata.resource_version);
                        let parameters = PostParams::default();
                        let replaced = self.secrets.replace(NAME, &parameters, &secret);
                        replaced
                            .await
                            .with_context(|| format!("cannot replace the Secret {NAME}"))?;
                        info!("the certificate authority moved on");
                        next
                    }
                }
            }
        };
        self.publish(&certificates(&ring)).await?;
        Ok(ring)
    }

    async fn publish(&self, certificates: &str) -> anyhow::Result<()> {
        let map = self.maps.get_opt(NAME).await;
        let map = map.with_context(|| format!("cannot read the ConfigMap {NAME}"))?;
        let present = map
            .as_ref()
            .and_then(|map| map.data.as_ref()?.get(CERTIFICATES));
        if present.is_some_and(|present| present == certificates) {
            return Ok(());
        }
        let parameters = PostParams::default();
        let wanted = BTreeMap::from([(CERTIFICATES.to_owned(), certificates.to_owned())]);
        let written = match map {
            None => {
                let map = ConfigMap {
                    metadata: ObjectMeta {
                        name: Some(NAME.to_owned()),
                        ..ObjectMeta::default()
                    },
                    data: Some(wanted),
                    ..ConfigMap::default()
                };
                self.maps.create(&parameters, &map).await
            }
            // Refused if another replica was faster: it is named by the version that was read.
            Some(mut map) => {
                map.data = Some(wanted);
                self.maps.replace(NAME, &parameters, &map).await
            }
        };
        written.with_context(|| format!("cannot write the ConfigMap {NAME}"))?;
        Ok(())
    }
}

/// What we connect and are connected with.
fn credentials(ring: &Ring) -> anyhow::Result<Credentials> {
    let password = |term: &Term| {
        // Who has the authority's key could be any of us; nobody else can know this.
        let digest = Sha256::digest(format!("margay replicas\n{}", term.authority.key));
        digest
            .iter()
            .fold(String::new(), |text, octet| format!("{text}{octet:02x}"))
    };
    Ok(Credentials {
        server: Arc::new(tls::server(&ring.now.authority)?),
        certificates: certificates(ring),
        passwords: std::iter::once(&ring.now)
            .chain(&ring.next)
            .map(password)
            .collect(),
    })
}

/// What is due; `None` if nothing is.
fn advance(ring: &Ring, now: u64) -> anyhow::Result<Option<Ring>> {
    let mut due = ring.clone();
    let ends = ring.now.made.saturating_add(LIFE);
    match &ring.next {
        None if now.saturating_add(EARLY) >= ends => {
            due.next = Some(Term {
                authority: tls::authority()?,
                made: now,
            });
        }
        Some(next) if now >= next.made.saturating_add(OVERLAP) => {
            due.old = Some((ring.now.authority.certificate.clone(), ends));
            due.now = next.clone();
            due.next = None;
        }
        None | Some(_) => {}
    }
    if due.old.as_ref().is_some_and(|(_, ends)| now >= *ends) {
        due.old = None;
    }
    Ok((due != *ring).then_some(due))
}

/// All that agents shall trust.
fn certificates(ring: &Ring) -> String {
    let Ring { now, next, old } = ring;
    let mut all = now.authority.certificate.clone();
    if let Some(next) = next {
        all.push_str(&next.authority.certificate);
    }
    if let Some((old, _)) = old {
        all.push_str(old);
    }
    all
}

fn to_secret(ring: &Ring, version: Option<String>) -> Secret {
    let Ring { now, next, old } = ring;
    let mut data = BTreeMap::new();
    let mut put = |name: &str, value: &str| {
        data.insert(name.to_owned(), ByteString(value.as_bytes().to_vec()));
    };
    let mut term = |prefix: &str, term: &Term| {
        put(&format!("{prefix}.pem"), &term.authority.certificate);
        put(&format!("{prefix}-key.pem"), &term.authority.key);
        put(&format!("{prefix}-made"), &term.made.to_string());
    };
    term("ca", now);
    if let Some(next) = next {
        term("next", next);
    }
    if let Some((certificate, ends)) = old {
        put("old.pem", certificate);
        put("old-ends", &ends.to_string());
    }
    Secret {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            resource_version: version,
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

fn from_secret(secret: &Secret) -> anyhow::Result<Ring> {
    let data = secret.data.clone().unwrap_or_default();
    let text = |name: &str| {
        let value = data.get(name).cloned();
        value.and_then(|value| String::from_utf8(value.0).ok())
    };
    let seconds = |name: &str| text(name).and_then(|value| value.trim().parse().ok());
    let term = |prefix: &str| {
        Some(Term {
            authority: Authority {
                certificate: text(&format!("{prefix}.pem"))?,
                key: text(&format!("{prefix}-key.pem"))?,
            },
            made: seconds(&format!("{prefix}-made"))?,
        })
    };
    Ok(Ring {
        now: term("ca").with_context(|| {
            format!("the Secret {NAME} lacks ca.pem, ca-key.pem or ca-made: delete it, a new one is made and agents follow")
        })?,
        next: term("next"),
        old: text("old.pem").zip(seconds("old-ends")),
    })
}

#[cfg(test)]
mod tests;
