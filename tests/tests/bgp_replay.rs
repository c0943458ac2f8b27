//! Messages that others have sent, read by our decoder and by another one (bgpkit-parser), which knows nothing of ours: what both
//! understand must mean the same. The collected messages are those under `ERDP_DATA`; the committed corpus is read in any case.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    net::IpAddr,
};

use anyhow::{Context as _, Result, ensure};
use bgpkit_parser::models::{
    AsnLength, AttributeValue, Attributes, BgpMessage, BgpUpdateMessage, Community as TheirCommunity,
    MetaCommunity, NetworkPrefix,
};
use bgpkit_parser::parser::bgp::messages::parse_bgp_message;
use bytes::Bytes;
use erdp::bgp::wire::{self, Context, Message};
use erdp::bgp::{AsPathSegment, Family, Origin};
use erdp_tests::hostile::corpus::{Corpus, from_hex, to_hex};
use ipnet::IpNet;

/// What an UPDATE says, whoever reads it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    announced: BTreeSet<(IpNet, Option<IpAddr>)>,
    withdrawn: BTreeSet<IpNet>,
    /// Of what is announced; nothing where nothing is.
    attributes: Option<Shared>,
}

#[derive(Debug, PartialEq, Eq)]
struct Shared {
    origin: u8,
    path: Vec<u32>,
    med: Option<u32>,
    only_to_customer: Option<u32>,
    is_atomic: bool,
    communities: BTreeSet<u32>,
    large: BTreeSet<(u32, u32, u32)>,
}

/// As we read it; `None`: not an UPDATE, or not without a fault.
fn ours(message: &[u8], four_octet_asn: bool, add_path: bool) -> Option<Told> {
    let families = vec![Family::Ipv4Unicast, Family::Ipv6Unicast];
    let add_path = if add_path { families.clone() } else { Vec::new() };
    let context = Context { four_octet_asn, families, add_path, ..Context::default() };
    let Ok(Message::Update(decoded)) = wire::decode(message, &context) else { return None };
    if !decoded.faults.is_empty() {
        return None;
    }
    let mut told = Told::default();
    for update in decoded.updates {
        told.withdrawn.extend(update.withdrawn.iter().map(IpNet::trunc));
        let Some(attributes) = update.attributes else { continue };
        let hop = Some(attributes.next_hop);
        told.announced.extend(update.announced.iter().map(|prefix| (prefix.trunc(), hop)));
        told.attributes = Some(Shared {
            origin: match attributes.origin {
                Origin::Igp => 0,
                Origin::Egp => 1,
                Origin::Incomplete => 2,
            },
            path: attributes.as_path.segments.iter().flat_map(AsPathSegment::asns).map(|asn| asn.0).collect(),
            med: attributes.med,
            only_to_customer: attributes.only_to_customer.map(|asn| asn.0),
            is_atomic: attributes.atomic_aggregate,
            communities: attributes.communities.iter().map(|community| community.0).collect(),
            large: attributes.large_communities.iter().map(|it| (it.0, it.1, it.2)).collect(),
        });
    }
    Some(told)
}

/// As bgpkit-parser reads it, and whether it took the prefixes to have identifiers (RFC 7911): it has no OPEN to know it from, and guesses.
fn theirs(message: &[u8], four_octet_asn: bool) -> Option<(Told, bool)> {
    let length = if four_octet_asn { AsnLength::Bits32 } else { AsnLength::Bits16 };
    let mut bytes = Bytes::copy_from_slice(message);
    match parse_bgp_message(&mut bytes, false, &length) {
        Ok(BgpMessage::Update(update)) => Some((told_by(&update), has_identifiers(&update))),
        _ => None,
    }
}

fn has_identifiers(update: &BgpUpdateMessage) -> bool {
    let multi = update.attributes.iter().flat_map(|attribute| match attribute {
        AttributeValue::MpReachNlri(nlri) | AttributeValue::MpUnreachNlri(nlri) => &nlri.prefixes[..],
        _ => &[],
    });
    let mut all = update.announced_prefixes.iter().chain(&update.withdrawn_prefixes).chain(multi);
    all.any(|prefix| prefix.path_id.is_some())
}

fn told_by(update: &BgpUpdateMessage) -> Told {
    let nets =
        |prefixes: &[NetworkPrefix]| -> Vec<IpNet> { prefixes.iter().map(|it| it.prefix.trunc()).collect() };
    let attributes = &update.attributes;
    let mut told =
        Told { withdrawn: nets(&update.withdrawn_prefixes).into_iter().collect(), ..Told::default() };
    let hop = attributes.next_hop();
    told.announced.extend(nets(&update.announced_prefixes).into_iter().map(|prefix| (prefix, hop)));
    for attribute in attributes {
        match attribute {
            AttributeValue::MpReachNlri(nlri) => {
                let hop = nlri.next_hop.map(|hop| hop.addr());
                told.announced.extend(nets(&nlri.prefixes).into_iter().map(|prefix| (prefix, hop)));
            }
            AttributeValue::MpUnreachNlri(nlri) => told.withdrawn.extend(nets(&nlri.prefixes)),
            _ => {}
        }
    }
    told.attributes = (!told.announced.is_empty()).then(|| shared(attributes));
    told
}

fn shared(attributes: &Attributes) -> Shared {
    let mut shared = Shared {
        origin: attributes.origin() as u8,
        path: attributes.effective_as_path().and_then(|path| path.to_u32_vec_opt(false)).unwrap_or_default(),
        med: attributes.multi_exit_discriminator(),
        only_to_customer: attributes.only_to_customer().map(u32::from),
        is_atomic: attributes.atomic_aggregate(),
        communities: BTreeSet::new(),
        large: BTreeSet::new(),
    };
    for community in attributes.iter_communities() {
        match community {
            MetaCommunity::Plain(plain) => {
                shared.communities.insert(number_of(plain));
            }
            MetaCommunity::Large(it) => {
                shared.large.insert((it.global_admin, it.local_data[0], it.local_data[1]));
            }
            _ => {}
        }
    }
    shared
}

/// A community as it is on the wire (RFC 1997).
fn number_of(community: TheirCommunity) -> u32 {
    match community {
        TheirCommunity::NoExport => 0xFFFF_FF01,
        TheirCommunity::NoAdvertise => 0xFFFF_FF02,
        TheirCommunity::NoExportSubConfed => 0xFFFF_FF03,
        TheirCommunity::Custom(asn, value) => u32::from(asn) << 16 | u32::from(value),
    }
}

/// How many messages were read by whom.
#[derive(Debug, Default)]
struct Count {
    both: usize,
    ours_only: usize,
    theirs_only: usize,
    neither: usize,
}

impl Count {
    fn compare(&mut self, message: &[u8], four_octet_asn: bool) -> Result<()> {
        let theirs = theirs(message, four_octet_asn);
        let add_path = theirs.as_ref().is_some_and(|(_, has_identifiers)| *has_identifiers);
        match (ours(message, four_octet_asn, add_path), theirs) {
            (Some(ours), Some((theirs, _))) => {
                self.both += 1;
                ensure!(
                    ours == theirs,
                    "{}\n  we read     {ours:?}\n  bgpkit reads {theirs:?}",
                    to_hex(message)
                );
            }
            (Some(_), None) => self.ours_only += 1,
            (None, Some(_)) => self.theirs_only += 1,
            (None, None) => self.neither += 1,
        }
        Ok(())
    }
}

#[test]
fn committed_messages_mean_to_us_what_they_mean_to_bgpkit() -> Result<()> {
    let mut count = Count::default();
    for message in Corpus::load("messages")?.inputs {
        if wire::message_length(&message).is_ok_and(|length| length == Some(message.len())) {
            for four_octet_asn in [true, false] {
                count.compare(&message, four_octet_asn)?;
            }
        }
    }
    println!("{count:?}");
    ensure!(count.both > 20, "so few are no test: {count:?}");
    Ok(())
}

#[test]
fn collected_messages_mean_to_us_what_they_mean_to_bgpkit() -> Result<()> {
    let Some(folder) = erdp_tests::edge::data() else { return Ok(()) };
    let path = folder.join("bgp/bgp-messages.tsv.gz");
    let file = std::fs::File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text)?;
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [kind, _, note, hex] = columns[..] else { continue };
        let Some(message) = from_hex(hex) else { continue };
        // Some are of bodies without a header.
        if wire::message_length(&message).is_ok_and(|length| length == Some(message.len())) {
            counts
                .entry(kind.to_owned())
                .or_default()
                .compare(&message, note != "as16")
                .context(line.to_owned())?;
        }
    }
    println!("{counts:#?}");
    let both: usize = counts.values().map(|count| count.both).sum();
    ensure!(both > 8_000, "only {both} messages were read by both");
    Ok(())
}
