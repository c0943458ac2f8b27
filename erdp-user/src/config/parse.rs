//! [`Config`] out of the raw file: one function for each table of the file, top to bottom.
//!
//! The first refusal ends the work; warnings are gathered. Whatever must be compared with other parts of the file is
//! noted in the [`Ledger`] on the way and judged at the end.
//!
//! Here: the file's top and what several tables share; `circuit`, `attachment`, `service` and `zone`: the tables; `policy`: named policies for routes; `bfd`, `inventory`, `kernel_routes`, `session`, `subnet`: parts of tables;
//! `lines`: where each table stands.

mod attachment;
mod bfd;
pub(super) mod circuit;
mod inventory;
mod kernel_routes;
mod lines;
mod other_box;
mod policy;
mod service;
mod session;
mod subnet;
mod zone;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::Range,
    path::Path,
};

use erdp_common::fib::BLOCKS_MAX;
use ipnet::IpNet;
use toml::Spanned;

use super::cross::Ledger;
use super::error::Fault;
use super::plan::LinkRole;
use super::raw::{RawCircuit, RawConfig};
use super::values::{AsnOf, Tags, VlanId, Why, asn, hold};
use super::{CeAttachment, Circuit, Config, Link, PeeringKind};
use crate::bgp::Seconds;
use attachment::attachment;
use circuit::circuit;
pub use lines::lines;
use zone::Zones;

/// What the MSEE uses itself (requirement B4).
const DEFAULT_HOLD: Seconds = Seconds(180);

/// 32 MiB: the tables of a dozen domains, or of one that has the whole Internet's.
const DEFAULT_FIB_BLOCKS: u32 = 32_768;

/// Seconds that adopted routes are kept for peers that do not send all of theirs.
const DEFAULT_RESTART_DEADLINE: Seconds = Seconds(120);

/// Enough to see what a reason is about; a flood of 22 reasons on 16 CPUs then wakes the controller for 2,816 frames a second.
const DEFAULT_DROP_SAMPLES: u32 = 8;

/// Below this a busy control plane loses sessions for nothing (requirement B4).
pub(crate) const HASTY_HOLD: Seconds = Seconds(10);

pub(super) fn config(text: &str, file: &Path) -> Result<(Config, Vec<Fault>), Fault> {
    let raw: RawConfig = toml::from_str(text).map_err(|error| Fault::from_toml(&error, text))?;
    let mut ledger = Ledger::of(file);
    ledger.policies = policy::policies(&raw.policy)?;
    let asn = value(&raw.asn, "asn", |number| asn(*number, AsnOf::Ours))?;
    if raw.circuit.is_empty() {
        return Err(Fault::new(
            0..0,
            "circuit",
            "no circuit is configured, so there is nothing to be an edge of",
            "add a [[circuit]] table",
        ));
    }
    let circuits = raw
        .circuit
        .iter()
        .map(|table| circuit(table.get_ref(), table.span(), asn, &mut ledger))
        .collect::<Result<Vec<_>, _>>()?;
    unique_names(&raw.circuit)?;
    let names = peering_names(&circuits);
    let zones = Zones::read(&raw.zone_rule, &names)?;
    let attachments = raw
        .attachment
        .iter()
        .map(|table| attachment(table.get_ref(), &names, &zones, asn, &mut ledger))
        .collect::<Result<Vec<_>, _>>()?;
    Zones::must_be_used(&raw.zone_rule, &raw.attachment)?;
    other_box::check(&raw.attachment, &attachments, &circuits)?;
    let chains = service::chains(&raw.chain, &names, &attachments, &raw.attachment)?;
    let router_id = router_id(raw.router_id.as_ref(), &circuits, &attachments)?;
    let fib_blocks = match &raw.fib_blocks {
        Some(spanned) => value(spanned, "fib-blocks", |blocks| fib_blocks(*blocks))?,
        None => default_fib_blocks(&circuits, &attachments),
    };
    let drop_samples = optional(raw.drop_samples.as_ref(), "drop-samples", |samples| drop_samples(*samples))?
        .unwrap_or(DEFAULT_DROP_SAMPLES);
    let restart_deadline =
        optional(raw.restart_deadline.as_ref(), "restart-deadline", |seconds| restart_deadline(*seconds))?
            .unwrap_or(DEFAULT_RESTART_DEADLINE);
    let metrics = optional(raw.metrics.as_ref(), "metrics", |text| metrics(text))?;
    if let (Some(address), Some(raw)) = (metrics, &raw.metrics)
        && !address.ip().is_loopback()
    {
        let reason = format!("{address} is not loopback, and whoever reaches it can read the metrics");
        ledger.warn(
            raw.span(),
            "metrics".into(),
            reason,
            "use 127.0.0.1, or make sure that only your monitoring reaches it",
        );
    }
    let control_orders = optional(raw.control_orders.as_ref(), "control-orders", |name| group_name(name))?;
    ledger.policies_are_attached(&raw.policy);
    ledger.check()?;
    let policies = std::mem::take(&mut ledger.policies);
    let (symmetric_hash, require_interfaces) = (raw.symmetric_hash, raw.require_interfaces);
    Ok((
        Config {
            asn,
            router_id,
            fib_blocks,
            symmetric_hash,
            drop_samples,
            restart_deadline,
            metrics,
            require_interfaces,
            control_orders,
            circuits,
            attachments,
            chains,
            policies,
        },
        ledger.warnings,
    ))
}

/// Runs a value's parser and gives its refusal a place and a key.
fn value<T, U>(raw: &Spanned<T>, key: &str, parse: impl FnOnce(&T) -> Result<U, Why>) -> Result<U, Fault> {
    parse(raw.get_ref()).map_err(|(reason, remedy)| Fault::new(raw.span(), key, reason, remedy))
}

/// The same for a value that may be absent.
fn optional<T, U>(
    raw: Option<&Spanned<T>>,
    key: &str,
    parse: impl FnOnce(&T) -> Result<U, Why>,
) -> Result<Option<U>, Fault> {
    raw.map(|raw| value(raw, key, parse)).transpose()
}

/// One of two words; the answer is whether it is the first, which is also what absence means.
fn word(raw: Option<&Spanned<String>>, key: &str, words: [&str; 2]) -> Result<bool, Fault> {
    let parse = |text: &String| match words.iter().position(|word| word == text) {
        Some(at) => Ok(at == 0),
        None => {
            Err((format!("{text:?} is neither {:?} nor {:?}", words[0], words[1]), "use one of them".into()))
        }
    };
    Ok(optional(raw, key, parse)?.unwrap_or(true))
}

/// 4 MiB for each routing table: half a MiB is its two roots, and the rest holds the 10,000 routes of a premium circuit's peering
/// (D1) if each takes more than five lines. A domain has a table, a CE attachment's combination of domains another.
fn default_fib_blocks(circuits: &[Circuit], attachments: &[CeAttachment]) -> u32 {
    let peerings =
        circuits.iter().flat_map(|circuit| circuit.private.iter().chain(&circuit.microsoft)).count();
    let tables = u32::try_from(peerings + attachments.len()).unwrap_or(u32::MAX);
    tables.saturating_mul(4_096).clamp(DEFAULT_FIB_BLOCKS, BLOCKS_MAX)
}

/// Each routing table needs 512 blocks for its two roots.
fn fib_blocks(blocks: i64) -> Result<u32, Why> {
    u32::try_from(blocks).ok().filter(|blocks| (1_024..=BLOCKS_MAX).contains(blocks)).ok_or_else(|| {
        (
            format!("{blocks} is not between 1024 and {BLOCKS_MAX}"),
            "leave it out for 4096 (4 MiB) a routing table, at least 32768".into(),
        )
    })
}

/// More would make the controller busy with what it throws away.
fn restart_deadline(seconds: i64) -> Result<Seconds, Why> {
    u16::try_from(seconds).ok().filter(|seconds| (1..=3_600).contains(seconds)).map(Seconds).ok_or_else(
        || (format!("{seconds} is not between 1 and 3600 seconds"), "leave it out for 120".into()),
    )
}

fn drop_samples(samples: i64) -> Result<u32, Why> {
    u32::try_from(samples).ok().filter(|samples| *samples <= 1_000).ok_or_else(|| {
        (format!("{samples} is not between 0 and 1000"), "leave it out for 8; 0 switches sampling off".into())
    })
}

/// Port 0 would be another one at each start, and nobody would know which.
fn metrics(text: &str) -> Result<SocketAddr, Why> {
    text.parse().ok().filter(|address: &SocketAddr| address.port() != 0).ok_or_else(|| {
        (
            format!("{text:?} is not an address with a port"),
            "write it like \"127.0.0.1:9179\", or leave it out".into(),
        )
    })
}

/// As groupadd(8) takes them; whether there is such a group is the machine's business.
fn group_name(name: &str) -> Result<String, Why> {
    let may_be = |c: char| c.is_ascii_alphanumeric() || "_-.$".contains(c);
    let is_name = !name.is_empty() && name.len() <= 32 && name.chars().all(may_be) && !name.starts_with('-');
    if is_name {
        return Ok(name.to_owned());
    }
    Err((
        format!("{name:?} cannot be the name of a group"),
        "use a group of `getent group`, or leave it out: then whoever may open the control socket may order"
            .into(),
    ))
}

fn unique_names(circuits: &[Spanned<RawCircuit>]) -> Result<(), Fault> {
    for (index, table) in circuits.iter().enumerate() {
        let name = &table.get_ref().name;
        if circuits.iter().take(index).any(|earlier| earlier.get_ref().name.get_ref() == name.get_ref()) {
            let reason = format!("two circuits are called `{}`", name.get_ref());
            return Err(Fault::new(name.span(), "circuit.name", reason, "give each circuit its own name"));
        }
    }
    Ok(())
}

/// Linux allows 1 to 15 bytes without `/` and white space; a longer name could never exist.
fn interface_name(raw: &Spanned<String>, key: &str) -> Result<String, Fault> {
    let name = raw.get_ref();
    if name.is_empty() || name.len() > 15 || name.contains(|c: char| c == '/' || c.is_whitespace()) {
        let reason = format!("`{name}` cannot be the name of a Linux interface");
        return Err(Fault::new(
            raw.span(),
            key,
            reason,
            "use the name that `ip link` shows, of at most 15 bytes",
        ));
    }
    Ok(name.clone())
}

fn tags(s: Option<VlanId>, c: Option<VlanId>, at: &Range<usize>, key: &str) -> Result<Tags, Fault> {
    match (s, c) {
        (None, None) => Ok(Tags::Untagged),
        (None, Some(c)) => Ok(Tags::Single(c)),
        (Some(s), Some(c)) => Ok(Tags::Double { s, c }),
        (Some(s), None) => {
            let reason = format!("there is an S-tag ({}) and no C-tag", s.as_u16());
            Err(Fault::new(
                at.clone(),
                key,
                reason,
                "add vlan, or use vlan instead of s-vlan if there is one tag",
            ))
        }
    }
}

fn hold_time(raw: Option<&Spanned<i64>>, key: String, ledger: &mut Ledger) -> Result<Seconds, Fault> {
    let Some(raw) = raw else { return Ok(DEFAULT_HOLD) };
    let seconds = value(raw, &key, |number| hold(*number))?;
    if seconds < HASTY_HOLD {
        let reason = format!("a hold time of {} s loses sessions whenever either side is busy", seconds.0);
        ledger.warn(raw.span(), key, reason, "use 10 or more");
    }
    Ok(seconds)
}

/// The key of a session: written down in the file, or in a file of its own.
fn secret(
    [inline, file]: [Option<&Spanned<String>>; 2],
    key: &dyn Fn(&str) -> String,
    ledger: &mut Ledger,
) -> Result<Option<String>, Fault> {
    match (inline, file) {
        (Some(_), Some(file)) => {
            let reason = "there are two keys, one here and one in the file";
            Err(Fault::new(file.span(), key("md5-file"), reason, "remove either"))
        }
        (Some(inline), None) => {
            if ledger.is_readable_by_others() {
                let reason = "whoever can read this file knows the key, and everybody can read it";
                let remedy = "chmod 0640 this file, or put the key into a file of its own with md5-file";
                ledger.warn(inline.span(), key("md5"), reason.into(), remedy);
            }
            value(inline, &key("md5"), |text| md5(text)).map(Some)
        }
        (None, Some(file)) => {
            let read = |name: &String| super::secret::read(name, &ledger.file).and_then(|text| md5(&text));
            value(file, &key("md5-file"), read).map(Some)
        }
        (None, None) => Ok(None),
    }
}

/// The kernel takes keys of up to 80 bytes (TCP_MD5SIG_MAXKEYLEN).
fn md5(text: &str) -> Result<String, Why> {
    if text.is_empty() || text.len() > 80 {
        let reason = format!("the key has {} bytes, and TCP MD5 takes 1 to 80", text.len());
        return Err((reason, "use a key of that length, or leave it out".to_owned()));
    }
    Ok(text.to_owned())
}

/// `circuit/peering` for each routing domain, at the index of its identifier.
fn peering_names(circuits: &[Circuit]) -> Vec<String> {
    super::plan::domains_of(circuits)
        .map(|(circuit, kind)| format!("{}/{}", circuit.name, kind.as_str()))
        .collect()
}

fn router_id(
    raw: Option<&Spanned<String>>,
    circuits: &[Circuit],
    attachments: &[CeAttachment],
) -> Result<Ipv4Addr, Fault> {
    if let Some(raw) = raw {
        return value(raw, "router-id", |text| match text.parse::<Ipv4Addr>() {
            Ok(id) if !id.is_unspecified() => Ok(id),
            _ => Err((
                format!("`{text}` is not a BGP identifier (RFC 6286: four octets, not all zero)"),
                "write one of our IPv4 addresses, or leave it out to have the first one taken".to_owned(),
            )),
        });
    }
    let of_links = circuits.iter().flat_map(|circuit| {
        let kinds = PeeringKind::ALL.into_iter().filter_map(|kind| circuit.peering(kind));
        let local =
            LinkRole::ALL.into_iter().filter(|role| matches!(circuit.link(*role), Link::Local { .. }));
        kinds
            .flat_map(move |peering| local.clone().flat_map(|role| peering.addresses(role)))
            .map(|link| link.ours)
    });
    let of_attachments = attachments.iter().flat_map(|ce| ce.addresses.iter().map(IpNet::addr));
    let is_ipv4 = |address| if let IpAddr::V4(address) = address { Some(address) } else { None };
    of_links.chain(of_attachments).find_map(is_ipv4).ok_or_else(|| {
        let reason = "none of our addresses is IPv4, so there is none to be the BGP identifier";
        Fault::new(
            0..0,
            "router-id",
            reason,
            "add router-id = \"A.B.C.D\" at the top, unique among your routers",
        )
    })
}
