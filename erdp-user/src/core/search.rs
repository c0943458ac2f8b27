//! What guard rails have to know of the routes before sessions are taken out of service: which prefixes only they lead to. Whoever asks has them
//! looked for beforehand, one prefix at a time, because a table may be long; an order is then judged by what was found.

use ipnet::IpNet;

use super::Core;
use crate::{bgp::PeerId, config::DomainId, dataplane::Dataplane, peering::Orphan};

/// Prefixes that only some sessions lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnlyHere {
    /// The sessions.
    pub peers: Vec<PeerId>,
    /// How many prefixes.
    pub count: usize,
    /// The first few.
    pub examples: Vec<String>,
}

impl<D: Dataplane> Core<D> {
    /// The domains in which these sessions bring routes.
    pub fn domains_of(&self, peers: &[PeerId]) -> Vec<DomainId> {
        let domains = self.rib.config().domains.iter();
        let domains = domains.filter(|domain| {
            domain.sources.iter().filter_map(|source| source.peer()).any(|id| peers.contains(&id))
        });
        domains.map(|domain| domain.id).collect()
    }

    /// Whether a prefix of a domain has paths by these sessions only, other circuits included. `reach`: what the customer's attachments may use.
    pub fn is_only_over(
        &self,
        reach: &[Vec<DomainId>],
        peers: &[PeerId],
        prefix: IpNet,
        domain: DomainId,
    ) -> bool {
        if !self.rib.is_only_over(domain, prefix, peers) {
            return false;
        }
        let mut users = reach.iter().filter(|listed| listed.contains(&domain)).peekable();
        let has_other = |listed: &Vec<DomainId>| {
            let mut others = listed.iter().filter(|other| **other != domain);
            others.any(|other| self.rib.leads_without(*other, prefix, peers))
        };
        users.peek().is_none() || !users.all(has_other)
    }
}

/// What was looked for, if it is about these sessions. Else one of them has come or gone since.
pub(crate) fn found_for<'a>(
    peers: &[PeerId],
    only_here: Option<&'a OnlyHere>,
) -> Result<&'a OnlyHere, String> {
    only_here.filter(|found| found.peers == peers).ok_or_else(|| {
        "a session has come or gone while its prefixes were looked at: try again; nothing is changed"
            .to_owned()
    })
}

/// Refuses where these sessions are the only way to some prefix.
pub(crate) fn nothing_only_here(peers: &[PeerId], only_here: Option<&OnlyHere>) -> Result<(), String> {
    match found_for(peers, only_here)? {
        OnlyHere { count: 0, .. } => Ok(()),
        OnlyHere { count, examples, .. } => Err(format!(
            "{count} prefixes have a path by this only ({}): their packets would be dropped; --force does it all the same",
            examples.join(", ")
        )),
    }
}

/// The sentence about places without any way.
pub(crate) fn nothing_left_words(orphans: &[Orphan]) -> String {
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
