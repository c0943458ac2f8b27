//! `erdp`: the ExpressRoute edge router's daemon and its operator's commands.

mod operator;

use std::{
    io::IsTerminal as _,
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::{
    ArgGroup, CommandFactory as _, Parser, Subcommand, builder::PossibleValuesParser, error::ErrorKind,
};
use erdp::{
    config::{CircuitChange, Config, ConfigError},
    control::{DEFAULT_SOCKET, Explanation, Question, Request, Setting, Topic, client::Client, render},
    controller::{
        start::{self, CANNOT_RUN, Options, StartError},
        successor,
    },
    dataplane::bpffs,
};
use erdp_common::reason::DropReason;
use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

/// ExpressRoute edge router: forwards in XDP what BGP has taught it.
///
/// Exit codes: 0 done; 1 the command failed; 2 wrong arguments or configuration; 3 this machine cannot run the router
/// (privilege, kernel, interface, port, another daemon), with the remedy in the message.
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
        /// Control socket for `erdp show`, `erdp explain` and `erdp set`
        #[arg(long, default_value = DEFAULT_SOCKET)]
        control: PathBuf,
        /// Accept slow generic XDP where the driver has no native one
        #[arg(long)]
        allow_generic: bool,
        /// Log every dropped packet (aya-log): for a lab, not for load
        #[arg(long)]
        log_drops: bool,
        /// Planned restart or upgrade: take sessions, routes and links over from the `erdp run` behind the control socket, which
        /// then ends; no session and no packet notices. Without one there, an ordinary start
        #[arg(long)]
        take_over: bool,
        /// Call the maps' records another version, for tests of upgrades
        #[arg(long, hide = true)]
        as_abi: Option<u32>,
    },
    /// Replace the running controller by the program that is installed now; no session and no packet notices
    ///
    /// For a restart or after an upgrade, by systemd or by hand: the daemon starts its successor with its own options, gives it
    /// everything and ends, and the service goes on under the new process. If the successor fails, the daemon goes on as before.
    /// What a changed systemd unit says applies only from the next `systemctl restart` on.
    Restart {
        /// Control socket of the running router
        #[arg(long, default_value = DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Rehearse an upgrade: this build's program on copies of what forwards here; exit code 1 if it would treat a frame differently
    Upgrade {
        /// Only say what would change: nothing is attached (to upgrade, use `erdp restart`)
        #[arg(long, required = true)]
        check: bool,
        /// Configuration file (TOML)
        #[arg(long)]
        config: PathBuf,
        /// Control socket of the running router, which knows the routes
        #[arg(long, default_value = DEFAULT_SOCKET)]
        control: PathBuf,
    },
    /// Undo what an `erdp run` that was killed has left in this network namespace: forwarding ends
    ///
    /// A killed `erdp run` goes on forwarding, and the next one continues from there. This removes its pins, control ports,
    /// addresses and sysctls instead. A running one is refused: SIGTERM undoes all of it.
    Uninstall,
    /// Configurations: check, show, compare, apply, go back
    #[command(subcommand)]
    Config(operator::config::Verb),
    /// Write man pages and shell completions into a folder, for packages
    #[command(hide = true)]
    Generate {
        /// Where to
        folder: PathBuf,
    },
    /// Check a configuration and this machine; change nothing
    Check {
        /// Configuration file (TOML)
        #[arg(long)]
        config: PathBuf,
        /// Accept slow generic XDP
        #[arg(long)]
        allow_generic: bool,
    },
    /// Examine this machine: what stands against running here, and the remedy; exit code 3 if something does
    Doctor {
        /// Configuration file (TOML): its interfaces are examined too
        #[arg(long)]
        config: Option<PathBuf>,
        /// Do what is said for each finding; it lasts until the next boot
        #[arg(long)]
        fix: bool,
        /// Accept slow generic XDP
        #[arg(long)]
        allow_generic: bool,
    },
    /// Show what the running router knows
    Show {
        /// What to show
        topic: Topic,
        /// Only what was dropped for this reason (`show drops`)
        #[arg(long, value_parser = PossibleValuesParser::new(DropReason::ALL.iter().map(|reason| reason.label())))]
        reason: Option<String>,
        /// Routes that are not used or not told, each with the reason (`show routes`): the same as `show refused`
        #[arg(long)]
        refused: bool,
        /// Control socket of the running router
        #[arg(long, default_value = DEFAULT_SOCKET)]
        control: PathBuf,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Change the running router, until it is restarted
    #[command(subcommand)]
    Set(Set),
    /// Take a peering down for maintenance, or give it free
    #[command(subcommand)]
    Peering(operator::drill::PeeringVerb),
    /// Let a link fail on purpose for a limited time, and report what came of it
    ///
    /// It ends at once when nothing else carries the traffic any more, and also when this command ends. Exit code 1 if it ended
    /// before its time or the link is not back.
    Drill(operator::drill::DrillArguments),
    /// Predict what would be dropped if a link failed, from the load of now; nothing is touched
    #[command(name = "whatif")]
    WhatIf(operator::drill::WhatIfArguments),
    /// Ask the loaded program what it does with a packet; nothing is sent or counted
    Explain {
        /// Interface (or attachment name, see `erdp show links`) the packet comes in on
        #[arg(long)]
        interface: String,
        /// Destination address
        #[arg(long, required_unless_present = "prefixes")]
        to: Option<IpAddr>,
        /// File with one prefix a line: each is asked about by its first usable address
        #[arg(long, conflicts_with = "to")]
        prefixes: Option<PathBuf>,
        /// Source address; by default a neighbour on the interface
        #[arg(long)]
        from: Option<IpAddr>,
        /// UDP source port: it chooses the flow's link
        #[arg(long, default_value_t = 40_000)]
        from_port: u16,
        /// UDP destination port
        #[arg(long, default_value_t = 443)]
        to_port: u16,
        /// Control socket of the running router
        #[arg(long, default_value = DEFAULT_SOCKET)]
        control: PathBuf,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
enum Set {
    /// What a circuit is limited to; sessions, routes and the state of its policers are kept
    #[command(group = ArgGroup::new("change").required(true).multiple(true))]
    Circuit {
        /// Its name in the configuration
        name: String,
        /// In bits a second, as in the configuration: 500M, 2G (or 2Gbps)
        #[arg(long, group = "change")]
        bandwidth: Option<String>,
        /// What "burst up to twice the bandwidth" means: peak-2x, dual-link or headroom-20
        #[arg(long, group = "change")]
        burst: Option<String>,
        /// How long a burst may last after idleness, in milliseconds
        #[arg(long, group = "change")]
        credit_ms: Option<i64>,
        /// Control socket of the running router
        #[arg(long, default_value = DEFAULT_SOCKET)]
        control: PathBuf,
        /// JSON instead of sentences
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config, control, allow_generic, log_drops, take_over, as_abi } => {
            run(Options { config, control, allow_generic, log_drops, take_over, as_abi })
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
                println!("{}: good", config.display());
                ExitCode::SUCCESS
            }
            Err(StartError::Config(error)) => refused(&error),
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(error.exit_code())
            }
        },
        Command::Doctor { config, fix, allow_generic } => doctor(config.as_deref(), allow_generic, fix)
            .unwrap_or_else(|error| {
                eprintln!("error: {error}");
                ExitCode::from(StartError::from(error).exit_code())
            }),
        Command::Show { topic, reason: Some(_), .. } if topic != Topic::Drops => Arguments::command()
            .error(ErrorKind::ArgumentConflict, "--reason belongs to `erdp show drops`: leave it out")
            .exit(),
        Command::Show { topic, refused: true, .. } if topic != Topic::Routes => Arguments::command()
            .error(ErrorKind::ArgumentConflict, "--refused belongs to `erdp show routes`: leave it out")
            .exit(),
        Command::Show { topic, reason, refused, control, json } => {
            let topic = if refused { Topic::Refused } else { topic };
            report(show(topic, reason.as_deref(), &control, json))
        }
        Command::Set(Set::Circuit { name, bandwidth, burst, credit_ms, control, json }) => {
            let change = CircuitChange { bandwidth, burst, credit_ms };
            report(set(Setting::Circuit { name, change }, &control, json))
        }
        Command::Peering(verb) => report(operator::drill::peering(verb)),
        Command::Drill(arguments) => {
            operator::drill::drill(arguments).unwrap_or_else(|error| report(Err(error)))
        }
        Command::WhatIf(arguments) => report(operator::drill::whatif(arguments)),
        Command::Explain { interface, to, prefixes, from, from_port, to_port, control, json } => {
            let ports = (from_port, to_port);
            report(targets(to, prefixes).and_then(|targets| {
                explain(&mut Client::connect(&control)?, &interface, &targets, from, ports, json)
            }))
        }
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
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
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
            done.iter().for_each(|what| println!("removed: {what}"));
            if done.is_empty() {
                println!("nothing of erdp is in this network namespace");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn show(topic: Topic, reason: Option<&str>, control: &Path, json: bool) -> Result<()> {
    let mut value = Client::connect(control)?.ask(&Request::Show(topic))?;
    if let (Some(reason), Some(rows)) = (reason, value.as_array_mut()) {
        rows.retain(|row| row["reason"] == reason);
    }
    if json {
        println!("{value}");
    } else {
        print!("{}", render::show(topic, &value));
    }
    Ok(())
}

fn set(setting: Setting, control: &Path, json: bool) -> Result<()> {
    let value = Client::connect(control)?.ask(&Request::Set(setting))?;
    if json {
        println!("{value}");
    } else {
        print!("{}", render::changed(&value));
    }
    Ok(())
}

/// What to ask about: an address, or each prefix by its first usable address.
fn targets(to: Option<IpAddr>, prefixes: Option<PathBuf>) -> Result<Vec<(Option<IpNet>, IpAddr)>> {
    let Some(path) = prefixes else {
        return Ok(to.map(|to| (None, to)).into_iter().collect());
    };
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| {
            let prefix: IpNet =
                line.trim().parse().with_context(|| format!("{}:{}: {line:?}", path.display(), at + 1))?;
            let first = prefix.hosts().next().unwrap_or(prefix.addr());
            Ok((Some(prefix), first))
        })
        .collect()
}

fn explain(
    client: &mut Client,
    interface: &str,
    targets: &[(Option<IpNet>, IpAddr)],
    from: Option<IpAddr>,
    ports: (u16, u16),
    json: bool,
) -> Result<()> {
    for chunk in targets.chunks(256) {
        let to = chunk.iter().map(|(_, address)| *address).collect();
        let question = Question { interface: interface.into(), to, from, ports };
        let answers: Vec<Explanation> = serde_json::from_value(client.ask(&Request::Explain(question))?)?;
        if answers.len() != chunk.len() {
            bail!("{} answers for {} questions: is the daemon of this version?", answers.len(), chunk.len());
        }
        for ((prefix, _), answer) in chunk.iter().zip(&answers) {
            if json {
                let mut value = serde_json::json!({ "prefix": prefix });
                if let (Some(value), serde_json::Value::Object(fields)) =
                    (value.as_object_mut(), serde_json::to_value(answer)?)
                {
                    value.extend(fields);
                }
                println!("{value}");
            } else {
                println!("{}", sentence(answer));
                if let Some(adopted) = &answer.adopted {
                    println!("  by what was known before the controller was lost: {adopted}");
                }
                if answer.no_return == Some(true) {
                    println!(
                        "  no way back: Microsoft has not been told of the source; have it announced, see `erdp show refused` (D8)"
                    );
                }
            }
        }
    }
    Ok(())
}

fn sentence(answer: &Explanation) -> String {
    let or = |text: &Option<String>, other: &str| text.clone().unwrap_or_else(|| other.into());
    let came = or(&answer.attachment, "an unknown attachment");
    let next_hop = answer.next_hop.map_or("?".into(), |address| address.to_string());
    let others = answer.members.len().saturating_sub(1);
    match answer.verdict.as_str() {
        "transmit" => format!(
            "{}: from {came} to {next_hop} on {} ({}){}",
            answer.address,
            or(&answer.egress, "?"),
            or(&answer.interface, "?"),
            if others > 0 {
                format!(", one of {} equal next hops for this flow", others + 1)
            } else {
                String::new()
            },
        ),
        "punt" => {
            format!("{}: from {came} to the edge's own kernel as {}", answer.address, or(&answer.reason, "?"))
        }
        _ => format!(
            "{}: from {came}, dropped as {}: {}",
            answer.address,
            or(&answer.reason, "?"),
            or(&answer.remedy, "no remedy known")
        ),
    }
}
