//! The edge: `erdp` as its operator sees it, started in the lab's edge namespace and asked by its own commands.
//!
//! Nothing here knows how erdp works inside: what is checked in the lab is what an operator could check.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use nix::unistd::geteuid;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::lab::{Ground, Lab, cards, netns::Namespace, plan, process::Process};

/// A running `erdp`.
#[derive(Debug)]
pub struct Edge {
    process: Process,
    binary: PathBuf,
    control: PathBuf,
    questions: PathBuf,
}

/// One row of `erdp show sessions --json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Session {
    /// The peer's address.
    pub peer: String,
    /// Its AS number.
    pub asn: u32,
    /// The state's name in RFC 4271.
    pub state: String,
    /// Prefixes that it announces to us.
    pub received: u64,
    /// Those of them that policy refuses.
    pub refused: u64,
    /// Prefixes that we announce to it.
    pub advertised: u64,
    /// How often it has been established.
    #[serde(default)]
    pub sessions: u64,
    /// Why it was last down.
    pub last_error: Option<String>,
}

/// Packets and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// `erdp show counters --json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Counters {
    /// Came in.
    pub rx: Tally,
    /// Handed on to a link.
    pub tx: Tally,
    /// Made by the packet path itself.
    pub originated: Tally,
    /// Sent by the edge's kernel through control ports.
    pub from_kernel: Tally,
    /// Lost between the decision and the link.
    pub transmit_lost: Tally,
    /// For the router itself, by kind.
    pub punted: std::collections::BTreeMap<String, Tally>,
    /// Dropped, by reason.
    pub dropped: std::collections::BTreeMap<String, Tally>,
    /// By attachment.
    pub attachments: Vec<AttachmentCounters>,
}

/// The part of one attachment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AttachmentCounters {
    /// Its name.
    pub name: String,
    /// Came in there.
    pub rx: Tally,
    /// Went out there.
    pub tx: Tally,
}

impl Counters {
    /// Packets that came in or were made, less those that went out, to the kernel or to the floor with a reason: none may be
    /// unaccounted for.
    pub fn unexplained(&self) -> i128 {
        let sum = |tallies: &std::collections::BTreeMap<String, Tally>| -> i128 {
            tallies.values().map(|tally| i128::from(tally.packets)).sum()
        };
        i128::from(self.rx.packets)
            + i128::from(self.originated.packets)
            + i128::from(self.from_kernel.packets)
            - i128::from(self.tx.packets)
            - sum(&self.punted)
            - sum(&self.dropped)
    }
}

/// One line of `erdp explain --json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Explanation {
    /// The destination that was asked for.
    pub address: IpAddr,
    /// transmit, punt or drop.
    pub verdict: String,
    /// Why, where it is not transmitted.
    pub reason: Option<String>,
    /// The interface that it leaves by.
    pub interface: Option<String>,
    /// The neighbour it is sent to.
    pub next_hop: Option<IpAddr>,
    /// Every neighbour that the route would use.
    #[serde(default)]
    pub members: Vec<IpAddr>,
    /// While the program of the controller before forwards: what its end waits for.
    #[serde(default)]
    pub adopted: Option<String>,
}

/// The configuration of the lab's edge on untagged links.
pub fn configuration() -> String {
    configuration_on(Ground::Veth)
}

/// The configuration of the lab's edge.
pub fn configuration_on(ground: Ground) -> String {
    let tags = |tags: &[u16]| match (ground, tags) {
        (Ground::Cards, [vlan]) => format!("vlan = {vlan}\n"),
        (Ground::Cards, [outer, inner]) => format!("s-vlan = {outer}\nvlan = {inner}\n"),
        _ => String::new(),
    };
    format!(
        "asn = {asn}\n\n\
         [[circuit]]\nname = \"lab\"\nbandwidth = \"1G\"\n\
         primary = {{ local = \"{primary}\" }}\nsecondary = {{ local = \"{secondary}\" }}\n\n\
         [circuit.private]\nipv4 = \"{ipv4}\"\nipv6 = \"{ipv6}\"\n{msee_tags}\n\
         [[attachment]]\ninterface = \"{ce}\"\n{ce_tags}peerings = [\"lab/private\"]\n\
         ipv4 = \"{ce4}/{len4}\"\nipv6 = \"{ce6}/{len6}\"\n\
         peers = [{{ address = \"{peer4}\", asn = {peer_asn} }}, {{ address = \"{peer6}\", asn = {peer_asn} }}]\n",
        asn = plan::EDGE_ASN,
        msee_tags = tags(cards::MSEE_TAGS),
        ce_tags = tags(cards::CE_TAGS),
        primary = plan::PRIMARY.near.1,
        secondary = plan::SECONDARY.near.1,
        ipv4 = plan::PRIVATE_IPV4,
        ipv6 = plan::PRIVATE_IPV6,
        ce = plan::CE.far.1,
        ce4 = plan::CE.ipv4.1,
        len4 = plan::CE.ipv4.2,
        ce6 = plan::CE.ipv6.1,
        len6 = plan::CE.ipv6.2,
        peer4 = plan::CE.ipv4.0,
        peer6 = plan::CE.ipv6.0,
        peer_asn = plan::CE_ASN,
    )
}

/// Where a router keeps the orders of its operator whose files are in `folder`.
pub fn state_folder(folder: &Path) -> PathBuf {
    folder.join("state")
}

/// Whether everything is to be run (`cargo xtask test --full`): for tests that have fewer rows every day. A whole test that is too long for
/// every day is one of `--full` by its attribute.
pub fn is_full() -> bool {
    std::env::var_os("ERDP_TEST_FULL").is_some()
}

/// The folder of collected data that `ERDP_DATA` names; `None`, with DEFERRED, where it names none.
pub fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("ERDP_DATA").map(PathBuf::from);
    if folder.is_none() {
        println!("DEFERRED: only with ERDP_DATA (`cargo xtask test --data`)");
    }
    folder
}

/// Whether a test that starts `erdp` in network namespaces cannot run here; the reason has then been printed as SKIP.
pub fn skipped() -> bool {
    let reason = if geteuid().is_root() {
        binary().err().map(|error| format!("{error:#}"))
    } else {
        Some("network namespaces need root".to_owned())
    };
    if let Some(reason) = &reason {
        println!("SKIP: {reason}");
    }
    reason.is_some()
}

/// The binary that `cargo xtask build` makes, or the one that `ERDP_BINARY` names.
///
/// # Errors
/// When it has not been built.
pub fn binary() -> Result<PathBuf> {
    let chosen = std::env::var_os("ERDP_BINARY").map(PathBuf::from);
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target").join("release/erdp");
    let path = chosen.unwrap_or(built);
    if !path.exists() {
        bail!("{} does not exist: run `cargo xtask build`", path.display());
    }
    Ok(path)
}

impl Edge {
    /// Starts `erdp run` in the lab's edge namespace with [`configuration`].
    ///
    /// # Errors
    /// When it cannot be started; that it ended soon after is seen by [`Edge::must_run`].
    pub fn start(lab: &Lab) -> Result<Edge> {
        Edge::start_with(lab.namespace("edge")?, lab.folder(), &configuration_on(lab.ground()))
    }

    /// The same in any namespace that has the interfaces; its files are in `folder`.
    ///
    /// # Errors
    /// As [`Edge::start`].
    pub fn start_in(namespace: &Namespace, folder: &Path) -> Result<Edge> {
        Edge::start_with(namespace, folder, &configuration())
    }

    /// The same with another configuration.
    ///
    /// # Errors
    /// As [`Edge::start`].
    pub fn start_with(namespace: &Namespace, folder: &Path, configuration: &str) -> Result<Edge> {
        let config = folder.join("edge.toml");
        fs::write(&config, configuration).with_context(|| format!("cannot write {}", config.display()))?;
        Self::start_by(namespace.command("env")?, folder, &config)
    }

    /// The same with a folder in which the orders of its operator outlive it ([`state_folder`]).
    ///
    /// # Errors
    /// As [`Edge::start`].
    pub fn start_keeping(namespace: &Namespace, folder: &Path, configuration: &str) -> Result<Edge> {
        let config = folder.join("edge.toml");
        fs::write(&config, configuration).with_context(|| format!("cannot write {}", config.display()))?;
        let mut command = namespace.command("env")?;
        // As the service manager says it.
        command.arg(format!("STATE_DIRECTORY={}", state_folder(folder).display()));
        Self::start_by(command, folder, &config)
    }

    /// The same by a command that is to run `erdp run` with what it is given: another user, other limits.
    ///
    /// # Errors
    /// As [`Edge::start`].
    pub fn start_by(command: Command, folder: &Path, config: &Path) -> Result<Edge> {
        Self::start_binary(&binary()?, command, folder, config)
    }

    /// The same with another build of `erdp`.
    ///
    /// # Errors
    /// As [`Edge::start`].
    pub fn start_binary(binary: &Path, mut command: Command, folder: &Path, config: &Path) -> Result<Edge> {
        let binary = binary.to_owned();
        let control = folder.join("erdp.sock");
        command.arg(&binary).arg("run").arg("--config").arg(config).arg("--control").arg(&control);
        let process = Process::start("erdp", command, folder)?;
        Ok(Edge { process, binary, control, questions: folder.join("questions") })
    }

    /// Starts another `erdp run` that is to take this one's work over; `words` are more of its options. Its log is
    /// `folder`/erdp-next.log.
    ///
    /// # Errors
    /// As [`Edge::start`].
    pub fn successor(&self, namespace: &Namespace, folder: &Path, words: &[&str]) -> Result<Edge> {
        self.successor_called("erdp-next", namespace, folder, words)
    }

    /// The same with a name, and a log, of its own.
    ///
    /// # Errors
    /// As [`Edge::start`].
    pub fn successor_called(
        &self,
        name: &str,
        namespace: &Namespace,
        folder: &Path,
        words: &[&str],
    ) -> Result<Edge> {
        let mut command = namespace.command(&self.binary)?;
        command.arg("run").arg("--config").arg(folder.join("edge.toml")).arg("--control").arg(&self.control);
        command.arg("--take-over").args(words);
        let process = Process::start(name, command, folder)?;
        let (binary, control) = (self.binary.clone(), self.control.clone());
        Ok(Edge { process, binary, control, questions: self.questions.clone() })
    }

    /// From here on its operator, and who takes over from it, have this build of `erdp`.
    #[must_use]
    pub fn asked_by(mut self, binary: &Path) -> Edge {
        self.binary = binary.to_owned();
        self
    }

    /// An error with the end of its log if it has ended.
    ///
    /// # Errors
    /// That it has ended.
    pub fn must_run(&mut self) -> Result<()> {
        self.process.must_run()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Does it answer yet?
    pub fn answers(&self) -> bool {
        self.control.exists() && self.show("links").is_ok()
    }

    /// `erdp show TOPIC`, as a table for people.
    ///
    /// # Errors
    /// erdp's own message.
    pub fn table(&self, topic: &str) -> Result<String> {
        self.ask(&["show", topic])
    }

    /// The sessions.
    ///
    /// # Errors
    /// erdp's own message, or an answer of another shape.
    pub fn sessions(&self) -> Result<Vec<Session>> {
        read(&self.show("sessions")?)
    }

    /// The counters.
    ///
    /// # Errors
    /// erdp's own message, or an answer of another shape.
    pub fn counters(&self) -> Result<Counters> {
        read(&self.show("counters")?)
    }

    /// What the loaded program does with packets that come in on `interface` to each of `addresses`.
    ///
    /// # Errors
    /// erdp's own message, or not one answer for each question.
    pub fn explain(&self, interface: &str, addresses: &[IpAddr]) -> Result<Vec<Explanation>> {
        let questions: String = addresses
            .iter()
            .map(|address| format!("{address}/{}\n", if address.is_ipv4() { 32 } else { 128 }))
            .collect();
        fs::write(&self.questions, questions)
            .with_context(|| format!("cannot write {}", self.questions.display()))?;
        let file = self.questions.to_string_lossy();
        let printed = self.ask(&["explain", "--interface", interface, "--prefixes", &file, "--json"])?;
        let answers = printed
            .lines()
            .filter(|line| !line.is_empty())
            .map(read)
            .collect::<Result<Vec<Explanation>>>()?;
        if answers.len() != addresses.len() {
            bail!("erdp explain gave {} answers to {} questions", answers.len(), addresses.len());
        }
        Ok(answers)
    }

    /// `erdp show TOPIC --json`.
    ///
    /// # Errors
    /// erdp's own message.
    pub fn show(&self, topic: &str) -> Result<String> {
        self.ask(&["show", topic, "--json"])
    }

    /// Any other command, to be started: for those that take their time.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(words).arg("--control").arg(&self.control);
        command
    }

    /// What any other command prints.
    ///
    /// # Errors
    /// erdp's own message.
    pub fn ask(&self, words: &[&str]) -> Result<String> {
        let mut command = self.command(words);
        let output = command.output().with_context(|| format!("cannot start {}", self.binary.display()))?;
        if !output.status.success() {
            bail!("erdp {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn read<T: DeserializeOwned>(json: impl AsRef<str>) -> Result<T> {
    let json = json.as_ref();
    let value: Value = serde_json::from_str(json)
        .with_context(|| format!("erdp printed something else than JSON: {json}"))?;
    serde_json::from_value(value).with_context(|| format!("erdp's JSON has another shape: {json}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_accounted_for_is_unexplained() {
        let counters = r#"{"rx":{"packets":10,"bytes":0},"tx":{"packets":4,"bytes":0},"originated":{"packets":1,"bytes":0},"from_kernel":{"packets":0,"bytes":0},
            "transmit_lost":{"packets":2,"bytes":0},"punted":{"arp":{"packets":3,"bytes":0},"bgp":{"packets":1,"bytes":0}},
            "dropped":{"no-route":{"packets":2,"bytes":0}},"attachments":[],"unexplained":1}"#;
        let counters: Counters = read(counters).expect("the shape is right");
        assert_eq!(counters.unexplained(), 1);
    }
}
