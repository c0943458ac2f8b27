//! The keys of an attachment that leads to a service (requirements B8, B9), and `[[chain]]` tables.
//!
//! A chain is refused where it could not work or would be passed by: a service that does not reach the chain's end, or a start
//! that uses that peering itself.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::Spanned;

use super::super::cross::Ledger;
use super::super::error::Fault;
use super::super::raw::{RawAttachment, RawChain};
use super::super::values::{Why, plain_name};
use super::super::{CeAttachment, Chain, ChainStart, Service};
use super::{attachment::domain_id, optional, subnet::prefix, value};
use crate::neighbour::no_host;

/// The service behind an attachment; its other keys are refused without `service`.
pub(super) fn service(
    raw: &RawAttachment,
    addresses: &[IpNet],
    key: &dyn Fn(&str) -> String,
    ledger: &mut Ledger,
) -> Result<Option<Service>, Fault> {
    let lists = [(&raw.next_hops, "next-hops"), (&raw.encrypted_only, "encrypted-only")];
    let Some(name) = optional(raw.service.as_ref(), &key("service"), |text| plain_name(text))? else {
        let Some((list, name)) = lists.iter().find_map(|(list, name)| Some((list.as_ref()?, name))) else {
            return Ok(None);
        };
        let reason = "the attachment leads to no service";
        return Err(Fault::new(list.span(), key(name), reason, "add service = \"NAME\", or remove the key"));
    };
    let each = |list: &Option<Spanned<Vec<_>>>| {
        list.iter().flat_map(|list| list.get_ref().clone()).collect::<Vec<_>>()
    };
    let next_hops = each(&raw.next_hops)
        .iter()
        .map(|text| value(text, &key("next-hops"), |text| next_hop(text, addresses)))
        .collect::<Result<_, _>>()?;
    let mut encrypted_only = Vec::new();
    for text in each(&raw.encrypted_only) {
        let net = value(&text, &key("encrypted-only"), |text| guarded(text))?;
        ledger.guarded(net, text.span(), key("encrypted-only"));
        encrypted_only.push(net);
    }
    Ok(Some(Service { name, next_hops, encrypted_only }))
}

fn next_hop(text: &str, addresses: &[IpNet]) -> Result<IpAddr, Why> {
    let remedy = || "write the service's address on the attachment's subnet".to_owned();
    let address: IpAddr = text.parse().map_err(|_| (format!("`{text}` is not an IP address"), remedy()))?;
    if addresses.iter().any(|ours| ours.addr() == address) {
        return Err((format!("{address} is our own address"), remedy()));
    }
    if !addresses.iter().any(|ours| ours.contains(&address)) {
        return Err((format!("{address} is in none of the attachment's subnets"), remedy()));
    }
    if let Some(reason) = no_host(address, addresses.iter().copied()) {
        return Err((format!("{address} is no host's address: {reason}"), remedy()));
    }
    Ok(address)
}

fn guarded(text: &str) -> Result<IpNet, Why> {
    let net = prefix(text)?;
    if net != net.trunc() {
        return Err((format!("{net} has host bits set"), format!("write {}", net.trunc())));
    }
    if net.prefix_len() == 0 {
        let remedy = "name the prefixes behind the tunnel";
        return Err((
            format!("{net} is everything, and nothing could go in clear any more"),
            remedy.to_owned(),
        ));
    }
    Ok(net)
}

/// The chains, and that no two services have one name.
pub(super) fn chains(
    raw: &[Spanned<RawChain>],
    names: &[String],
    attachments: &[CeAttachment],
    tables: &[Spanned<RawAttachment>],
) -> Result<Vec<Chain>, Fault> {
    let services = || tables.iter().filter_map(|table| table.get_ref().service.as_ref());
    for (index, name) in services().enumerate() {
        if services().take(index).any(|earlier| earlier.get_ref() == name.get_ref()) {
            let reason = format!("two services are called `{}`", name.get_ref());
            return Err(Fault::new(name.span(), "attachment.service", reason, "give each its own name"));
        }
    }
    raw.iter().map(|table| chain(table.get_ref(), names, attachments)).collect()
}

fn chain(raw: &RawChain, names: &[String], attachments: &[CeAttachment]) -> Result<Chain, Fault> {
    let to = domain_id(&raw.to, names, "chain.to")?;
    let (via, attachment, service) = via(raw, attachments)?;
    if !attachment.domains.contains(&to) {
        let reason = format!(
            "service `{}` may not use {}, so the chain leads nowhere",
            service.name,
            raw.to.get_ref()
        );
        let remedy = "add it to the service's `peerings` (and to what its zone may use)";
        return Err(Fault::new(raw.to.span(), "chain.to", reason, remedy));
    }
    if service.next_hops.is_empty() {
        let reason = format!("service `{}` has no address to send to", service.name);
        return Err(Fault::new(raw.via.span(), "chain.via", reason, "add next-hops to its attachment"));
    }
    let from = start(raw, names, attachments)?;
    let is_direct = match from {
        ChainStart::Peering(domain) => domain == to,
        ChainStart::Attachment(index) => attachments.get(index).is_some_and(|it| it.domains.contains(&to)),
    };
    if is_direct {
        let reason = format!("{} uses {} itself, past the service", raw.from.get_ref(), raw.to.get_ref());
        let remedy = "take the peering off the attachment's `peerings`, or remove the chain";
        return Err(Fault::new(raw.from.span(), "chain.from", reason, remedy));
    }
    Ok(Chain { from, via, to })
}

fn via<'a>(
    raw: &RawChain,
    attachments: &'a [CeAttachment],
) -> Result<(usize, &'a CeAttachment, &'a Service), Fault> {
    let mut services = attachments
        .iter()
        .enumerate()
        .filter_map(|(index, attachment)| Some((index, attachment, attachment.service.as_ref()?)));
    let there: Vec<&str> = services.clone().map(|(_, _, service)| service.name.as_str()).collect();
    services.find(|(_, _, service)| service.name == *raw.via.get_ref()).ok_or_else(|| {
        let reason = format!("there is no service `{}`", raw.via.get_ref());
        let remedy = match there.as_slice() {
            [] => "give the attachment that leads to it service = \"NAME\"".to_owned(),
            names => format!("use one of: {}", names.join(", ")),
        };
        Fault::new(raw.via.span(), "chain.via", reason, remedy)
    })
}

fn start(raw: &RawChain, names: &[String], attachments: &[CeAttachment]) -> Result<ChainStart, Fault> {
    let text = raw.from.get_ref();
    if text.contains('/') {
        return domain_id(&raw.from, names, "chain.from").map(ChainStart::Peering);
    }
    let customers = || attachments.iter().enumerate().filter(|(_, it)| it.service.is_none());
    let full = |it: &CeAttachment| format!("{}{}", it.interface, it.tags);
    let mut matching = customers().filter(|(_, it)| full(it) == *text || it.interface == *text);
    if let (Some((index, _)), None) = (matching.next(), matching.next()) {
        return Ok(ChainStart::Attachment(index));
    }
    let there: Vec<String> = customers().map(|(_, it)| full(it)).collect();
    let reason = format!("`{text}` does not name one attachment of the customer");
    let remedy = format!("use a peering ({}) or one of: {}", names.join(", "), there.join(", "));
    Err(Fault::new(raw.from.span(), "chain.from", reason, remedy))
}
