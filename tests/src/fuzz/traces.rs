//! Target "traces": the file in which an edge notes what it has changed, which another user may have written and root reads. Whatever is
//! kept of it is of the lists that docs/security.md names; this file has them once more, in its own words.

use anyhow::{Result, ensure};
use erdp::kernel::traces::{Traces, sift};

use super::must;

/// Names of an interface's settings, after `ipv4/conf/NAME/` and the like.
const LAST_PARTS: &[&str] = &[
    "ip_forward",
    "forwarding",
    "arp_ignore",
    "arp_announce",
    "rp_filter",
    "accept_redirects",
    "send_redirects",
    "accept_ra",
    "autoconf",
    "base_reachable_time_ms",
    "delay_first_probe_time",
    "retrans_time_ms",
    "ucast_solicit",
    "mcast_resolicit",
];

/// The file.
pub fn run(bytes: &[u8]) {
    must(check(bytes));
}

fn check(bytes: &[u8]) -> Result<()> {
    let Ok(traces) = serde_json::from_slice::<Traces>(bytes) else { return Ok(()) };
    let (kept, left_out) = sift(traces.clone());
    ensure!(left_out.iter().all(|line| !line.chars().any(char::is_control)), "{left_out:?}");
    for (name, value) in &kept.sysctls {
        let parts: Vec<&str> = name.split('/').collect();
        ensure!(!name.starts_with('/') && (2..=4).contains(&parts.len()), "{name:?}");
        ensure!(parts.iter().all(|part| !matches!(*part, "" | "." | "..")), "{name:?}");
        ensure!(matches!(parts[0], "ipv4" | "ipv6"), "{name:?}");
        let last = parts.last().copied().unwrap_or_default();
        ensure!(LAST_PARTS.contains(&last), "{name:?} is no setting that an edge changes");
        ensure!(value.parse::<i32>().is_ok() && !value.contains(['\n', ' ', '+']), "{name:?} = {value:?}");
    }
    for name in &kept.control_ports {
        let number = name.strip_prefix("erdp-").unwrap_or_default();
        let is_plain = (1..=5).contains(&number.len()) && number.bytes().all(|it| it.is_ascii_digit());
        ensure!(is_plain && !number.starts_with('0'), "{name:?}");
    }
    for (ifindex, net) in &kept.addresses {
        ensure!(*ifindex > 0 && net.prefix_len() > 0, "{net} on {ifindex}");
        ensure!(!net.addr().is_loopback() && !net.addr().is_multicast(), "{net}");
    }
    ensure!(!kept.namespace.chars().any(char::is_control), "{:?}", kept.namespace);
    ensure!(
        kept.sysctls.len() + kept.control_ports.len() <= traces.sysctls.len() + traces.control_ports.len()
    );
    let (again, more) = sift(kept.clone());
    ensure!(again == kept && more.is_empty(), "{again:?} of {kept:?}: {more:?}");
    let written = serde_json::to_vec(&kept)?;
    ensure!(serde_json::from_slice::<Traces>(&written)? == kept, "{kept:?}");
    Ok(())
}

/// A file as an edge writes it, and one as somebody else might.
pub fn seeds() -> Vec<Vec<u8>> {
    let ours = r#"{"namespace":"edge","control":"/run/erdp/control.sock","control_ports":["erdp-2","erdp-3"],
"addresses":[[2,"198.18.0.1/30"],[3,"fd00::1/126"]],"sysctls":[["ipv4/ip_forward","0"],["ipv6/conf/all/forwarding","1"],
["ipv4/conf/eth0/rp_filter","2"],["ipv6/conf/eth0/accept_ra","1"],["ipv4/neigh/eth0/base_reachable_time_ms","30000"]]}"#;
    let theirs = r#"{"namespace":"a\nb","control":"/etc/passwd","control_ports":["erdp-0","eth0","erdp-01"],
"addresses":[[0,"198.18.0.1/30"],[3,"::1/128"]],"sysctls":[["/etc/shadow","0"],["ipv4/conf/../../kernel/core_pattern","1"],
["kernel/core_pattern","|/bin/sh"],["ipv4/conf/all/rp_filter","2 "]]}"#;
    [ours, theirs].map(|text| text.as_bytes().to_vec()).to_vec()
}
