//! `[[zone-rule]]` tables and the zones of attachments: which peerings may be used from where (requirement C5).
//!
//! Without any rule there are no zones, and an attachment may use every peering that it lists. With one, every attachment is in a
//! zone and every zone has its rule: what nobody has thought of must not be allowed by oversight.

use std::collections::BTreeMap;

use toml::Spanned;

use super::super::cross::Ledger;
use super::super::error::Fault;
use super::super::plan::DomainId;
use super::super::raw::{RawAttachment, RawZoneRule};
use super::super::values::plain_name;
use super::{attachment::domain_id, value};

/// The zones with the peerings that each may use.
pub(super) struct Zones<'a> {
    rules: BTreeMap<String, Vec<DomainId>>,
    names: &'a [String],
}

impl<'a> Zones<'a> {
    /// Reads the rules; `names` are the peerings.
    pub fn read(raw: &[Spanned<RawZoneRule>], names: &'a [String]) -> Result<Self, Fault> {
        let mut rules = BTreeMap::new();
        for table in raw {
            let rule = table.get_ref();
            let zone = value(&rule.zone, "zone-rule.zone", |text| plain_name(text))?;
            let peering = |wanted| domain_id(wanted, names, "zone-rule.peerings");
            let peerings = rule.peerings.iter().map(peering).collect::<Result<_, _>>()?;
            if rules.insert(zone.clone(), peerings).is_some() {
                let reason = format!("there are two rules for zone `{zone}`");
                return Err(Fault::new(rule.zone.span(), "zone-rule.zone", reason, "make one of them"));
            }
        }
        Ok(Self { rules, names })
    }

    /// Splits what an attachment lists into what its zone may use and what it may not.
    pub fn divide(
        &self,
        raw: &RawAttachment,
        listed: Vec<DomainId>,
        key: &dyn Fn(&str) -> String,
        ledger: &mut Ledger,
    ) -> Result<(Vec<DomainId>, Vec<DomainId>), Fault> {
        let Some(zone) = &raw.zone else {
            if self.rules.is_empty() {
                return Ok((listed, Vec::new()));
            }
            let reason = "there are zone rules and the attachment is in no zone";
            return Err(Fault::new(raw.interface.span(), key("zone"), reason, self.remedy()));
        };
        let Some(allowed) = self.rules.get(zone.get_ref()) else {
            let reason = format!("no [[zone-rule]] says what zone `{}` may use", zone.get_ref());
            return Err(Fault::new(zone.span(), key("zone"), reason, self.remedy()));
        };
        let (domains, forbidden): (Vec<_>, Vec<_>) = listed.into_iter().partition(|id| allowed.contains(id));
        let name = |id: &DomainId| self.names.get(usize::from(id.0)).map_or("?", String::as_str);
        let names = forbidden.iter().map(name).collect::<Vec<_>>().join(", ");
        if domains.is_empty() {
            let reason = format!("zone `{}` may use none of the peerings listed here", zone.get_ref());
            let remedy = format!("allow one of them in its [[zone-rule]]: {names}");
            return Err(Fault::new(raw.peerings.span(), key("peerings"), reason, remedy));
        }
        if !forbidden.is_empty() {
            let reason = format!("zone `{}` may not use {names}, which is dropped here", zone.get_ref());
            ledger.warn(
                raw.peerings.span(),
                key("peerings"),
                reason,
                "allow it in the [[zone-rule]], or list it no more",
            );
        }
        Ok((domains, forbidden))
    }

    fn remedy(&self) -> String {
        if self.rules.is_empty() {
            return "add a [[zone-rule]] with `zone` and `peerings`, or remove the zone".to_owned();
        }
        let zones: Vec<&str> = self.rules.keys().map(String::as_str).collect();
        format!("use one of: {}; or add a [[zone-rule]]", zones.join(", "))
    }

    /// A rule for a zone in which nothing is would be a misspelt one.
    pub fn must_be_used(
        raw: &[Spanned<RawZoneRule>],
        attachments: &[Spanned<RawAttachment>],
    ) -> Result<(), Fault> {
        let is_used = |zone: &String| {
            attachments
                .iter()
                .any(|table| table.get_ref().zone.as_ref().is_some_and(|it| it.get_ref() == zone))
        };
        match raw.iter().map(|table| &table.get_ref().zone).find(|zone| !is_used(zone.get_ref())) {
            None => Ok(()),
            Some(zone) => {
                let reason = format!("no attachment is in zone `{}`", zone.get_ref());
                Err(Fault::new(zone.span(), "zone-rule.zone", reason, "correct the name, or remove the rule"))
            }
        }
    }
}
