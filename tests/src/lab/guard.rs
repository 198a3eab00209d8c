//! What a lab leaves nowhere: its folder, namespaces and processes, removed on drop, on a signal,
//! or by the next lab if its owner died.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};

use super::netns::{self, Netns};
use super::process::is_absent;

/// Where labs keep their state.
pub const RUN: &str = "/run/margay-lab";

static LIVE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A folder and a name prefix for namespaces of one lab or test.
#[derive(Debug)]
pub struct Scratch {
    name: String,
    prefix: String,
    owned: Option<File>,
}

impl Scratch {
    /// A fresh one with a name that nobody has, removed on drop. Removes stale ones first.
    ///
    /// # Panics
    /// If the machine does not allow it (not root).
    pub fn new() -> Self {
        let name = format!("t-{}", random());
        Self::create(&name).expect("a scratch folder below /run/margay-lab (are you root?)")
    }

    /// A fresh one of that name, removed on drop. Removes stale ones first.
    ///
    /// # Errors
    /// If a lab of that name is up, or the process is not root.
    pub fn create(name: &str) -> Result<Self> {
        if name.is_empty()
            || !name
                .bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
        {
            bail!("`{name}` cannot name a lab: use letters, digits and `-`");
        }
        fs::create_dir_all(RUN).with_context(|| format!("cannot make {RUN} (are you root?)"))?;
        on_signals();
        let _one_at_a_time = gate()?;
        remove_stale()?;
        let folder = Path::new(RUN).join(name);
        if folder.exists() {
            bail!(
                "a lab `{name}` is up: end it with `margay-lab down`, or give this one another --name"
            );
        }
        fs::create_dir(&folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.lock()?;
        let prefix = format!("mgl-{}-", random());
        fs::write(folder.join("prefix"), &prefix)?;
        live(|live| live.insert(name.to_owned()));
        Ok(Self {
            name: name.to_owned(),
            prefix,
            owned: Some(lock),
        })
    }

    /// One that stands already; dropping it removes nothing.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn open(name: &str) -> Result<Self> {
        let path = Path::new(RUN).join(name).join("prefix");
        let prefix = fs::read_to_string(&path).with_context(|| format!("no lab `{name}` is up"))?;
        Ok(Self {
            name: name.to_owned(),
            prefix,
            owned: None,
        })
    }

    /// Lets it stand after this process: from now on only [`remove`] removes it.
    ///
    /// # Errors
    /// If that cannot be written down.
    pub fn keep(&mut self) -> Result<()> {
        fs::write(self.folder().join("standing"), "")?;
        live(|live| live.remove(&self.name));
        self.owned = None;
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder.
    pub fn folder(&self) -> PathBuf {
        Path::new(RUN).join(&self.name)
    }

    /// The full name of its namespace `suffix`.
    pub fn netns_name(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.prefix)
    }

    /// Makes its namespace `suffix`, with IPv6 ready at once (no duplicate address detection), forwarding
    /// off, and without limits on the ICMP errors that probes wait for.
    ///
    /// # Errors
    /// If it cannot be made or set up.
    pub fn netns(&self, suffix: &str) -> Result<Netns> {
        let netns = Netns::create(&self.netns_name(suffix))?;
        netns.set(&[
            ("net/ipv6/conf/all/disable_ipv6", "0"),
            ("net/ipv6/conf/default/disable_ipv6", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_ra", "0"),
            ("net/ipv6/conf/default/router_solicitations", "0"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv4/ip_forward", "0"),
            ("net/ipv4/icmp_ratelimit", "0"),
            ("net/ipv6/icmp/ratelimit", "0"),
        ])?;
        Ok(netns)
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.owned.is_some() {
            live(|live| live.remove(&self.name));
            if let Err(error) = remove(&self.name) {
                tracing::error!(lab = self.name, %error, "cannot remove the lab");
            }
        }
    }
}

/// Removes a lab: processes, namespaces, mounts and folder. Absence is no error.
///
/// # Errors
/// If something cannot be removed.
pub fn remove(name: &str) -> Result<()> {
    let folder = Path::new(RUN).join(name);
    match fs::read_to_string(folder.join("prefix")) {
        // An empty prefix would be everybody's namespaces.
        Ok(prefix) if prefix.starts_with("mgl-") && prefix.len() > 5 => {
            let namespaces = netns::names(&prefix)?;
            netns::end_processes(&namespaces)?;
            for namespace in &namespaces {
                netns::delete(namespace)?;
            }
        }
        Ok(_) => {}
        Err(error) if is_absent(&error) => {}
        Err(error) => return Err(error.into()),
    }
    for line in fs::read_to_string("/proc/self/mounts")?.lines() {
        if let Some(target) = line
            .split(' ')
            .nth(1)
            .filter(|target| Path::new(target).starts_with(&folder))
        {
            umount2(target, MntFlags::MNT_DETACH)
                .with_context(|| format!("cannot unmount {target}"))?;
        }
    }
    // A process that was just killed may still be writing its last lines.
    super::clock::wait(
        "the lab's folder is removed",
        std::time::Duration::from_secs(5),
        || match fs::remove_dir_all(&folder) {
            Err(error) if !is_absent(&error) => Err(error.to_string()),
            _ => Ok(()),
        },
    )
}

/// Names of all labs that stand, sorted.
///
/// # Errors
/// If their folder cannot be read.
pub fn standing() -> Result<Vec<String>> {
    Ok(labs()?
        .into_iter()
        .filter(|name| Path::new(RUN).join(name).join("standing").exists())
        .collect())
}

/// Eight random hexadecimal digits.
pub fn random() -> String {
    let mut octets = [0; 4];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut octets))
        .expect("every Linux has /dev/urandom");
    format!("{:08x}", u32::from_ne_bytes(octets))
}

fn labs() -> Result<Vec<String>> {
    let mut names = Vec::new();
    match fs::read_dir(RUN) {
        Err(error) if is_absent(&error) => {}
        entries => {
            for entry in entries? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    names.push(entry.file_name().to_string_lossy().into_owned());
                }
            }
        }
    }
    names.sort();
    Ok(names)
}

/// Removes labs whose owner is gone: its lock is free and nobody said that it shall stand.
fn remove_stale() -> Result<()> {
    for name in labs()? {
        let folder = Path::new(RUN).join(&name);
        let Ok(lock) = File::open(folder.join("lock")) else {
            continue;
        };
        if !folder.join("standing").exists() && lock.try_lock().is_ok() {
            remove(&name).with_context(|| format!("cannot remove the stale lab {name}"))?;
        }
    }
    Ok(())
}

/// Held while a lab is made or stale ones are removed.
fn gate() -> Result<File> {
    let gate = File::create(Path::new(RUN).join(".gate"))?;
    gate.lock()?;
    Ok(gate)
}

fn live<T>(work: impl FnOnce(&mut BTreeSet<String>) -> T) -> T {
    work(&mut LIVE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Removes every lab that this process owns and has not kept.
pub fn remove_live() {
    for name in live(std::mem::take) {
        if let Err(error) = remove(&name) {
            tracing::error!(lab = name, %error, "cannot remove the lab");
        }
    }
}

/// From now on SIGINT and SIGTERM remove this process' labs before they end it.
fn on_signals() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        std::thread::spawn(|| {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
            else {
                return;
            };
            runtime.block_on(async {
                use tokio::signal::unix::{SignalKind, signal};
                let (Ok(mut interrupt), Ok(mut terminate)) = (
                    signal(SignalKind::interrupt()),
                    signal(SignalKind::terminate()),
                ) else {
                    return;
                };
                let status = tokio::select! {
                    _ = interrupt.recv() => 130,
                    _ = terminate.recv() => 143,
                };
                remove_live();
                std::process::exit(status);
            });
        });
    });
}

#[cfg(test)]
mod tests;
