//! A neighbour's way: its MAC address, link and BFD session become the record of a next hop, written before any group refers to it.
//!
//! Inputs: what the kernel knows of neighbours and interfaces. [`super`] has the routes that lead to them.

use erdp_common::abi::{
    MAX_NEXT_HOPS, NEXT_HOP_MSEE, NEXT_HOP_PUBLIC_SOURCES, NEXT_HOP_RESOLVED, NEXT_HOP_SERVICE, NextHop,
};

use super::{AttachmentId, FibError, Forwarding, NextHopKey, Wish};
use crate::dataplane::{Dataplane, Record};

impl Forwarding {
    /// The neighbour's MAC address; `None`: not resolved.
    pub fn neighbour(
        &mut self,
        key: NextHopKey,
        mac: Option<[u8; 6]>,
        now_ns: u64,
        dataplane: &mut dyn Dataplane,
    ) -> Result<(), FibError> {
        let before = match mac {
            Some(mac) => self.macs.insert(key, mac),
            None => self.macs.remove(&key),
        };
        if before == mac {
            return Ok(());
        }
        if let Some(id) = self.next_hops.get(&key) {
            dataplane.write(&Record::NextHop(id as u16, self.next_hop(key)))?;
        }
        if mac.is_none() && self.is_kept(key) {
            // The kernel has forgotten it, and with it that it is to be kept: it does so when an interface's own MAC address
            // changes (`neigh_changeaddr`, Linux 6.18).
            self.wishes.push(Wish::Watch(key));
        }
        self.connected_host(key, mac.is_some(), now_ns, dataplane)
    }

    /// A neighbour's MAC address.
    pub fn mac(&self, key: NextHopKey) -> Option<[u8; 6]> {
        self.macs.get(&key).copied()
    }

    /// A neighbour by its MAC address; where it has several addresses, one that routes lead to.
    pub fn neighbour_with(
        &self,
        attachment: AttachmentId,
        mac: [u8; 6],
        is_ipv4: bool,
    ) -> Option<NextHopKey> {
        let is_it = |(key, other): &(&NextHopKey, &[u8; 6])| {
            key.attachment == attachment && **other == mac && key.address.is_ipv4() == is_ipv4
        };
        let found = self.macs.iter().filter(is_it).map(|(key, _)| *key);
        found.max_by_key(|key| (self.is_in_use(*key), *key))
    }

    /// Whether a neighbour's MAC address is known.
    pub fn is_resolved(&self, key: NextHopKey) -> bool {
        self.macs.contains_key(&key)
    }

    /// Whether some route leads to a neighbour.
    pub fn is_in_use(&self, key: NextHopKey) -> bool {
        self.next_hops.get(&key).is_some()
    }

    /// Whether the interface behind an attachment carries traffic: one word for all its attachments.
    pub fn link(&mut self, ifindex: u32, alive: bool, dataplane: &mut dyn Dataplane) -> Result<(), FibError> {
        if let Some(link) = self.topology.link_of(ifindex) {
            dataplane.write(&Record::Link(link, alive))?;
        }
        Ok(())
    }

    /// An interface has gone, or an end of a control port: nothing leads there any more, and its link is dead.
    pub fn interface_gone(&mut self, ifindex: u32, dataplane: &mut dyn Dataplane) -> Result<(), FibError> {
        self.topology.note_gone(ifindex);
        self.link(ifindex, false, dataplane)?;
        self.write_attachments(dataplane)
    }

    /// The neighbour is the peer of this BFD session, which judges it from now on; before any route leads to it.
    pub fn bfd_session(&mut self, key: NextHopKey, session: u16) {
        self.bfd.insert(key, session);
    }

    pub(super) fn acquire_next_hop(
        &mut self,
        key: NextHopKey,
        now_ns: u64,
        dataplane: &mut dyn Dataplane,
    ) -> Result<u32, FibError> {
        if let Some(id) = self.next_hops.reuse(&key) {
            return Ok(id);
        }
        let id = self
            .next_hops
            .acquire(key, now_ns)
            .ok_or(FibError::IdsExhausted { what: "next hops", limit: MAX_NEXT_HOPS })?;
        self.wishes.push(Wish::Watch(key));
        dataplane.write(&Record::NextHop(id as u16, self.next_hop(key)))?;
        Ok(id)
    }

    /// A next hop without users stays written until its identifier is reused: a packet in flight may still refer to it.
    pub(super) fn release_next_hop(&mut self, key: NextHopKey, now_ns: u64) {
        if let Some(id) = self.next_hops.get(&key)
            && self.next_hops.release(id, now_ns).is_some()
            && !self.kept.contains(&key)
        {
            self.wishes.push(Wish::Forget(key));
        }
    }

    /// The next hops of an attachment again.
    pub(super) fn write_next_hops(
        &self,
        attachment: AttachmentId,
        dataplane: &mut dyn Dataplane,
    ) -> Result<(), FibError> {
        for (key, id) in self.next_hops.iter().filter(|(key, _)| key.attachment == attachment) {
            dataplane.write(&Record::NextHop(id as u16, self.next_hop(*key)))?;
        }
        Ok(())
    }

    /// The record of a neighbour from what is known now.
    pub(super) fn next_hop(&self, key: NextHopKey) -> NextHop {
        let mut record = NextHop::default();
        let Some(facts) = self.topology.attachment(key.attachment) else {
            return record;
        };
        let link = self.link_facts.get(&key.attachment).copied().unwrap_or_default();
        record.attachment = facts.id.number();
        // No link has the number 0: nothing is alive there.
        let link_of = || self.topology.link_of(facts.ifindex).unwrap_or(0);
        record.link = if self.suspended.contains(&key.attachment) { 0 } else { link_of() };
        record.mtu = link.mtu;
        record.bfd = self.bfd.get(&key).copied().unwrap_or_default();
        record.policer = facts.policer_out;
        record.profile = facts.profile;
        if facts.is_msee || facts.is_box {
            record.flags |= NEXT_HOP_MSEE;
        }
        if facts.is_service || facts.is_box {
            record.flags |= NEXT_HOP_SERVICE;
        }
        if facts.public_sources {
            record.flags |= NEXT_HOP_PUBLIC_SOURCES;
        }
        if let Some(mac) = self.macs.get(&key) {
            record.flags |= NEXT_HOP_RESOLVED;
            record.l2[..6].copy_from_slice(mac);
        }
        record.l2[6..12].copy_from_slice(&link.mac);
        let mut len = 12;
        for vid in facts.tags.iter().flatten() {
            record.l2[len..len + 2].copy_from_slice(&[0x81, 0x00]); // C4: 0x8100 on both tags
            record.l2[len + 2..len + 4].copy_from_slice(&vid.to_be_bytes());
            len += 4;
        }
        record.l2_len = len as u8;
        record
    }
}
