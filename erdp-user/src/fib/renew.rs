//! Neighbours behind a link that is back. A carrier that goes takes them out of the kernel's table (`neigh_carrier_down`), and what asks
//! for them meanwhile asks in vain; the kernel's next attempt may be seconds after the carrier's return, and until then the link is of no
//! use. So they are asked for anew with the return. One that is known still, the loss having been too short for the kernel to notice, stays.

use std::{collections::BTreeSet, net::IpAddr};

use super::{AttachmentId, Forwarding, NextHopKey, Wish};

impl Forwarding {
    /// These neighbours, the peers, are kept resolved from now on, and no others but those that routes lead to. The best route leads to
    /// few of them: an MSEE that drains or stands by is a neighbour all the same (requirement B7), and its traffic must not wait for ARP
    /// when it is needed.
    pub fn keep(&mut self, peers: BTreeSet<NextHopKey>) {
        let is_used = |key: &&NextHopKey| self.is_in_use(**key);
        let come = peers.difference(&self.kept).copied().map(Wish::Watch);
        let gone = self.kept.difference(&peers).filter(|key| !is_used(key)).copied().map(Wish::Forget);
        let wishes: Vec<Wish> = come.chain(gone).collect();
        self.wishes.extend(wishes);
        self.kept = peers;
    }

    /// A share, one of so many, of the neighbours that are kept resolved and known.
    pub fn kept_of(&self, share: usize, of: usize) -> impl Iterator<Item = NextHopKey> {
        let known = self.macs.keys().filter(|key| self.is_kept(**key));
        known.copied().filter(move |key| share_of(*key, of) == share)
    }

    /// Whether a neighbour is to be kept resolved.
    pub fn is_kept(&self, key: NextHopKey) -> bool {
        self.kept.contains(&key) || self.is_in_use(key)
    }

    /// An interface carries traffic again: whoever routes lead to there, and these `peers`, whose sessions are to bring the routes back.
    pub fn renew(&mut self, ifindex: u32, peers: impl IntoIterator<Item = NextHopKey>) {
        let on_it: BTreeSet<AttachmentId> =
            self.topology.on_interface(ifindex).map(|facts| facts.id).collect();
        let in_use = self.next_hops.iter().map(|(key, _)| *key);
        let wanted: BTreeSet<NextHopKey> = in_use.chain(peers).collect();
        let unknown = |key: &NextHopKey| on_it.contains(&key.attachment) && !self.macs.contains_key(key);
        self.wishes.extend(wanted.into_iter().filter(unknown).map(Wish::Renew));
    }
}

/// Spread by attachment and the last bits of the address: always the same share.
fn share_of(key: NextHopKey, of: usize) -> usize {
    let last = match key.address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() as u64,
    };
    (last.wrapping_add(u64::from(key.attachment.number())) % of as u64) as usize
}
