//! What the samples of dropped ARP and neighbour discovery say of links that do not come up: read here, judged by [`crate::miscabling`],
//! said in `erdp show sessions` and once in the log.

use std::{net::IpAddr, time::Duration};

use erdp_common::{abi::DropSample, reason::DropReason};
use ipnet::IpNet;

use super::Core;
use crate::{
    config::{self, LinkRole, Side},
    dataplane::{Dataplane, sample},
    miscabling::{Place, Seen},
    types::AttachmentId,
};

impl<D: Dataplane> Core<D> {
    /// A frame was dropped: if it is a neighbour's question, what it says of the wire is kept.
    pub(crate) fn handle_sample(&mut self, dropped: &DropSample, now: Duration) {
        self.now = now;
        let is_question = matches!(
            DropReason::from_number(dropped.reason),
            Some(DropReason::ArpNotForUs | DropReason::NdNotForUs | DropReason::AddressConflict)
        );
        let Some(attachment) = AttachmentId::numbered(dropped.attachment).filter(|_| is_question) else {
            return;
        };
        let head = dropped.head.get(..usize::from(dropped.captured)).unwrap_or(&dropped.head);
        let Some((mac, sender, target)) = sample::ends_of(head) else { return };
        let seen = Seen { attachment, mac, sender, target };
        let own = self.links.get(&dropped.ifindex).map(|link| link.mac).unwrap_or_default();
        let places: Vec<Place> = self.attachments.iter().flat_map(|it| self.places_of(it)).collect();
        if let Some(fault) = self.miscabling.handle_seen(&seen, own, &places, now) {
            tracing::warn!(attachment = self.name_of(attachment), "{fault}");
        }
    }

    /// What is to be said about a peer's wire.
    pub(crate) fn wire_finding(&self, peer: &config::Peer, now: Duration) -> Option<String> {
        let answers = self.facts_of(peer).is_resolved;
        self.miscabling.finding(peer.attachment, peer.session.remote, answers, now)
    }

    /// Whether a peer has this address.
    pub(crate) fn is_peer(&self, attachment: AttachmentId, address: IpAddr) -> bool {
        let is_it = |peer: &&config::Peer| peer.attachment == attachment && peer.session.remote == address;
        self.peers.iter().filter(|peer| !self.vacant.contains(&peer.session.id)).any(|peer| is_it(&peer))
    }

    /// The ends of an attachment, one a family.
    fn places_of<'a>(&'a self, attachment: &'a config::Attachment) -> impl Iterator<Item = Place> + 'a {
        attachment.addresses.iter().map(move |ours| Place {
            attachment: attachment.id,
            name: attachment.name.clone(),
            is_msee: attachment.side.is_msee(),
            ours: *ours,
            theirs: self.theirs(attachment, ours),
        })
    }

    fn theirs(&self, attachment: &config::Attachment, ours: &IpNet) -> Option<IpAddr> {
        let Side::Msee(role) = attachment.side else { return None };
        let domain = self.domains.get(usize::from(attachment.domains.first()?.0))?;
        let peering = self.config.circuits.get(domain.circuit)?.peering(domain.kind)?;
        let role: LinkRole = role;
        peering
            .addresses(role)
            .find(|addresses| addresses.ours == ours.addr())
            .map(|addresses| addresses.theirs)
    }
}
