//! Subnets of our own attachments that are announced although no router is behind them (requirement C2): hosts on the attachment's wire
//! are then reachable from Azure. They are a source beside the peers, as the kernel's routes are, and every rule about prefixes and
//! domains judges them; only what is refused of others because it is ours is not.
//!
//! Packets need nothing of this: a connected subnet is in the routing tables by itself (`fib/connected.rs`). So nothing here ever
//! becomes a [`super::FibChange`].

use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;

use super::{Rib, kernel::kernel_attachment, topology::RibPeer};
use crate::{
    bgp::{Origin, PathAttributes, PeerId},
    config::{Attachment, Config},
    types::AttachmentId,
};

/// Identifiers from here on are not peers but attachments whose subnets are announced.
pub(super) const FIRST: u16 = 0xC000;

/// The source of an attachment's connected subnets, where peers stand.
pub fn connected_source(attachment: AttachmentId) -> PeerId {
    PeerId(FIRST | attachment.index() as u16)
}

/// The attachment whose connected subnets an identifier stands for; `None`: it is something else's.
pub fn connected_attachment(source: PeerId) -> Option<AttachmentId> {
    (source.0 >= FIRST).then_some(AttachmentId::at(usize::from(source.0 & !FIRST)))
}

/// The attachment that a source stands for which is no peer.
pub fn source_attachment(source: PeerId) -> Option<AttachmentId> {
    kernel_attachment(source).or(connected_attachment(source))
}

/// The attachments whose subnets are announced.
pub(super) fn sources(config: &Config, attachments: &[Attachment]) -> Vec<RibPeer> {
    let announced = attachments.iter().filter(|attachment| attachment.advertise_connected);
    announced
        .filter_map(|attachment| {
            let source = RibPeer::beside(config, attachment, connected_source(attachment.id))?;
            Some(RibPeer { name: format!("{} connected", attachment.name), ..source })
        })
        .collect()
}

impl Rib {
    /// The attachment's link carries packets, or has carried none for a while: nobody is to send to its hosts then.
    pub fn connect(&mut self, attachment: AttachmentId, is_up: bool) {
        let changed =
            if is_up { self.disconnected.remove(&attachment) } else { self.disconnected.insert(attachment) };
        if changed {
            self.originate();
        }
    }

    /// What is announced of our own subnets is what the configuration and the links say now.
    pub(super) fn originate(&mut self) {
        let is_up = |source: &&RibPeer| {
            connected_attachment(source.id).is_some_and(|it| !self.disconnected.contains(&it))
        };
        let wanted: BTreeMap<PeerId, Vec<IpNet>> =
            self.config.connected.iter().filter(is_up).map(|it| (it.id, it.addresses.clone())).collect();
        let there: Vec<(PeerId, IpNet)> = self
            .kernel
            .iter()
            .filter(|(id, _)| connected_attachment(**id).is_some())
            .flat_map(|(id, table)| table.prefixes().map(|prefix| (*id, prefix)))
            .collect();
        for (id, prefix) in there {
            let stays = wanted.get(&id).is_some_and(|it| it.iter().any(|net| net.trunc() == prefix));
            if !stays {
                self.displace(id, &prefix);
            }
        }
        for (id, addresses) in wanted {
            for ours in addresses {
                let attributes =
                    PathAttributes { origin: Origin::Igp, ..PathAttributes::originated(ours.addr()) };
                self.place(id, ours.trunc(), Arc::new(attributes), Vec::new());
            }
        }
    }
}
