//! The restarting side of graceful restart: after a restart over which packets were forwarded, nothing is decided and nobody is told
//! anything until every peer has told what it knows, or a deadline has come (RFC 4724 section 4.1). Without it the first peer that is
//! back would take all traffic, and the others' routes would be withdrawn for a moment.

use std::collections::BTreeSet;

use super::Rib;
use crate::bgp::{Family, Moment, PeerId, SessionFacts};

/// Who is still to tell, and until when that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deferral {
    deadline: Moment,
    /// Peers without a session since, and families without End-of-RIB.
    absent: BTreeSet<PeerId>,
    telling: BTreeSet<(PeerId, Family)>,
}

impl Rib {
    /// Begins to wait for all peers, at most until `deadline`.
    pub fn defer(&mut self, deadline: Moment) {
        let absent = self.config.peers.iter().map(|peer| peer.id).collect();
        self.deferral = Some(Deferral { deadline, absent, telling: BTreeSet::new() });
    }

    /// Whether it is still waited.
    pub fn is_deferring(&self) -> bool {
        self.deferral.is_some()
    }

    /// A session is up: its End-of-RIBs are waited for, unless the peer sends none or restarts itself (RFC 4724 section 4.1).
    pub(super) fn deferral_up(&mut self, peer: PeerId, facts: &SessionFacts) {
        if let Some(deferral) = &mut self.deferral {
            deferral.absent.remove(&peer);
            let restarts = facts.restart.as_ref().is_some_and(|restart| restart.restarting);
            if facts.end_of_rib && !restarts {
                deferral.telling.extend(facts.families.iter().map(|family| (peer, *family)));
            }
        }
        self.deferral_tick();
    }

    pub(super) fn deferral_told(&mut self, peer: PeerId, family: Family) {
        if let Some(deferral) = &mut self.deferral {
            deferral.telling.remove(&(peer, family));
        }
        self.deferral_tick();
    }

    pub(super) fn deferral_tick(&mut self) {
        let now = self.now;
        self.deferral.take_if(|deferral| {
            deferral.deadline <= now || (deferral.absent.is_empty() && deferral.telling.is_empty())
        });
    }
}
