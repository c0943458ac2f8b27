//! Subnets of our own attachments that are announced although no router is behind them (requirement C2): hosts on the attachment's wire
//! are then reachable from Azure. They are a source beside the peers, as the kernel's routes are, and every rule about prefixes and
//! domains judges them; only what is refused of others because it is ours is not.
//!
//! Packets need nothing of this: a connected subnet is in the routing tables by itself (`fib/connected.rs`). So nothing here ever
//! becomes a [`super::FibChange`].

use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;

use super::{Rib, topology::RibPeer};
use crate::{
    bgp::{Origin, PathAttributes},
    config::{Attachment, Config},
    types::{AttachmentId, PathSource},
};

/// The attachments whose subnets are announced.
pub(super) fn sources(config: &Config, attachments: &[Attachment]) -> Vec<RibPeer> {
    let announced = attachments.iter().filter(|attachment| attachment.advertise_connected);
    announced
        .filter_map(|attachment| {
            let source = RibPeer::beside(config, attachment, PathSource::Static(attachment.id))?;
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
        let is_up =
            |source: &&RibPeer| source.source.attachment().is_some_and(|it| !self.disconnected.contains(&it));
        let wanted: BTreeMap<PathSource, Vec<IpNet>> =
            self.config.connected.iter().filter(is_up).map(|it| (it.source, it.addresses.clone())).collect();
        let there: Vec<(PathSource, IpNet)> = self
            .kernel
            .iter()
            .filter(|(id, _)| matches!(id, PathSource::Static(_)))
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
