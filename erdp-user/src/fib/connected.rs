//! Connected subnets of CE attachments: an on-link host is forwarded to directly, and asked for when it is not known.
//!
//! The subnet is a glean route; each resolved neighbour in it is a host route. MSEE subnets are not routed: they are the
//! circuit's own infrastructure (two addresses each).

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{AttachmentId, FibError, Forwarding, NextHopKey, Target};
use crate::dataplane::Dataplane;

impl Forwarding {
    /// Makes the connected subnets of all CE attachments known in their domains.
    pub fn connect(&mut self, now_ns: u64, dataplane: &mut dyn Dataplane) -> Result<(), FibError> {
        let subnets: Vec<(AttachmentId, Vec<usize>, Vec<IpNet>)> = self
            .topology
            .attachments()
            .filter(|facts| facts.has_hosts())
            .map(|facts| (facts.id, facts.domains.clone(), facts.subnets.clone()))
            .collect();
        for (attachment, domains, subnets) in subnets {
            for (domain, subnet) in
                domains.iter().flat_map(|domain| subnets.iter().map(move |net| (*domain, *net)))
            {
                self.route(domain, subnet, Some(Target::Glean(attachment)), now_ns, dataplane)?;
            }
        }
        Ok(())
    }

    /// A neighbour on a connected subnet has been resolved or lost: its host route follows.
    pub(super) fn connected_host(
        &mut self,
        key: NextHopKey,
        resolved: bool,
        now_ns: u64,
        dataplane: &mut dyn Dataplane,
    ) -> Result<(), FibError> {
        let Some(facts) = self.topology.attachment(key.attachment) else {
            return Ok(());
        };
        let on_link = facts.has_hosts() && facts.subnets.iter().any(|subnet| subnet.contains(&key.address));
        if !on_link {
            return Ok(());
        }
        let target = resolved.then(|| Target::Forward(BTreeSet::from([key])));
        for domain in facts.domains.clone() {
            self.route(domain, IpNet::from(key.address), target.clone(), now_ns, dataplane)?;
        }
        Ok(())
    }
}
