//! What follows from a [`Config`] without further choice: routing domains, attachments and BGP peers, each with an
//! identifier that is its index. MSEE-side first in the file's order of circuits (private before Microsoft, primary
//! before secondary), then the customer's in the file's order. The same file always gives the same identifiers.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZero;

use ipnet::IpNet;
use serde::Serialize;

use super::{Bfd, Circuit, Config, KernelRoutes, Link, PeeringKind, SessionOptions, Tags};
use crate::{
    bgp::{Family, PORT, PeerConfig, PeerId},
    types::AttachmentId,
};

/// Index of a routing domain in [`Config::domains`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct DomainId(pub u16);

/// Which of a circuit's two links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkRole {
    /// To the first MSEE.
    Primary,
    /// To the second MSEE.
    Secondary,
}

impl LinkRole {
    /// Both, the primary first.
    pub const ALL: [LinkRole; 2] = [LinkRole::Primary, LinkRole::Secondary];

    /// The word for it in the file and in every message.
    pub fn as_str(self) -> &'static str {
        match self {
            LinkRole::Primary => "primary",
            LinkRole::Secondary => "secondary",
        }
    }
}

/// What is at the other end of an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// A Microsoft Enterprise Edge, on this link of its circuit.
    Msee(LinkRole),
    /// The customer's edge.
    Ce,
    /// A VPN, NAT or appliance in a forwarding namespace of its own (requirement B8).
    Service,
    /// The other edge box, with another link of the circuit (requirement B1a): behind it are Microsoft and the customer.
    Box,
}

impl Side {
    /// The word for it in what is shown and measured.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Msee(_) => "msee",
            Side::Ce => "ce",
            Side::Service => "service",
            Side::Box => "box",
        }
    }

    /// Whether the other end is Microsoft's.
    pub fn is_msee(self) -> bool {
        matches!(self, Side::Msee(_))
    }

    /// Whether both are Microsoft's, the customer's, services or boxes: between such nothing is forwarded or told without being asked for.
    pub fn is_like(self, other: Side) -> bool {
        self == other || self.is_msee() && other.is_msee()
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Side::Msee(role) => write!(f, "MSEE ({})", role.as_str()),
            Side::Ce => write!(f, "CE"),
            Side::Service => write!(f, "service"),
            Side::Box => write!(f, "other edge box"),
        }
    }
}

/// A routing domain: one peering of one circuit (requirement C1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Domain {
    /// Its index.
    pub id: DomainId,
    /// `circuit/peering`.
    pub name: String,
    /// Index of the circuit in [`Config::circuits`].
    pub circuit: usize,
    /// Which of the circuit's peerings.
    pub kind: PeeringKind,
    /// Whether the customer may advertise a default route here (requirement D5).
    pub forced_tunnel: bool,
}

/// A logical interface: where frames with certain tags come in and leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// Its index.
    pub id: AttachmentId,
    /// For messages: `contoso/private primary`, or the interface with its tags.
    pub name: String,
    /// The interface that carries the frames.
    pub interface: String,
    /// Their tags.
    pub tags: Tags,
    /// What is at the other end.
    pub side: Side,
    /// Share of the flows that each of its peers gets, in relation to other attachments with equal routes; 1 on the MSEE side.
    pub weight: NonZero<u8>,
    /// The routing domains reached from here, first one preferred; exactly one on the MSEE side.
    pub domains: Vec<DomainId>,
    /// Those that the attachment lists and its zone may not use (requirement C5); none on the MSEE side.
    pub forbidden: Vec<DomainId>,
    /// Prefixes that only this attachment's service may carry (requirement B9).
    pub encrypted_only: Vec<IpNet>,
    /// Our addresses, each with the length of its subnet, IPv4 first.
    pub addresses: Vec<IpNet>,
    /// Whether its own subnets are announced to Microsoft (requirement C2); never on the MSEE side.
    pub advertise_connected: bool,
    /// Which routes of the kernel are taken if they lead through it; none on the MSEE side.
    pub kernel_routes: Option<KernelRoutes>,
    /// The policy for those, by name.
    pub policy_in: Option<String>,
    /// Whether local preference decides between its domains, and not their order; never on the MSEE side, where there is one.
    pub compares_circuits: bool,
}

impl Attachment {
    /// The name of its control port, by which the kernel speaks there: of tagged attachments only.
    pub fn control_port(&self) -> Option<String> {
        (self.tags != Tags::Untagged).then(|| format!("erdp-{}", self.id.number()))
    }

    /// The interface on which the kernel speaks there: sessions are bound to it.
    pub fn kernel_interface(&self) -> String {
        self.control_port().unwrap_or_else(|| self.interface.clone())
    }

    /// Our address of a family, the next hop that we announce there.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        let is_ipv4 = family == Family::Ipv4Unicast;
        self.addresses.iter().map(IpNet::addr).find(|address| address.is_ipv4() == is_ipv4)
    }
}

/// A BGP peer and what it is attached to. Its place in [`Config::peers`] is its [`PeerId`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// For messages: the attachment's name and the peer's address.
    pub name: String,
    /// The attachment that it is reached through.
    pub attachment: AttachmentId,
    /// Which side it is on.
    pub side: Side,
    /// The session.
    pub session: PeerConfig,
    /// What its routes are worth, and how many there may be.
    pub options: SessionOptions,
    /// BFD with it.
    pub bfd: Option<Bfd>,
}

/// The domains of some circuits in the order of their identifiers.
pub(super) fn domains_of(circuits: &[Circuit]) -> impl Iterator<Item = (&Circuit, PeeringKind)> {
    circuits.iter().flat_map(|circuit| {
        let kinds = PeeringKind::ALL.into_iter().filter(|kind| circuit.peering(*kind).is_some());
        kinds.map(move |kind| (circuit, kind))
    })
}

/// The index of what comes next in a list. 65,536 of anything here is far beyond a file that a person maintains; the
/// 65,537th would get the last identifier.
fn next_id<T>(list: &[T]) -> u16 {
    u16::try_from(list.len()).unwrap_or(u16::MAX)
}

impl Config {
    /// The routing domains, in the order of their identifiers.
    pub fn domains(&self) -> Vec<Domain> {
        let mut domains = Vec::new();
        for (index, circuit) in self.circuits.iter().enumerate() {
            for kind in PeeringKind::ALL {
                let Some(peering) = circuit.peering(kind) else { continue };
                domains.push(Domain {
                    id: DomainId(next_id(&domains)),
                    name: format!("{}/{}", circuit.name, kind.as_str()),
                    circuit: index,
                    kind,
                    forced_tunnel: peering.forced_tunnel,
                });
            }
        }
        domains
    }

    /// The attachments of this box, in the order of their identifiers.
    pub fn attachments(&self) -> Vec<Attachment> {
        let mut list = Vec::new();
        for domain in self.domains() {
            let Some(circuit) = self.circuits.get(domain.circuit) else { continue };
            for role in LinkRole::ALL {
                list.extend(msee_attachment(circuit, &domain, role, AttachmentId::at(list.len())));
            }
        }
        for ce in &self.attachments {
            list.push(Attachment {
                id: AttachmentId::at(list.len()),
                name: ce.name(),
                interface: ce.interface.clone(),
                tags: ce.tags,
                side: match (&ce.service, &ce.other_box) {
                    (Some(_), _) => Side::Service,
                    (None, Some(_)) => Side::Box,
                    (None, None) => Side::Ce,
                },
                weight: ce.weight,
                domains: ce.domains.clone(),
                forbidden: ce.forbidden.clone(),
                encrypted_only: ce.service.iter().flat_map(|it| it.encrypted_only.iter().copied()).collect(),
                addresses: ce.addresses.clone(),
                advertise_connected: ce.advertise_connected,
                kernel_routes: ce.kernel_routes.clone(),
                policy_in: ce.policy_in.clone(),
                compares_circuits: ce.compares_circuits,
            });
        }
        list
    }

    /// The names of the interfaces without which the router refuses to start.
    pub fn required_interfaces(&self) -> BTreeSet<&str> {
        let of_links = self.circuits.iter().flat_map(|circuit| [&circuit.primary, &circuit.secondary]);
        let of_links = of_links.filter_map(|link| match link {
            Link::Local { interface, required } => Some((interface.as_str(), *required)),
            Link::Box { .. } => None,
        });
        let of_attachments = self.attachments.iter().map(|it| (it.interface.as_str(), it.required));
        let all = of_links.chain(of_attachments);
        all.filter(|(_, required)| *required || self.require_interfaces).map(|(name, _)| name).collect()
    }

    /// The identifier of one of the file's attachments, by its index: they come after those of the MSEEs.
    pub fn ce_attachment(&self, index: usize) -> AttachmentId {
        let before = self.attachments().iter().filter(|attachment| attachment.side.is_msee()).count();
        AttachmentId::at(before + index)
    }

    /// The other edge box that an attachment leads to (requirement B1a).
    pub fn box_of(&self, attachment: &Attachment) -> Option<&String> {
        let is_it =
            |ce: &&super::CeAttachment| ce.interface == attachment.interface && ce.tags == attachment.tags;
        self.attachments.iter().find(is_it)?.other_box.as_ref()
    }

    /// Whether an attachment has a circuit that is in use (requirement A8); one without any carries nothing.
    pub fn is_in_use(&self, attachment: &Attachment) -> bool {
        let domains = self.domains();
        let circuit = |id: &DomainId| self.circuits.get(domains.get(usize::from(id.0))?.circuit);
        attachment.domains.iter().filter_map(circuit).any(Circuit::is_in_use)
    }

    /// The BGP peers of this box, in the order of their identifiers: by attachment, IPv4 sessions first on the MSEE
    /// side (requirement B3), as listed on the customer's.
    pub fn peers(&self) -> Vec<Peer> {
        let mut list = Vec::new();
        for attachment in self.attachments() {
            let sessions = match attachment.side {
                Side::Msee(role) => self.msee_sessions(&attachment, role),
                Side::Ce | Side::Service | Side::Box => self.ce_sessions(&attachment),
            };
            for (mut session, options) in sessions {
                session.id = PeerId(next_id(&list));
                let name = format!("{} {}", attachment.name, session.remote);
                let bfd = self.bfd(&attachment, session.remote);
                list.push(Peer {
                    name,
                    attachment: attachment.id,
                    side: attachment.side,
                    session,
                    options,
                    bfd,
                });
            }
        }
        list
    }

    /// BFD with a peer on an attachment: as its peering has it, or as it has itself.
    fn bfd(&self, attachment: &Attachment, remote: IpAddr) -> Option<Bfd> {
        if attachment.side.is_msee() {
            let domain = attachment.domains.first().map(|id| usize::from(id.0))?;
            let (circuit, kind) = domains_of(&self.circuits).nth(domain)?;
            return circuit.peering(kind)?.bfd;
        }
        let on_it =
            |ce: &&super::CeAttachment| ce.interface == attachment.interface && ce.tags == attachment.tags;
        let mut peers = self.attachments.iter().filter(on_it).flat_map(|ce| ce.peers.iter());
        peers.find(|peer| peer.address == remote)?.bfd
    }

    /// Every subnet of our links and attachments, those of links on the other box included.
    pub fn link_subnets(&self) -> Vec<IpNet> {
        let of_links = domains_of(&self.circuits)
            .filter_map(|(circuit, kind)| circuit.peering(kind))
            .flat_map(|peering| {
                LinkRole::ALL.into_iter().flat_map(|role| peering.addresses(role)).map(|link| link.subnet)
            });
        let of_attachments = self.attachments.iter().flat_map(|ce| ce.addresses.iter().map(IpNet::trunc));
        of_links.chain(of_attachments).collect()
    }

    fn msee_sessions(&self, attachment: &Attachment, role: LinkRole) -> Vec<(PeerConfig, SessionOptions)> {
        let domain = attachment.domains.first().map(|id| usize::from(id.0));
        let found = domain.and_then(|index| domains_of(&self.circuits).nth(index));
        let Some(peering) = found.and_then(|(circuit, kind)| circuit.peering(kind)) else {
            return Vec::new();
        };
        let session = |link: super::LinkAddresses| PeerConfig {
            id: PeerId(0),
            local_asn: self.asn,
            remote_asn: peering.peer_asn,
            router_id: self.router_id,
            local: link.ours,
            remote: link.theirs,
            interface: Some(attachment.kernel_interface()),
            hold: peering.hold,
            passive: peering.passive,
            md5: peering.md5.clone(),
            gtsm: peering.options.gtsm,
            restart_time: peering.options.restart_time,
            restarting: false,
            forwarding_preserved: false,
            role: peering.options.role,
            role_strict: peering.options.role_strict,
            add_path: peering.options.add_path,
            other_next_hop: other_family(attachment, link.ours),
            port: PORT,
            families: vec![if link.ours.is_ipv4() { Family::Ipv4Unicast } else { Family::Ipv6Unicast }],
        };
        peering.addresses(role).map(|link| (session(link), peering.options.clone())).collect()
    }

    fn ce_sessions(&self, attachment: &Attachment) -> Vec<(PeerConfig, SessionOptions)> {
        let is_it =
            |ce: &&super::CeAttachment| ce.interface == attachment.interface && ce.tags == attachment.tags;
        let peers = self.attachments.iter().filter(is_it).flat_map(|ce| ce.peers.iter());
        let session = |peer: &super::CePeer| PeerConfig {
            id: PeerId(0),
            local_asn: self.asn,
            remote_asn: peer.asn,
            router_id: self.router_id,
            local: peer.local,
            remote: peer.address,
            interface: Some(attachment.kernel_interface()),
            hold: peer.hold,
            passive: peer.passive,
            md5: peer.md5.clone(),
            gtsm: peer.options.gtsm,
            restart_time: peer.options.restart_time,
            restarting: false,
            forwarding_preserved: false,
            role: peer.options.role,
            role_strict: peer.options.role_strict,
            add_path: peer.options.add_path,
            other_next_hop: other_family(attachment, peer.local),
            port: PORT,
            families: peer.families.clone(),
        };
        peers.map(|peer| (session(peer), peer.options.clone())).collect()
    }
}

/// Our address on the attachment in the family that `ours` is not of.
fn other_family(attachment: &Attachment, ours: IpAddr) -> Option<IpAddr> {
    attachment.addresses.iter().map(IpNet::addr).find(|address| address.is_ipv4() != ours.is_ipv4())
}

fn msee_attachment(
    circuit: &Circuit,
    domain: &Domain,
    role: LinkRole,
    id: AttachmentId,
) -> Option<Attachment> {
    let Link::Local { interface, .. } = circuit.link(role) else { return None };
    let peering = circuit.peering(domain.kind)?;
    let tags = match (circuit.s_vlan, peering.vlan) {
        (Some(s), Some(c)) => Tags::Double { s, c },
        (None, Some(c)) => Tags::Single(c),
        (_, None) => Tags::Untagged,
    };
    let address = |link: super::LinkAddresses| IpNet::new(link.ours, link.subnet.prefix_len()).ok();
    Some(Attachment {
        id,
        name: format!("{} {}", domain.name, role.as_str()),
        interface: interface.clone(),
        tags,
        side: Side::Msee(role),
        weight: NonZero::<u8>::MIN,
        domains: vec![domain.id],
        forbidden: Vec::new(),
        encrypted_only: Vec::new(),
        addresses: peering.addresses(role).filter_map(address).collect(),
        advertise_connected: false,
        kernel_routes: None,
        policy_in: None,
        compares_circuits: false,
    })
}
