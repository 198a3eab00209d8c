//! `margay-cni install`: puts the plugin where runtimes look for it, as a pod's init container does.
//!
//! What felix may not do is done here too, once per host and said: forwarding is turned on.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::loopback;

/// The plugin's name in network configurations.
const PLUGIN: &str = "margay-cni";
const USAGE: &str = "usage: margay-cni install --bin DIR [--forwarding DIR]
  --bin DIR         the runtime's folder of CNI plugins
  --forwarding DIR  the host's /proc/sys/net, as it is seen from here; forwarding is turned on there";

/// Does what `arguments` (those after `install`) say.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(orders) = Orders::parse(arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match orders.carry_out() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("margay-cni install: {why}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Orders {
    bin: PathBuf,
    forwarding: Option<PathBuf>,
}

impl Orders {
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let (mut bin, mut forwarding) = (None, None);
        while let Some(option) = arguments.next() {
            let place = match option.to_str()? {
                "--bin" => &mut bin,
                "--forwarding" => &mut forwarding,
                _ => return None,
            };
            *place = Some(PathBuf::from(arguments.next()?));
        }
        Some(Self {
            bin: bin?,
            forwarding,
        })
    }

    fn carry_out(&self) -> Result<(), String> {
        let own =
            std::env::current_exe().map_err(|error| format!("which program am I? {error}"))?;
        put(&own, &self.bin)?;
        eprintln!("{PLUGIN} is in {}", self.bin.display());
        lend_name(&self.bin.join(loopback::NAME))?;
        if let Some(net) = &self.forwarding {
            for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                forward(&net.join(switch))?;
            }
        }
        Ok(())
    }
}

/// Copies a program into a folder: beside its place, to the disk, and renamed. A running one stays whole.
fn put(program: &Path, folder: &Path) -> Result<(), String> {
    let place = folder.join(PLUGIN);
    let beside = folder.join(format!(".{PLUGIN}.{}", std::process::id()));
    let copy = || -> io::Result<()> {
        fs::copy(program, &beside)?;
        fs::set_permissions(&beside, Permissions::from_mode(0o755))?;
        File::open(&beside)?.sync_all()?;
        fs::rename(&beside, &place)
    };
    copy().map_err(|error| {
        // What is half written helps nobody.
        let _ = fs::remove_file(&beside);
        format!("cannot put the plugin to {}: {error}", place.display())
    })
}

/// Answers to another plugin's name too, where nobody else does.
fn lend_name(place: &Path) -> Result<(), String> {
    match std::os::unix::fs::symlink(PLUGIN, place) {
        Ok(()) => {
            eprintln!("{} was missing: {PLUGIN} stands in", place.display());
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(format!("cannot make {}: {error}", place.display())),
    }
}

/// Turns a switch on; a family that the kernel lacks needs none.
fn forward(switch: &Path) -> Result<(), String> {
    let shown = switch.display();
    match fs::read_to_string(switch) {
        Ok(value) if value.trim() != "0" => Ok(()),
        Ok(_) => fs::write(switch, "1")
            .map(|()| eprintln!("{shown} was off and is on now"))
            .map_err(|error| format!("cannot turn on {shown}: {error}")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("cannot read {shown}: {error}")),
    }
}

#[cfg(test)]
mod tests;
