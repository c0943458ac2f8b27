//! Peerings that an operator takes out of service: what [`crate::peering`] orders is carried out here, and names are turned into sessions.

use std::{net::IpAddr, time::Duration};

use super::{
    Action, Core,
    admin::CIRCUIT_OFF,
    search::{OnlyHere, nothing_left_words, nothing_only_here},
};
use crate::{
    bgp::{Family, PeerCommand, PeerId},
    config::{self, DomainId, LinkRole, Side},
    dataplane::Dataplane,
    pair::{self, LinkFacts, Reason},
    peering::{Act, Orphan, Phase, Way, Ways},
};

impl<D: Dataplane> Core<D> {
    /// Takes the sessions of a name out of service; what they were is the answer, and what is left without a way. `only_here`: by what it is
    /// judged; `None`: it is forced.
    pub fn disable(
        &mut self,
        name: &str,
        text: &str,
        drain: Duration,
        only_here: Option<Option<&OnlyHere>>,
        now: Duration,
    ) -> Result<(Vec<PeerId>, Vec<Orphan>), String> {
        self.now = now;
        self.is_no_drill()?;
        let taken = self.peers_named(name)?;
        let orphans = self.ways().orphaned(&taken);
        if let Some(only_here) = only_here {
            self.may_be_taken(&taken, &orphans, only_here)?;
        }
        for peer in &taken {
            self.redundancy.peerings.handle_disable(*peer, text, drain, now);
        }
        self.act_on_peerings();
        let what = if drain.is_zero() { "disabled" } else { "draining" };
        tracing::warn!(peering = name, what, text, ?orphans, "peering taken down by the operator");
        Ok((taken, orphans))
    }

    /// Puts the sessions of a name back in service; those that were out of it are the answer.
    pub fn enable(&mut self, name: &str, now: Duration) -> Result<Vec<PeerId>, String> {
        self.now = now;
        self.is_no_drill()?;
        let given = self.peers_named(name)?;
        let enabled: Vec<PeerId> =
            given.into_iter().filter(|peer| self.redundancy.peerings.handle_enable(*peer, now)).collect();
        self.act_on_peerings();
        tracing::info!(
            peering = name,
            sessions = enabled.len(),
            "peering put back in service by the operator"
        );
        Ok(enabled)
    }

    /// Ends sessions with Cease/4 (RFC 4486 section 3); they come back by themselves. `only_here` as in [`Self::disable`].
    pub fn reset(
        &mut self,
        name: &str,
        text: &str,
        only_here: Option<Option<&OnlyHere>>,
        now: Duration,
    ) -> Result<(Vec<PeerId>, Vec<Orphan>), String> {
        self.now = now;
        self.is_no_drill()?;
        let taken = self.peers_to_reset(name)?;
        let orphans = self.ways().orphaned(&taken);
        if let Some(only_here) = only_here {
            self.is_of_one_link(&taken)?;
            self.may_be_taken(&taken, &orphans, only_here)?;
        }
        for peer in &taken {
            self.order(*peer, PeerCommand::Reset { text: text.to_owned() });
        }
        tracing::warn!(
            peering = name,
            sessions = taken.len(),
            text,
            ?orphans,
            "sessions reset by the operator"
        );
        Ok((taken, orphans))
    }

    /// The sessions of a name that are up.
    pub fn peers_to_reset(&self, name: &str) -> Result<Vec<PeerId>, String> {
        let is_up = |peer: &PeerId| self.established.contains(peer);
        Ok(self.peers_named(name)?.into_iter().filter(is_up).collect())
    }

    /// Sessions on both links of a circuit are not to be away at once.
    fn is_of_one_link(&self, taken: &[PeerId]) -> Result<(), String> {
        for (index, circuit) in self.config.circuits.iter().enumerate() {
            let has = |role| self.peers_over(Some(index), role).any(|peer| taken.contains(&peer.session.id));
            if LinkRole::ALL.into_iter().all(has) {
                return Err(format!(
                    "both links of {0} would be without sessions at once; reset {0}/primary, and {0}/secondary when that is back; --force does it all the same",
                    circuit.name
                ));
            }
        }
        Ok(())
    }

    /// The guard rails: nothing may be left without a way, and where another circuit or a service is the way, it must have every prefix.
    fn may_be_taken(
        &self,
        taken: &[PeerId],
        orphans: &[Orphan],
        only_here: Option<&OnlyHere>,
    ) -> Result<(), String> {
        if !orphans.is_empty() {
            return Err(nothing_left_words(orphans));
        }
        if self.relies_on_others(taken) { nothing_only_here(taken, only_here) } else { Ok(()) }
    }

    /// Whether without these sessions another circuit or a service is the way of some place.
    pub(crate) fn relies_on_others(&self, taken: &[PeerId]) -> bool {
        let own = self.ways();
        own.list.iter().any(|way| {
            taken.contains(&way.peer)
                && way.why_not.is_none()
                && !own.list.iter().any(|other| {
                    other.domain == way.domain
                        && (other.family, other.side.is_msee()) == (way.family, way.side.is_msee())
                        && other.why_not.is_none()
                        && !taken.contains(&other.peer)
                })
        })
    }

    /// Sessions whose drain is over are shut, those that are back are used.
    pub(super) fn advance_peerings(&mut self) {
        if self.redundancy.peerings.is_empty() {
            return;
        }
        let now = self.now;
        let ready = self.ready_peers();
        self.redundancy.peerings.handle_time(now, |peer| ready.contains(&peer));
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

    pub(crate) fn act_on_peerings(&mut self) {
        while let Some(act) = self.redundancy.peerings.poll_act() {
            match act {
                // Whether it is follows from its phase, and from its circuit's standing too.
                Act::Spare(peer, _) => self.respare(peer),
                Act::Shut(peer, text) => self.order(peer, PeerCommand::Disable { text }),
                Act::Silence(peer) => self.bfd_admin(peer, true),
                // `open_enabled` does it when the circuit is enabled.
                Act::Open(peer) if self.is_circuit_off(peer) => {}
                Act::Open(peer) => {
                    self.bfd_admin(peer, false);
                    // One whose BFD is strict waits for it all the same.
                    self.order(peer, PeerCommand::Enable);
                    self.actions.push_back(Action::ForgiveAway(peer));
                }
            }
        }
    }

    /// Sessions that have begun anew although they are disabled.
    pub(crate) fn shut_disabled(&mut self) {
        let by_circuit = self.peers_of_disabled().into_iter().map(|peer| (peer, CIRCUIT_OFF.to_owned()));
        let down: Vec<(PeerId, String)> = self
            .redundancy
            .peerings
            .disabled()
            .filter(|(peer, _)| self.redundancy.peerings.phase(*peer) == Some(Phase::Down))
            .map(|(peer, text)| (peer, text.to_owned()))
            .chain(by_circuit)
            .collect();
        for (peer, text) in down {
            self.order(peer, PeerCommand::Disable { text });
            self.bfd_admin(peer, true);
        }
        self.act_on_peerings();
    }

    /// A session's administrative state, for operators.
    pub(crate) fn admin(&self, peer: PeerId) -> String {
        if self.is_circuit_off(peer) {
            return format!("disabled: {CIRCUIT_OFF}");
        }
        let text =
            self.redundancy.peerings.text(peer).filter(|text| !text.is_empty()).unwrap_or("no reason given");
        match self.redundancy.peerings.phase(peer) {
            None => "enabled".into(),
            Some(Phase::Draining { .. }) => format!("draining: {text}"),
            Some(Phase::Down) => format!("disabled: {text}"),
            Some(Phase::Returning { .. }) => "returning".into(),
        }
    }

    /// Why a session is out of use, if an operator or a drill has wanted it.
    pub(crate) fn out_of_use(&self, peer: PeerId) -> Option<Reason> {
        if self.is_circuit_off(peer) {
            return Some(Reason::Disabled);
        }
        let down = if self.is_drilled(peer) { Reason::Drill } else { Reason::PeeringDisabled };
        match self.redundancy.peerings.phase(peer)? {
            Phase::Draining { .. } => Some(Reason::Draining),
            Phase::Down => Some(down),
            // What it still lacks is said.
            Phase::Returning { .. } => None,
        }
    }

    /// Every session with what it is a way of, and what else the customer's attachments may use.
    pub(crate) fn ways(&self) -> Ways {
        let peers = self.peers.iter().filter(|peer| !self.vacant.contains(&peer.session.id));
        let ways = peers.flat_map(|peer| {
            let why_not = pair::why_not(&self.link_of(peer), &self.facts_of(peer));
            // The other box may have what leads to either.
            let sides: &[bool] = match peer.side {
                Side::Msee(_) => &[true],
                Side::Box => &[true, false],
                Side::Ce | Side::Service => &[false],
            };
            let attachment = self.attachments.get(peer.attachment.index());
            let domains = attachment.into_iter().flat_map(|it| &it.domains);
            let named = domains.filter_map(|id| Some((*id, &self.domains.get(usize::from(id.0))?.name)));
            named.flat_map(move |(domain, name)| {
                sides.iter().map(move |to_microsoft| Way {
                    domain,
                    name: name.clone(),
                    family: Family::of_address(peer.session.remote),
                    to_microsoft: *to_microsoft,
                    side: peer.side,
                    peer: peer.session.id,
                    why_not,
                })
            })
        });
        Ways { list: ways.collect(), reach: self.customers_domains().collect() }
    }

    /// The domains that each attachment towards the customer may use.
    pub fn customers_domains(&self) -> impl Iterator<Item = Vec<DomainId>> {
        let towards = self.attachments.iter().filter(|attachment| attachment.side == Side::Ce);
        towards.map(|attachment| {
            let may = |id: &&DomainId| !attachment.forbidden.contains(id);
            attachment.domains.iter().filter(may).copied().collect()
        })
    }

    /// The link of a session, its sessions left out.
    fn link_of(&self, peer: &config::Peer) -> LinkFacts {
        let attachment = self.attachments.get(peer.attachment.index());
        let domain = attachment.and_then(|it| self.domains.get(usize::from(it.domains.first()?.0)));
        let circuit = domain.and_then(|domain| self.config.circuits.get(domain.circuit));
        match (peer.side, circuit) {
            (Side::Msee(role), Some(circuit)) => self.bare_link_facts(circuit, role),
            _ => LinkFacts {
                is_enabled: true,
                is_elsewhere: false,
                is_missing: attachment.is_some_and(|it| !self.is_in_use(&it.interface)),
                has_carrier: attachment.is_some_and(|it| self.is_up(&it.interface)),
                is_held_down: false,
                sessions: Vec::new(),
            },
        }
    }

    pub(crate) fn names(&self, peers: &[PeerId]) -> Vec<&str> {
        peers
            .iter()
            .filter_map(|id| self.peers.get(usize::from(id.0)))
            .map(|peer| peer.name.as_str())
            .collect()
    }

    /// The sessions of a name: a peer's address, an attachment, or a circuit, a link or a peering of it (then those with its MSEEs).
    pub fn peers_named(&self, name: &str) -> Result<Vec<PeerId>, String> {
        let slashed = name.replace(' ', "/");
        let address: Option<IpAddr> = slashed.parse().ok();
        let is_it = |peer: &&config::Peer| {
            let attachment = self.attachments.get(peer.attachment.index());
            let is_on_it = attachment.is_some_and(|it| it.name.replace(' ', "/") == slashed);
            !self.vacant.contains(&peer.session.id) && (address == Some(peer.session.remote) || is_on_it)
        };
        let found: Vec<PeerId> = self.peers.iter().filter(is_it).map(|peer| peer.session.id).collect();
        let found = match self.part_named(name) {
            Some(part) if found.is_empty() => self.peers_of_part(part),
            _ => found,
        };
        if found.is_empty() {
            let mut there: Vec<String> = self.config.circuits.iter().map(|it| it.name.clone()).collect();
            there.extend(self.domains.iter().map(|domain| domain.name.clone()));
            there.extend(self.attachments.iter().map(|it| it.name.replace(' ', "/")));
            return Err(format!(
                "no session {name:?}; there are {}, and each peer's address",
                there.join(", ")
            ));
        }
        Ok(found)
    }
}
