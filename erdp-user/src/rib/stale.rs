//! Routes whose peer is away or tells everything again: kept, marked, and gone at the end of telling or at a deadline (RFC 4724
//! section 4.2, RFC 7313 section 4). Time is an argument: [`Rib::tick`].

use ipnet::IpNet;

use super::Rib;
use crate::bgp::{Family, Kept, Moment, PeerId, RefreshMark, SessionFacts};

/// How long a peer that is back may take to tell its routes again, in seconds: as long as FRR gives it.
const STALE_PATHS_S: u64 = 360;

impl Rib {
    /// A session is over, but the peer said that it would come back: packets keep going its way. What was marked before is gone now
    /// (RFC 4724 section 4.2: a second restart does not prolong the first).
    pub fn peer_lost(&mut self, peer: PeerId, kept: &Kept) {
        let index = usize::from(peer.0);
        let (Some(adj_in), Some(out)) = (self.adj_in.get_mut(index), self.adj_out.get_mut(index)) else {
            return;
        };
        out.close();
        let mut gone = Vec::new();
        for family in [Family::Ipv4Unicast, Family::Ipv6Unicast] {
            gone.extend(adj_in.sweep(family));
            if kept.families.contains(&family) {
                adj_in.mark_stale(family);
            } else {
                gone.extend(adj_in.remove_family(family));
            }
        }
        self.deadlines.insert(peer, self.now + kept.wait.duration());
        self.mark_all(peer, gone);
    }

    /// As [`Self::peer_lost`] of a session that we have ended ourselves, as a drill does: the peer's forwarding was never in question.
    pub fn peer_ended(&mut self, peer: PeerId, kept: &Kept) {
        self.peer_lost(peer, kept);
        self.ended_here.insert(peer);
    }

    /// A peer is back: families whose forwarding it did not preserve are gone at once, the others when it has told all.
    pub(super) fn peer_back(&mut self, peer: PeerId, facts: &SessionFacts) {
        let Some(adj_in) = self.adj_in.get_mut(usize::from(peer.0)) else { return };
        let ended_here = self.ended_here.remove(&peer);
        let preserved =
            |family| ended_here || facts.restart.as_ref().is_some_and(|restart| restart.preserved(family));
        let mut gone = Vec::new();
        for family in [Family::Ipv4Unicast, Family::Ipv6Unicast] {
            if !facts.families.contains(&family) || !preserved(family) {
                gone.extend(adj_in.remove_family(family));
            }
        }
        self.expect_end(peer);
        self.mark_all(peer, gone);
    }

    /// The peer marks that it begins or ends telling a family again.
    pub(super) fn refresh_mark(&mut self, peer: PeerId, mark: RefreshMark) {
        match mark {
            RefreshMark::Begin(family) => {
                if let Some(adj_in) = self.adj_in.get_mut(usize::from(peer.0)) {
                    adj_in.mark_stale(family);
                }
                self.expect_end(peer);
            }
            RefreshMark::End(family) => self.told_all(peer, family),
        }
    }

    /// The peer has told a family whole: what it did not mention is gone.
    pub(super) fn told_all(&mut self, peer: PeerId, family: Family) {
        let Some(adj_in) = self.adj_in.get_mut(usize::from(peer.0)) else { return };
        let gone = adj_in.sweep(family);
        if adj_in.stale() == 0 {
            self.deadlines.remove(&peer);
        }
        self.mark_all(peer, gone);
    }

    /// Time passes: who has not come back, or not told everything, until its deadline loses what it has not told.
    pub fn tick(&mut self, now: Moment) {
        self.now = now;
        self.tick_budget();
        let due: Vec<PeerId> =
            self.deadlines.iter().filter(|(_, deadline)| **deadline <= now).map(|(peer, _)| *peer).collect();
        for peer in due {
            self.deadlines.remove(&peer);
            for family in [Family::Ipv4Unicast, Family::Ipv6Unicast] {
                self.told_all(peer, family);
            }
        }
    }

    /// How many of a peer's routes it has not told again.
    pub fn stale(&self, peer: PeerId) -> usize {
        self.adj_in.get(usize::from(peer.0)).map_or(0, super::AdjRibIn::stale)
    }

    fn expect_end(&mut self, peer: PeerId) {
        if self.stale(peer) > 0 {
            self.deadlines.insert(peer, self.now + std::time::Duration::from_secs(STALE_PATHS_S));
        } else {
            self.deadlines.remove(&peer);
        }
    }

    pub(super) fn mark_all(&mut self, peer: PeerId, prefixes: Vec<IpNet>) {
        prefixes.into_iter().for_each(|prefix| self.mark(peer, prefix));
    }
}
