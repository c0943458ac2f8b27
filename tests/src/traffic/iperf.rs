//! Throughput by iperf3: the server in the Azure host, the client in the customer's host, results from their JSON.
//!
//! The numbers are those of the end hosts on the same few cores: they show that traffic passes, not how fast an edge is.

use std::{fmt, thread, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::lab::{Lab, plan, process::Process};

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// One TCP stream, as fast as it goes.
    Tcp,
    /// UDP at this many megabits a second.
    Udp(u32),
}

/// What iperf3 found.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// The load.
    pub load: Load,
    /// IPv6?
    pub ipv6: bool,
    /// What arrived, in megabits a second.
    pub megabits: f64,
    /// UDP datagrams sent; for TCP 0.
    pub datagrams: u64,
    /// UDP datagrams lost; for TCP retransmitted segments.
    pub lost: u64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.ipv6 { "IPv6" } else { "IPv4" };
        match self.load {
            Load::Tcp => {
                write!(f, "iperf3 TCP {family}: {:.0} Mbit/s, {} retransmitted", self.megabits, self.lost)
            }
            Load::Udp(rate) => write!(
                f,
                "iperf3 UDP {family}: {:.0} of {rate} Mbit/s, {} datagrams sent, {} lost",
                self.megabits, self.datagrams, self.lost
            ),
        }
    }
}

/// Runs one load for `seconds` from the customer's host to the Azure host.
///
/// # Errors
/// iperf3's own message.
pub fn run(lab: &Lab, load: Load, ipv6: bool, seconds: u32) -> Result<Outcome> {
    let to = if ipv6 { plan::AZURE_IPV6 } else { plan::AZURE_IPV4 };
    let mut server = lab.namespace("azure")?.command("iperf3")?;
    server.args(["--server", "--one-off", "--bind", to]);
    let mut server = Process::start("iperf3-server", server, lab.folder())?;
    // It says when it listens only by listening.
    thread::sleep(lab.ground().patience(Duration::from_millis(300)));
    server.must_run()?;
    let seconds = seconds.to_string();
    let mut arguments = vec!["--client", to, "--json", "--time", &seconds, "--connect-timeout", "5000"];
    let rate;
    if let Load::Udp(megabits) = load {
        rate = format!("{megabits}M");
        arguments.extend(["--udp", "--length", "1200", "--bitrate", &rate]);
    }
    let printed = lab.namespace("host")?.exec("iperf3", &arguments);
    let printed = printed
        .with_context(|| format!("iperf3 from the customer's host to {to}; server: {}", server.tail(3)))?;
    outcome(&serde_json::from_str(&printed).context("cannot read iperf3's JSON")?, load, ipv6)
}

fn outcome(json: &Value, load: Load, ipv6: bool) -> Result<Outcome> {
    if let Some(error) = json["error"].as_str() {
        bail!("iperf3: {error}");
    }
    let end = &json["end"];
    let outcome = |sum: &Value, datagrams, lost| Outcome {
        load,
        ipv6,
        megabits: sum["bits_per_second"].as_f64().unwrap_or_default() / 1e6,
        datagrams,
        lost,
    };
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    Ok(match load {
        Load::Tcp => outcome(&end["sum_received"], 0, number(&end["sum_sent"]["retransmits"])),
        Load::Udp(_) => {
            let sum = &end["sum"];
            let mut outcome = outcome(sum, number(&sum["packets"]), number(&sum["lost_packets"]));
            // iperf3 3.12 gives the sender's rate here; what arrived is less by what was lost.
            let share = 1.0 - sum["lost_percent"].as_f64().unwrap_or_default() / 100.0;
            outcome.megabits *= share;
            outcome
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn results_and_errors_are_read() {
        let tcp =
            json!({"end": {"sum_sent": {"retransmits": 3}, "sum_received": {"bits_per_second": 2.5e9}}});
        let tcp = outcome(&tcp, Load::Tcp, false).expect("a result");
        assert_eq!((tcp.megabits as u64, tcp.lost), (2500, 3));
        let udp = json!({"end": {"sum": {"bits_per_second": 1e8, "packets": 1000, "lost_packets": 10, "lost_percent": 1.0}}});
        let udp = outcome(&udp, Load::Udp(100), true).expect("a result");
        assert_eq!((udp.megabits.round() as u64, udp.datagrams, udp.lost), (99, 1000, 10));
        assert!(outcome(&json!({"error": "unable to connect"}), Load::Tcp, false).is_err());
    }
}
