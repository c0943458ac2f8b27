//! A packet's whole way, one line a stage; no stage calls another. Verdict, counting and the XDP code happen once, in the
//! program's entry.
//!
//! link (Ethernet, tags) -> attachment (or a control port) -> parse (IP) -> local -> route (longest match, then group) ->
//! classify -> police -> rewrite -> transmit. Neighbour and MTU are known before anything is charged.

use core::hint::black_box;

use network_types::eth::EtherType;

use crate::{
    abi::{
        ATTACHMENT_ENABLED, ATTACHMENT_HAIRPIN, Attachment, GROUP_DISCARD, GROUP_ENCRYPTED_ONLY,
        GROUP_FORWARD, GROUP_GLEAN, GROUP_ZONE_FORBIDDEN, Meter, NEXT_HOP_PUBLIC_SOURCES, NeighbourWanted,
        NextHop, SIDE_BITS,
    },
    budget,
    classify::{self, Class, Marking},
    control,
    family::{Datagram, Family, V4, V6},
    group,
    link::{self, Link},
    local,
    packet::Packet,
    policer::{self, Passage, Payment},
    reason::{DropReason, PuntKind},
    rewrite, source,
    tables::Tables,
};

/// What happens to the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has been rewritten and leaves through this attachment.
    Transmit(u16),
    /// It goes to the kernel of the edge, untouched.
    Punt(PuntKind),
    /// It goes to the kernel through the control port of this attachment, its tags popped and otherwise untouched.
    PuntVia(PuntKind, u16),
    /// It is BFD of this session's peer: [`crate::bfd::receive`] goes on with it.
    Bfd(u16),
    /// It is from the kernel, by a control port, and leaves through this attachment, its tags pushed and otherwise untouched.
    FromKernel(u16),
    /// It is dropped.
    Drop(DropReason),
}

/// How the verdict came about: what counters, events and `erdp explain` need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    /// The destination to ask for: its bytes as two words in this machine's order, see [`Trail::neighbour_wanted`].
    pub wanted: [u64; 2],
    /// Group of the longest match; 0: none.
    pub group: u32,
    /// Ingress attachment; 0: none.
    pub attachment: u16,
    /// Chosen next hop; 0: none.
    pub next_hop: u16,
    /// With `NeighbourUnresolved` on a connected subnet: the attachment where the destination is to be asked for.
    pub wanted_on: u16,
    /// Set by the caller: the packet is a question, so nothing is charged or counted.
    pub is_question: bool,
}

impl Trail {
    /// The neighbour to ask for, if any.
    #[inline(always)]
    pub fn neighbour_wanted(&self) -> Option<NeighbourWanted> {
        let [first, second] = self.wanted.map(u64::to_ne_bytes);
        let [a, b, c, d, e, f, g, h] = first;
        let [i, j, k, l, m, n, o, p] = second;
        let address = [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p];
        let attachment = u32::from(self.wanted_on);
        (attachment != 0).then_some(NeighbourWanted { address, attachment, _pad: 0 })
    }
}

/// Decides about one frame and rewrites it when it is to be transmitted.
#[inline(always)]
pub fn process<P: Packet, T: Tables>(packet: &mut P, ifindex: u32, tables: &T, trail: &mut Trail) -> Verdict {
    match decide(packet, ifindex, tables, trail) {
        Ok(Verdict::Punt(kind))
            if !trail.is_question && !tables.take_budget(kind as u32, trail.attachment) =>
        {
            Err(DropReason::PuntBudget)
        }
        // Reasons are opaque here and below: each that the verifier knows has it walk what follows a drop once more.
        Ok(Verdict::Punt(kind)) => {
            control::to_kernel(packet, kind, trail.attachment, tables).map_err(black_box)
        }
        other => other,
    }
    .unwrap_or_else(Verdict::Drop)
}

#[inline(always)]
fn decide<P: Packet, T: Tables>(
    packet: &mut P,
    ifindex: u32,
    tables: &T,
    trail: &mut Trail,
) -> Result<Verdict, DropReason> {
    let link = link::parse(packet)?;
    let link = link::without_null_tags(packet, link)?;
    let Some(id) = link::attachment(&link, ifindex, tables) else {
        return control::from_kernel(packet, &link, ifindex, tables).map_err(black_box);
    };
    trail.attachment = id;
    let attachment = tables.attachment(id).ok_or(DropReason::BrokenReference)?;
    if attachment.flags & ATTACHMENT_ENABLED == 0 {
        return Err(DropReason::Disabled);
    }
    if link.ether_type == EtherType::Ipv4 as u16 {
        ip::<V4, P, T>(packet, &link, attachment, tables, trail)
    } else if link.ether_type == EtherType::Ipv6 as u16 {
        ip::<V6, P, T>(packet, &link, attachment, tables, trail)
    } else if link.ether_type == EtherType::Arp as u16 {
        local::arp(packet, link.payload_at, attachment).map(Verdict::Punt)
    } else {
        Err(DropReason::NotIp)
    }
}

#[inline(always)]
fn ip<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    link: &Link,
    attachment: &Attachment,
    tables: &T,
    trail: &mut Trail,
) -> Result<Verdict, DropReason> {
    let mut datagram = F::parse(packet, link.payload_at)?;
    if F::BITS == 128 {
        // Each way through the extension headers would be followed to the end of the program by itself.
        datagram.forget(tables);
    }
    link::cut_trailer(packet, link.payload_at, datagram.len)?;
    let local =
        local::ip::<F, P, T>(packet, link.payload_at, &datagram, trail.attachment, attachment, tables);
    if let Some(ends_here) = local {
        return ends_here;
    }
    if link.to_group {
        return Err(DropReason::NotUnicast); // RFC 1812 section 5.3.4
    }
    if !F::is_forwardable(datagram.source) {
        return Err(DropReason::MartianSource);
    }
    source::check::<F, T>(trail.attachment, attachment, datagram.source, tables)?;
    let next_hop = route::<F, T>(&datagram, attachment, tables, trail)?;
    let is_same_side = (attachment.flags ^ next_hop.flags) & SIDE_BITS == 0;
    if is_same_side && attachment.flags & ATTACHMENT_HAIRPIN == 0 {
        return Err(DropReason::Hairpin);
    }
    if datagram.hop_limit <= 1 {
        return Err(DropReason::TtlExpired);
    }
    if datagram.len > u32::from(next_hop.mtu) {
        return Err(DropReason::TooBig);
    }
    let marking = classify_for(&datagram, attachment, next_hop, tables)?;
    if next_hop.flags & NEXT_HOP_PUBLIC_SOURCES != 0 && !tables.is_public::<F>(datagram.source) {
        return Err(DropReason::UnnattedSource);
    }
    let ecn = police(&datagram, marking.class, [attachment.policer, next_hop.policer], tables, trail)?;
    let marks = (datagram.traffic_class, (marking.dscp << 2) | ecn);
    rewrite::forward::<F, P>(packet, link, next_hop, marks)?;
    Ok(Verdict::Transmit(next_hop.attachment))
}

/// Class and DSCP by the profile of the peering that the packet leaves on or came from. Codes are rewritten towards Microsoft
/// only (rules F): what comes from there is left as it is.
#[inline(always)]
fn classify_for<T: Tables>(
    datagram: &Datagram,
    attachment: &Attachment,
    next_hop: &NextHop,
    tables: &T,
) -> Result<Marking, DropReason> {
    let to_microsoft = next_hop.profile != 0;
    let id = if to_microsoft { next_hop.profile } else { attachment.profile };
    let kept = datagram.traffic_class >> 2;
    if id == 0 {
        return Ok(Marking { class: Class::Default, dscp: kept });
    }
    let profile = tables.profile(id).ok_or(DropReason::BrokenReference)?;
    let marking = classify::classify(datagram, to_microsoft, profile);
    Ok(Marking { class: marking.class, dscp: if to_microsoft { marking.dscp } else { kept } })
}

/// Asks the policers of both ends, 0 being none, and takes from both or neither; the answer is the ECN field to leave with.
#[inline(always)]
fn police<T: Tables>(
    datagram: &Datagram,
    class: Class,
    policers: [u16; 2],
    tables: &T,
    trail: &Trail,
) -> Result<u8, DropReason> {
    let ecn = datagram.traffic_class & ECN_MASK;
    let [inbound, outbound] = policers;
    if trail.is_question {
        let marked = ask(inbound, class, tables)? | ask(outbound, class, tables)?;
        return Ok(if marked && is_ect(ecn) { ECN_CE } else { ecn });
    }
    let inbound = admit(inbound, class, datagram.len, tables)?;
    let outbound = admit(outbound, class, datagram.len, tables)?;
    let mut marked = false;
    if let Some(meter) = inbound {
        marked |= meter.pass(datagram.len, is_ect(ecn));
    }
    if let Some(meter) = outbound {
        marked |= meter.pass(datagram.len, is_ect(ecn));
    }
    Ok(if marked { ECN_CE } else { ecn })
}

/// The meter that covers the packet, by asking the bucket if need be; `None` without a policer.
#[inline(always)]
fn admit<T: Tables>(id: u16, class: Class, len: u32, tables: &T) -> Result<Option<&Meter>, DropReason> {
    if id == 0 {
        return Ok(None);
    }
    let meter = tables.meter(id, class).ok_or(DropReason::BrokenReference)?;
    if !meter.covers(len, tables.tick()) {
        match tables.pay(id, class, len) {
            Payment::Paid => {}
            Payment::Refused => return Err(DropReason::Policed),
            Payment::Broken => return Err(DropReason::BrokenReference),
        }
    }
    Ok(Some(meter))
}

/// What the bucket would say: whether a packet that gets through is to be marked.
#[inline(always)]
fn ask<T: Tables>(id: u16, class: Class, tables: &T) -> Result<bool, DropReason> {
    if id == 0 {
        return Ok(false);
    }
    let policer = tables.policer(id).ok_or(DropReason::BrokenReference)?;
    let bucket = tables.bucket(id).ok_or(DropReason::BrokenReference)?;
    match policer::judge(bucket, policer, class, tables.now(), tables) {
        (Passage::Dropped, _) => Err(DropReason::Policed),
        (passage, _) => Ok(passage == Passage::Marked),
    }
}

/// The ECN field (RFC 3168 section 5).
const ECN_MASK: u8 = 0b11;
/// Congestion experienced.
const ECN_CE: u8 = 0b11;

/// ECT(0) or ECT(1): the transport understands marks.
fn is_ect(ecn: u8) -> bool {
    ecn == 0b10 || ecn == 0b01
}

/// Longest match in the attachment's routing table, then the member of its group that carries this flow.
#[inline(always)]
fn route<'t, F: Family, T: Tables>(
    datagram: &Datagram,
    attachment: &Attachment,
    tables: &'t T,
    trail: &mut Trail,
) -> Result<&'t NextHop, DropReason> {
    trail.group = tables.longest_match::<F>(F::root(attachment), datagram.destination);
    if trail.group == 0 {
        return Err(DropReason::NoRoute);
    }
    let found = tables.group(trail.group).ok_or(DropReason::BrokenReference)?;
    match found.kind {
        GROUP_FORWARD => {
            let hash = group::flow_hash(datagram, tables.hashes_symmetrically());
            let (id, next_hop) = group::pick(hash, trail.group, found, tables)?;
            trail.next_hop = id;
            Ok(next_hop)
        }
        GROUP_GLEAN => {
            if trail.is_question || !tables.take_budget(budget::RESOLVE, trail.attachment) {
                return Err(DropReason::NeighbourUnresolved);
            }
            trail.wanted_on = found.attachment;
            let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = F::key(datagram.destination);
            let first = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
            trail.wanted = [first, u64::from_ne_bytes([i, j, k, l, m, n, o, p])];
            Err(DropReason::NeighbourUnresolved)
        }
        GROUP_DISCARD => Err(DropReason::DiscardRoute),
        GROUP_ENCRYPTED_ONLY => Err(DropReason::EncryptedOnly),
        GROUP_ZONE_FORBIDDEN => Err(DropReason::ZoneForbidden),
        _ => Err(DropReason::BrokenReference),
    }
}
