//! The verbs.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use margay_cni::error::Code;
use margay_cni::request::Attachment;
use margay_cni::wire::{Answer, Call, Tombstone};
use margay_cni::{Refusal, Request, Verb, Version};
use serde_json::{Value, json};

use crate::felix::{self, Away};
use crate::sandbox::{self, Sandbox};

/// For calls that may wait for policy and blocks.
const PATIENCE: Duration = Duration::from_mins(1);
/// For DEL, which must end: with a tombstone if need be.
const PATIENCE_DEL: Duration = Duration::from_secs(10);

/// Serves one request; the object to print, if there is one.
pub(crate) fn serve(
    environment: impl Fn(&str) -> Option<String>,
    config: &[u8],
) -> Result<Option<Value>, Refusal> {
    let mut request = Request::parse(environment, config)?;
    let version = request.version;
    match request.verb {
        Verb::Version => Ok(Some(json!({
            "cniVersion": version,
            "supportedVersions": Version::ALL,
        }))),
        Verb::Add => {
            let previous = request.previous.take();
            match ask(&request, add_call(&request)?, PATIENCE)? {
                Answer::Attached(attached) => Ok(Some(attached.after(previous).render(version))),
                Answer::Done => Err(strange()),
                Answer::Refused(refusal) => Err(refusal),
            }
        }
        Verb::Del => delete(&request).map(|()| None),
        Verb::Check => {
            let attachment = attachment(&request)?;
            let previous = request.previous.take().unwrap_or_default();
            done(ask(
                &request,
                Call::Check {
                    attachment,
                    previous,
                },
                PATIENCE,
            )?)
        }
        Verb::Status => match felix::call(&request.socket, &Call::Status, None, PATIENCE_DEL) {
            Ok(answer) => done(answer),
            Err(Away(why)) => {
                Err(Refusal::new(Code::NotAvailable, "no pod can be attached now").with(why))
            }
        },
        Verb::Gc => {
            let keep = std::mem::take(&mut request.keep);
            done(ask(&request, Call::Gc { keep }, PATIENCE)?)
        }
    }
}

fn add_call(request: &Request) -> Result<Call, Refusal> {
    let pod = request
        .pod
        .clone()
        .ok_or_else(|| Refusal::new(Code::InvalidEnvironment, "CNI_ARGS names no pod"))?;
    Ok(Call::Add {
        attachment: attachment(request)?,
        sandbox: request
            .namespace
            .as_deref()
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        pod,
        dns: request.dns.clone(),
    })
}

fn attachment(request: &Request) -> Result<Attachment, Refusal> {
    request.attachment.clone().ok_or_else(|| {
        Refusal::new(
            Code::InvalidEnvironment,
            "CNI_CONTAINERID or CNI_IFNAME is missing",
        )
    })
}

/// Calls felix; if it is away the runtime shall try again later.
fn ask(request: &Request, call: Call, patience: Duration) -> Result<Answer, Refusal> {
    let sandbox = match request.verb {
        Verb::Add | Verb::Check => sandbox::enter(request)?,
        Verb::Del | Verb::Status | Verb::Gc | Verb::Version => None,
    };
    felix::call(&request.socket, &call, sandbox.as_ref(), patience).map_err(|Away(why)| {
        Refusal::new(
            Code::TryAgainLater,
            "felix, Margay's agent on this node, does not answer; try again later",
        )
        .with(why)
    })
}

fn done(answer: Answer) -> Result<Option<Value>, Refusal> {
    match answer {
        Answer::Done => Ok(None),
        Answer::Attached(_) => Err(strange()),
        Answer::Refused(refusal) => Err(refusal),
    }
}

fn strange() -> Refusal {
    Refusal::new(Code::Decode, "felix answered something else than was asked")
        .with("are plugin and felix of the same version?")
}

/// Detaches, with or without felix: then the link goes here and now, and a tombstone tells felix later.
fn delete(request: &Request) -> Result<(), Refusal> {
    let attachment = attachment(request)?;
    let call = Call::Del {
        attachment: attachment.clone(),
    };
    let why = match felix::call(&request.socket, &call, None, PATIENCE_DEL) {
        Ok(answer) => return done(answer).map(drop),
        Err(Away(why)) => why,
    };
    // A namespace that is gone took the link along.
    let link = match sandbox::enter(request) {
        Ok(sandbox) => sandbox.map_or(Ok(()), |sandbox: Sandbox| {
            sandbox.delete_link(&attachment.interface)
        }),
        Err(refusal) if refusal.code == Code::UnknownContainer => Ok(()),
        Err(refusal) => Err(refusal.to_string()),
    };
    let note = bury(&request.state, &Tombstone { attachment });
    match (link, note) {
        // Without a link felix finds out by itself.
        (Ok(()), _) if request.namespace.is_some() => Ok(()),
        (_, Ok(())) => Ok(()),
        (link, Err(note)) => Err(Refusal::new(
            Code::TryAgainLater,
            "felix does not answer, and no tombstone can be left for it; try again later",
        )
        .with(match link {
            Ok(()) => format!("{why}; {note}"),
            Err(link) => format!("{why}; {note}; {link}"),
        })),
    }
}

/// Writes a tombstone: beside, to the disk, and into place.
fn bury(state: &Path, tombstone: &Tombstone) -> Result<(), String> {
    let folder = state.join(Tombstone::FOLDER);
    let place = folder.join(tombstone.file_name());
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(&folder)?;
        let beside = folder.join(format!(".{}.{}", tombstone.file_name(), std::process::id()));
        let mut file = File::create(&beside)?;
        let written = serde_json::to_vec(tombstone)
            .map_err(std::io::Error::from)
            .and_then(|octets| file.write_all(&octets))
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&beside, &place));
        if written.is_err() {
            // What is half written helps nobody.
            let _ = std::fs::remove_file(&beside);
        }
        written
    };
    write().map_err(|error| format!("cannot write {}: {error}", place.display()))
}
