//! A router that is BIRD 2: its configuration as text, and the running daemon.
//!
//! Everything is written down (families, filters, timers) and nothing left to defaults that differ between versions. Only the
//! lab's own networks go into the kernel.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use ipnet::IpNet;

use super::{Lab, netns::Namespace, plan, process::Process};

/// Hold time of the lab's sessions, in seconds.
const HOLD_S: u32 = 60;

/// Where one BIRD stands.
#[derive(Debug)]
pub struct Router {
    /// The namespace's short name.
    pub namespace: &'static str,
    /// AS number.
    pub asn: u32,
    /// Router id.
    pub id: &'static str,
    /// Sessions.
    pub neighbours: Vec<Neighbour>,
    /// What it announces of its own.
    pub announced: Vec<IpNet>,
    /// Pass on what the others have announced (a customer's or Azure's own gateway does not).
    pub transit: bool,
}

/// One session of a router.
#[derive(Debug)]
pub struct Neighbour {
    /// A word for it, unique in the router.
    pub name: String,
    /// Our address.
    pub local: &'static str,
    /// Theirs.
    pub remote: &'static str,
    /// Their AS number.
    pub asn: u32,
}

impl Neighbour {
    /// Both families of one link: an IPv4 session for IPv4 routes, an IPv6 session for IPv6 routes. `near` tells which end is
    /// the router's own.
    pub fn both(name: &str, link: &plan::Link, near: bool, asn: u32) -> [Neighbour; 2] {
        let ends = |one, other| if near { (one, other) } else { (other, one) };
        let (local4, remote4) = ends(link.ipv4.0, link.ipv4.1);
        let (local6, remote6) = ends(link.ipv6.0, link.ipv6.1);
        [
            Neighbour { name: format!("{name}4"), local: local4, remote: remote4, asn },
            Neighbour { name: format!("{name}6"), local: local6, remote: remote6, asn },
        ]
    }
}

/// Starts BIRD for `router`.
///
/// # Errors
/// When the configuration is refused or the daemon does not start.
pub fn start(lab: &Lab, router: &Router) -> Result<Process> {
    start_in(lab.namespace(router.namespace)?, lab.folder(), router)
}

/// The same in any namespace; its files are in `parent`.
///
/// # Errors
/// As [`start`].
pub fn start_in(namespace: &Namespace, parent: &Path, router: &Router) -> Result<Process> {
    start_with_hold(namespace, parent, router, HOLD_S)
}

/// The same with sessions that end when nothing has been heard for `hold_s` seconds.
///
/// # Errors
/// As [`start`].
pub fn start_with_hold(
    namespace: &Namespace,
    parent: &Path,
    router: &Router,
    hold_s: u32,
) -> Result<Process> {
    let folder = parent.join(router.namespace);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let config = folder.join("bird.conf");
    fs::write(&config, text(router, hold_s)).with_context(|| format!("cannot write {}", config.display()))?;
    start_again(namespace, parent, router.namespace, &[])
}

/// Starts BIRD with the configuration that is there from an earlier start, and more options.
///
/// # Errors
/// When the daemon does not start.
pub fn start_again(namespace: &Namespace, parent: &Path, short: &str, options: &[&str]) -> Result<Process> {
    let folder = parent.join(short);
    let mut command = namespace.command("bird")?;
    command
        .arg("-f")
        .args(options)
        .arg("-c")
        .arg(folder.join("bird.conf"))
        .arg("-s")
        .arg(socket(&folder))
        .arg("-P")
        .arg(folder.join("bird.pid"));
    Process::start(&format!("bird-{short}"), command, parent)
}

/// Asks a running BIRD by `birdc`.
///
/// # Errors
/// When it does not answer.
pub fn ask(lab: &Lab, namespace: &str, words: &[&str]) -> Result<String> {
    ask_in(lab.folder(), namespace, words)
}

/// The same where its files are in `parent`.
///
/// # Errors
/// As [`ask`].
pub fn ask_in(parent: &Path, namespace: &str, words: &[&str]) -> Result<String> {
    let mut birdc = Command::new("birdc");
    birdc.arg("-s").arg(socket(&parent.join(namespace))).args(words);
    let output = birdc.output().context("cannot start birdc")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("bird.ctl")
}

fn text(router: &Router, hold_s: u32) -> String {
    let mut text = format!(
        "log stderr all;\n\
         router id {};\n\
         protocol device {{ scan time 5; }}\n\
         filter lab4 {{ if source = RTS_BGP && net ~ [ {}+ ] then accept; reject; }}\n\
         filter lab6 {{ if source = RTS_BGP && net ~ [ {}+ ] then accept; reject; }}\n\
         protocol kernel {{ ipv4 {{ import none; export filter lab4; }}; merge paths on; }}\n\
         protocol kernel {{ ipv6 {{ import none; export filter lab6; }}; merge paths on; }}\n",
        router.id,
        plan::LAB_IPV4,
        plan::LAB_IPV6,
    );
    // As Azure does, it leaves its gateways' AS in the path; multi-exit discriminators are equal, so that two MSEEs' paths are
    // equally good.
    let source = if router.transit { "[ RTS_STATIC, RTS_BGP ]" } else { "[ RTS_STATIC ]" };
    writeln!(text, "filter announce {{ if source !~ {source} then reject; bgp_med = 0; accept; }}")
        .unwrap_or_default();
    for (family, is_ipv4) in [("ipv4", true), ("ipv6", false)] {
        text += &format!("protocol static own_{family} {{ {family};\n");
        for prefix in router.announced.iter().filter(|prefix| prefix.addr().is_ipv4() == is_ipv4) {
            text += &format!("  route {prefix} blackhole;\n");
        }
        text += "}\n";
    }
    for neighbour in &router.neighbours {
        text += &session(router.asn, neighbour, hold_s);
    }
    text
}

fn session(asn: u32, neighbour: &Neighbour, hold_s: u32) -> String {
    let Neighbour { name, local, remote, asn: remote_asn } = neighbour;
    let family = if remote.contains(':') { "ipv6" } else { "ipv4" };
    format!(
        "protocol bgp {name} {{\n\
         \x20 local {local} as {asn};\n\
         \x20 neighbor {remote} as {remote_asn};\n\
         \x20 direct; hold time {hold_s}; keepalive time {};\n\
         \x20 connect retry time 2; connect delay time 1; error wait time 1, 4;\n\
         \x20 {family} {{ import all; export filter announce; next hop self; }};\n\
         }}\n",
        hold_s / 3
    )
}
