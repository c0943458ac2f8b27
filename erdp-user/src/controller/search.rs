//! What the guard rails of `erdp peering`, `erdp drill` and `erdp whatif` have to know of the routes: which prefixes only the sessions lead to that
//! would be away. The asker's task looks for them before its request is judged, and a turn of the loop judges one page ([`crate::control::search`]).

use std::time::Instant;

use super::Controller;
use crate::{
    bgp::PeerId,
    config::DomainId,
    control::{
        Drilling, Peering, Request,
        lists::{Key, TURN},
        search::{OnlyHere, Search, Sought, seek},
    },
    peering::Orphan,
};

impl Controller {
    /// What a request is judged by; `None`: by no prefixes. A name that nobody has is refused when the request is judged.
    pub(super) fn search_for(&self, request: &Request) -> Option<Search> {
        let relies = |peers: &Vec<PeerId>| self.relies_on_others(peers);
        let peers = match request {
            Request::Peering(Peering::Disable { name, .. }) => self.peers_named(name).ok().filter(relies),
            Request::Peering(Peering::Reset { name, .. }) => self.peers_to_reset(name).ok().filter(relies),
            Request::Drill(Drilling::Begin { link, .. }) | Request::Load { link } => {
                self.target(link).ok().map(|target| target.peers)
            }
            _ => None,
        }?;
        let domains = self.rib.config().domains.iter();
        let domains = domains.filter(|domain| {
            domain.sources.iter().filter_map(|source| source.peer()).any(|id| peers.contains(&id))
        });
        let domains = domains.map(|domain| domain.id).collect();
        Some(Search { peers, domains })
    }

    /// Which prefixes of a page have paths by these sessions only, other circuits included.
    pub(super) fn seek(&self, peers: &[PeerId], keys: &[Key]) -> Sought {
        let begin = Instant::now();
        let reach: Vec<Vec<DomainId>> = self.customers_domains().collect();
        seek(keys, &TURN, || begin.elapsed(), |key| self.is_only_over(&reach, peers, key))
    }

    fn is_only_over(&self, reach: &[Vec<DomainId>], peers: &[PeerId], (prefix, domain): &Key) -> bool {
        if !self.rib.is_only_over(*domain, *prefix, peers) {
            return false;
        }
        let mut users = reach.iter().filter(|listed| listed.contains(domain)).peekable();
        let has_other = |listed: &Vec<DomainId>| {
            let mut others = listed.iter().filter(|other| *other != domain);
            others.any(|other| self.rib.leads_without(*other, *prefix, peers))
        };
        users.peek().is_none() || !users.all(has_other)
    }
}

/// What was looked for, if it is about these sessions. Else one of them has come or gone since.
pub(super) fn found_for<'a>(
    peers: &[PeerId],
    only_here: Option<&'a OnlyHere>,
) -> Result<&'a OnlyHere, String> {
    only_here.filter(|found| found.peers == peers).ok_or_else(|| {
        "a session has come or gone while its prefixes were looked at: try again; nothing is changed"
            .to_owned()
    })
}

/// Refuses where these sessions are the only way to some prefix.
pub(super) fn nothing_only_here(peers: &[PeerId], only_here: Option<&OnlyHere>) -> Result<(), String> {
    match found_for(peers, only_here)? {
        OnlyHere { count: 0, .. } => Ok(()),
        OnlyHere { count, examples, .. } => Err(format!(
            "{count} prefixes have a path by this only ({}): their packets would be dropped; --force does it all the same",
            examples.join(", ")
        )),
    }
}

/// The sentence about places without any way.
pub(super) fn nothing_left_words(orphans: &[Orphan]) -> String {
    let places: Vec<String> = orphans.iter().map(ToString::to_string).collect();
    format!("nothing would be left of {}; --force does it all the same", places.join("; nor of "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b6_an_order_is_judged_by_prefixes_of_its_own_sessions_only() {
        let (one, two) = (PeerId(1), PeerId(2));
        let found = |peers: &[PeerId], count| OnlyHere {
            peers: peers.to_vec(),
            count,
            examples: vec!["10.0.0.0/8".to_owned()],
        };
        assert_eq!(nothing_only_here(&[one], Some(&found(&[one], 0))), Ok(()));
        for (found, words) in [
            (Some(found(&[one], 3)), "3 prefixes have a path by this only (10.0.0.0/8)"),
            (Some(found(&[one, two], 0)), "try again"),
            (None, "try again"),
        ] {
            let said = nothing_only_here(&[one], found.as_ref()).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
    }
}
