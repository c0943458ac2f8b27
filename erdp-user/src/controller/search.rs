//! What the guard rails of `erdp peering`, `erdp drill` and `erdp whatif` have to know of the routes. The asker's task looks for it before its
//! request is judged, and a turn of the loop judges one page ([`crate::control::search`]); the core judges a prefix ([`crate::core`]).

use std::time::Instant;

use super::Controller;
use crate::{
    bgp::PeerId,
    config::DomainId,
    control::{
        Drilling, Peering, Request,
        lists::{Key, TURN},
        search::{Search, Sought, seek},
    },
};

impl Controller {
    /// What a request is judged by; `None`: by no prefixes. A name that nobody has is refused when the request is judged.
    pub(super) fn search_for(&self, request: &Request) -> Option<Search> {
        let relies = |peers: &Vec<PeerId>| self.core.relies_on_others(peers);
        let peers = match request {
            Request::Peering(Peering::Disable { name, .. }) => {
                self.core.peers_named(name).ok().filter(relies)
            }
            Request::Peering(Peering::Reset { name, .. }) => {
                self.core.peers_to_reset(name).ok().filter(relies)
            }
            Request::Drill(Drilling::Begin { link, .. }) | Request::Load { link } => {
                self.core.target(link).ok().map(|target| target.peers)
            }
            _ => None,
        }?;
        Some(Search { domains: self.core.domains_of(&peers), peers })
    }

    /// Which prefixes of a page have paths by these sessions only, other circuits included.
    pub(super) fn seek(&self, peers: &[PeerId], keys: &[Key]) -> Sought {
        let begin = Instant::now();
        let reach: Vec<Vec<DomainId>> = self.core.customers_domains().collect();
        let is_only_here = |key: &Key| self.core.is_only_over(&reach, peers, key.0, key.1);
        seek(keys, &TURN, || begin.elapsed(), is_only_here)
    }
}
