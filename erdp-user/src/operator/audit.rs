//! `erdp audit`: reads the file, asks the router if it is to be asked, and prints or writes the report.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use erdp::{
    audit::{
        Facts, Live, Report,
        facts::{is_unchanged, rows},
        junit, page, rules, sarif,
    },
    config::{Config, ConfigError},
    control::{
        Configuring, File, Request, Topic,
        client::{Client, ClientError},
    },
};

use super::import;

/// The options.
#[derive(clap::Args)]
pub struct Options {
    /// Configuration file (TOML)
    #[arg(long, default_value = "/etc/erdp/erdp.toml")]
    config: PathBuf,
    /// Control socket of the running router; without it only the file is audited
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
    /// Also compare with what Azure's command line has printed into this file; may be given several times
    #[arg(long, value_name = "[PLACE=]FILE")]
    azure: Vec<String>,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
    /// Also write the report as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Also write the report as SARIF 2.1.0
    #[arg(long, value_name = "FILE")]
    sarif: Option<PathBuf>,
    /// Print what a rule is about and do nothing else
    #[arg(long, value_name = "RULE")]
    explain: Option<String>,
}

/// Why there is no report.
pub enum Failure {
    /// The configuration is refused: exit code 2.
    Refused(ConfigError),
    /// There is no such rule: exit code 2.
    NoRule(String),
    /// A file of Azure's cannot be read: exit code 2.
    Azure(String),
    /// Anything else.
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Other(error.into())
    }
}

/// Audits.
pub fn run(options: &Options) -> Result<ExitCode, Failure> {
    if let Some(id) = &options.explain {
        let rule = rules::find(id).ok_or_else(|| Failure::NoRule(page::no_such_rule(id)))?;
        print!("{}", page::explain(rule));
        return Ok(ExitCode::SUCCESS);
    }
    let file = options.config.display().to_string();
    let unreadable = |source| ConfigError::Unreadable { file: options.config.clone(), source };
    let text = fs::read_to_string(&options.config).map_err(|error| Failure::Refused(unreadable(error)))?;
    let (config, _) = Config::parse(&text, &options.config).map_err(Failure::Refused)?;
    let live = options.control.as_deref().map(|socket| ask(socket, &options.config, &text)).transpose()?;
    let azure = match options.azure.as_slice() {
        [] => None,
        files => Some(import::view(files).map_err(Failure::Azure)?),
    };
    let facts = Facts { config: &config, live: live.as_ref(), azure: azure.as_ref() };
    let report = Report::of(&facts, &file, &text);
    if let Some(path) = &options.junit {
        write(path, &junit::text(&report)?)?;
    }
    if let Some(path) = &options.sarif {
        write(path, &sarif::text(&report))?;
    }
    print!("{}", if options.json { report.json() } else { report.text() });
    Ok(ExitCode::from(report.exit_code()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// What the running router answers. Each question has a connection of its own: an answer of many pages ends one.
fn ask(socket: &Path, config: &Path, text: &str) -> Result<Live> {
    let show = |topic| Client::connect(socket)?.ask(&Request::Show(topic));
    let read = anyhow::Error::msg;
    Ok(Live {
        circuits: rows("circuits", show(Topic::Circuits)?).map_err(read)?,
        sessions: rows("sessions", show(Topic::Sessions)?).map_err(read)?,
        links: rows("links", show(Topic::Links)?).map_err(read)?,
        limits: rows("limits", show(Topic::Limits)?).map_err(read)?,
        routes: rows("routes", show(Topic::Routes)?).map_err(read)?,
        refused: rows("refused", show(Topic::Refused)?).map_err(read)?,
        runs_the_file: Some(runs(socket, config, text)?),
    })
}

/// Whether the router runs a file: it compares, because only it knows its keys. A file that it refuses is not what it runs.
fn runs(socket: &Path, config: &Path, text: &str) -> Result<bool> {
    let path = fs::canonicalize(config).with_context(|| format!("cannot find {}", config.display()))?;
    let file = File { path, text: text.to_owned() };
    match Client::connect(socket)?.ask(&Request::Config(Configuring::Diff(file))) {
        Ok(answer) => Ok(is_unchanged(&answer)),
        Err(ClientError::Refused(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
