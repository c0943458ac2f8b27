//! `erdp`: the ExpressRoute edge router's daemon and its operator's commands.

// First: its macros are those of everything below.
#[macro_use]
mod out;

mod operator;

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::{ArgGroup, CommandFactory as _, Parser, Subcommand, error::ErrorKind};
use erdp::{
    config::{CircuitChange, Config, ConfigError},
    control::{DEFAULT_SOCKET, Request, Setting, client::Client},
    controller::{
        parts::Part,
        start::{self, CANNOT_RUN, Options, StartError},
        successor,
    },
    dataplane::bpffs,
};
use tracing_subscriber::EnvFilter;

/// ExpressRoute edge router: BGP with both Microsoft edges and the customer's routers, forwarding in XDP.
///
/// Exit codes: 0 success; 1 the command failed, or `erdp import azure` has found a difference; 2 invalid arguments or configuration; 3 this machine cannot run the router
/// (privilege, kernel, interface, port, another daemon); 5 and 6 the worst finding of `erdp audit` is a warning, or critical. The message names the object, the reason and the remedy.
#[derive(Parser)]
#[command(name = "erdp", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the router in the foreground until SIGINT or SIGTERM
    Run {
        /// Configuration file (TOML)
        #[arg(long)]
        config: PathBuf,
        /// Control socket to create for `erdp show`, `erdp ask`, `erdp set` and the other commands
        #[arg(long, default_value = DEFAULT_SOCKET)]
        control: PathBuf,
        /// Use generic XDP, which is slow, where the driver has no native XDP
        #[arg(long)]
        allow_generic: bool,
        /// Log every dropped packet (aya-log); use it in a lab only
        #[arg(long)]
        log_drops: bool,
        /// Take over sessions, routes and links from the `erdp run` that listens on the control socket; that process then ends.
        /// No session ends and no packet is lost. Without a running one this is an ordinary start
        #[arg(long)]
        take_over: bool,
        /// Call the maps' records another version, for tests of upgrades
        #[arg(long, hide = true)]
        as_abi: Option<u32>,
        /// Folder for what outlives the router: sessions out of service, applied and set changes; default: that of the service manager,
        /// or /var/lib/erdp with the standard control socket
        #[arg(long, value_name = "FOLDER")]
        state: Option<PathBuf>,
        /// Test option: end a part on purpose a second after the start
        #[arg(long, hide = true, value_name = "PART")]
        end_part: Option<Part>,
    },
    /// Replace the running controller with the installed version; no session ends and no packet is lost
    ///
    /// Use it for a planned restart or after an upgrade. The running daemon starts its successor with its own options, hands
    /// everything over and ends; the systemd service continues under the new process. If the successor fails, the old daemon
    /// continues unchanged. Changes of the systemd unit apply only after the next `systemctl restart`.
    Restart {
        /// Control socket of the running router
        #[arg(long, default_value = DEFAULT_SOCKET, env = "ERDP_CONTROL")]
        control: PathBuf,
    },
    /// Compare this build's packet program with the running one, on copies of its tables; exit code 1 if a frame would be treated differently
    Upgrade {
        /// Report the differences and attach nothing (use `erdp restart` to upgrade)
        #[arg(long, required = true)]
        check: bool,
        /// Configuration file (TOML)
        #[arg(long)]
        config: PathBuf,
        /// Control socket of the running router, which supplies the routes
        #[arg(long, default_value = DEFAULT_SOCKET, env = "ERDP_CONTROL")]
        control: PathBuf,
    },
    /// Remove everything that a killed `erdp run` has left in this network namespace; forwarding ends
    ///
    /// After a kill the packet program keeps forwarding, and the next `erdp run` continues from there. This command instead removes
    /// the pins, control ports, addresses and sysctls. It refuses while `erdp run` is running: stop that with SIGTERM, which also
    /// cleans up.
    Uninstall,
    /// Check, show, compare, apply and roll back configurations
    #[command(subcommand)]
    Config(operator::config::Verb),
    /// Write man pages and shell completions into a folder, for packages
    #[command(hide = true)]
    Generate {
        /// Where to
        folder: PathBuf,
    },
    /// Check a configuration and this machine, without changing anything
    Check {
        /// Configuration file (TOML)
        #[arg(long)]
        config: PathBuf,
        /// Accept generic XDP, which is slow
        #[arg(long)]
        allow_generic: bool,
    },
    /// Say which of ExpressRoute's rules a configuration breaks, and with --control the running router
    ///
    /// The first lines name each circuit with its SLA validity and resiliency. Exit code 0: nothing worse than notes; 5: the worst finding is a
    /// warning; 6: a finding is critical.
    Audit(operator::audit::Options),
    /// Read Azure's own view of the circuits, from what its command line prints
    #[command(subcommand)]
    Import(operator::import::Import),
    /// Find problems of this machine and name the remedies; exit code 3 if a problem prevents a start
    Doctor {
        /// Configuration file (TOML) whose interfaces are examined too
        #[arg(long)]
        config: Option<PathBuf>,
        /// Apply the remedy of each problem; the changes last until the next boot
        #[arg(long)]
        fix: bool,
        /// Accept generic XDP, which is slow
        #[arg(long)]
        allow_generic: bool,
    },
    /// Show the state of the running router
    Show(operator::show::ShowArguments),
    /// Say why packets are dropped: by circuit, class and reason, with the rate, since when, and what to do about it
    Why(operator::why::WhyArguments),
    /// Change the running router; changes last until it is restarted
    #[command(subcommand)]
    Set(Set),
    /// Take a circuit, a link or a peering out of service for maintenance, put it back in service, or reset its sessions
    #[command(subcommand)]
    Peering(operator::drill::PeeringVerb),
    /// Fail a link, a peering or a circuit on purpose for a limited time and report the effect
    ///
    /// The drill ends at once when no other path carries the traffic, and when this command ends. Exit code 1 if it ended early
    /// or the link has not come back.
    Drill(operator::drill::DrillArguments),
    /// Predict the drops if a link failed, from the present load; nothing is changed
    #[command(name = "whatif")]
    WhatIf(operator::drill::WhatIfArguments),
    /// Show what the loaded program does with a packet, why, and what becomes of its answer; nothing is sent or counted
    ///
    /// The packet is described by options (--to), or given as a frame (--frame); --prefixes asks about each prefix of a file, --pcap about each packet
    /// of a capture. `erdp explain` is the same command.
    #[command(visible_alias = "explain")]
    Ask(operator::ask::AskArguments),
}

#[derive(Subcommand)]
enum Set {
    /// Change the bandwidth limit of a circuit; sessions, routes and policer state are kept
    #[command(group = ArgGroup::new("change").required(true).multiple(true))]
    Circuit {
        /// Name of the circuit in the configuration
        name: String,
        /// Bandwidth in bits a second, as in the configuration: 500M, 2G (or 2Gbps)
        #[arg(long, group = "change")]
        bandwidth: Option<String>,
        /// Burst policy: peak-2x, dual-link or headroom-20
        #[arg(long, group = "change")]
        burst: Option<String>,
        /// How long a burst may last after an idle period, in milliseconds
        #[arg(long, group = "change")]
        credit_ms: Option<i64>,
        /// Reduce the bandwidth all the same; Microsoft does not reduce an existing circuit
        #[arg(long)]
        force: bool,
        /// Control socket of the running router
        #[arg(long, default_value = DEFAULT_SOCKET, env = "ERDP_CONTROL")]
        control: PathBuf,
        /// JSON instead of sentences
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config, control, allow_generic, log_drops, take_over, as_abi, end_part, state } => {
            run(Options { config, control, allow_generic, log_drops, take_over, as_abi, end_part, state })
        }
        Command::Upgrade { check: _, config, control } => upgrade(&config, &control),
        Command::Restart { control } => report(
            successor::restart(&control)
                .map(|process| println!("process {process} has taken over"))
                .map_err(Into::into),
        ),
        Command::Uninstall => uninstall(),
        Command::Config(verb) => match operator::config::run(verb) {
            Ok(()) => ExitCode::SUCCESS,
            Err(operator::config::Failure::Refused(error)) => refused(&error),
            Err(operator::config::Failure::Other(error)) => report(Err(error)),
        },
        Command::Generate { folder } => report(operator::generate::generate(Arguments::command(), &folder)),
        Command::Check { config, allow_generic } => match start::check(&config, allow_generic) {
            Ok(warnings) => {
                warnings.iter().for_each(|warning| println!("warning: {warning}"));
                println!("{}: no problems found", config.display());
                ExitCode::SUCCESS
            }
            Err(StartError::Config(error)) => refused(&error),
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(error.exit_code())
            }
        },
        Command::Audit(options) => match operator::audit::run(&options) {
            Ok(code) => code,
            Err(operator::audit::Failure::Refused(error)) => refused(&error),
            Err(operator::audit::Failure::NoRule(text) | operator::audit::Failure::Azure(text)) => {
                eprintln!("error: {text}");
                ExitCode::from(2)
            }
            Err(operator::audit::Failure::Other(error)) => report(Err(error)),
        },
        Command::Import(from) => operator::import::run(&from).unwrap_or_else(|error| match error {
            operator::import::Failure::Refused(error) => refused(&error),
            operator::import::Failure::Other(text) => {
                eprintln!("error: {text}");
                ExitCode::from(2)
            }
        }),
        Command::Doctor { config, fix, allow_generic } => doctor(config.as_deref(), allow_generic, fix)
            .unwrap_or_else(|error| {
                eprintln!("error: {error}");
                ExitCode::from(StartError::from(error).exit_code())
            }),
        Command::Show(arguments) => match arguments.conflict() {
            Some(why) => Arguments::command().error(ErrorKind::ArgumentConflict, why).exit(),
            None => report(operator::show::run(&arguments)),
        },
        Command::Why(arguments) => report(operator::why::run(&arguments)),
        Command::Set(Set::Circuit { name, bandwidth, burst, credit_ms, force, control, json }) => {
            let change = CircuitChange { bandwidth, burst, credit_ms };
            report(set(Setting::Circuit { name, change, force }, &control, json))
        }
        Command::Peering(verb) => report(operator::drill::peering(verb)),
        Command::Drill(arguments) => {
            operator::drill::drill(arguments).unwrap_or_else(|error| report(Err(error)))
        }
        Command::WhatIf(arguments) => report(operator::drill::whatif(arguments)),
        Command::Ask(arguments) => match arguments.conflict() {
            Some(why) => Arguments::command().error(ErrorKind::ArgumentConflict, why).exit(),
            None => report(operator::ask::run(&arguments)),
        },
    }
}

/// A configuration that is refused: in one line, and the place in the file, if it is in one.
fn refused(error: &ConfigError) -> ExitCode {
    eprintln!("error: {error}");
    if let ConfigError::Refused(refusal) = error {
        eprintln!("{}", refusal.excerpt);
    }
    ExitCode::from(2)
}

fn report(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn doctor(config: Option<&Path>, allow_generic: bool, fix: bool) -> Result<ExitCode, ConfigError> {
    let config = config.map(Config::load).transpose()?.map(|(config, _)| config);
    let report = erdp::doctor::examine(config.as_ref(), allow_generic, fix);
    print!("{}", report.text);
    Ok(if report.may_run { ExitCode::SUCCESS } else { ExitCode::from(CANNOT_RUN) })
}

fn run(options: Options) -> ExitCode {
    let filter = EnvFilter::try_from_env("ERDP_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    // A log that nobody reads any more is no reason to end: the subscriber's own complaint about it would be a panic.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    log.with_writer(std::io::stderr).log_internal_errors(false).init();
    // Before any other thread, so that a mount made here is seen by all of them. An error is said later.
    let _ = bpffs::root();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: starting threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(start::run(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Config(error)) => refused(&error),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn upgrade(config: &Path, control: &Path) -> ExitCode {
    match once(erdp::controller::upgrade::check(config, control)) {
        Ok(report) => {
            report.sentences.iter().for_each(|sentence| println!("{sentence}"));
            if report.differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn once<T>(work: impl Future<Output = Result<T, StartError>>) -> Result<T, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(StartError::Signal)?.block_on(work)
}

fn uninstall() -> ExitCode {
    match once(erdp::controller::uninstall::uninstall()) {
        Ok(done) => {
            done.removed.iter().for_each(|what| println!("removed: {what}"));
            done.left.iter().for_each(|what| eprintln!("left: {what}"));
            if done.removed.is_empty() {
                println!("nothing to remove: this network namespace has no state of erdp");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn set(setting: Setting, control: &Path, json: bool) -> Result<()> {
    let value = Client::connect(control)?.ask(&Request::Set(setting))?;
    if json {
        println!("{value}");
    } else {
        print!("{}", operator::render::changed(&value));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A command as pages write it, without brackets and what is the shell's (`>`, `|`), and with a value for each placeholder.
    fn words(code: &str) -> Vec<String> {
        let placeholder = |word: &str| match word {
            "ADDRESS" => "192.0.2.1".to_owned(),
            "MODEL" => "direct".to_owned(),
            "REASON" => "no-route".to_owned(),
            "N" => "100".to_owned(),
            word => word.to_owned(),
        };
        let before = |code: &'_ str, mark: &str| code.split(mark).next().unwrap_or_default().to_owned();
        let command = before(&before(code, " > "), " | ");
        command.replace(['[', ']'], "").split_whitespace().map(placeholder).collect()
    }

    #[test]
    fn commands_on_the_pages_are_commands() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut pages = vec![root.join("README.md")];
        let docs = fs::read_dir(root.join("docs")).expect("docs").flatten().map(|entry| entry.path());
        pages.push(root.join("deploy/alerts.yml"));
        pages.extend(docs.filter(|path| path.extension().is_some_and(|end| end == "md")));
        let mut seen = 0;
        for page in pages {
            let text = fs::read_to_string(&page).expect("a page");
            // What Prometheus fills in.
            let text = text
                .replace("{{ $labels.reason }}", "no-route")
                .replace("{{ $labels.", "")
                .replace(" }}", "");
            let spans = text
                .split('`')
                .skip(1)
                .step_by(2)
                .chain(text.lines().filter_map(|line| line.strip_prefix("$ ")));
            for code in spans.filter_map(|code| code.strip_prefix("erdp ")) {
                seen += 1;
                let words = ["erdp".to_owned()].into_iter().chain(words(code));
                let Err(error) = Arguments::command().try_get_matches_from(words) else { continue };
                // A mention without all arguments is a mention.
                let is_mention = [
                    ErrorKind::MissingRequiredArgument,
                    ErrorKind::MissingSubcommand,
                    ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
                    ErrorKind::DisplayHelp,
                ]
                .contains(&error.kind());
                assert!(is_mention, "{}: `erdp {code}`: {error}", page.display());
            }
        }
        assert!(seen > 10, "only {seen} commands");
    }
}
