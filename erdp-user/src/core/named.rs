//! What an operator's name means: a circuit (`contoso`), one of its links (`contoso/primary`), a peering (`contoso/private`), or a peering
//! on one link (`contoso/private/primary`). Words may be separated by spaces as well, as `erdp show` prints them.

use super::Core;
use crate::{
    bgp::PeerId,
    config::{Attachment, Link, LinkRole, PeeringKind, Side},
    dataplane::Dataplane,
};

/// A part of a circuit: all of it, of one link, of one peering, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Which circuit of the configuration.
    pub circuit: usize,
    /// One of its links only.
    pub role: Option<LinkRole>,
    /// One of its peerings only.
    pub kind: Option<PeeringKind>,
}

impl Part {
    /// What it is called behind the name of its circuit.
    pub fn label(self) -> String {
        match (self.kind, self.role) {
            (None, None) => "both links".to_owned(),
            (None, Some(role)) => role.as_str().to_owned(),
            (Some(kind), None) => kind.as_str().to_owned(),
            (Some(kind), Some(role)) => format!("{}/{}", kind.as_str(), role.as_str()),
        }
    }
}

impl<D: Dataplane> Core<D> {
    /// The part of a circuit that a name means, if it begins with a circuit's name.
    pub(crate) fn part_named(&self, name: &str) -> Option<Part> {
        let words: Vec<&str> = name.split([' ', '/']).collect();
        let (first, rest) = words.split_first()?;
        let circuit = self.config.circuits.iter().position(|it| it.name == *first)?;
        let role = |word: &str| LinkRole::ALL.into_iter().find(|it| it.as_str() == word);
        let kind = |word: &str| {
            let is_there = |it: &PeeringKind| self.config.circuits[circuit].peering(*it).is_some();
            PeeringKind::ALL.into_iter().find(|it| it.as_str() == word).filter(is_there)
        };
        let (kind, role) = match rest {
            [] => (None, None),
            [one] => match role(one) {
                Some(role) => (None, Some(role)),
                None => (Some(kind(one)?), None),
            },
            [first, second] => (Some(kind(first)?), Some(role(second)?)),
            _ => return None,
        };
        Some(Part { circuit, role, kind })
    }

    /// A link by its interface, or by its role where there is one circuit; `None` where that is not one link.
    pub(crate) fn link_named(&self, name: &str) -> Option<Part> {
        let circuits = &self.config.circuits;
        let links = circuits.iter().enumerate().flat_map(|(at, it)| LinkRole::ALL.map(|role| (at, it, role)));
        let is_it = |(_, circuit, role): &(usize, &crate::config::Circuit, LinkRole)| {
            let is_only = circuits.len() == 1 && name == role.as_str();
            is_only || matches!(circuit.link(*role), Link::Local { interface, .. } if interface == name)
        };
        let found: Vec<_> = links.filter(is_it).collect();
        let [(circuit, _, role)] = found.as_slice() else { return None };
        Some(Part { circuit: *circuit, role: Some(*role), kind: None })
    }

    /// The sessions with the MSEEs of a part.
    pub(crate) fn peers_of_part(&self, part: Part) -> Vec<PeerId> {
        let on: Vec<_> = self.attachments_of_part(part).map(|attachment| attachment.id).collect();
        let of_it = self.peers.iter().filter(|peer| on.contains(&peer.attachment));
        of_it.map(|peer| peer.session.id).filter(|id| !self.vacant.contains(id)).collect()
    }

    /// The attachments towards the MSEEs of a part.
    pub(crate) fn attachments_of_part(&self, part: Part) -> impl Iterator<Item = &Attachment> {
        self.attachments.iter().filter(move |attachment| {
            let domain = attachment.domains.first().and_then(|id| self.domains.get(usize::from(id.0)));
            let is_its = domain.is_some_and(|domain| {
                domain.circuit == part.circuit && part.kind.is_none_or(|kind| kind == domain.kind)
            });
            is_its
                && match attachment.side {
                    Side::Msee(role) => part.role.is_none_or(|it| it == role),
                    Side::Ce | Side::Service | Side::Box => false,
                }
        })
    }
}
