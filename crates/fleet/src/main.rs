use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use sosohappy_common::run::{block_on, finish};
use sosohappy_fleet::app::Addresses;
use sosohappy_fleet::{demo, launch};

/// The `SoSoHappy` fleet in one process.
#[derive(Debug, Parser)]
#[command(name = "fleet", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run config, auth, feed, dm and notice on embedded engines (the default)
    #[command(
        after_help = "Ports are 8888 to 8892. Every setting of a service can be changed by environment:\n\
        SOSOHAPPY_<SERVICE>__SECTION__KEY, for example SOSOHAPPY_FEED__SERVER__PORT=9000."
    )]
    Run(Run),
    /// Play a day of two people against a running fleet; fails when a step fails
    Demo(Demo),
}

#[derive(Debug, Args)]
struct Run {
    /// Where everything is kept
    #[arg(long, env = "SOSOHAPPY_DATA", default_value = "data", value_name = "DIR")]
    data: PathBuf,
}

#[derive(Debug, Args)]
struct Demo {
    /// One address for all services, as behind a load balancer; else each on its own port of 127.0.0.1
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The address of auth, when it is not the usual one
    #[arg(long, value_name = "URL")]
    auth: Option<String>,
    /// The address of feed
    #[arg(long, value_name = "URL")]
    feed: Option<String>,
    /// The address of dm
    #[arg(long, value_name = "URL")]
    dm: Option<String>,
    /// The address of notice
    #[arg(long, value_name = "URL")]
    notice: Option<String>,
}

impl Demo {
    fn addresses(self) -> Addresses {
        let usual = self.url.map_or_else(Addresses::usual, |url| Addresses::behind(&url));
        Addresses {
            auth: self.auth.unwrap_or(usual.auth),
            feed: self.feed.unwrap_or(usual.feed),
            dm: self.dm.unwrap_or(usual.dm),
            notice: self.notice.unwrap_or(usual.notice),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        None => block_on(launch::run(&arguments.run.data)),
        Some(Command::Run(run)) => block_on(launch::run(&run.data)),
        Some(Command::Demo(demo)) => block_on(demo::run(demo.addresses())),
    };
    finish("fleet", outcome)
}
