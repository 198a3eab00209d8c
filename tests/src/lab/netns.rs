//! Named network namespaces, as `ip netns` makes them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

const DIR: &str = "/run/netns";

/// A network namespace with a name below `/run/netns`. Dropping the value does not remove it.
#[derive(Debug)]
pub struct Netns {
    name: String,
    file: File,
}

impl Netns {
    /// Makes a new namespace.
    ///
    /// # Errors
    /// If the name is taken, or the process may not make namespaces (it takes root).
    pub fn create(name: &str) -> Result<Self> {
        fs::create_dir_all(DIR)?;
        let path = path_of(name);
        File::create_new(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let target = path.clone();
        let made = thread::spawn(move || -> nix::Result<()> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let none = None::<&str>;
            mount(
                Some("/proc/thread-self/ns/net"),
                &target,
                none,
                MsFlags::MS_BIND,
                none,
            )
        })
        .join()
        .map_err(|_| anyhow!("the thread that makes namespaces panicked"))?;
        if let Err(error) = made {
            fs::remove_file(&path)?;
            return Err(error).context("cannot make a network namespace (are you root?)");
        }
        Self::open(name)
    }

    /// Opens an existing namespace.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn open(name: &str) -> Result<Self> {
        let path = path_of(name);
        let file = File::open(&path)
            .with_context(|| format!("no network namespace {}", path.display()))?;
        Ok(Self {
            name: name.to_owned(),
            file,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path, as CNI wants it.
    pub fn path(&self) -> PathBuf {
        path_of(&self.name)
    }

    /// Moves the calling thread into the namespace. Sockets and processes that it makes from then
    /// on belong there.
    ///
    /// # Errors
    /// Whatever `setns` says.
    pub fn enter(&self) -> io::Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
    }

    /// Runs `work` on a thread of its own inside the namespace.
    ///
    /// # Errors
    /// If the namespace cannot be entered, and what `work` gives.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter()
                    .with_context(|| format!("cannot enter namespace {}", self.name))?;
                work()
            });
            inside
                .join()
                .unwrap_or_else(|_| Err(anyhow!("work inside namespace {} panicked", self.name)))
        })
    }

    /// Writes settings below `/proc/sys` (`net/ipv4/ip_forward`) inside the namespace.
    ///
    /// # Errors
    /// If one cannot be written; its name is said.
    pub fn set(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            for (key, value) in settings {
                fs::write(format!("/proc/sys/{key}"), value)
                    .with_context(|| format!("cannot set {key} to {value}"))?;
            }
            Ok(())
        })
    }
}

/// Names of all namespaces that start with `prefix`, sorted.
///
/// # Errors
/// If the folder of namespaces cannot be read; its absence is no error.
pub fn names(prefix: &str) -> Result<Vec<String>> {
    let entries = match fs::read_dir(DIR) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Removes the name; the namespace ends with its last process and socket. Absence is no error.
///
/// # Errors
/// If it cannot be unmounted or unlinked.
pub fn delete(name: &str) -> Result<()> {
    let path = path_of(name);
    match umount2(&path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot unmount {}", path.display()));
        }
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Ends (SIGKILL) every process whose network namespace is one of `names`, except this one.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn end_processes(names: &[String]) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let inodes: Vec<(u64, u64)> = names
        .iter()
        .filter_map(|name| fs::metadata(path_of(name)).ok())
        .map(|meta| (meta.dev(), meta.ino()))
        .collect();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(meta) = fs::metadata(format!("/proc/{pid}/ns/net")) else {
            continue;
        };
        if pid != std::process::id() && inodes.contains(&(meta.dev(), meta.ino())) {
            super::process::kill(pid);
        }
    }
    Ok(())
}

fn path_of(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}
