//! UPDATE into [`Update`]s, and RFC 7606's reactions to what is wrong with one.
//!
//! A fault's reaction is applied here: a discarded attribute is simply absent, and routes treated as withdrawn appear in `withdrawn`,
//! so that nobody downstream can forget it. RFC 4271 section 6.3, RFC 7606, RFC 4760, RFC 2545, RFC 6793, RFC 4724 section 2, RFC 7911.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use codec::attribute::{MpReachNlri, MpUnreachNlri, PathAttribute};
use codec::nlri::{Ipv4NlriEntry, NlriEntry, Prefix};
use codec::update::ParsedUpdate;
use codec::validate::{ErrorDisposition, UpdateValidationOptions, validate_update_attributes_with_context};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustbgpd_wire as codec;

use super::{
    Context, DEFINED_FLAGS, DecodedUpdate, EXTENDED_LENGTH, OPTIONAL, PARTIAL, Reaction, TRANSITIVE,
    WireError, family_from_codec,
};
use crate::bgp::{
    Aggregator, AsPath, AsPathSegment, Asn, Community, Family, LargeCommunity, Notification, Origin, Partial,
    PathAttributes, PathId, RawAttribute, Update,
};

/// Decodes the body of an UPDATE; an error always ends the session.
pub(super) fn decode(raw: &codec::UpdateMessage, context: &Context) -> Result<DecodedUpdate, WireError> {
    let Screened { kept: attributes, mut faults, partial } = screen(&raw.path_attributes, context);
    if attributes.is_empty() && !faults.is_empty() && raw.nlri.is_empty() && raw.withdrawn_routes.is_empty() {
        return Ok(DecodedUpdate { updates: Vec::new(), faults });
    }
    let raw = codec::UpdateMessage { path_attributes: attributes.into(), ..raw.clone() };
    let parsed = raw
        .parse_revised(
            context.four_octet_asn,
            context.internal,
            context.add_path.contains(&Family::Ipv4Unicast),
            &add_path_families(context),
        )
        .map_err(|error| WireError::from_codec(&error))?;
    let mut update = parsed.update;
    if let Some(family) = end_of_rib(&raw, &update, !parsed.malformed.is_empty()) {
        let marker = Update { end_of_rib: Some(family), ..Update::default() };
        let updates = if context.families.contains(&family) { vec![marker] } else { Vec::new() };
        return Ok(DecodedUpdate { updates, faults });
    }
    choose_next_hop(&mut update.attributes);
    faults.extend(parsed.malformed.iter().map(|bad| fault(bad.type_code, bad.disposition, &bad.error)));
    if !faults.iter().any(|fault| fault.reaction == Reaction::TreatAsWithdraw) {
        // Otherwise what it misses is what was just left out.
        faults.extend(validate(&update, context));
    }
    settle(update, context, partial, faults)
}

/// Decides between reset and treat-as-withdraw, then builds the updates.
fn settle(
    update: ParsedUpdate,
    context: &Context,
    partial: Partial,
    faults: Vec<WireError>,
) -> Result<DecodedUpdate, WireError> {
    if let Some(reset) = faults.iter().find(|fault| matches!(fault.reaction, Reaction::Reset(_))) {
        return Err(reset.clone());
    }
    let worst = faults.iter().find(|fault| fault.reaction == Reaction::TreatAsWithdraw);
    let reachable = !update.announced.is_empty() || mp_reach(&update.attributes).is_some();
    let only_unreach = matches!(update.attributes.as_slice(), [PathAttribute::MpUnreachNlri(_)]);
    if let Some(fault) = worst.filter(|_| !reachable && !only_unreach) {
        // RFC 7606 section 5.2: no routes are seen beside a bad attribute, so they may be what was not understood.
        let detail = format!("{fault}, in an UPDATE that names no reachable route");
        return Err(WireError::reset(detail, Notification::new(3, 1)));
    }
    Ok(assemble(update, context, partial, worst.is_some(), faults))
}

/// Attributes as the codec is to see them.
#[derive(Default)]
struct Screened {
    kept: Vec<u8>,
    faults: Vec<WireError>,
    /// Which of them came with the Partial bit.
    partial: Partial,
}

/// Leaves out MP attributes of families that were not agreed on, unread: RFC 4760 section 7 allows to ignore them, and so the
/// codec's decoders of a dozen families are out of a peer's reach. Those of the others get the flags that they should have, where they have
/// not (RFC 7606 section 3 c: that withdraws, where the codec would end the session). The low four bits of all flags are ignored (RFC
/// 4271 section 4.3). Framing faults are left in for the codec to judge.
fn screen(attributes: &[u8], context: &Context) -> Screened {
    let mut screened = Screened { kept: Vec::with_capacity(attributes.len()), ..Screened::default() };
    let mut seen = [false; 256];
    let mut rest = attributes;
    while let [flags, code, tail @ ..] = rest {
        let length = match tail {
            [high, low, ..] if flags & EXTENDED_LENGTH != 0 => {
                4 + usize::from(u16::from_be_bytes([*high, *low]))
            }
            [length, ..] if flags & EXTENDED_LENGTH == 0 => 3 + usize::from(*length),
            _ => break,
        };
        let Some((attribute, after)) = rest.split_at_checked(length) else { break };
        let value = &attribute[if flags & EXTENDED_LENGTH == 0 { 3 } else { 4 }..];
        // Of several the first counts (RFC 7606 section 3 g).
        let is_first = !std::mem::replace(&mut seen[usize::from(*code)], true);
        match (code, value) {
            (14 | 15, [high, low, safi, ..]) if !agreed([*high, *low], *safi, &context.families) => {
                screened.faults.push(ignored((u16::from_be_bytes([*high, *low]), *safi)));
            }
            (14 | 15, [_, _, _, ..]) => {
                screened.faults.extend(wrong_flags(*code, *flags));
                screened.keep(OPTIONAL | flags & EXTENDED_LENGTH, attribute);
            }
            _ => {
                let partial = is_partial(*code, *flags, context).filter(|_| is_first);
                screened.partial = screened.partial.with(partial.unwrap_or_default());
                screened.keep(flags & DEFINED_FLAGS, attribute);
            }
        }
        rest = after;
    }
    screened.kept.extend_from_slice(rest);
    screened
}

impl Screened {
    fn keep(&mut self, flags: u8, attribute: &[u8]) {
        self.kept.push(flags);
        self.kept.extend_from_slice(&attribute[1..]);
    }
}

/// The member of an attribute that we read and that carries the Partial bit. AS4_PATH and AS4_AGGREGATOR say something only where AS
/// numbers have two octets (RFC 6793 section 4.1).
fn is_partial(code: u8, flags: u8, context: &Context) -> Option<Partial> {
    let is_read = !matches!(code, 17 | 18) || !context.four_octet_asn;
    Partial::of_code(code).filter(|_| is_read && flags & PARTIAL != 0)
}

/// An MP attribute is optional and not transitive.
fn wrong_flags(code: u8, flags: u8) -> Option<WireError> {
    let detail = || format!("attribute {code}: its flags {flags:#04x} are not those of an MP attribute");
    let is_wrong = flags & (OPTIONAL | TRANSITIVE) != OPTIONAL;
    is_wrong.then(|| WireError { detail: detail(), reaction: Reaction::TreatAsWithdraw })
}

fn agreed(afi: [u8; 2], safi: u8, families: &[Family]) -> bool {
    match (afi, safi) {
        ([0, 1], 1) => families.contains(&Family::Ipv4Unicast),
        ([0, 2], 1) => families.contains(&Family::Ipv6Unicast),
        _ => false,
    }
}

fn ignored((afi, safi): (u16, u8)) -> WireError {
    let detail =
        format!("routes of AFI {afi} SAFI {safi}, which was not agreed on, are ignored (RFC 4760 section 7)");
    WireError { detail, reaction: Reaction::DisableFamily }
}

/// RFC 4724 section 2: an empty UPDATE for IPv4, an empty MP_UNREACH_NLRI and nothing else for other families.
fn end_of_rib(raw: &codec::UpdateMessage, update: &ParsedUpdate, malformed: bool) -> Option<Family> {
    if malformed || !update.withdrawn.is_empty() || !update.announced.is_empty() {
        return None;
    }
    match update.attributes.as_slice() {
        [] if raw.path_attributes.is_empty() => Some(Family::Ipv4Unicast),
        [PathAttribute::MpUnreachNlri(mp)] if mp.withdrawn.is_empty() => family_from_codec(mp.afi, mp.safi),
        _ => None,
    }
}

/// Of the two next hops that IPv6 may come with, the one that is used: a global address before a link-local one, wherever they stand.
/// RFC 2545 section 3 has the global one first and the link-local one second; speakers are known that fill one of the places with zeros,
/// or with a second global address, which is ignored.
fn choose_next_hop(attributes: &mut [PathAttribute]) {
    for attribute in attributes {
        if let PathAttribute::MpReachNlri(mp) = attribute
            && let (IpAddr::V6(first), Some(second)) = (mp.next_hop, mp.link_local_next_hop)
        {
            let both = [first, second];
            let global = both.into_iter().find(is_global);
            let link_local = both.into_iter().find(Ipv6Addr::is_unicast_link_local);
            mp.next_hop = IpAddr::V6(global.or(link_local).unwrap_or(first));
            mp.link_local_next_hop = None;
        }
    }
}

/// Whether an address can be a next hop beyond its link's own scope.
fn is_global(address: &Ipv6Addr) -> bool {
    let is_special = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    !is_special && !address.is_unicast_link_local() && address.to_ipv4_mapped().is_none()
}

fn validate(update: &ParsedUpdate, context: &Context) -> Option<WireError> {
    let body = !update.announced.is_empty();
    let reachable = body || mp_reach(&update.attributes).is_some();
    let mut options = UpdateValidationOptions::default();
    options.link_local_next_hop = true;
    let error = validate_update_attributes_with_context(
        &update.attributes,
        reachable,
        body,
        !context.internal,
        options,
    )
    .err()?;
    let name = Notification::new(3, error.error.subcode);
    let detail = format!("attribute {}: {}", error.type_code, name.name());
    let notification = Notification { data: error.error.data, ..name };
    Some(WireError { detail, reaction: reaction(error.error.disposition, notification) })
}

fn fault(code: u8, disposition: ErrorDisposition, error: &codec::DecodeError) -> WireError {
    let (main, subcode, data) = error.to_notification();
    let notification = Notification { code: main.as_u8(), subcode, data: data.to_vec() };
    WireError { detail: format!("attribute {code}: {error}"), reaction: reaction(disposition, notification) }
}

fn reaction(disposition: ErrorDisposition, notification: Notification) -> Reaction {
    match disposition {
        ErrorDisposition::AttributeDiscard => Reaction::DiscardAttribute,
        ErrorDisposition::TreatAsWithdraw => Reaction::TreatAsWithdraw,
        ErrorDisposition::SessionReset => Reaction::Reset(notification),
    }
}

fn mp_reach(attributes: &[PathAttribute]) -> Option<&MpReachNlri> {
    attributes.iter().find_map(|attribute| match attribute {
        PathAttribute::MpReachNlri(mp) => Some(&**mp),
        _ => None,
    })
}

fn mp_unreach(attributes: &[PathAttribute]) -> Option<&MpUnreachNlri> {
    attributes.iter().find_map(|attribute| match attribute {
        PathAttribute::MpUnreachNlri(mp) => Some(&**mp),
        _ => None,
    })
}

/// Puts the routes of both families together, each with its own next hop.
fn assemble(
    update: ParsedUpdate,
    context: &Context,
    partial: Partial,
    withdrawing: bool,
    mut faults: Vec<WireError>,
) -> DecodedUpdate {
    let mut shared = shared_attributes(&update.attributes, context.internal);
    shared.partial = partial;
    shared.settle_partial();
    let body_hop = update.attributes.iter().find_map(|attribute| match attribute {
        PathAttribute::NextHop(address) => Some(IpAddr::V4(*address)),
        _ => None,
    });
    let mut classic = Reach { next_hop: body_hop, ..Reach::default() };
    classic.withdraw(update.withdrawn.iter().filter_map(from_ipv4_entry), context);
    classic.announce(update.announced.iter().filter_map(from_ipv4_entry), context);
    let mut multi = Reach::default();
    if let Some(mp) = mp_unreach(&update.attributes) {
        multi.withdraw(mp.withdrawn.iter().filter_map(from_entry), context);
    }
    if let Some(mp) = mp_reach(&update.attributes) {
        multi.next_hop = Some(mp.next_hop);
        multi.announce(mp.announced.iter().filter_map(from_entry), context);
    }
    let mut updates = Vec::new();
    for reach in [classic, multi] {
        updates.extend(reach.into_updates(&shared, context, withdrawing, &mut faults));
    }
    DecodedUpdate { updates, faults }
}

/// The families in which prefixes come with identifiers, as the codec names them (RFC 7911 section 3).
fn add_path_families(context: &Context) -> Vec<(codec::Afi, codec::Safi)> {
    context.add_path.iter().map(|family| (super::afi(*family), codec::Safi::Unicast)).collect()
}

/// The routes of one half of a message, the classic fields or the MP attributes.
#[derive(Default)]
struct Reach {
    /// By identifier; without any, all are one.
    paths: BTreeMap<Option<PathId>, Routes>,
    next_hop: Option<IpAddr>,
    foreign: bool,
}

#[derive(Default)]
struct Routes {
    withdrawn: Vec<IpNet>,
    announced: Vec<IpNet>,
}

impl Reach {
    fn withdraw(&mut self, entries: impl Iterator<Item = (u32, IpNet)>, context: &Context) {
        self.sort(entries, context, |routes| &mut routes.withdrawn);
    }

    fn announce(&mut self, entries: impl Iterator<Item = (u32, IpNet)>, context: &Context) {
        self.sort(entries, context, |routes| &mut routes.announced);
    }

    /// Both fields of a half are of one family.
    fn sort(
        &mut self,
        entries: impl Iterator<Item = (u32, IpNet)>,
        context: &Context,
        list: fn(&mut Routes) -> &mut Vec<IpNet>,
    ) {
        let mut entries = entries.peekable();
        let Some(family) = entries.peek().map(|(_, prefix)| Family::of(prefix)) else { return };
        if !context.families.contains(&family) {
            self.foreign = true;
        } else if context.add_path.contains(&family) {
            for (id, prefix) in entries {
                list(self.paths.entry(Some(PathId(id))).or_default()).push(prefix);
            }
        } else {
            list(self.paths.entry(None).or_default()).extend(entries.map(|(_, prefix)| prefix));
        }
    }

    fn into_updates(
        self,
        shared: &PathAttributes,
        context: &Context,
        withdrawing: bool,
        faults: &mut Vec<WireError>,
    ) -> Vec<Update> {
        if self.foreign {
            let detail =
                "routes of a family that was not agreed on are ignored (RFC 4760 section 7)".to_owned();
            faults.push(WireError { detail, reaction: Reaction::DisableFamily });
        }
        let first = self.paths.values().find_map(|routes| routes.announced.first());
        let attributes =
            match first.filter(|_| !withdrawing).map(|first| self.usable_next_hop(first, context)) {
                Some(Ok(next_hop)) => Some(Arc::new(PathAttributes { next_hop, ..shared.clone() })),
                Some(Err(detail)) => {
                    faults.push(WireError { detail, reaction: Reaction::TreatAsWithdraw });
                    None
                }
                None => None,
            };
        let update = |(path, routes): (Option<PathId>, Routes)| {
            let Routes { mut withdrawn, mut announced } = routes;
            if attributes.is_none() {
                withdrawn.append(&mut announced);
            }
            let attributes = attributes.clone().filter(|_| !announced.is_empty());
            Update { withdrawn, announced, attributes, path, ..Update::default() }
        };
        self.paths.into_iter().map(update).collect()
    }

    /// The next hop, if packets could be sent there at all.
    fn usable_next_hop(&self, first: &IpNet, context: &Context) -> Result<IpAddr, String> {
        let next_hop = self.next_hop.ok_or("routes without a next hop")?;
        if context.own.contains(&next_hop) {
            return Err(format!("next hop {next_hop} is our own address (RFC 4271 section 6.3)"));
        }
        if let IpAddr::V6(address) = next_hop
            && address.to_ipv4_mapped().is_some()
        {
            return Err(format!("next hop {address} is no IPv6 address: give the peer's interface one"));
        }
        if first.addr().is_ipv4() != next_hop.is_ipv4() {
            return Err(format!(
                "{first} has next hop {next_hop} of the other family (RFC 8950 was not offered)"
            ));
        }
        Ok(next_hop)
    }
}

/// The identifier, which means nothing unless that was agreed on, and the prefix.
fn from_ipv4_entry(entry: &Ipv4NlriEntry) -> Option<(u32, IpNet)> {
    let prefix = Ipv4Net::new(entry.prefix.addr, entry.prefix.len).ok()?;
    Some((entry.path_id, IpNet::V4(prefix)))
}

fn from_entry(entry: &NlriEntry) -> Option<(u32, IpNet)> {
    let prefix = match entry.prefix {
        Prefix::V4(prefix) => Ipv4Net::new(prefix.addr, prefix.len).ok().map(IpNet::V4),
        Prefix::V6(prefix) => Ipv6Net::new(prefix.addr, prefix.len).ok().map(IpNet::V6),
    };
    Some((entry.path_id, prefix?))
}

/// What both halves share; the next hop is filled in by each.
fn shared_attributes(attributes: &[PathAttribute], internal: bool) -> PathAttributes {
    let mut shared = PathAttributes::originated(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let mut unread = Vec::new();
    for attribute in attributes {
        match attribute {
            PathAttribute::Origin(origin) => shared.origin = from_origin(*origin),
            PathAttribute::AsPath(path) => shared.as_path = from_as_path(path),
            PathAttribute::Med(med) => shared.med = Some(*med),
            // RFC 4271 section 5.1.5: from an external peer it is ignored.
            PathAttribute::LocalPref(preference) => shared.local_pref = internal.then_some(*preference),
            PathAttribute::AtomicAggregate => shared.atomic_aggregate = true,
            PathAttribute::Aggregator(aggregator) => {
                let codec::attribute::Aggregator { asn, router_id, .. } = *aggregator;
                shared.aggregator = Some(Aggregator { asn: Asn(asn), router_id });
            }
            PathAttribute::Communities(values) | PathAttribute::CommunitiesPartial(values) => {
                shared.communities = values.iter().copied().map(Community).collect();
            }
            PathAttribute::ExtendedCommunities(values)
            | PathAttribute::ExtendedCommunitiesPartial(values) => {
                shared.extended_communities = values.iter().map(|value| value.as_u64()).collect();
            }
            PathAttribute::LargeCommunities(values) | PathAttribute::LargeCommunitiesPartial(values) => {
                shared.large_communities = values.iter().map(from_large).collect();
            }
            PathAttribute::OnlyToCustomer(asn) | PathAttribute::OnlyToCustomerPartial(asn) => {
                shared.only_to_customer = Some(Asn(*asn));
            }
            PathAttribute::NextHop(_) | PathAttribute::MpReachNlri(_) | PathAttribute::MpUnreachNlri(_) => {}
            other => unread.extend(carried(other)),
        }
    }
    shared.unknown_transitive = unread.into();
    shared
}

fn from_origin(origin: codec::attribute::Origin) -> Origin {
    match origin {
        codec::attribute::Origin::Igp => Origin::Igp,
        codec::attribute::Origin::Egp => Origin::Egp,
        codec::attribute::Origin::Incomplete => Origin::Incomplete,
    }
}

fn from_as_path(path: &codec::attribute::AsPath) -> AsPath {
    let asns = |numbers: &[u32]| numbers.iter().copied().map(Asn).collect();
    let segments = path.segments.iter().map(|segment| match segment {
        codec::attribute::AsPathSegment::AsSequence(numbers) => AsPathSegment::Sequence(asns(numbers)),
        codec::attribute::AsPathSegment::AsSet(numbers) => AsPathSegment::Set(asns(numbers)),
    });
    AsPath { segments: segments.collect() }
}

fn from_large(value: &codec::attribute::LargeCommunity) -> LargeCommunity {
    LargeCommunity(value.global_admin, value.local_data1, value.local_data2)
}

/// An attribute we do not read, if it is one to pass on: optional and transitive (RFC 4271 section 5).
fn carried(attribute: &PathAttribute) -> Option<RawAttribute> {
    let mut bytes = Vec::new();
    codec::attribute::encode_path_attributes(std::slice::from_ref(attribute), &mut bytes, true, false)
        .ok()?;
    let (&[flags, code], rest) = bytes.split_first_chunk::<2>()?;
    let length_bytes = if flags & EXTENDED_LENGTH == 0 { 1 } else { 2 };
    let value = rest.get(length_bytes..)?.to_vec();
    let is_optional_transitive = flags & (OPTIONAL | TRANSITIVE) == OPTIONAL | TRANSITIVE;
    is_optional_transitive.then_some(RawAttribute { flags: OPTIONAL | TRANSITIVE | PARTIAL, code, value })
}
