//! `erdp import azure`: reads the files, and the configuration or the running router that they are compared with, and prints a proposal or the drift.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use erdp::{
    config::{Config, ConfigError, LinkRole, PeeringKind},
    control::{
        Configuring, DEFAULT_SOCKET, Request, Topic,
        client::Client,
        query::{PathQuery, Way},
    },
    import::{
        Customer, FILE_MAX, FILES_MAX, ImportError, Options, Ours, Place, Seen, View, compare,
        ours::Live,
        propose, read,
        said::clean,
        view::{kind, role},
    },
};
use ipnet::IpNet;
use serde_json::Value;

/// What can be imported.
#[derive(Subcommand)]
pub enum Import {
    /// Propose a configuration from Azure's answers, or compare them with a configuration or the running router
    ///
    /// FILE has the JSON that one of these prints: `az network express-route show`, `list`, `peering list`, `list-route-tables`,
    /// `list-route-tables-summary`, `list-arp-tables`, `get-stats`, `az network express-route port show`; or the answer of
    /// getCircuitLinkFailoverSingleTestDetails or getResiliencyInformation. Files are recognised by their content and joined by the circuit's name
    /// and the links' addresses; PLACE (contoso, contoso/private or contoso/private/primary) says what a file is of where it does not say so itself.
    ///
    /// Exit code 0: a proposal, or no difference; 1: there are differences; 2: a file, the configuration or the router cannot be read.
    Azure(Azure),
}

/// The options.
#[derive(clap::Args)]
pub struct Azure {
    /// Files with Azure's answers, one answer each
    #[arg(required = true, value_name = "[PLACE=]FILE")]
    files: Vec<String>,
    /// Compare with this configuration file (TOML) and print each difference
    #[arg(long, value_name = "CONFIG", conflicts_with = "live")]
    against: Option<PathBuf>,
    /// Compare with the running router: its configuration, routes, sessions and MAC addresses
    #[arg(long)]
    live: bool,
    /// Control socket of the running router
    #[arg(long, default_value = DEFAULT_SOCKET, env = "ERDP_CONTROL")]
    control: PathBuf,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
    /// Interface of a link in the proposal, such as contoso/primary=eth1; may be given several times
    #[arg(long, value_name = "CIRCUIT/LINK=NAME", value_parser = interface)]
    interface: Vec<(String, LinkRole, String)>,
    /// Attachment towards the customer in the proposal, such as private=eth0,10.254.0.1/30; may be given several times
    #[arg(long, value_name = "PEERING=NAME,ADDRESS/LENGTH", value_parser = customer)]
    customer: Vec<Customer>,
}

/// Why there is neither a proposal nor a comparison: exit code 2, since 1 is a difference.
pub enum Failure {
    /// The configuration is refused.
    Refused(ConfigError),
    /// Anything else.
    Other(String),
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Failure {
        Failure::Other(error.to_string())
    }
}

impl From<erdp::control::client::ClientError> for Failure {
    fn from(error: erdp::control::client::ClientError) -> Failure {
        Failure::Other(error.to_string())
    }
}

/// Imports.
pub fn run(from: &Import) -> Result<ExitCode, Failure> {
    let Import::Azure(azure) = from;
    let view = view(&azure.files).map_err(Failure::Other)?;
    let ours = match &azure.against {
        Some(path) => Ours::of(&Config::load(path).map_err(Failure::Refused)?.0),
        None if azure.live => live(&azure.control)?,
        None => {
            let options = Options { interfaces: azure.interface.clone(), customers: azure.customer.clone() };
            let proposal = propose(&view, &options)?;
            let json = || serde_json::to_string_pretty(&proposal).unwrap_or_default() + "\n";
            print!("{}", if azure.json { json() } else { proposal.toml.clone() });
            return Ok(ExitCode::SUCCESS);
        }
    };
    let report = compare(&view, &ours);
    print!("{}", if azure.json { report.json() } else { report.text() });
    Ok(if report.drift.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Azure's view, as the files have it.
pub fn view(files: &[String]) -> Result<View, String> {
    if files.len() > FILES_MAX {
        return Err(format!("{} files; at most {FILES_MAX} are read", files.len()));
    }
    let mut seen = Seen::default();
    for file in files {
        let (place, path) = named(file)?;
        let bytes = bytes(path)?;
        read(&path.display().to_string(), &bytes, place, &mut seen).map_err(|error| error.to_string())?;
    }
    View::of(seen).map_err(|error| error.to_string())
}

/// `FILE`, or `PLACE=FILE`. A file that is there is one, whatever its name.
fn named(text: &str) -> Result<(Option<Place>, &Path), String> {
    match text.split_once('=') {
        Some((place, file)) if !Path::new(text).exists() => Ok((Some(place.parse()?), Path::new(file))),
        _ => Ok((None, Path::new(text))),
    }
}

/// A byte beyond the longest is read, so that a longer file is refused and not cut.
fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("cannot read {}: {error}", clean(&path.display().to_string())))?;
    Ok(bytes)
}

/// What the running router has. Each question has a connection of its own: an answer of many pages ends one.
fn live(socket: &Path) -> Result<Ours, Failure> {
    let ask = |request: &Request| -> Result<Value, Failure> { Ok(Client::connect(socket)?.ask(request)?) };
    let shown = ask(&Request::Config(Configuring::Show))?;
    let question = "erdp config show";
    let ours = Ours::shown(shown.as_str().ok_or(ImportError::Router { question })?)?;
    let mut live = Live::of(&ask(&Request::Show(Topic::Sessions))?, &ask(&Request::Show(Topic::Links))?)?;
    for (peer, session) in &mut live.sessions {
        let paths = |way| ask(&Request::Paths(PathQuery { peer: peer.to_string(), way, place: None }));
        session.advertised = Live::prefixes(&paths(Way::Advertised)?, Some("advertised"))?;
        session.received = Live::prefixes(&paths(Way::Received)?, None)?;
    }
    Ok(ours.with(live))
}

/// `contoso/primary=eth1`.
fn interface(text: &str) -> Result<(String, LinkRole, String), String> {
    let refused = || "write it like contoso/primary=eth1".to_owned();
    let (link, name) = text.split_once('=').filter(|(_, name)| !name.is_empty()).ok_or_else(refused)?;
    let (circuit, link) = link.split_once('/').ok_or_else(refused)?;
    Ok((circuit.to_owned(), role(link).ok_or_else(refused)?, name.to_owned()))
}

/// `private=eth0,10.254.0.1/30`.
fn customer(text: &str) -> Result<Customer, String> {
    let refused = || "write it like private=eth0,10.254.0.1/30".to_owned();
    let (peering, rest) = text.split_once('=').ok_or_else(refused)?;
    let (interface, address) =
        rest.split_once(',').filter(|(name, _)| !name.is_empty()).ok_or_else(refused)?;
    let kind: PeeringKind = kind(peering).ok_or_else(refused)?;
    let address: IpNet = address.parse().map_err(|_| refused())?;
    Ok(Customer { kind, interface: interface.to_owned(), address })
}
