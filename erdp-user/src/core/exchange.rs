//! Another configuration takes the place of the running one: what it means is known beforehand ([`crate::config::Plan`]), and it is carried out
//! in an order in which no packet meets half of it: policers, routing tables, routes, sessions.

use std::time::Duration;

use super::{Action, Core, Outbox};
use crate::{
    bgp::{Cease, PeerId},
    compile::{attachment_facts, limits, peer_key},
    config::{Config, Peer, is_same_peer, session_flaps},
    dataplane::{Dataplane, Record},
    fib::AttachmentFacts,
    rib::RibConfig,
};

impl<D: Dataplane> Core<D> {
    /// Carries a configuration out, after [`Self::leave_circuits`]; the answer is the one before. After an error that one still holds.
    pub fn exchange(&mut self, config: Config, now: Duration) -> Result<Config, String> {
        self.now = now;
        let before = self.config.clone();
        if let Err(error) = self.reshape(&before, &config) {
            return Err(match self.reshape(&config, &before) {
                Ok(()) => {
                    self.open_enabled(&config);
                    format!("{error}; nothing is changed")
                }
                Err(again) => {
                    format!(
                        "{error}; and going back failed too: {again}: restart erdp to have the file's values"
                    )
                }
            });
        }
        self.attachments = config.attachments();
        self.domains = config.domains();
        self.exchange_peers(&config);
        self.config = config;
        self.open_enabled(&before);
        self.shut_disabled();
        Ok(before)
    }

    /// The packet path: policers, routing tables, attachments.
    fn reshape(&mut self, running: &Config, config: &Config) -> Result<(), String> {
        let now = self.dataplane.clock();
        for (index, (from, to)) in running.circuits.iter().zip(&config.circuits).enumerate() {
            if from == to {
                continue;
            }
            let records = limits::change(index, from, to, now).map_err(|error| error.to_string())?;
            for record in records {
                self.dataplane.write(&record).map_err(|error| error.to_string())?;
            }
        }
        let topology = self.forwarding.topology();
        let facts: Option<Vec<AttachmentFacts>> = config
            .attachments()
            .iter()
            .map(|attachment| {
                let old = topology.attachment(attachment.id)?;
                Some(AttachmentFacts {
                    control: old.control.clone(),
                    link_local6: old.link_local6,
                    ..attachment_facts(config, attachment, old.ifindex)
                })
            })
            .collect();
        let facts = facts.ok_or("another set of attachments: restart erdp")?;
        let now_ns = self.now_ns();
        self.forwarding.reshape(facts, now_ns, &mut self.dataplane).map_err(|error| error.to_string())
    }

    /// Sessions end and begin; those that stay keep their identifier, and with it what the peer has announced.
    fn exchange_peers(&mut self, config: &Config) {
        let wanted = config.peers();
        let mut restarted = Vec::new();
        for index in 0..self.peers.len() {
            let (id, peer) = (PeerId(index as u16), self.peers[index].clone());
            if self.vacant.contains(&id) {
                continue;
            }
            match wanted.iter().find(|other| is_same_peer(&peer, other)) {
                Some(new) => {
                    let new = with_id(new.clone(), id);
                    if session_flaps(&peer, &new) {
                        self.deconfigure(id, Cease::ConfigurationChange);
                        restarted.push(id);
                    }
                    self.peers[index] = new;
                }
                None => {
                    self.deconfigure(id, Cease::PeerDeconfigured);
                    self.admit(&peer, false);
                    self.redundancy.peerings.forget(id);
                    self.vacant.insert(id);
                }
            }
        }
        for new in wanted {
            let known = (0..).map(PeerId).zip(&self.peers);
            if known.filter(|(id, _)| !self.vacant.contains(id)).any(|(_, peer)| is_same_peer(peer, &new)) {
                continue;
            }
            let id = self.vacant.pop_first().unwrap_or(PeerId(self.peers.len() as u16));
            let new = with_id(new, id);
            self.admit(&new, true);
            match self.peers.get_mut(usize::from(id.0)) {
                Some(place) => *place = new,
                None => {
                    self.peers.push(new);
                    self.outboxes.push(Outbox::default());
                }
            }
            restarted.push(id);
        }
        self.rib.reconfigure(RibConfig::with_peers(config, self.peers.clone(), &self.vacant));
        self.note_link_locals();
        for id in &restarted {
            let session = self.peers[usize::from(id.0)].session.clone();
            self.actions.push_back(Action::BeginSession(Box::new(session)));
        }
        self.close_gates(&restarted);
        self.rank_links();
    }

    fn deconfigure(&mut self, id: PeerId, cease: Cease) {
        self.actions.push_back(Action::EndSession(id, cease));
        self.end_session(id);
    }

    /// A session whose task has ended is lost, with everything that it brought, and begins anew.
    pub(crate) fn restart_session(&mut self, id: PeerId, now: Duration) {
        self.now = now;
        let Some(peer) = self.peers.get(usize::from(id.0)) else { return };
        let session = peer.session.clone();
        tracing::error!(peer = peer.name, "its routes are withdrawn, and the session begins anew");
        self.lose_session(id);
        self.actions.push_back(Action::BeginSession(Box::new(session)));
        self.close_gates(&[id]);
    }

    /// Whether a peer may speak to this router at all.
    fn admit(&mut self, peer: &Peer, may: bool) {
        let record = Record::Peer(peer_key(peer), may);
        self.log_failure(|it| it.dataplane.write(&record));
    }
}

fn with_id(mut peer: Peer, id: PeerId) -> Peer {
    peer.session.id = id;
    peer
}
