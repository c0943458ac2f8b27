//! The other implementations: how each is configured for the same two sessions (IPv4 over IPv4, IPv6 over IPv6, both with key and TTL
//! 255), started, asked and disturbed. What one cannot do is said with the reason, and shown in the table.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use erdp::bgp::Family;

use super::lab::{self, Neighbour};

/// The key of both sessions.
pub const KEY: &str = "s3cretkey";
/// Prefixes of each family that the other side announces.
pub const THEIRS: usize = 50;
/// Prefixes of a family that the other side takes.
pub const TAKEN: usize = 200;
const OURS: u32 = super::OURS;

/// An implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    Frr,
    Bird,
    GoBgp,
    OpenBgpd,
    ExaBgp,
}

/// A feature that is not tried, and why.
pub type Lacks = &'static str;

impl Daemon {
    pub const ALL: [Self; 5] = [Self::Frr, Self::Bird, Self::GoBgp, Self::OpenBgpd, Self::ExaBgp];

    /// Why it cannot run here.
    pub fn missing(self) -> Option<&'static str> {
        let (path, package) = match self {
            Self::Frr => ("/usr/lib/frr/bgpd", "frr"),
            Self::Bird => ("/usr/sbin/bird", "bird2"),
            Self::GoBgp => ("/usr/bin/gobgpd", "gobgpd"),
            Self::OpenBgpd => ("/usr/sbin/bgpd", "openbgpd"),
            Self::ExaBgp => ("/usr/sbin/exabgp", "exabgp"),
        };
        (!Path::new(path).exists()).then_some(package)
    }

    pub fn asn(self) -> u32 {
        65_011 + self as u32
    }

    fn net(self) -> u8 {
        21 + self as u8
    }

    pub fn neighbour(self) -> Neighbour {
        Neighbour::new(["mfrr", "mbird", "mgo", "mopen", "mexa"][self as usize], self.net())
    }

    /// Another one, beside the first.
    pub fn second_neighbour(self) -> Neighbour {
        Neighbour::new(["gfrr", "gbird", "ggo", "gopen", "gexa"][self as usize], self.net() + 10)
    }

    /// Whether it has roles (RFC 9234).
    pub fn roles(self) -> Result<(), Lacks> {
        match self {
            Self::Frr | Self::Bird | Self::OpenBgpd => Ok(()),
            Self::GoBgp => Err("GoBGP 3.10 has no roles"),
            Self::ExaBgp => Err("ExaBGP 4.2 has no roles"),
        }
    }

    /// Whether it keeps what we announce, to be asked for.
    pub fn receives(self) -> Result<(), Lacks> {
        if self == Self::ExaBgp {
            Err("received only: ExaBGP is a scripted sender without a table")
        } else {
            Ok(())
        }
    }

    /// Writes the configuration and starts it.
    pub fn start(self, at: &mut Neighbour) {
        self.start_changed(at, str::to_owned);
    }

    /// The same with its configuration changed.
    pub fn start_changed(self, at: &mut Neighbour, change: impl Fn(&str) -> String) {
        let sessions: [(IpAddr, IpAddr, Family); 2] = [
            (at.ours.0.into(), at.theirs.0.into(), Family::Ipv4Unicast),
            (at.ours.1.into(), at.theirs.1.into(), Family::Ipv6Unicast),
        ];
        match self {
            Self::Frr => at.start_frr(&change(&self.frr(sessions))),
            Self::Bird => at.start_bird(&change(&self.bird(sessions))),
            Self::GoBgp => {
                let file = at.write("gobgpd.toml", &change(&self.gobgp(sessions)));
                at.start("/usr/bin/gobgpd", &["-f", &file, "--pprof-disable"]);
                let up = || at.inside_or_nothing("gobgp", &["global"]).contains("AS:");
                lab::until("GoBGP", up);
                for prefix in theirs() {
                    let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
                    at.inside("gobgp", &["global", "rib", "add", &prefix, "-a", family]);
                }
            }
            Self::OpenBgpd => {
                // Where its unprivileged parts are locked in; systemd makes it where the daemon is a service.
                fs::create_dir_all("/run/openbgpd").unwrap();
                let file = at.write("bgpd.conf", &change(&self.openbgpd(sessions, &at.path("bgpd.sock"))));
                at.start("/usr/sbin/bgpd", &["-d", "-f", &file]);
                lab::until("OpenBGPD's socket", || at.directory.join("bgpd.sock").exists());
            }
            Self::ExaBgp => {
                let file = at.write("exabgp.conf", &change(&self.exabgp(sessions)));
                let settings =
                    ["exabgp.daemon.user=root", "exabgp.api.cli=false", "exabgp.log.destination=stdout"];
                at.start("env", &[&settings[..], &["/usr/sbin/exabgp", &file]].concat());
            }
        }
    }

    fn frr(self, sessions: [(IpAddr, IpAddr, Family); 2]) -> String {
        let mut text = format!(
            "hostname b\nrouter bgp {}\n bgp router-id 198.18.255.1\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
             no bgp default ipv4-unicast\n bgp graceful-restart\n bgp graceful-restart restart-time 60\n \
             bgp graceful-restart preserve-fw-state\n",
            self.asn()
        );
        for (us, _, family) in sessions {
            let name = word(family);
            text += &format!(
                " neighbor {us} remote-as {OURS}\n neighbor {us} password {KEY}\n neighbor {us} ttl-security hops 1\n \
                 neighbor {us} timers 3 9\n neighbor {us} timers connect 2\n neighbor {us} advertisement-interval 0\n \
                 neighbor {us} local-role provider\n address-family {name} unicast\n  neighbor {us} activate\n  \
                 neighbor {us} maximum-prefix {TAKEN} restart 1\n"
            );
            theirs_of(family).for_each(|prefix| text += &format!("  network {prefix}\n"));
            text += " exit-address-family\n";
        }
        text
    }

    fn bird(self, sessions: [(IpAddr, IpAddr, Family); 2]) -> String {
        let mut text = "router id 198.18.255.2;\nprotocol device {}\n".to_owned();
        for ((us, them, family), name) in sessions.into_iter().zip(["four", "six"]) {
            let channel = word(family);
            text += &format!("protocol static {{ {channel};\n");
            theirs_of(family).for_each(|prefix| text += &format!("  route {prefix} unreachable;\n"));
            text += &format!(
                "}}\nprotocol bgp {name} {{ local {them} as {}; neighbor {us} as {OURS}; hold time 9; password \"{KEY}\"; \
                 ttl security on; local role provider; graceful restart on; graceful restart time 60; enable extended messages on; \
                 connect delay time 1; connect retry time 2; error wait time 1,4; error forget time 2; {channel} {{ import all; \
                 receive limit {TAKEN} action restart; export where source = RTS_STATIC; next hop self; }}; }}\n",
                self.asn()
            );
        }
        text
    }

    fn gobgp(self, sessions: [(IpAddr, IpAddr, Family); 2]) -> String {
        let mut text =
            format!("[global.config]\nas = {}\nrouter-id = \"198.18.255.3\"\nport = 179\n", self.asn());
        for (us, _, family) in sessions {
            let name = word(family);
            text += &format!(
                "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{us}\"\npeer-as = {OURS}\nauth-password = \"{KEY}\"\n\
                 [neighbors.timers.config]\nhold-time = 9\nkeepalive-interval = 3\nconnect-retry = 2\n\
                 idle-hold-time-after-reset = 2\n[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255\n\
                 [neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 60\n[[neighbors.afi-safis]]\n\
                 [neighbors.afi-safis.config]\nafi-safi-name = \"{name}-unicast\"\n\
                 [neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n\
                 [neighbors.afi-safis.prefix-limit.config]\nmax-prefixes = {TAKEN}\n"
            );
        }
        text
    }

    fn openbgpd(self, sessions: [(IpAddr, IpAddr, Family); 2], socket: &str) -> String {
        let mut text =
            format!("AS {}\nrouter-id 198.18.255.4\nfib-update no\nsocket \"{socket}\"\n", self.asn());
        sessions.iter().for_each(|(_, them, _)| text += &format!("listen on {them}\n"));
        theirs().for_each(|prefix| text += &format!("network {prefix}\n"));
        for (us, them, family) in sessions {
            let (with, without) =
                if family == Family::Ipv4Unicast { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
            text += &format!(
                "neighbor {us} {{\n remote-as {OURS}\n local-address {them}\n holdtime 9\n ttl-security yes\n \
                 tcp md5sig password {KEY}\n announce {with} unicast\n announce {without} none\n announce restart yes\n \
                 announce enhanced refresh yes\n announce policy provider\n max-prefix {TAKEN} restart 1\n}}\n"
            );
        }
        text + "allow from any\nallow to any\n"
    }

    fn exabgp(self, sessions: [(IpAddr, IpAddr, Family); 2]) -> String {
        let mut text = String::new();
        for (us, them, family) in sessions {
            text += &format!(
                "neighbor {us} {{\n router-id 198.18.255.5;\n local-address {them};\n local-as {};\n peer-as {OURS};\n \
                 hold-time 9;\n md5-password \"{KEY}\";\n outgoing-ttl 255;\n incoming-ttl 255;\n family {{ {} unicast; }}\n \
                 capability {{ graceful-restart 60; route-refresh; }}\n static {{\n",
                self.asn(),
                word(family)
            );
            theirs_of(family).for_each(|prefix| text += &format!("  route {prefix} next-hop {them};\n"));
            text += " }\n}\n";
        }
        text
    }

    /// How many of the prefixes that we announce it has.
    pub fn has(self, at: &Neighbour, family: Family) -> usize {
        let us = address(at, family);
        let ours = if family == Family::Ipv4Unicast { "40." } else { "2a01:28:" };
        let text = match self {
            Self::Frr => at.vtysh(&format!("show bgp {} unicast", word(family))),
            Self::Bird => at.birdc(&format!("show route protocol {}", name(family))),
            Self::GoBgp => at.inside("gobgp", &["neighbor", &us, "adj-in", "-a", word(family)]),
            Self::OpenBgpd => at.bgpctl(&["show", "rib", "in", "neighbor", &us]),
            Self::ExaBgp => String::new(),
        };
        text.split_whitespace().filter(|word| word.starts_with(ours) && word.contains('/')).count()
    }

    /// Whether it answers our request for its routes.
    pub fn answers(self) -> Result<(), Lacks> {
        match self {
            Self::OpenBgpd => Err(
                "OpenBGPD 7.7 answered no request of ours, with enhanced refresh agreed or not; we answered its own",
            ),
            Self::Frr => Err(
                "FRR 8.4 drops requests until its own End-of-RIB, minutes after a fresh start; we answered its own",
            ),
            Self::Bird | Self::GoBgp | Self::ExaBgp => Ok(()),
        }
    }

    /// Has it ask us for our routes again.
    pub fn ask_again(self, at: &Neighbour) -> Result<(), Lacks> {
        let us = address(at, Family::Ipv4Unicast);
        match self {
            Self::Frr => at.vtysh(&format!("clear bgp ipv4 unicast {us} soft in")),
            Self::Bird => at.birdc("reload in four"),
            Self::GoBgp => return Err("GoBGP keeps what it has received and asks for nothing"),
            Self::OpenBgpd => at.bgpctl(&["neighbor", &us, "refresh"]),
            Self::ExaBgp => return Err("ExaBGP asks for nothing"),
        };
        Ok(())
    }

    /// Takes the IPv4 session down with a text, or up again.
    pub fn shut(self, at: &Neighbour, text: Option<&str>) -> Result<(), Lacks> {
        let us = address(at, Family::Ipv4Unicast);
        match (self, text) {
            (Self::Frr, Some(text)) => {
                at.vtysh_all(&[
                    "configure terminal",
                    &format!("router bgp {}", self.asn()),
                    &format!("neighbor {us} shutdown message {text}"),
                ]);
            }
            (Self::Frr, None) => {
                at.vtysh_all(&[
                    "configure terminal",
                    &format!("router bgp {}", self.asn()),
                    &format!("no neighbor {us} shutdown"),
                ]);
            }
            (Self::Bird, Some(text)) => drop(at.birdc_words(&["disable", "four", &format!("\"{text}\"")])),
            (Self::Bird, None) => drop(at.birdc("enable four")),
            (Self::GoBgp, Some(text)) => {
                drop(at.inside("gobgp", &["neighbor", &us, "shutdown", "--reason", text]))
            }
            // Its shutdown is not for good.
            (Self::GoBgp, None) => {}
            (Self::OpenBgpd, Some(text)) => drop(at.bgpctl(&["neighbor", &us, "down", text])),
            (Self::OpenBgpd, None) => drop(at.bgpctl(&["neighbor", &us, "up"])),
            (Self::ExaBgp, _) => return Err("ExaBGP sends no text"),
        }
        Ok(())
    }

    /// Has it forget how often the IPv4 session has ended, if it lets a neighbour wait for that: OpenBGPD takes no connection for 30
    /// seconds, and for twice as long each time; from here on it is 30 seconds again.
    pub fn forgive(self, at: &Neighbour) {
        if self == Self::OpenBgpd {
            at.bgpctl(&["neighbor", &address(at, Family::Ipv4Unicast), "up"]);
        }
    }

    /// What it shows of the IPv4 session.
    pub fn shown(self, at: &Neighbour) -> Result<String, Lacks> {
        let us = address(at, Family::Ipv4Unicast);
        match self {
            Self::Frr => {
                Err("FRR shows the text until the session is back only; the other test looks at it then")
            }
            Self::OpenBgpd => Ok(at.bgpctl(&["show", "neighbor", &us])),
            Self::Bird => Err("BIRD logs the text and does not show it"),
            Self::GoBgp => Err("GoBGP logs the text and does not show it"),
            Self::ExaBgp => Err("ExaBGP logs the text"),
        }
    }

    /// What it does with more than it takes.
    pub fn limits(self) -> Result<(), Lacks> {
        match self {
            Self::ExaBgp => Err("ExaBGP takes anything"),
            _ => Ok(()),
        }
    }
}

impl Neighbour {
    pub fn write(&self, file: &str, text: &str) -> String {
        let path = self.directory.join(file);
        fs::write(&path, text).unwrap();
        // OpenBGPD refuses what others could read.
        lab::run("chmod", &["600", &path.display().to_string()]);
        path.display().to_string()
    }

    pub fn inside(&self, program: &str, arguments: &[&str]) -> String {
        lab::run("ip", &[&["netns", "exec", &self.name, program], arguments].concat())
    }

    pub fn inside_or_nothing(&self, program: &str, arguments: &[&str]) -> String {
        let output = std::process::Command::new("ip")
            .args(["netns", "exec", &self.name, program])
            .args(arguments)
            .output();
        output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub fn bgpctl(&self, words: &[&str]) -> String {
        lab::run("bgpctl", &[&["-s", &self.path("bgpd.sock")], words].concat())
    }

    pub fn vtysh_all(&self, commands: &[&str]) {
        let directory = self.directory.display().to_string();
        let mut arguments = vec!["--vty_socket", &directory];
        commands.iter().for_each(|command| arguments.extend(["-c", command]));
        lab::run("vtysh", &arguments);
    }

    pub fn birdc_words(&self, words: &[&str]) -> String {
        let control = self.path("bird.ctl");
        lab::run("birdc", &[&["-s", &control], words].concat())
    }
}

fn word(family: Family) -> &'static str {
    if family == Family::Ipv4Unicast { "ipv4" } else { "ipv6" }
}

fn name(family: Family) -> &'static str {
    if family == Family::Ipv4Unicast { "four" } else { "six" }
}

fn address(at: &Neighbour, family: Family) -> String {
    if family == Family::Ipv4Unicast { at.ours.0.to_string() } else { at.ours.1.to_string() }
}

fn theirs() -> impl Iterator<Item = String> {
    theirs_of(Family::Ipv4Unicast).chain(theirs_of(Family::Ipv6Unicast))
}

fn theirs_of(family: Family) -> impl Iterator<Item = String> {
    super::prefixes(family, 30).into_iter().take(THEIRS).map(|prefix| prefix.to_string())
}
