//! The table `inventory` of a circuit: names and dates are checked for what they can be, nothing is required.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::civil::Date;
use toml::Spanned;

use super::super::error::Fault;
use super::super::inventory::{Billing, Inventory, Price, PublicPrefix, ServiceKey, Validation, Vnet};
use super::super::raw::{OneOrMore, RawInventory, RawPublicPrefix, RawVnet};
use super::super::values::Why;
use super::{optional, subnet::prefix, value};
use crate::azure::{gateways, regions};

/// Texts are names that people and Azure give; a longer one is a mistake.
const LONGEST_NAME: usize = 128;

pub(super) fn inventory(
    raw: Option<&Spanned<RawInventory>>,
    key: &dyn Fn(&str) -> String,
) -> Result<Inventory, Fault> {
    let Some(raw) = raw else { return Ok(Inventory::default()) };
    let raw = raw.get_ref();
    let key = |suffix: &str| key(&format!("inventory.{suffix}"));
    Ok(Inventory {
        port: optional(raw.port.as_ref(), &key("port"), |text| name(text))?,
        locations: optional(raw.location.as_ref(), &key("location"), locations)?.unwrap_or_default(),
        geopolitical_region: optional(
            raw.geopolitical_region.as_ref(),
            &key("geopolitical-region"),
            |text| geopolitical(text),
        )?,
        billing: optional(raw.billing.as_ref(), &key("billing"), |text| billing(text))?,
        price_per_gb: optional(raw.price_per_gb.as_ref(), &key("price-per-gb"), |text| price(text))?,
        private_created: optional(raw.private_created.as_ref(), &key("private-created"), |text| date(text))?,
        microsoft_created: optional(raw.microsoft_created.as_ref(), &key("microsoft-created"), |text| {
            date(text)
        })?,
        service_key: optional(raw.service_key.as_ref(), &key("service-key"), service_key)?,
        subscriptions: names(&raw.subscriptions, &key("subscriptions"))?,
        vnets: raw.vnets.iter().map(|raw| vnet(raw, &key)).collect::<Result<_, _>>()?,
        public_prefixes: raw.public_prefixes.iter().map(|raw| public(raw, &key)).collect::<Result<_, _>>()?,
    })
}

fn vnet(raw: &RawVnet, key: &dyn Fn(&str) -> String) -> Result<Vnet, Fault> {
    let key = |suffix: &str| key(&format!("vnets.{suffix}"));
    let prefixes = raw.prefixes.iter().map(|text| value(text, &key("prefixes"), |text| network(text)));
    Ok(Vnet {
        name: value(&raw.name, &key("name"), |text| name(text))?,
        prefixes: prefixes.collect::<Result<_, _>>()?,
        region: optional(raw.region.as_ref(), &key("region"), |text| region(text))?,
        gateway_sku: optional(raw.gateway_sku.as_ref(), &key("gateway-sku"), |text| gateway(text))?,
        gateway_subnet: optional(raw.gateway_subnet.as_ref(), &key("gateway-subnet"), |text| network(text))?,
        vpn_gateway: optional(raw.vpn_gateway.as_ref(), &key("vpn-gateway"), |text| address(text))?,
    })
}

fn public(raw: &RawPublicPrefix, key: &dyn Fn(&str) -> String) -> Result<PublicPrefix, Fault> {
    let key = |suffix: &str| key(&format!("public-prefixes.{suffix}"));
    Ok(PublicPrefix {
        prefix: value(&raw.prefix, &key("prefix"), |text| network(text))?,
        validation: optional(raw.validation.as_ref(), &key("validation"), |text| validation(text))?,
    })
}

fn names(raw: &[Spanned<String>], key: &str) -> Result<Vec<String>, Fault> {
    raw.iter().map(|text| value(text, key, |text| name(text))).collect()
}

fn name(text: &str) -> Result<String, Why> {
    let is_name =
        !text.trim().is_empty() && text.len() <= LONGEST_NAME && !text.chars().any(char::is_control);
    is_name.then(|| text.trim().to_owned()).ok_or_else(|| {
        (
            format!("a text of {} bytes is no name here", text.len()),
            format!("write 1 to {LONGEST_NAME} bytes on one line, or leave it out"),
        )
    })
}

fn locations(given: &OneOrMore) -> Result<Vec<String>, Why> {
    let list = match given {
        OneOrMore::One(one) => vec![name(one)?],
        OneOrMore::More(list) => list.iter().map(|text| name(text)).collect::<Result<_, _>>()?,
    };
    if matches!(list.len(), 1 | 2) {
        return Ok(list);
    }
    Err((
        format!("{} locations for the two links of a circuit", list.len()),
        "write the peering location, or the two of a metro circuit in a list".to_owned(),
    ))
}

fn geopolitical(text: &str) -> Result<&'static str, Why> {
    regions::geopolitical(text).ok_or_else(|| {
        (
            format!("{text:?} is no geopolitical region of ExpressRoute's"),
            format!("use one of: {}", regions::geopolitical_names().join(", ")),
        )
    })
}

/// Azure's regions change often: one that the table does not know is taken as it is.
fn region(text: &str) -> Result<String, Why> {
    name(text).map(|text| regions::name(&text).map_or(text, str::to_owned))
}

fn gateway(text: &str) -> Result<&'static str, Why> {
    gateways::find(text).map(|it| it.name).ok_or_else(|| {
        let names: Vec<&str> = gateways::GATEWAYS.iter().map(|it| it.name).collect();
        (
            format!("{text:?} is no SKU of an ExpressRoute gateway"),
            format!("use one of: {}", names.join(", ")),
        )
    })
}

fn billing(text: &str) -> Result<Billing, Why> {
    match text {
        "metered" => Ok(Billing::Metered),
        "unlimited" => Ok(Billing::Unlimited),
        _ => Err((format!("{text:?} is no billing model"), "use \"metered\" or \"unlimited\"".to_owned())),
    }
}

fn validation(text: &str) -> Result<Validation, Why> {
    Validation::ALL.into_iter().find(|it| it.as_str() == text).ok_or_else(|| {
        let words = Validation::ALL.map(Validation::as_str).join(", ");
        (format!("{text:?} is no validation state"), format!("use what Azure shows: {words}"))
    })
}

fn price(text: &str) -> Result<Price, Why> {
    let refused = || {
        (
            format!("{text:?} is no price of a gigabyte"),
            "write a number with at most six decimals and a currency, such as \"0.025 EUR\"".to_owned(),
        )
    };
    let (number, currency) = text.trim().split_once(' ').ok_or_else(refused)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_code = currency.len() == 3 && currency.bytes().all(|c| c.is_ascii_uppercase());
    let are_digits =
        [whole, fraction].iter().all(|it| !it.is_empty() && it.bytes().all(|c| c.is_ascii_digit()));
    if !is_code || !are_digits || fraction.len() > 6 {
        return Err(refused());
    }
    let whole: u64 = whole.parse().map_err(|_| refused())?;
    let fraction: u64 = format!("{fraction:0<6}").parse().map_err(|_| refused())?;
    let micros =
        whole.checked_mul(1_000_000).and_then(|whole| whole.checked_add(fraction)).ok_or_else(refused)?;
    Ok(Price { micros, currency: currency.to_owned() })
}

fn date(text: &str) -> Result<Date, Why> {
    text.parse().map_err(|_| {
        (format!("{text:?} is no date"), "write year, month and day, such as \"2021-03-15\"".to_owned())
    })
}

fn service_key(key: &ServiceKey) -> Result<ServiceKey, Why> {
    ServiceKey::parse(key.written()).ok_or_else(|| {
        (
            "this is no service key, which is a GUID".to_owned(),
            "copy it from the circuit's overview in the Azure portal".to_owned(),
        )
    })
}

fn network(text: &str) -> Result<IpNet, Why> {
    let net = prefix(text)?;
    if net == net.trunc() {
        return Ok(net);
    }
    Err((format!("{net} has host bits set"), format!("write {}", net.trunc())))
}

fn address(text: &str) -> Result<IpAddr, Why> {
    text.parse()
        .map_err(|_| (format!("{text:?} is not an IP address"), "write it without a length".to_owned()))
}
