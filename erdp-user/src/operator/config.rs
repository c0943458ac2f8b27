//! `erdp config`: what an operator does with configurations, before and while the router runs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use erdp::{
    config::{Config, ConfigError, preset::Preset, shown},
    control::{Configuring, DEFAULT_SOCKET, File, Request, client::Client},
};
use serde_json::Value;

/// What can be done with configurations.
#[derive(Subcommand)]
pub enum Verb {
    /// Check a file without looking at this machine (`erdp check` examines the machine too)
    Check {
        /// Configuration file (TOML)
        file: PathBuf,
    },
    /// Show the running configuration, one value a line; secrets are hidden
    Show {
        /// Show default values too
        #[arg(long)]
        defaults: bool,
        /// Show this file instead of the running configuration
        file: Option<PathBuf>,
        /// Control socket of the running router
        #[arg(long, default_value = DEFAULT_SOCKET, env = "ERDP_CONTROL")]
        control: PathBuf,
    },
    /// Show what a file would change in the running configuration, and which sessions would end
    Diff {
        /// Configuration file (TOML)
        file: PathBuf,
        #[command(flatten)]
        asking: Asking,
    },
    /// Replace the running configuration with a file, completely or not at all
    ///
    /// The changes and the sessions that end are printed. The new configuration lasts over restarts, crashes and reboots, until the file
    /// given to `erdp run` has changed and erdp is started again, and one with --confirm that was not confirmed until a crash. Where erdp
    /// has no state folder (`erdp run --state`) it lasts until the next start. `erdp restart` refuses while it would undo the change.
    Apply {
        /// Configuration file (TOML)
        file: PathBuf,
        /// Roll back after this time (60s, 5m) unless `erdp config confirm` is given before
        #[arg(long, value_parser = seconds)]
        confirm: Option<u64>,
        /// Refuse the file if a session would end
        #[arg(long)]
        no_flap: bool,
        /// Reduce a circuit's bandwidth all the same; Microsoft does not reduce an existing circuit
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        asking: Asking,
    },
    /// Keep the configuration that was applied with --confirm
    Confirm {
        #[command(flatten)]
        asking: Asking,
    },
    /// Return to the configuration before the last `apply`
    Rollback {
        #[command(flatten)]
        asking: Asking,
    },
    /// Print a starting configuration with a checklist for one connectivity model
    Preset {
        /// The connectivity model
        name: Preset,
    },
}

/// Whom to ask, and how to show the answer.
#[derive(clap::Args)]
pub struct Asking {
    /// Control socket of the running router
    #[arg(long, default_value = DEFAULT_SOCKET, env = "ERDP_CONTROL")]
    control: PathBuf,
    /// JSON instead of sentences
    #[arg(long)]
    json: bool,
}

/// Why a verb did not do its work.
pub enum Failure {
    /// A configuration is refused: exit code 2.
    Refused(ConfigError),
    /// Anything else.
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Other(error.into())
    }
}

/// Carries a verb out.
pub fn run(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Check { file } => {
            load(&file)?;
            println!("{}: no problems found", file.display());
        }
        Verb::Show { defaults, file, control } => {
            let text = match file {
                Some(file) => shown::text(&load(&file)?),
                None => {
                    let answer = Client::connect(&control)?.ask(&Request::Config(Configuring::Show))?;
                    answer
                        .as_str()
                        .context("the daemon answers something else: is it of this version?")?
                        .to_owned()
                }
            };
            let is_set = |line: &&str| {
                let value = line.split_once(" = ").map_or("", |(_, value)| value);
                defaults || !["(none)", "false", "[]"].contains(&value)
            };
            text.lines().filter(is_set).for_each(|line| println!("{line}"));
        }
        Verb::Diff { file, asking } => {
            let answer = ask(&asking, Configuring::Diff(read(&file)?))?;
            print_plan(&answer, asking.json);
        }
        Verb::Apply { file, confirm, no_flap, force, asking } => {
            apply(&file, confirm, no_flap, force, &asking)?
        }
        Verb::Confirm { asking } => {
            let answer = ask(&asking, Configuring::Confirm)?;
            println!("{}", answer.as_str().unwrap_or("confirmed"));
        }
        Verb::Rollback { asking } => print_plan(&ask(&asking, Configuring::Rollback)?, asking.json),
        Verb::Preset { name } => print!("{}", name.text()),
    }
    Ok(())
}

/// A file by itself; its warnings are printed.
fn load(file: &Path) -> Result<Config, Failure> {
    let (config, warnings) = Config::load(file).map_err(Failure::Refused)?;
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    Ok(config)
}

fn read(file: &Path) -> Result<File> {
    let path = fs::canonicalize(file).with_context(|| format!("cannot find {}", file.display()))?;
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(File { path, text })
}

fn ask(asking: &Asking, request: Configuring) -> Result<Value> {
    Ok(Client::connect(&asking.control)?.ask(&Request::Config(request))?)
}

fn apply(path: &Path, confirm_s: Option<u64>, no_flap: bool, force: bool, asking: &Asking) -> Result<()> {
    let file = read(path)?;
    if asking.json {
        println!("{}", ask(asking, Configuring::Apply { file, confirm_s, no_flap, force })?);
        return Ok(());
    }
    let plan = ask(asking, Configuring::Diff(file.clone()))?;
    // Before anything is printed: nobody who reads, and no disk that is full, keeps it from being done.
    let applied = ask(asking, Configuring::Apply { file, confirm_s, no_flap, force });
    print_plan(&plan, false);
    let applied = applied?;
    match confirm_s {
        Some(seconds) => {
            println!("applied; rolls back in {seconds} s unless `erdp config confirm` is given before")
        }
        None => println!("applied"),
    }
    if let Some(interfaces) = applied["interfaces"].as_str() {
        println!("{interfaces}");
    }
    Ok(())
}

/// The daemon's plan in sentences: what differs, which sessions end.
fn print_plan(answer: &Value, json: bool) {
    if json {
        println!("{answer}");
        return;
    }
    let list = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    list(&answer["warnings"]).iter().for_each(|warning| println!("warning: {warning}"));
    let plan = &answer["plan"];
    for difference in plan["differences"].as_array().into_iter().flatten() {
        let side = |key: &str| difference[key].as_str().unwrap_or("(not there)").to_owned();
        println!("{}: {} -> {}", difference["path"].as_str().unwrap_or("?"), side("from"), side("to"));
    }
    if plan["differences"].as_array().is_none_or(Vec::is_empty) {
        println!("no differences");
    }
    list(&plan["refused"]).iter().for_each(|why| println!("refused: {why}"));
    list(&plan["decreases"]).iter().for_each(|why| println!("refused without --force: {why}"));
    for (key, what) in
        [("flaps", "sessions that restart"), ("added", "new sessions"), ("removed", "sessions that end")]
    {
        let names = list(&plan[key]);
        println!("{what}: {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") });
    }
}

/// `60`, or a [`span`]: a day at most.
pub(super) fn seconds(text: &str) -> Result<u64> {
    match span(text).or_else(|| text.parse().ok()) {
        Some(seconds) if (1..=86_400).contains(&seconds) => Ok(seconds),
        _ => bail!("{text:?} is not between 1s and 1d: write it like 60s, 5m or 2h"),
    }
}

/// Seconds of `90s`, `15m`, `2h` or `3d`.
pub(super) fn span(text: &str) -> Option<u64> {
    let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let of =
        |(unit, seconds): &(&str, u64)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(*seconds);
    units.iter().find_map(of)
}
