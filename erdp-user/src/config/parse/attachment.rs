//! An `[[attachment]]` table and the customer's routers in it.

use std::net::IpAddr;
use std::num::NonZero;

use ipnet::IpNet;
use toml::Spanned;

use super::super::cross::Ledger;
use super::super::error::Fault;
use super::super::plan::DomainId;
use super::super::raw::{RawAttachment, RawPeer};
use super::super::values::{AsnOf, VlanId, Why, asn};
use super::super::{CeAttachment, CePeer};
use super::bfd::bfd;
use super::kernel_routes::kernel_routes;
use super::other_box;
use super::service::service;
use super::session::{CUSTOMERS_ROUTERS, Keys, ROUTERS_OF_A_CIRCUIT, options};
use super::subnet::interface_address;
use super::zone::Zones;
use super::{hold_time, interface_name, optional, secret, tags, value, word};
use crate::bgp::{Asn, Family};
use crate::neighbour::no_host;

pub(super) fn attachment(
    raw: &RawAttachment,
    names: &[String],
    zones: &Zones<'_>,
    ours: Asn,
    ledger: &mut Ledger,
) -> Result<CeAttachment, Fault> {
    let interface = interface_name(&raw.interface, "attachment.interface")?;
    let at = raw.interface.span();
    let key = |suffix: &str| format!("attachment.{interface}.{suffix}");
    let vlan = optional(raw.vlan.as_ref(), &key("vlan"), |number| VlanId::parse(*number))?;
    let s_vlan = optional(raw.s_vlan.as_ref(), &key("s-vlan"), |number| VlanId::parse(*number))?;
    let tags = tags(s_vlan, vlan, &at, &key("vlan"))?;
    ledger.tags(&interface, tags, at.clone(), key("interface"));
    let listed = domain_ids(&raw.peerings, names, &key("peerings"))?;
    let (domains, forbidden) = zones.divide(raw, listed, &key, ledger)?;
    let mut addresses = Vec::new();
    for (raw, name, is_ipv4) in [(&raw.ipv4, "ipv4", true), (&raw.ipv6, "ipv6", false)] {
        let Some(raw) = raw else { continue };
        let net = value(raw, &key(name), |text| interface_address(text, is_ipv4))?;
        ledger.subnet(net.trunc(), raw.span(), key(name));
        addresses.push(net);
    }
    if addresses.is_empty() {
        let reason = "the attachment has no address, so nothing can be routed through it";
        return Err(Fault::new(at, key("ipv4"), reason, "add ipv4, ipv6 or both"));
    }
    let whose = match (&raw.r#box, &raw.service) {
        (Some(_), _) => AsnOf::Ours,
        (None, Some(_)) => AsnOf::Service,
        (None, None) => AsnOf::Customer,
    };
    let policies = policies(raw, &key, ledger)?;
    let mut peers: Vec<CePeer> = Vec::new();
    for table in &raw.peers {
        let mut peer = ce_peer(table.get_ref(), &addresses, (ours, whose), &key("peers"), ledger)?;
        let [policy_in, policy_out] = &policies;
        peer.options.policy_in = peer.options.policy_in.or_else(|| policy_in.clone());
        peer.options.policy_out = peer.options.policy_out.or_else(|| policy_out.clone());
        if peers.iter().any(|earlier| earlier.address == peer.address) {
            let reason = format!("{} is listed twice", peer.address);
            return Err(Fault::new(
                table.get_ref().address.span(),
                key("peers.address"),
                reason,
                "remove one",
            ));
        }
        peers.push(peer);
    }
    let weight = optional(raw.weight.as_ref(), &key("weight"), |number| weight(*number))?
        .unwrap_or(NonZero::<u8>::MIN);
    let service = service(raw, &addresses, &key, ledger)?;
    let other_box = raw.r#box.as_ref().map(|name| name.get_ref().clone());
    let kernel_routes = kernel_routes(raw, &addresses, &peers, &key)?;
    let advertise_connected = advertise_connected(raw, &key)?;
    let compares_circuits =
        !word(raw.between_circuits.as_ref(), &key("between-circuits"), ["listed", "preference"])?;
    Ok(CeAttachment {
        interface,
        tags,
        weight,
        domains,
        forbidden,
        service,
        other_box,
        addresses,
        advertise_connected,
        required: raw.required,
        kernel_routes,
        policy_in: policies[0].clone(),
        compares_circuits,
        peers,
    })
}

/// The policies of all its peers that have none of their own, in and out.
fn policies(
    raw: &RawAttachment,
    key: &dyn Fn(&str) -> String,
    ledger: &mut Ledger,
) -> Result<[Option<String>; 2], Fault> {
    let of_peers =
        raw.peers.iter().map(|table| table.get_ref()).flat_map(|it| [&it.policy_in, &it.policy_out]);
    let mut any = [&raw.policy_in, &raw.policy_out].into_iter().chain(of_peers).flatten();
    if let (Some(_), Some(found)) = (&raw.r#box, any.next()) {
        let reason = "both boxes of a circuit are to decide alike, so what they tell each other is never changed (B1a)";
        let remedy = "attach the policy on both boxes to the peering and to the customer's attachments";
        return Err(Fault::new(found.span(), key("policy-in"), reason, remedy));
    }
    Ok([
        ledger.policy(raw.policy_in.as_ref(), &key("policy-in"), true)?,
        ledger.policy(raw.policy_out.as_ref(), &key("policy-out"), false)?,
    ])
}

/// Hosts are on the customer's wires only: behind the others there is one box that announces what it has itself.
fn advertise_connected(raw: &RawAttachment, key: &dyn Fn(&str) -> String) -> Result<bool, Fault> {
    let Some(advertise) = &raw.advertise_connected else { return Ok(false) };
    let leads_to = match (&raw.service, &raw.r#box) {
        (Some(_), _) => "a service",
        (None, Some(_)) => "the other edge box",
        (None, None) => return Ok(*advertise.get_ref()),
    };
    if *advertise.get_ref() {
        let reason = format!(
            "the attachment leads to {leads_to}, and no hosts of the customer are on its subnet (C2)"
        );
        let remedy = "write it on attachments of the customer only";
        return Err(Fault::new(advertise.span(), key("advertise-connected"), reason, remedy));
    }
    Ok(false)
}

fn weight(number: i64) -> Result<NonZero<u8>, Why> {
    u8::try_from(number).ok().and_then(NonZero::new).ok_or_else(|| {
        let remedy = "use small numbers in the ratio of the links, or leave it out for 1; \
                      to send an attachment nothing, have its peers announce nothing";
        (format!("{number} is not between 1 and 255"), remedy.to_owned())
    })
}

/// The routing domain that `circuit/peering` names.
pub(super) fn domain_id(wanted: &Spanned<String>, names: &[String], key: &str) -> Result<DomainId, Fault> {
    let index = names.iter().position(|name| name == wanted.get_ref());
    index.and_then(|index| u16::try_from(index).ok()).map(DomainId).ok_or_else(|| {
        let reason = format!("there is no peering `{}`", wanted.get_ref());
        Fault::new(wanted.span(), key, reason, format!("use one of: {}", names.join(", ")))
    })
}

fn domain_ids(
    raw: &Spanned<Vec<Spanned<String>>>,
    names: &[String],
    key: &str,
) -> Result<Vec<DomainId>, Fault> {
    let mut ids = Vec::new();
    for wanted in raw.get_ref() {
        let id = domain_id(wanted, names, key)?;
        if ids.contains(&id) {
            let reason = format!("`{}` is listed twice", wanted.get_ref());
            return Err(Fault::new(wanted.span(), key, reason, "remove one"));
        }
        ids.push(id);
    }
    if ids.is_empty() {
        let reason = "the attachment may use no peering, so it would reach nothing";
        return Err(Fault::new(
            raw.span(),
            key,
            reason,
            format!("list at least one of: {}", names.join(", ")),
        ));
    }
    Ok(ids)
}

fn ce_peer(
    raw: &RawPeer,
    addresses: &[IpNet],
    (ours, whose): (Asn, AsnOf),
    key: &str,
    ledger: &mut Ledger,
) -> Result<CePeer, Fault> {
    let key = |suffix: &str| format!("{key}.{suffix}");
    let address = value(&raw.address, &key("address"), |text| {
        text.parse::<IpAddr>().map_err(|_| {
            (format!("`{text}` is not an IP address"), "write the peer's address without a length".to_owned())
        })
    })?;
    let local = value(&raw.address, &key("address"), |_| local_for(address, addresses))?;
    let peer_asn = value(&raw.asn, &key("asn"), |number| asn(*number, whose))?;
    if whose == AsnOf::Ours {
        other_box::peer(raw, peer_asn, ours, &key)?;
    } else if peer_asn == ours {
        let reason = format!("{peer_asn} is our own AS, and customers' routers are external peers");
        return Err(Fault::new(
            raw.asn.span(),
            key("asn"),
            reason,
            "give the router an AS of its own, or write box = NAME on the attachment of the other edge box",
        ));
    }
    // The other edge box passes on what its MSEEs announce.
    let defaults = if whose == AsnOf::Ours { &ROUTERS_OF_A_CIRCUIT } else { &CUSTOMERS_ROUTERS };
    let mut options = options(&session_keys(raw), defaults, &key)?;
    options.policy_in = ledger.policy(raw.policy_in.as_ref(), &key("policy-in"), true)?;
    options.policy_out = ledger.policy(raw.policy_out.as_ref(), &key("policy-out"), false)?;
    Ok(CePeer {
        address,
        local,
        asn: peer_asn,
        hold: hold_time(raw.hold.as_ref(), key("hold"), ledger)?,
        md5: secret([raw.md5.as_ref(), raw.md5_file.as_ref()], &key, ledger)?,
        passive: raw.passive,
        options,
        bfd: bfd(raw.bfd.as_ref(), &key, ledger)?,
        families: families(raw, address, addresses, &key("families"))?,
    })
}

fn session_keys(raw: &RawPeer) -> Keys<'_> {
    Keys {
        gtsm: raw.gtsm,
        restart_time: raw.restart_time.as_ref(),
        role: raw.role.as_ref(),
        strict_role: raw.strict_role,
        add_path: raw.add_path,
        local_pref: raw.local_pref.as_ref(),
        prepend: raw.prepend.as_ref(),
        max_prefixes: raw.max_prefixes.as_ref(),
        max_prefixes_wait: raw.max_prefixes_wait.as_ref(),
        max_memory_mib: raw.max_memory_mib.as_ref(),
        when_too_many: raw.when_too_many.as_ref(),
    }
}

/// Our address in the peer's subnet.
pub(super) fn local_for(peer: IpAddr, addresses: &[IpNet]) -> Result<IpAddr, Why> {
    let subnets = || addresses.iter().map(IpNet::to_string).collect::<Vec<_>>().join(" and ");
    let net = addresses.iter().find(|net| net.contains(&peer)).ok_or_else(|| {
        (format!("{peer} is in none of our subnets here ({})", subnets()), "correct one of them".to_owned())
    })?;
    if net.addr() == peer {
        return Err((format!("{peer} is our own address"), "write the peer's address".to_owned()));
    }
    if let Some(reason) = no_host(peer, [*net]) {
        return Err((format!("{peer} is no host's address on {net}: {reason}"), "write a host's".to_owned()));
    }
    Ok(net.addr())
}

/// The families of a session: those listed, or that of the peer's address.
fn families(raw: &RawPeer, peer: IpAddr, addresses: &[IpNet], key: &str) -> Result<Vec<Family>, Fault> {
    let Some(list) = raw.families.as_ref().filter(|list| !list.get_ref().is_empty()) else {
        return Ok(vec![if peer.is_ipv4() { Family::Ipv4Unicast } else { Family::Ipv6Unicast }]);
    };
    let mut families = Vec::new();
    for word in list.get_ref() {
        let family = value(word, key, |text| match text.as_str() {
            "ipv4" => Ok(Family::Ipv4Unicast),
            "ipv6" => Ok(Family::Ipv6Unicast),
            _ => Err((format!("`{text}` is not a family"), "use \"ipv4\" or \"ipv6\"".to_owned())),
        })?;
        let is_ours = |net: &IpNet| net.addr().is_ipv4() == (family == Family::Ipv4Unicast);
        if !addresses.iter().any(is_ours) {
            let reason =
                format!("we have no {} address here to be the next hop of its routes", word.get_ref());
            let remedy = format!("add {} to the attachment", word.get_ref());
            return Err(Fault::new(word.span(), key, reason, remedy));
        }
        if !families.contains(&family) {
            families.push(family);
        }
    }
    Ok(families)
}
