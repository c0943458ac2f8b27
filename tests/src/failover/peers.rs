//! The routers of the failover lab: MSEEs that are BIRD or FRR, and an edge that is FRR with the kernel's forwarding, for comparison.

use std::{
    fmt::Write as _,
    fs::{self, metadata},
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};
use ipnet::IpNet;

use super::{CE, LINKS, Link, Place};
use crate::lab::{self, process::Process};

/// Where Debian puts FRR's daemons.
const DAEMONS: &str = "/usr/lib/frr";
/// BFD daemons of all routers alike get the CPU when they need it: the machine may be building beside the lab.
const REALTIME: [&str; 2] = ["-f", "1"];
/// AS numbers of the MSEEs and of the edge.
const ASNS: (u32, u32) = (12076, 65010);
/// The customer's AS number.
pub const CUSTOMER: u32 = 65_020;

/// BFD as both ends have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Interval in milliseconds.
    pub interval_ms: u32,
    /// Detection after so many.
    pub multiplier: u8,
}

impl Timers {
    /// The detection time in milliseconds.
    pub fn detection_ms(self) -> f64 {
        f64::from(self.interval_ms) * f64::from(self.multiplier)
    }
}

/// erdp's configuration in this lab.
pub fn erdp(timers: Timers, absence_s: u32, extra: &str) -> String {
    format!(
        "asn = {asn}\n{extra}\n[[circuit]]\nname = \"lab\"\nbandwidth = \"1G\"\n\
         primary = {{ local = \"msee1\" }}\nsecondary = {{ local = \"msee2\" }}\n\n\
         [circuit.private]\nipv4 = \"198.18.0.0/29\"\nipv6 = \"fd00:0:0:10::/125\"\n\
         bfd = {{ interval = \"{interval}ms\", multiplier = {multiplier}, absence = \"{absence_s}s\" }}\n\n\
         [[attachment]]\ninterface = \"ce0\"\npeerings = [\"lab/private\"]\n\
         ipv4 = \"{ce4}/{len4}\"\nipv6 = \"{ce6}/{len6}\"\n",
        asn = ASNS.1,
        interval = timers.interval_ms,
        multiplier = timers.multiplier,
        ce4 = CE.0.0,
        len4 = CE.0.2,
        ce6 = CE.1.0,
        len6 = CE.1.2,
    )
}

/// The same with a customer's router, which calls from [`CE`]'s far end.
pub fn erdp_with_customer(timers: Timers, absence_s: u32, extra: &str) -> String {
    let text = erdp(timers, absence_s, extra);
    format!("{text}peers = [{{ address = \"{}\", asn = {CUSTOMER}, passive = true }}]\n", CE.0.1)
}

/// The prefixes that both MSEEs announce: the VNet, and so many more of 10.0.0.0/8, which nobody sends to.
pub fn prefixes(more: usize) -> Vec<IpNet> {
    let more = (0..more as u32).filter_map(|number| {
        let address = (0x0a00_0000 + (number << 4)).to_be_bytes();
        IpNet::new(address.into(), 28).ok()
    });
    ["198.18.192.0/24", "fd00:0:0:c0::/64"].iter().filter_map(|text| text.parse().ok()).chain(more).collect()
}

/// Starts BIRD as the MSEE of a link.
///
/// # Errors
/// When it does not start.
pub fn start_bird(place: &mut Place, link: &Link, timers: Timers, announced: &[IpNet]) -> Result<()> {
    run_bird(place, link, &bird(link, timers, announced))
}

/// The same without BGP over IPv4, which somebody else speaks there; its BFD is kept all the same.
///
/// # Errors
/// When it does not start.
pub fn start_bird_beside(place: &mut Place, link: &Link, timers: Timers, announced: &[IpNet]) -> Result<()> {
    let session = format!("neighbor {} dev \"edge0\" local {}; interface", link.ipv4.0, link.ipv4.1);
    let config = bird(link, timers, announced).replacen("interface", &session, 1).replacen(
        "protocol bgp edge_ipv4 {",
        "protocol bgp edge_ipv4 { disabled;",
        1,
    );
    run_bird(place, link, &config)
}

/// BIRD for BFD alone, on a link whose BGP somebody else speaks.
///
/// # Errors
/// When it does not start.
pub fn start_bird_for_bfd(place: &mut Place, link: &Link, timers: Timers) -> Result<()> {
    let session = |ends: super::Ends| format!("neighbor {} dev \"edge0\" local {}; ", ends.0, ends.1);
    let sessions = format!("{}{}interface", session(link.ipv4), session(link.ipv6));
    let config = bird(link, timers, &[]).replacen("interface", &sessions, 1);
    let disabled = |config: String, family: &str| {
        let head = format!("protocol bgp edge_{family} {{");
        config.replacen(&head, &format!("{head} disabled;"), 1)
    };
    run_bird(place, link, &disabled(disabled(config, "ipv4"), "ipv6"))
}

fn run_bird(place: &mut Place, link: &Link, text: &str) -> Result<()> {
    let folder = place.folder().join(link.msee);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let config = folder.join("bird.conf");
    fs::write(&config, text).context("cannot write bird.conf")?;
    let mut command = place.namespace(link.msee)?.command("chrt")?;
    command
        .args(REALTIME)
        .arg("bird")
        .arg("-f")
        .arg("-c")
        .arg(&config)
        .arg("-s")
        .arg(folder.join("bird.ctl"));
    command.arg("-P").arg(folder.join("bird.pid"));
    let process = Process::start(&format!("bird-{}", link.msee), command, place.folder())?;
    place.routers.push(process);
    Ok(())
}

/// What BIRD answers.
///
/// # Errors
/// When it cannot be asked.
pub fn birdc(place: &Place, msee: &str, words: &[&str]) -> Result<String> {
    lab::bird::ask_in(place.folder(), msee, words)
}

fn bird(link: &Link, timers: Timers, announced: &[IpNet]) -> String {
    let Timers { interval_ms, multiplier } = timers;
    let mut text = format!(
        "log stderr all;\nrouter id {};\nprotocol device {{ scan time 5; }}\n\
         protocol bfd bfd1 {{ interface \"edge0\" {{ min rx interval {interval_ms} ms; min tx interval {interval_ms} ms; \
         idle tx interval 1 s; multiplier {multiplier}; }}; }}\n",
        link.ipv4.1
    );
    for (family, ends, is_ipv4) in [("ipv4", link.ipv4, true), ("ipv6", link.ipv6, false)] {
        let _ = writeln!(text, "protocol static own_{family} {{ {family};");
        for prefix in announced.iter().filter(|prefix| prefix.addr().is_ipv4() == is_ipv4) {
            let _ = writeln!(text, "  route {prefix} blackhole;");
        }
        let _ = writeln!(
            text,
            "}}\nprotocol bgp edge_{family} {{ local {} as {}; neighbor {} as {}; direct; bfd on; hold time 60; \
             connect retry time 2; connect delay time 1; error wait time 1, 4; \
             {family} {{ import all; export where source = RTS_STATIC; next hop self; }}; }}",
            ends.1, ASNS.0, ends.0, ASNS.1
        );
    }
    text
}

/// Starts FRR (zebra, bfdd, bgpd) as the MSEE of a link.
///
/// # Errors
/// When a daemon does not start.
pub fn start_frr(place: &mut Place, link: &Link, timers: Timers, announced: &[IpNet]) -> Result<()> {
    let mut bgpd = format!(
        "router bgp {}\n bgp router-id {}\n no bgp ebgp-requires-policy\n no bgp network import-check\n no bgp default ipv4-unicast\n",
        ASNS.0, link.ipv4.1
    );
    bgpd += &neighbour(link.ipv4.0, ASNS.1);
    bgpd += &neighbour(link.ipv6.0, ASNS.1);
    for (family, remote, is_ipv4) in [("ipv4", link.ipv4.0, true), ("ipv6", link.ipv6.0, false)] {
        let _ = writeln!(bgpd, " address-family {family} unicast\n  neighbor {remote} activate");
        for prefix in announced.iter().filter(|prefix| prefix.addr().is_ipv4() == is_ipv4) {
            let _ = writeln!(bgpd, "  network {prefix}");
        }
        bgpd += " exit-address-family\n";
    }
    frr(place, link.msee, &bgpd, timers)
}

/// Starts FRR as the edge itself: the kernel forwards, with both MSEEs as equal paths.
///
/// # Errors
/// When a daemon does not start.
pub fn start_frr_edge(place: &mut Place, timers: Timers) -> Result<()> {
    let mut bgpd = format!(
        "router bgp {}\n bgp router-id {}\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n",
        ASNS.1, LINKS[0].ipv4.0
    );
    for link in &LINKS {
        bgpd += &neighbour(link.ipv4.1, ASNS.0);
    }
    bgpd += " address-family ipv4 unicast\n";
    for link in &LINKS {
        let _ = writeln!(bgpd, "  neighbor {} activate", link.ipv4.1);
    }
    bgpd += "  maximum-paths 2\n exit-address-family\n";
    frr(place, "edge", &bgpd, timers)
}

fn neighbour(remote: &str, asn: u32) -> String {
    format!(
        " neighbor {remote} remote-as {asn}\n neighbor {remote} timers 20 60\n neighbor {remote} timers connect 2\n \
         neighbor {remote} advertisement-interval 0\n neighbor {remote} bfd\n neighbor {remote} bfd profile lab\n"
    )
}

fn frr(place: &mut Place, namespace: &str, bgpd: &str, timers: Timers) -> Result<()> {
    let folder = place.folder().join(namespace);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let user =
        metadata("/etc/frr").context("cannot tell FRR's user: is the Debian package frr installed?")?;
    chown(&folder, Some(user.uid()), Some(user.gid())).context("cannot hand over FRR's folder")?;
    let bfdd = format!(
        "bfd\n profile lab\n  detect-multiplier {}\n  receive-interval {ms}\n  transmit-interval {ms}\n exit\nexit\n",
        timers.multiplier,
        ms = timers.interval_ms
    );
    for (daemon, config) in [("zebra", ""), ("bfdd", &bfdd[..]), ("bgpd", bgpd)] {
        let file = folder.join(format!("{daemon}.conf"));
        fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = place.namespace(namespace)?.command("chrt")?;
        command
            .args(REALTIME)
            .arg(Path::new(DAEMONS).join(daemon))
            .arg("-f")
            .arg(&file)
            .arg("-i")
            .arg(folder.join(format!("{daemon}.pid")));
        command.arg("-z").arg(folder.join("zserv.api")).arg("--vty_socket").arg(&folder);
        command.args(["-P", "0", "--log", "stdout"]);
        if daemon == "bfdd" {
            command.arg("--bfdctl").arg(folder.join("bfdd.sock"));
        }
        let process = Process::start(&format!("{daemon}-{namespace}"), command, place.folder())?;
        place.routers.push(process);
        super::until(daemon, std::time::Duration::from_secs(15), || {
            Ok(folder.join(format!("{daemon}.vty")).exists())
        })?;
    }
    Ok(())
}

/// What FRR answers.
///
/// # Errors
/// When it cannot be asked.
pub fn vtysh(place: &Place, namespace: &str, words: &str) -> Result<String> {
    let mut vtysh = Command::new("vtysh");
    vtysh.arg("--vty_socket").arg(place.folder().join(namespace)).args(["-c", words]);
    let output = vtysh.output().context("cannot start vtysh")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
