//! `erdp peering`: what [`crate::peering`] orders is carried out here, and names are turned into sessions.
//!
//! It lasts as long as the daemon, planned restarts included: the configuration says what is meant for good.

use std::{net::IpAddr, time::Duration};

use serde_json::{Value, json};

use super::Controller;
use crate::{
    bfd::thread::Order,
    bgp::{Family, PeerCommand, PeerId},
    config::{self, Side},
    control::Peering,
    pair::{self, LinkFacts, Reason},
    peering::{Act, Orphan, Phase, Way, orphaned},
};

/// How long a drain may take, in milliseconds.
const DRAIN_MAX_MS: u64 = 600_000;

impl Controller {
    /// Answers `erdp peering`.
    pub(super) fn peering(&mut self, asked: &Peering) -> Result<Value, String> {
        self.is_no_drill()?;
        let now = self.started.elapsed();
        match asked {
            Peering::Disable { name, text, drain_ms, force } => {
                let taken = self.peers_named(name)?;
                if *drain_ms > DRAIN_MAX_MS {
                    return Err(format!("a drain of {drain_ms} ms: at most ten minutes"));
                }
                let orphans = orphaned(&self.ways(), &taken);
                if !force && !orphans.is_empty() {
                    return Err(format!(
                        "nothing would be left of {}; --force does it all the same",
                        list(&orphans)
                    ));
                }
                for peer in &taken {
                    self.peerings.handle_disable(*peer, text, Duration::from_millis(*drain_ms), now);
                }
                self.act_on_peerings();
                let what = if *drain_ms > 0 { "draining" } else { "disabled" };
                tracing::warn!(peering = name, what, text, ?orphans, "peering taken down by the operator");
                Ok(json!({ "sessions": self.names(&taken), "now": what, "nothing_left_of": orphans }))
            }
            Peering::Enable { name } => {
                let given = self.peers_named(name)?;
                let enabled: Vec<PeerId> =
                    given.into_iter().filter(|peer| self.peerings.handle_enable(*peer, now)).collect();
                self.act_on_peerings();
                tracing::info!(
                    peering = name,
                    sessions = enabled.len(),
                    "peering given free by the operator"
                );
                Ok(json!({ "sessions": self.names(&enabled), "now": "enabled", "nothing_left_of": [] }))
            }
        }
    }

    /// Sessions whose drain is over are shut, those that are back are used.
    pub(super) fn mind_peerings(&mut self) {
        if self.peerings.is_empty() {
            return;
        }
        let now = self.started.elapsed();
        let ready = self.ready_peers();
        self.peerings.handle_time(now, |peer| ready.contains(&peer));
        self.act_on_peerings();
    }

    /// Those that would carry traffic if they were let.
    fn ready_peers(&self) -> Vec<PeerId> {
        let is_ready = |peer: &&config::Peer| {
            let facts = pair::SessionFacts { out_of_use: None, ..self.facts_of(peer) };
            pair::why_not(&self.link_of(peer), &facts).is_none()
        };
        self.peers.iter().filter(is_ready).map(|peer| peer.session.id).collect()
    }

    pub(super) fn act_on_peerings(&mut self) {
        while let Some(act) = self.peerings.poll_act() {
            match act {
                // Whether it is follows from its phase, and from its circuit's standing too.
                Act::Spare(peer, _) => self.respare(peer),
                Act::Shut(peer, text) => self.order(peer, PeerCommand::Disable { text }),
                Act::Silence(peer) => self.order_bfd(peer, |session| Order::Admin(session, true)),
                Act::Open(peer) => {
                    self.order_bfd(peer, |session| Order::Admin(session, false));
                    // One whose BFD is strict waits for it all the same.
                    self.order(peer, PeerCommand::Enable);
                }
            }
        }
    }

    /// Sessions that have begun anew although they are disabled.
    pub(super) fn shut_disabled(&mut self) {
        let down: Vec<(PeerId, String)> = self
            .peerings
            .disabled()
            .filter(|(peer, _)| self.peerings.phase(*peer) == Some(Phase::Down))
            .map(|(peer, text)| (peer, text.to_owned()))
            .collect();
        for (peer, text) in down {
            self.order(peer, PeerCommand::Disable { text });
            self.order_bfd(peer, |session| Order::Admin(session, true));
        }
        self.act_on_peerings();
    }

    /// The loop waits for nobody: a task that takes no orders is said.
    fn order(&self, peer: PeerId, command: PeerCommand) {
        let Some(handle) = self.speaker.as_ref().and_then(|speaker| speaker.peer(peer)) else { return };
        if let Err(command) = handle.try_command(command) {
            tracing::error!(peer = %handle.config().remote, ?command, "the session takes no orders");
        }
    }

    /// A session's administrative state, for operators.
    pub(super) fn admin(&self, peer: PeerId) -> String {
        let text = self.peerings.text(peer).filter(|text| !text.is_empty()).unwrap_or("no reason given");
        match self.peerings.phase(peer) {
            None => "enabled".into(),
            Some(Phase::Draining { .. }) => format!("draining: {text}"),
            Some(Phase::Down) => format!("disabled: {text}"),
            Some(Phase::Returning { .. }) => "returning".into(),
        }
    }

    /// Why a session is out of use, if an operator or a drill has wanted it.
    pub(super) fn out_of_use(&self, peer: PeerId) -> Option<Reason> {
        let down = if self.is_drilled(peer) { Reason::Drill } else { Reason::PeeringDisabled };
        match self.peerings.phase(peer)? {
            Phase::Draining { .. } => Some(Reason::Draining),
            Phase::Down => Some(down),
            // What it still lacks is said.
            Phase::Returning { .. } => None,
        }
    }

    /// Every session with what it is a way of.
    pub(super) fn ways(&self) -> Vec<Way> {
        let peers = self.peers.iter().filter(|peer| !self.vacant.contains(&peer.session.id));
        peers
            .flat_map(|peer| {
                let why_not = pair::why_not(&self.link_of(peer), &self.facts_of(peer));
                // The other box may have what leads to either.
                let sides: &[&str] = match peer.side {
                    Side::Msee(_) => &[""],
                    Side::Box => &["", " towards the customer"],
                    Side::Ce | Side::Service => &[" towards the customer"],
                };
                let family = match Family::of_address(peer.session.remote) {
                    Family::Ipv4Unicast => "IPv4",
                    Family::Ipv6Unicast => "IPv6",
                };
                let attachment = self.attachments.get(usize::from(peer.attachment.0));
                let domains = attachment.into_iter().flat_map(|it| &it.domains);
                let names = domains.filter_map(|id| self.domains.get(usize::from(id.0)));
                let places: Vec<String> = names
                    .flat_map(|domain| {
                        sides.iter().map(move |side| format!("{} {family}{side}", domain.name))
                    })
                    .collect();
                let id = peer.session.id;
                places.into_iter().map(move |place| Way { place, peer: id, why_not })
            })
            .collect()
    }

    /// The link of a session, its sessions left out.
    fn link_of(&self, peer: &config::Peer) -> LinkFacts {
        let attachment = self.attachments.get(usize::from(peer.attachment.0));
        let domain = attachment.and_then(|it| self.domains.get(usize::from(it.domains.first()?.0)));
        let circuit = domain.and_then(|domain| self.config.circuits.get(domain.circuit));
        match (peer.side, circuit) {
            (Side::Msee(role), Some(circuit)) => self.bare_link_facts(circuit, role),
            _ => LinkFacts {
                is_enabled: true,
                is_elsewhere: false,
                has_carrier: attachment.is_some_and(|it| self.is_up(&it.interface)),
                is_held_down: false,
                sessions: Vec::new(),
            },
        }
    }

    fn names(&self, peers: &[PeerId]) -> Vec<&str> {
        peers
            .iter()
            .filter_map(|id| self.peers.get(usize::from(id.0)))
            .map(|peer| peer.name.as_str())
            .collect()
    }

    /// The sessions of a name: a peer's address, an attachment, or a peering (then those with its MSEEs).
    fn peers_named(&self, name: &str) -> Result<Vec<PeerId>, String> {
        let name = name.replace(' ', "/");
        let address: Option<IpAddr> = name.parse().ok();
        let is_it = |peer: &&config::Peer| {
            let Some(attachment) = self.attachments.get(usize::from(peer.attachment.0)) else { return false };
            let mut domains = attachment.domains.iter().filter_map(|id| self.domains.get(usize::from(id.0)));
            !self.vacant.contains(&peer.session.id)
                && (address == Some(peer.session.remote)
                    || attachment.name.replace(' ', "/") == name
                    || (peer.side.is_msee() && domains.any(|domain| domain.name == name)))
        };
        let found: Vec<PeerId> = self.peers.iter().filter(is_it).map(|peer| peer.session.id).collect();
        if found.is_empty() {
            let mut there: Vec<String> = self.domains.iter().map(|domain| domain.name.clone()).collect();
            there.extend(self.attachments.iter().map(|it| it.name.replace(' ', "/")));
            return Err(format!(
                "no session {name:?}; there are {}, and each peer's address",
                there.join(", ")
            ));
        }
        Ok(found)
    }
}

pub(super) fn list(orphans: &[Orphan]) -> String {
    orphans.iter().map(ToString::to_string).collect::<Vec<_>>().join("; nor of ")
}
