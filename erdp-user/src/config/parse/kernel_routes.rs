//! The table `kernel-routes` of an attachment: routes that FRR, BIRD or an operator puts into the kernel, taken where they lead
//! through this attachment.
//!
//! `kernel-routes = {}` takes what routing daemons install in the table `main`.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::Spanned;

use super::super::error::Fault;
use super::super::raw::{NumberOrWord, RawAttachment};
use super::super::values::Why;
use super::super::{CePeer, KernelRoutes};
use super::attachment::local_for;
use super::session::local_pref;
use super::{optional, value};

/// Below BGP's 100, so that what a session of ours says wins, and above the 90 of services.
const DEFAULT_LOCAL_PREF: u32 = 95;
const TABLE_MAIN: u32 = 254;
const TABLE_LOCAL: u32 = 255;

/// Protocols by the names of `/etc/iproute2/rt_protos` (and FRR's file beside it), in the order of their numbers.
const PROTOCOLS: [(&str, u8); 21] = [
    ("ra", 9),
    ("boot", 3),
    ("static", 4),
    ("zebra", 11),
    ("bird", 12),
    ("dhcp", 16),
    ("keepalived", 18),
    ("babel", 42),
    ("openr", 99),
    ("bgp", 186),
    ("isis", 187),
    ("ospf", 188),
    ("rip", 189),
    ("ripng", 190),
    ("nhrp", 191),
    ("eigrp", 192),
    ("ldp", 193),
    ("sharp", 194),
    ("pbr", 195),
    ("frr-static", 196),
    ("openfabric", 197),
];

/// What routing daemons call themselves: FRR's protocols and BIRD.
const DAEMONS: [&str; 15] = [
    "zebra",
    "bird",
    "babel",
    "bgp",
    "isis",
    "ospf",
    "rip",
    "ripng",
    "nhrp",
    "eigrp",
    "ldp",
    "sharp",
    "pbr",
    "frr-static",
    "openfabric",
];

pub(super) fn kernel_routes(
    attachment: &RawAttachment,
    addresses: &[IpNet],
    peers: &[CePeer],
    key: &dyn Fn(&str) -> String,
) -> Result<Option<KernelRoutes>, Fault> {
    let Some(raw) = &attachment.kernel_routes else { return Ok(None) };
    if attachment.r#box.is_some() {
        let reason = "the attachment leads to the other edge box, which tells its routes by BGP";
        return Err(Fault::new(raw.span(), key("kernel-routes"), reason, "remove it, or box"));
    }
    let raw = raw.get_ref();
    let key = |name: &str| key(&format!("kernel-routes.{name}"));
    let table = optional(raw.table.as_ref(), &key("table"), table)?.unwrap_or(TABLE_MAIN);
    let protocols = match &raw.protocols {
        None => DAEMONS.iter().filter_map(|name| number_of(name)).collect(),
        Some(list) => {
            value(list, &key("protocols"), |list| some(list))?;
            let protocols = list.get_ref().iter().map(|it| value(it, &key("protocols"), protocol));
            protocols.collect::<Result<Vec<u8>, Fault>>()?
        }
    };
    let local_pref = optional(raw.local_pref.as_ref(), &key("local-pref"), |number| local_pref(*number))?;
    let mut speakers = Vec::new();
    for speaker in raw.speakers.iter().flat_map(|list| list.get_ref()) {
        speakers.push(value(speaker, &key("speakers"), |text| self::speaker(text, addresses, peers))?);
    }
    Ok(Some(KernelRoutes {
        table,
        protocols,
        local_pref: local_pref.unwrap_or(DEFAULT_LOCAL_PREF),
        speakers,
    }))
}

fn table(raw: &NumberOrWord) -> Result<u32, Why> {
    let remedy = || "use \"main\", \"default\", or the number of another table (1 to 4294967295)".to_owned();
    match raw {
        NumberOrWord::Word(word) if word == "main" => Ok(TABLE_MAIN),
        NumberOrWord::Word(word) if word == "default" => Ok(253),
        NumberOrWord::Word(word) => {
            Err((format!("{word:?} is not a table's name that erdp knows"), remedy()))
        }
        NumberOrWord::Number(number) => match u32::try_from(*number) {
            Ok(TABLE_LOCAL) => {
                Err(("255 is the table of the machine's own addresses".to_owned(), "use \"main\"".to_owned()))
            }
            Ok(number) if number != 0 => Ok(number),
            _ => Err((format!("{number} is not a table's number"), remedy())),
        },
    }
}

fn some(list: &[Spanned<NumberOrWord>]) -> Result<(), Why> {
    if list.is_empty() {
        let remedy = "leave it out for what routing daemons install, or remove kernel-routes".to_owned();
        return Err(("no protocol is listed, so no route would be taken".to_owned(), remedy));
    }
    Ok(())
}

fn number_of(name: &str) -> Option<u8> {
    PROTOCOLS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

fn protocol(raw: &NumberOrWord) -> Result<u8, Why> {
    let names = || PROTOCOLS.map(|(name, _)| name).join(", ");
    match raw {
        NumberOrWord::Word(word) if word == "kernel" => Err((
            "routes of \"kernel\" are the connected subnets, which erdp has from its own configuration"
                .to_owned(),
            format!("use some of: {}", names()),
        )),
        NumberOrWord::Word(word) => number_of(word).ok_or_else(|| {
            (
                format!("{word:?} is not a protocol's name that erdp knows"),
                format!("use some of {}, or a number of /etc/iproute2/rt_protos", names()),
            )
        }),
        NumberOrWord::Number(number) => u8::try_from(*number).ok().filter(|it| *it > 2).ok_or_else(|| {
            (
                format!("{number} is not a protocol's number between 3 and 255"),
                "see /etc/iproute2/rt_protos".to_owned(),
            )
        }),
    }
}

/// A neighbour with which the kernel's own daemon speaks BGP.
fn speaker(text: &str, addresses: &[IpNet], peers: &[CePeer]) -> Result<IpAddr, Why> {
    let address: IpAddr = text.parse().map_err(|_| {
        (
            format!("`{text}` is not an IP address"),
            "write the neighbour's address without a length".to_owned(),
        )
    })?;
    local_for(address, addresses)?;
    if peers.iter().any(|peer| peer.address == address) {
        let reason = format!("{address} is a peer of erdp's own");
        return Err((reason, "let either of the two speak with it".to_owned()));
    }
    Ok(address)
}
