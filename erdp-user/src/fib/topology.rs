//! The attachments of this edge, and what follows from them: views, links, ports, VLAN blocks.
//!
//! An interface that is not there has the index 0, which no interface has: its attachments are configured, and nothing leads through them.
//! One that goes while the router runs keeps its index, because links are numbered by their indexes; it is noted among those that are gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
    num::NonZero,
};

use erdp_common::abi::{
    ATTACHMENT_CONTROL, ATTACHMENT_ENABLED, ATTACHMENT_HAIRPIN, ATTACHMENT_MSEE, ATTACHMENT_SERVICE,
    ATTACHMENT_SOURCES, ATTACHMENT_SOURCES_ROUTED, Attachment, Port, Vlan, control_slot,
};
use ipnet::IpNet;

use super::{Policy, Source};
use crate::{dataplane::Record, kernel::control_port::ControlPort, types::AttachmentId};

/// What is known of an attachment from the configuration and the kernel.
#[derive(Clone, Debug)]
pub struct AttachmentFacts {
    /// Its identifier.
    pub id: AttachmentId,
    /// Name for operators, for instance `contoso/private/primary` or `ce0`.
    pub name: String,
    /// Interface name.
    pub interface: String,
    /// Interface index; 0: it is not there.
    pub ifindex: u32,
    /// Faces Microsoft.
    pub is_msee: bool,
    /// Faces a service: a VPN, NAT or appliance (B8).
    pub is_service: bool,
    /// Faces the other edge box, behind which are Microsoft and the customer (B1a).
    pub is_box: bool,
    /// Faces Microsoft peering, where only public addresses may be sources (D4).
    pub public_sources: bool,
    /// What it takes of what its MSEE sends.
    pub sources: SourceCheck,
    /// Its circuit is enabled (A8).
    pub enabled: bool,
    /// Same-side forwarding is allowed (C2).
    pub hairpin: bool,
    /// Policer of what comes in from the MSEE; 0: none.
    pub policer_in: u16,
    /// Policer of what leaves towards the MSEE; 0: none.
    pub policer_out: u16,
    /// QoS profile of its peering; 0: none.
    pub profile: u16,
    /// Share of the flows that each of its neighbours gets, in relation to the others of a next-hop group.
    pub weight: NonZero<u8>,
    /// VLAN identifiers, outer first.
    pub tags: [Option<u16>; 2],
    /// By which the kernel speaks there, if it is tagged; otherwise the kernel speaks on the interface itself.
    pub control: Option<ControlPort>,
    /// Our IPv4 address.
    pub local4: Option<Ipv4Addr>,
    /// Our IPv6 address.
    pub local6: Option<Ipv6Addr>,
    /// Our link-local IPv6 address, once the kernel has told.
    pub link_local6: Option<Ipv6Addr>,
    /// Connected subnets.
    pub subnets: Vec<IpNet>,
    /// Routing domains in order of preference; an MSEE attachment has one.
    pub domains: Vec<usize>,
    /// Whether what a route is worth decides between its domains, and not their order.
    pub compares_circuits: bool,
    /// Routing domains that it lists and that its zone may not use (C5).
    pub forbidden: Vec<usize>,
    /// What chains add to its routes, after those of its domains.
    pub chained: Vec<Source>,
    /// Prefixes that only this service may carry (B9).
    pub encrypted_only: Vec<IpNet>,
}

/// Which sources are taken from an MSEE (C2), see [`erdp_common::source`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceCheck {
    /// Any.
    #[default]
    Off,
    /// All but those that our side has routes to.
    NotOurs,
    /// Those only that Microsoft's side has routes to.
    Routed,
}

impl AttachmentFacts {
    /// Whether hosts are on its subnets: not between us and an MSEE or the other box.
    pub fn has_hosts(&self) -> bool {
        !self.is_msee && !self.is_box
    }

    /// The interface on which the kernel has our addresses there and knows its neighbours.
    pub fn kernel_ifindex(&self) -> u32 {
        self.control.as_ref().map_or(self.ifindex, |port| port.ifindex)
    }

    /// Its record, given the roots of its view.
    pub fn record(&self, root4: u32, root6: u32) -> Attachment {
        let bit = |set: bool, bit: u32| if set { bit } else { 0 };
        Attachment {
            root4,
            root6,
            flags: bit(self.enabled, ATTACHMENT_ENABLED)
                | bit(self.is_msee || self.is_box, ATTACHMENT_MSEE)
                | bit(self.is_service || self.is_box, ATTACHMENT_SERVICE)
                | bit(self.hairpin, ATTACHMENT_HAIRPIN)
                | bit(self.sources != SourceCheck::Off, ATTACHMENT_SOURCES)
                | bit(self.sources == SourceCheck::Routed, ATTACHMENT_SOURCES_ROUTED)
                | bit(self.control.is_some(), ATTACHMENT_CONTROL),
            local4: self.local4.map_or([0; 4], |address| address.octets()),
            local6: self.local6.map_or([0; 16], |address| address.octets()),
            link_local6: self.link_local6.map_or([0; 16], |address| address.octets()),
            policer: self.policer_in,
            profile: self.profile,
            tags: self.tags.map(Option::unwrap_or_default),
        }
    }
}

/// All attachments.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    attachments: Vec<AttachmentFacts>,
    /// Interfaces and ends of control ports that were there and have gone.
    gone: BTreeSet<u32>,
}

impl Topology {
    /// Attachments in the order of their identifiers.
    pub fn new(attachments: Vec<AttachmentFacts>) -> Self {
        Self { attachments, gone: BTreeSet::new() }
    }

    /// The same interfaces, these attachments.
    pub fn with(&self, attachments: Vec<AttachmentFacts>) -> Self {
        Self { attachments, gone: self.gone.clone() }
    }

    /// An interface, or an end of a control port, has gone.
    pub fn note_gone(&mut self, ifindex: u32) {
        self.gone.insert(ifindex);
    }

    /// Whether there is an interface of this index that has not gone.
    pub fn has(&self, ifindex: u32) -> bool {
        ifindex != 0 && !self.gone.contains(&ifindex)
    }

    /// Whether an attachment's interface is there, and the port by which the kernel speaks on it.
    pub fn is_there(&self, facts: &AttachmentFacts) -> bool {
        self.has(facts.ifindex) && self.has(facts.kernel_ifindex())
    }

    /// Every attachment.
    pub fn attachments(&self) -> impl Iterator<Item = &AttachmentFacts> {
        self.attachments.iter()
    }

    /// One of them.
    pub fn attachment(&self, id: AttachmentId) -> Option<&AttachmentFacts> {
        self.attachments.iter().find(|facts| facts.id == id)
    }

    /// Those on an interface.
    pub fn on_interface(&self, ifindex: u32) -> impl Iterator<Item = &AttachmentFacts> {
        self.attachments.iter().filter(move |facts| facts.ifindex == ifindex)
    }

    /// Those on which the kernel speaks by an interface: the untagged one on it, or the one whose control port it is.
    pub fn spoken_for_on(&self, ifindex: u32) -> impl Iterator<Item = &AttachmentFacts> {
        self.attachments.iter().filter(move |facts| facts.kernel_ifindex() == ifindex)
    }

    /// The kernel speaks on a tagged attachment by this control port.
    pub fn set_control_port(&mut self, id: AttachmentId, port: ControlPort) {
        self.attachments
            .iter_mut()
            .filter(|facts| facts.id == id)
            .for_each(|facts| facts.control = Some(port.clone()));
    }

    /// Our link-local address on an interface of the kernel.
    pub fn set_link_local(&mut self, ifindex: u32, address: Ipv6Addr) {
        self.attachments
            .iter_mut()
            .filter(|facts| facts.kernel_ifindex() == ifindex)
            .for_each(|facts| facts.link_local6 = Some(address));
    }

    /// Which policers an attachment has, inbound and outbound.
    pub fn set_policers(&mut self, id: AttachmentId, [inbound, outbound]: [u16; 2]) {
        for facts in self.attachments.iter_mut().filter(|facts| facts.id == id) {
            (facts.policer_in, facts.policer_out) = (inbound, outbound);
        }
    }

    /// The interfaces that are there or have gone, each once, with their names in the configuration.
    pub fn interfaces(&self) -> BTreeMap<u32, &str> {
        let known = self.attachments.iter().filter(|facts| facts.ifindex != 0);
        known.map(|facts| (facts.ifindex, facts.interface.as_str())).collect()
    }

    /// Where the program runs: the interfaces and the outer ends of the control ports, with their names.
    pub fn ports(&self) -> BTreeMap<u32, String> {
        let interfaces = self.interfaces().into_iter().map(|(ifindex, name)| (ifindex, name.to_owned()));
        let control = self.attachments.iter().filter_map(|facts| facts.control.as_ref());
        let all = interfaces.chain(control.map(|port| (port.outer, port.outer_name())));
        all.filter(|(ifindex, _)| self.has(*ifindex)).collect()
    }

    /// The liveness word of an interface.
    pub fn link_of(&self, ifindex: u32) -> Option<u16> {
        self.interfaces().keys().position(|other| *other == ifindex).map(|at| at as u16 + 1)
    }

    /// The policies that need a routing table: each once.
    pub fn views(&self) -> Vec<Policy> {
        let mut views: Vec<Policy> = Vec::new();
        for facts in &self.attachments {
            let policy = self.policy(facts.id);
            if !views.contains(&policy) {
                views.push(policy);
            }
        }
        views
    }

    /// Ports and VLAN blocks (1 and up, one for each interface with tags and one for each outer tag with inner ones); then the
    /// control ports, each with its slot of the device map. What has gone has empty records.
    pub fn port_records(&self) -> Vec<Record> {
        let mut ports: BTreeMap<u32, Port> = BTreeMap::new();
        let mut vlans: BTreeMap<(u16, u16), Vlan> = BTreeMap::new();
        let mut blocks = 0;
        for facts in self.attachments.iter().filter(|facts| facts.ifindex != 0) {
            let port = ports.entry(facts.ifindex).or_default();
            port.link = self.link_of(facts.ifindex).unwrap_or_default();
            let [Some(outer), inner] = facts.tags else {
                port.attachment = facts.id.number();
                continue;
            };
            let block = block_of(&mut port.vlan_block, &mut blocks);
            let vlan = vlans.entry((block, outer)).or_default();
            let Some(inner) = inner else {
                vlan.attachment = facts.id.number();
                continue;
            };
            let inner_block = block_of(&mut vlan.inner_block, &mut blocks);
            vlans.entry((inner_block, inner)).or_default().attachment = facts.id.number();
        }
        let vlans = vlans.into_iter().map(|((block, vid), vlan)| Record::Vlan(block, vid, vlan));
        let there = |ifindex, port| if self.has(ifindex) { port } else { Port::default() };
        let ports = ports.into_iter().map(|(ifindex, port)| Record::Port(ifindex, there(ifindex, port)));
        let control = self
            .attachments
            .iter()
            .filter_map(|facts| Some((facts.id.number(), facts.control.as_ref()?.outer)));
        let control = control.flat_map(|(id, outer)| {
            let port = Port { control_of: id, ..Port::default() };
            [Record::TxPort(control_slot(id), self.target(outer)), Record::Port(outer, there(outer, port))]
        });
        vlans.chain(ports).chain(control).collect()
    }

    /// What a slot of the device map leads to: the interface, or nothing where it is not there.
    pub fn target(&self, ifindex: u32) -> u32 {
        if self.has(ifindex) { ifindex } else { 0 }
    }
}

/// The block in `slot`, a new one when there is none.
fn block_of(slot: &mut u16, blocks: &mut u16) -> u16 {
    if *slot == 0 {
        *blocks += 1;
        *slot = *blocks;
    }
    *slot
}
