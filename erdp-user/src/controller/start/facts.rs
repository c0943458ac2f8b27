//! The configuration with what the kernel says of its interfaces.

use std::collections::HashMap;

use ipnet::IpNet;

use super::StartError;
use crate::{
    compile,
    config::Config,
    fib::Topology,
    kernel::{Kernel, KernelEvent, Link, preflight},
};

/// The attachments with what the kernel says of their interfaces. Those that are not there have no index, unless that is a refusal.
pub(in crate::controller) fn topology(
    config: &Config,
    facts: &[KernelEvent],
) -> Result<Topology, StartError> {
    let links: HashMap<&str, &Link> = facts
        .iter()
        .filter_map(|fact| match fact {
            KernelEvent::Link(link) => Some((link.name.as_str(), link)),
            _ => None,
        })
        .collect();
    // Asked again, because one may have gone since the checks.
    let there: Vec<&str> = links.keys().copied().collect();
    let mut missing = preflight::missing_interfaces(config, &there);
    missing.retain(preflight::Finding::refuses);
    if !missing.is_empty() {
        return Err(StartError::Refused(missing));
    }
    let indexes = links.iter().map(|(name, link)| (*name, link.ifindex)).collect();
    Ok(compile::topology(config, &indexes))
}

/// Adds our addresses where they are not yet; the answer is what was added, by us or by an edge `before` us.
pub(super) async fn add_addresses(
    config: &Config,
    kernel: &Kernel,
    topology: &Topology,
    before: &[(u32, IpNet)],
) -> Result<Vec<(u32, IpNet)>, StartError> {
    let mut added = Vec::new();
    for attachment in config.attachments() {
        let facts = topology.attachment(attachment.id).filter(|facts| topology.is_there(facts));
        let Some(facts) = facts else { continue };
        let ifindex = facts.kernel_ifindex();
        for net in &attachment.addresses {
            match kernel.ensure_address(ifindex, net.addr(), net.prefix_len()).await {
                Ok(true) => added.push((ifindex, *net)),
                Ok(false) if before.contains(&(ifindex, *net)) => {
                    if let Err(error) = kernel.mark_address(ifindex, net.addr(), net.prefix_len()).await {
                        tracing::warn!(%error, "after a crash `erdp uninstall` will leave this address");
                    }
                    added.push((ifindex, *net));
                }
                Ok(false) => {}
                Err(error) => {
                    remove_addresses(kernel, &added).await;
                    return Err(error.into());
                }
            }
        }
    }
    Ok(added)
}

pub(super) async fn remove_addresses(kernel: &Kernel, added: &[(u32, IpNet)]) {
    for (ifindex, net) in added {
        if let Err(error) = kernel.remove_address(*ifindex, net.addr(), net.prefix_len()).await {
            tracing::warn!(%error, "an address stays");
        }
    }
}
