//! Maintenance, by which traffic goes the other way while everything still works. At Microsoft (requirement B7): before an MSEE is worked
//! on, it repeats its own AS eight times in what it announces. Here: before an operator takes a peering down (requirement B6), its
//! paths come last, and the peer is asked to do alike, by RFC 8326 and by Microsoft's own means.

use ipnet::IpNet;

use super::Rib;
use crate::bgp::{Community, PathAttributes, PeerId};
use crate::config::{DomainId, MICROSOFT_ASN};
use crate::types::PathSource;

/// How often the AS stands in front of the path of a route that is to be spared.
pub const DRAIN_REPEATS: usize = 8;

/// GRACEFUL_SHUTDOWN (RFC 8326 section 5).
pub(super) const GRACEFUL_SHUTDOWN: Community = Community(0xFFFF_0000);

impl Rib {
    /// Takes a peer out of use while it is up, or into use again: its paths are used only where there are no others (RFC 8326
    /// section 4.2), and what it is told says that ours are to be used so too. Unknown peers have nothing to spare.
    pub fn spare(&mut self, peer: PeerId, spared: bool) {
        let index = usize::from(peer.0);
        let Some(rib_peer) = self.config.peers.get_mut(index) else { return };
        if std::mem::replace(&mut rib_peer.spared, spared) == spared {
            return;
        }
        self.rank_again(peer);
        if let Some(out) = self.adj_out.get_mut(index) {
            out.tell_again();
        }
    }

    /// A peer's link carries no packets, or does again: its paths are used only where there are no others. Nothing is withdrawn, and
    /// the peer, who would not hear of it, is told nothing.
    pub fn unreach(&mut self, peer: PeerId, unreached: bool) {
        let Some(rib_peer) = self.config.peers.get_mut(usize::from(peer.0)) else { return };
        if std::mem::replace(&mut rib_peer.unreached, unreached) != unreached {
            self.rank_again(peer);
        }
    }

    fn rank_again(&mut self, peer: PeerId) {
        let adj_in = self.adj_in.get(usize::from(peer.0));
        let prefixes: Vec<IpNet> =
            adj_in.into_iter().flat_map(|adj_in| adj_in.routes().map(|(prefix, _)| prefix)).collect();
        self.mark_all(peer, prefixes);
    }

    /// Whether a domain leads to a prefix, or to one that covers it, by a path that is not of these peers.
    pub fn leads_without(&self, domain: DomainId, prefix: IpNet, peers: &[PeerId]) -> bool {
        let lengths = (0..=prefix.prefix_len()).rev();
        let mut covering =
            lengths.filter_map(|len| IpNet::new(prefix.addr(), len).ok()).map(|net| net.trunc());
        covering.any(|net| {
            self.candidates(domain, &net)
                .any(|it| !it.peer.source.peer().is_some_and(|peer| peers.contains(&peer)))
        })
    }

    /// Whether a prefix of a domain has a path from these peers and none from others.
    pub fn is_only_over(&self, domain: DomainId, prefix: IpNet, peers: &[PeerId]) -> bool {
        let is_theirs = |source: PathSource| source.peer().is_some_and(|peer| peers.contains(&peer));
        let mut candidates = self.candidates(domain, &prefix).peekable();
        candidates.peek().is_some() && candidates.all(|candidate| is_theirs(candidate.peer.source))
    }
}

/// Whether a route says that its link is about to be drained.
pub fn is_draining(attributes: &PathAttributes) -> bool {
    attributes.as_path.asns().take_while(|asn| *asn == MICROSOFT_ASN).take(DRAIN_REPEATS).count()
        == DRAIN_REPEATS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::AsPath;

    #[test]
    fn b7_eight_times_microsofts_as_in_front_is_a_drain_and_seven_or_elsewhere_is_none() {
        let row = |path: Vec<u32>| {
            let mut attributes = PathAttributes::originated([198, 18, 0, 2].into());
            attributes.as_path = AsPath::sequence(path);
            is_draining(&attributes)
        };
        assert!(row([12_076; 8].to_vec()) && row([[12_076; 9].as_slice(), &[8_075]].concat()));
        assert!(!row([12_076; 7].to_vec()) && !row([[8_075].as_slice(), &[12_076; 8]].concat()));
    }
}
