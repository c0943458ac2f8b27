//! What a verdict came from, for questions about packets: the longest match with its domain, the buckets of a group, the MTU of a wire.
//!
//! It is looked for in what has been written, prefix by prefix from the longest on; the group that the program itself has found says whether
//! that is what it goes by.

use std::net::IpAddr;

use erdp_common::abi::Group;
use ipnet::IpNet;

use super::{AttachmentId, Forwarding, Policy, Target};

/// A route that packets take.
#[derive(Clone, Copy, Debug)]
pub struct Match<'a> {
    /// Its prefix.
    pub prefix: IpNet,
    /// The domain whose route it is; `None`: of no domain, for instance what zones forbid.
    pub domain: Option<usize>,
    /// What it leads to.
    pub target: &'a Target,
}

impl Forwarding {
    /// The longest route to an address for what comes in on an attachment, if it is the one that leads to this group.
    pub fn longest_match(&self, on: AttachmentId, address: IpAddr, group: u32) -> Option<Match<'_>> {
        let policy = self.topology.policy(on);
        let view = self.views.iter().position(|view| view.policy == policy)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let covering = (0..=most).rev().filter_map(|len| IpNet::new(address, len).ok());
        let found = |prefix| self.installed(view, prefix).map(|group| (prefix, group));
        let (prefix, own) = covering.map(|net| net.trunc()).find_map(found)?;
        let target = self.target(group).filter(|_| own == group)?;
        Some(Match { prefix, domain: self.domain_of(view, prefix), target })
    }

    /// The domain whose route to a prefix a view has, or of several that share the first.
    fn domain_of(&self, view: usize, prefix: IpNet) -> Option<usize> {
        let Policy { sources, compares_circuits, .. } = &self.views[view].policy;
        let offering = sources.iter().filter_map(|source| {
            let target = self.said(source.domain(), prefix)?;
            source.offer(prefix, &target, &self.topology)?;
            Some((self.rank_of(source, &prefix, *compares_circuits), source.domain()))
        });
        let better = |best: (u32, usize), other: (u32, usize)| if other.0 > best.0 { other } else { best };
        offering.reduce(better).map(|(_, domain)| domain)
    }

    /// A group's record, as it was written last.
    pub fn group(&self, id: u32) -> Option<&Group> {
        self.written.get(&id)
    }

    /// Whether the neighbours on an attachment count as dead: see [`Self::suspend`].
    pub fn is_suspended(&self, attachment: AttachmentId) -> bool {
        self.suspended.contains(&attachment)
    }

    /// Octets of an IP packet that fit on an attachment's wire.
    pub fn mtu(&self, attachment: AttachmentId) -> Option<u16> {
        self.link_facts.get(&attachment).map(|facts| facts.mtu)
    }
}
