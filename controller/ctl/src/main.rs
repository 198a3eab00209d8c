//! `margayctl`: shows and explains what Margay does.
//!
//! One file per subcommand. Each makes an [`output::Answer`], which is printed as a table for people
//! or as JSON or YAML for programs. What only a node knows comes from felix' unix socket, what the
//! cluster knows from the controller's; of a Kubernetes cluster both are reached through its API.
//! `policy evaluate` and `policy explain --world` need neither.
#![forbid(unsafe_code)]

mod bgp;
mod client;
mod completion;
mod doctor;
mod drift;
mod ipam;
mod node;
mod nodes;
mod output;
mod page;
mod places;
mod policy;
mod remote;
mod routes;
mod ruleset;
mod similar;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::output::{Answer, Format};
use crate::places::{Places, Plugin};

/// Shows and explains what Margay does.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Options of every subcommand.
#[derive(Args)]
struct Common {
    /// Folder of the sockets [default: the lab under /run/margay-lab, else /run/margay, else by kubeconfig]
    #[arg(long, global = true, env = "MARGAY_RUN", value_name = "DIR")]
    run: Option<PathBuf>,
    #[command(flatten)]
    cluster: remote::Which,
    /// Tables for people, or JSON or YAML for programs
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value_t
    )]
    output: Format,
}

#[derive(Subcommand)]
enum Command {
    /// The controller, its nodes, and objects that have problems
    Status,
    /// BGP sessions and routes
    #[command(subcommand)]
    Bgp(bgp::Command),
    /// Routes that felix keeps: to pods, for its blocks, and those learned by BGP
    Routes(nodes::Which),
    /// The node's nftables rules, as text
    Ruleset(nodes::Which),
    /// What others changed in the kernel and felix repaired
    Drift(nodes::Which),
    /// Address pools and blocks
    #[command(subcommand)]
    Ipam(ipam::Command),
    /// Network policy: how far it is in force, what it decides, and why
    #[command(subcommand)]
    Policy(policy::Command),
    /// Looks for what keeps a node from working: kernel, forwarding, port 179, MTU, other firewalls
    Doctor(doctor::Doctor),
    /// This machine as a node
    #[command(subcommand)]
    Node(node::Command),
    /// Prints a completion script for a shell
    Completion(completion::Completion),
    /// Prints one page of a daemon's socket
    #[command(hide = true)]
    Page(page::Page),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = cli.common.output;
    let answer = run(cli.common, cli.command).await;
    match answer.and_then(|answer| answer.print(format)) {
        Ok(exit) => exit,
        Err(error) => output::report(&error),
    }
}

async fn run(
    Common {
        run,
        cluster,
        output,
    }: Common,
    command: Command,
) -> anyhow::Result<Answer> {
    let plugin = Plugin::of(std::env::args_os().next().as_deref());
    let places = || Places::find(run.as_deref(), &cluster, plugin);
    match command {
        Command::Status => status::run(&places().await?).await,
        Command::Bgp(command) => bgp::run(command, async || places().await, output).await,
        Command::Routes(which) => routes::run(&which, &places().await?).await,
        Command::Ruleset(which) => ruleset::run(&which, &places().await?).await,
        Command::Drift(which) => drift::run(&which, &places().await?).await,
        Command::Ipam(command) => ipam::run(command, &places().await?).await,
        Command::Policy(command) => policy::run(command, places).await,
        Command::Doctor(doctor) => {
            let places = Places::find_or_here(run.as_deref(), &cluster, plugin).await?;
            doctor::run(&doctor, places).await
        }
        Command::Node(command) => node::run(&command, run.as_deref()),
        Command::Completion(completion) => Ok(completion::run(&completion)),
        Command::Page(page) => page::run(&page).await,
    }
}
