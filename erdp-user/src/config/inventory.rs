//! What is bought and set up in Azure for a circuit, as far as its operator has written it down: the table `inventory` of a circuit.
//!
//! Nothing here changes what is forwarded or advertised. `erdp audit` reads it (requirements A5 to A7, B5, D10, H2 to H4), and every value can be
//! changed while the router runs.

use std::fmt;

use ipnet::IpNet;
use jiff::civil::Date;
use serde::{Deserialize, Serialize, Serializer};

use super::shown;

/// The inventory of a circuit; everything may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Inventory {
    /// The pair of Direct ports that the circuit shares with others of the same name (requirement H2).
    pub port: Option<String>,
    /// Where the links meet Microsoft: one peering location, or two of one metro, the primary link's first (requirement H3).
    pub locations: Vec<String>,
    /// Microsoft's geopolitical region of the location, as in [`crate::azure::regions`] (requirement A6).
    pub geopolitical_region: Option<&'static str>,
    /// How the traffic is paid for (requirement A5).
    pub billing: Option<Billing>,
    /// What a gigabyte from Azure to the site costs on a metered circuit.
    pub price_per_gb: Option<Price>,
    /// When private peering was set up last (requirement B5).
    #[serde(serialize_with = "text_if_any")]
    pub private_created: Option<Date>,
    /// When Microsoft peering was set up last.
    #[serde(serialize_with = "text_if_any")]
    pub microsoft_created: Option<Date>,
    /// The key that names the circuit to its provider.
    pub service_key: Option<ServiceKey>,
    /// Subscriptions whose virtual networks use the circuit, its owner's first (requirement A7).
    pub subscriptions: Vec<String>,
    /// Virtual networks that are linked to the circuit (requirements A6, A7, D10).
    pub vnets: Vec<Vnet>,
    /// Prefixes of ours on Microsoft peering, and how far Microsoft has validated them (requirement H4).
    pub public_prefixes: Vec<PublicPrefix>,
}

/// How the traffic of a circuit is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Billing {
    /// By the gigabyte from Azure to the site.
    Metered,
    /// By the month.
    Unlimited,
}

/// An amount of money, exact to a millionth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// Millionths of the currency's unit.
    pub micros: u64,
    /// The currency's code of ISO 4217.
    pub currency: String,
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:06}", self.micros % 1_000_000);
        let fraction = digits.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        write!(f, "{}{point}{fraction} {}", self.micros / 1_000_000, self.currency)
    }
}

impl Serialize for Price {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A circuit's service key. Whoever has it can have the provider change the circuit, so no text of ERDP shows more than its end.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ServiceKey(String);

impl ServiceKey {
    /// How many characters at its end are shown.
    const SHOWN: usize = 4;

    /// Takes a GUID as Azure writes it; `None`: the text is no GUID.
    pub fn parse(text: &str) -> Option<ServiceKey> {
        let groups: Vec<&str> = text.split('-').collect();
        let is_hex = |group: &&str| group.bytes().all(|c| c.is_ascii_hexdigit());
        let is_guid = groups.iter().map(|it| it.len()).eq([8, 4, 4, 4, 12]) && groups.iter().all(is_hex);
        is_guid.then(|| ServiceKey(text.to_ascii_lowercase()))
    }

    /// The text as it was written, for its own check.
    pub(super) fn written(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_key = self.0.len() == 36 && self.0.is_ascii();
        let end = if is_key { &self.0[self.0.len() - Self::SHOWN..] } else { "" };
        write!(f, "(hidden){end}")
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceKey({self})")
    }
}

impl Serialize for ServiceKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A virtual network that is linked to a circuit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Vnet {
    /// Its name, the same in every circuit that it is linked to.
    pub name: String,
    /// Its address space.
    pub prefixes: Vec<IpNet>,
    /// Its region, as Microsoft names it.
    pub region: Option<String>,
    /// The SKU of its ExpressRoute gateway, as in [`crate::azure::gateways`].
    pub gateway_sku: Option<&'static str>,
    /// The subnet of its gateway (requirement B10).
    pub gateway_subnet: Option<IpNet>,
    /// The public address of its VPN gateway, where it has one (requirement B8).
    pub vpn_gateway: Option<std::net::IpAddr>,
}

/// A public prefix of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PublicPrefix {
    /// The prefix.
    pub prefix: IpNet,
    /// What Azure shows for it; `None`: it was not written down.
    pub validation: Option<Validation>,
}

/// How far Microsoft has validated a prefix, in Azure's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Validation {
    /// It is on no list.
    NotConfigured,
    /// Azure works on it.
    Configuring,
    /// It is validated and in use.
    Configured,
    /// Microsoft waits for a proof of ownership, and the session stays down.
    ValidationNeeded,
}

impl Validation {
    /// All of them.
    pub const ALL: [Validation; 4] = [
        Validation::NotConfigured,
        Validation::Configuring,
        Validation::Configured,
        Validation::ValidationNeeded,
    ];

    /// The word for it in the file and in every message.
    pub fn as_str(self) -> &'static str {
        match self {
            Validation::NotConfigured => "not-configured",
            Validation::Configuring => "configuring",
            Validation::Configured => "configured",
            Validation::ValidationNeeded => "validation-needed",
        }
    }
}

fn text_if_any<S: Serializer>(date: &Option<Date>, serializer: S) -> Result<S::Ok, S::Error> {
    match date {
        Some(date) => shown::text_of(date, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_key_is_never_shown_whole() {
        let text = "0f8fad5b-d9cb-469f-a165-70867728950e";
        let key = ServiceKey::parse(text).unwrap();
        for shown in [key.to_string(), format!("{key:?}"), serde_json::to_string(&key).unwrap()] {
            assert!(
                shown.contains("950e") && !shown.contains("0f8fad5b") && !shown.contains("7086772"),
                "{shown}"
            );
        }
        for wrong in
            ["", "0f8fad5b", "0f8fad5b-d9cb-469f-a165-70867728950g", "0f8fad5bd9cb469fa16570867728950e"]
        {
            assert_eq!(ServiceKey::parse(wrong), None, "{wrong}");
        }
        // What is not checked yet is not shown at all.
        assert_eq!(ServiceKey("secret".to_owned()).to_string(), "(hidden)");
    }

    #[test]
    fn a_price_is_exact_and_written_as_people_write_it() {
        let price = |micros| Price { micros, currency: "EUR".into() }.to_string();
        assert_eq!(
            (price(25_000), price(1_000_000), price(1)),
            ("0.025 EUR".into(), "1 EUR".into(), "0.000001 EUR".into())
        );
    }
}
