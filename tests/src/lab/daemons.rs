//! The lab's daemons: started in their namespaces, ended by their ids.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::bird::{self, Dialling};
use super::clock::wait;
use super::cluster::{Lab, SYNC_ADDRESS, Table};
use super::daemon::Daemon;
use super::guard;
use super::process::{Privilege, program};

impl Lab {
    /// Starts all of them, with a fresh token for every node.
    pub(super) fn start_daemons(&mut self, dialling: Dialling) -> Result<()> {
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        let mut tokens = String::new();
        for node in &names {
            let folder = self.node_folder(node);
            fs::create_dir_all(folder.join("state"))?;
            let token = [
                guard::random(),
                guard::random(),
                guard::random(),
                guard::random(),
            ]
            .concat();
            fs::write(folder.join("token"), &token)?;
            tokens.extend([node, " ", &token, "\n"]);
        }
        fs::write(self.folder().join("tokens"), tokens)?;
        self.start_bird(dialling)?;
        self.start_controller()?;
        let ca = self.ca();
        wait(
            "the controller has made its certificate",
            Duration::from_secs(10),
            || {
                if ca.exists() {
                    Ok(())
                } else {
                    Err(self.log_tail("controller.log"))
                }
            },
        )?;
        for node in &names {
            self.start_felix(node)?;
        }
        Ok(())
    }

    /// Starts the controller.
    ///
    /// # Errors
    /// If it is not built or cannot be started.
    pub fn start_controller(&mut self) -> Result<()> {
        let folder = self.folder();
        let mut command = Command::new(program("margay-controller")?);
        command
            .arg("--folder")
            .arg(folder.join("world"))
            .arg("--state")
            .arg(folder.join("controller"))
            .arg("--listen")
            .arg(SYNC_ADDRESS.to_string())
            .arg("--tokens")
            .arg(folder.join("tokens"))
            .arg("--socket")
            .arg(self.controller_socket());
        self.controller = Some(Daemon::start(
            &self.controller_netns,
            Privilege::Full,
            &mut command,
            &folder,
            "controller",
        )?);
        Ok(())
    }

    /// Ends the controller with SIGKILL.
    ///
    /// # Errors
    /// If it does not end.
    pub fn kill_controller(&mut self) -> Result<()> {
        self.controller.take().map_or(Ok(()), Daemon::kill)
    }

    /// Starts felix on a node.
    ///
    /// # Errors
    /// If it is not built or cannot be started.
    pub fn start_felix(&mut self, node: &str) -> Result<()> {
        let folder = self.node_folder(node);
        let mut command = Command::new(program("margay-felix")?);
        command
            .args(["--node", node, "--controller"])
            .arg(SYNC_ADDRESS.to_string())
            .arg("--ca")
            .arg(self.ca())
            .arg("--token-file")
            .arg(folder.join("token"))
            .arg("--state")
            .arg(folder.join("state"))
            .arg("--run")
            .arg(&folder);
        if self.table == Table::Shared {
            command.args(["--table", "shared"]);
        }
        let netns = self
            .nodes
            .get(node)
            .with_context(|| format!("no node `{node}`"))?;
        let daemon = Daemon::start(netns, Privilege::Felix, &mut command, &folder, "felix")?;
        self.felixes.insert(node.to_owned(), daemon);
        Ok(())
    }

    /// Ends felix on a node with SIGKILL.
    ///
    /// # Errors
    /// If it does not end.
    pub fn kill_felix(&mut self, node: &str) -> Result<()> {
        self.felixes.remove(node).map_or(Ok(()), Daemon::kill)
    }

    /// felix' process id.
    ///
    /// # Errors
    /// If it does not run.
    pub fn felix_pid(&self, node: &str) -> Result<u32> {
        Ok(self
            .felixes
            .get(node)
            .with_context(|| format!("felix does not run on `{node}`"))?
            .pid())
    }

    /// Starts BIRD.
    ///
    /// # Errors
    /// If it is not installed or cannot be started.
    pub fn start_bird(&mut self, dialling: Dialling) -> Result<()> {
        let folder = self.folder();
        fs::write(folder.join("bird.conf"), self.bird_config(dialling))?;
        let mut command = bird::command(&folder);
        self.bird = Some(
            Daemon::start(&self.router, Privilege::Full, &mut command, &folder, "bird")
                .context("no BIRD: install the package bird2")?,
        );
        Ok(())
    }

    /// Ends BIRD with SIGKILL.
    ///
    /// # Errors
    /// If it does not end.
    pub fn kill_bird(&mut self) -> Result<()> {
        self.bird.take().map_or(Ok(()), Daemon::kill)
    }

    /// Asks BIRD as `birdc` does.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn bird(&self, command: &str) -> Result<String> {
        bird::ask(&self.folder(), command)
    }

    fn bird_config(&self, dialling: Dialling) -> String {
        bird::config(
            &self.record.topology,
            self.record.asn,
            self.record.bgp_port,
            dialling,
        )
    }

    fn ca(&self) -> PathBuf {
        self.folder().join("controller/tls/ca.pem")
    }
}
