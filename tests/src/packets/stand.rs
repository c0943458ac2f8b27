//! Where the program is loaded for the packet tables: a network namespace with three interfaces, gone with its thread.

use std::{process::Command, thread};

use anyhow::{Context as _, Result, ensure};
use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};

use super::Ports;

/// Loading an XDP program needs root.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Runs on a thread of its own in a new network namespace, which ends with the thread.
pub fn in_network_namespace<T: Send>(run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let result = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("unshare")?; // of this thread only
            run()
        });
        result.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The interfaces in this thread's network namespace.
pub fn veth_ports() -> Result<Ports> {
    let mut indexes: Vec<u32> = Vec::new();
    for name in ["pa", "pb", "pc", "pd", "pe", "pf"] {
        let peer = format!("{name}x");
        let status =
            Command::new("ip").args(["link", "add", name, "type", "veth", "peer", "name", &peer]).status()?;
        ensure!(status.success(), "ip link add {name} failed");
        indexes.push(if_nametoindex(name)?);
    }
    let [a, b, c, d, e, f] = indexes.try_into().map_err(|_| anyhow::anyhow!("not six ports"))?;
    Ok(Ports { a, b, c, d, e, f })
}
