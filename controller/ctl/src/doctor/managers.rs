//! Network managers that undo links and routes which they did not make.

use std::fs;
use std::path::Path;

use super::finding::{Finding, warning};
use super::proc;

pub(super) fn examine() -> Vec<Finding> {
    let running: Vec<String> = proc::processes()
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    let files = |folders: &[&str]| {
        folders
            .iter()
            .map(|folder| configuration(Path::new(folder)))
            .collect::<String>()
    };
    judge(
        &running,
        &files(&[
            "/etc/NetworkManager/conf.d",
            "/run/NetworkManager/conf.d",
            "/usr/lib/NetworkManager/conf.d",
        ]),
        &files(&[
            "/etc/systemd",
            "/etc/systemd/networkd.conf.d",
            "/run/systemd/networkd.conf.d",
        ]),
    )
}

/// `/proc/PID/comm` has 15 letters at most.
fn judge(running: &[String], network_manager: &str, networkd: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let runs = |name: &str| {
        running
            .iter()
            .any(|running| running == &name[..name.len().min(15)])
    };
    if runs("NetworkManager") && !network_manager.contains("mgy") {
        findings.push(warning(
            "MGY-D050",
            "NetworkManager also manages pods' links",
            "it may take a link of ours down or change its addresses when its settings are reloaded",
            "write `[keyfile]` and `unmanaged-devices=interface-name:mgy*` to /etc/NetworkManager/conf.d/margay.conf, then: nmcli general reload",
        ));
    }
    let keeps = |text: &str| {
        text.lines().any(|line| {
            line.split_once('=').is_some_and(|(key, value)| {
                key.trim() == "ManageForeignRoutes"
                    && matches!(value.trim(), "no" | "false" | "0" | "off")
            })
        })
    };
    if runs("systemd-networkd") && !keeps(networkd) {
        findings.push(warning(
            "MGY-D051",
            "systemd-networkd removes routes that are not its own",
            "routes to pods vanish when it is restarted, until felix notices and puts them back",
            "write `[Network]` and `ManageForeignRoutes=no` to /etc/systemd/networkd.conf.d/margay.conf, then: systemctl restart systemd-networkd",
        ));
    }
    findings
}

/// All `.conf` files of a folder, one after the other.
fn configuration(folder: &Path) -> String {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "conf")
        })
        .filter_map(|path| fs::read_to_string(path).ok())
        .fold(String::new(), |all, text| all + &text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(running: &str, network_manager: &str, networkd: &str) -> Vec<&'static str> {
        judge(&[running.to_owned()], network_manager, networkd)
            .iter()
            .map(|finding| finding.id)
            .collect()
    }

    #[test]
    fn a_manager_that_leaves_ours_alone_has_no_finding() {
        assert_eq!(ids("bash", "", ""), [""; 0]);
        assert_eq!(
            ids(
                "NetworkManager",
                "[keyfile]\nunmanaged-devices=interface-name:mgy*\n",
                ""
            ),
            [""; 0]
        );
        assert_eq!(
            ids("systemd-network", "", "[Network]\nManageForeignRoutes=no\n"),
            [""; 0]
        );
    }

    #[test]
    fn a_manager_that_may_undo_ours_has_one() {
        assert_eq!(ids("NetworkManager", "", ""), ["MGY-D050"]);
        assert_eq!(
            ids("systemd-network", "", "#ManageForeignRoutes=no\n"),
            ["MGY-D051"]
        );
    }
}
