//! `[[policy]]` tables, and where they are attached.

use toml::Spanned;

use super::{
    super::{
        Changes, Policy, PolicyRule, PrefixRange, RouteSource, Then,
        cross::Ledger,
        error::Fault,
        raw::{RawPolicy, RawPolicyRule},
        values::{Why, plain_name},
    },
    circuit::community,
    optional,
    session::{local_pref, prepend},
    value,
};
use crate::bgp::{Asn, Community};

/// Rules of one policy: each is asked for every route.
const RULES_MAX: usize = 1_000;
/// Prefixes, or communities, of one rule.
const LISTED_MAX: usize = 1_000;
/// Characters of a reason.
const REASON_MAX: usize = 200;
/// The AS of the well-known communities (RFC 1997).
const WELL_KNOWN: u32 = 0xffff;

pub(super) fn policies(raw: &[Spanned<RawPolicy>]) -> Result<Vec<Policy>, Fault> {
    let mut policies: Vec<Policy> = Vec::new();
    for table in raw {
        let raw = table.get_ref();
        let name = value(&raw.name, "policy.name", |text| plain_name(text))?;
        if policies.iter().any(|earlier| earlier.name == name) {
            let reason = format!("two policies are called `{name}`");
            return Err(Fault::new(raw.name.span(), "policy.name", reason, "give each policy its own name"));
        }
        if raw.rule.is_empty() || raw.rule.len() > RULES_MAX {
            let reason = format!("it has {} rules, and a policy has 1 to {RULES_MAX}", raw.rule.len());
            let key = format!("policy.{name}.rule");
            return Err(Fault::new(
                raw.name.span(),
                key,
                reason,
                "write [[policy.rule]] tables below its name",
            ));
        }
        let key = |suffix: &str| format!("policy.{name}.rule.{suffix}");
        let rules = raw.rule.iter().map(|table| rule(table, &key)).collect::<Result<_, _>>()?;
        policies.push(Policy { name, rules });
    }
    Ok(policies)
}

fn rule(table: &Spanned<RawPolicyRule>, key: &dyn Fn(&str) -> String) -> Result<PolicyRule, Fault> {
    let raw = table.get_ref();
    let range = |text: &String| {
        PrefixRange::parse(text)
            .map_err(|why| (why, "write it like \"10.0.0.0/8\" or \"10.0.0.0/8 ge 16 le 24\"".to_owned()))
    };
    let prefixes = listed(raw.prefixes.as_ref(), &key("prefixes"), range)?;
    let communities = listed(raw.communities.as_ref(), &key("communities"), |text| community(text))?;
    let source = optional(raw.source.as_ref(), &key("source"), |text| source(text))?;
    let rule = PolicyRule {
        prefixes,
        communities,
        as_path_contains: optional(raw.as_path_contains.as_ref(), &key("as-path-contains"), |it| asn(*it))?,
        origin_as: optional(raw.origin_as.as_ref(), &key("origin-as"), |it| asn(*it))?,
        as_path_at_least: optional(raw.as_path_at_least.as_ref(), &key("as-path-at-least"), |it| {
            length(*it)
        })?,
        source,
        then: then(table, key)?,
    };
    let needs_path =
        rule.as_path_contains.is_some() || rule.origin_as.is_some() || rule.as_path_at_least.is_some();
    if needs_path && matches!(source, Some(RouteSource::Kernel | RouteSource::Connected)) {
        let reason = "a route that is not of BGP has no AS path, so the rule matches nothing";
        return Err(Fault::new(
            table.span(),
            key("source"),
            reason,
            "leave source out, or the conditions on the path",
        ));
    }
    Ok(rule)
}

fn then(table: &Spanned<RawPolicyRule>, key: &dyn Fn(&str) -> String) -> Result<Then, Fault> {
    let raw = table.get_ref();
    let changes = Changes {
        local_pref: optional(raw.local_pref.as_ref(), &key("local-pref"), |number| local_pref(*number))?,
        prepend: optional(raw.prepend.as_ref(), &key("prepend"), |number| prepend(*number))?.unwrap_or(0),
        add_communities: listed(raw.add_communities.as_ref(), &key("add-communities"), |text| {
            community(text)
        })?,
        remove_communities: listed(raw.remove_communities.as_ref(), &key("remove-communities"), |text| {
            removable(text)
        })?,
    };
    let Some(refuse) = &raw.refuse else { return Ok(Then::Accept(changes)) };
    if changes != Changes::default() {
        let reason = "a route that is refused is not changed";
        return Err(Fault::new(refuse.span(), key("refuse"), reason, "leave out refuse, or the changes"));
    }
    value(refuse, &key("refuse"), |text| reason(text)).map(Then::Refuse)
}

fn listed<T>(
    raw: Option<&Spanned<Vec<Spanned<String>>>>,
    key: &str,
    parse: impl Fn(&String) -> Result<T, Why>,
) -> Result<Vec<T>, Fault> {
    let Some(list) = raw else { return Ok(Vec::new()) };
    if list.get_ref().is_empty() || list.get_ref().len() > LISTED_MAX {
        let reason = format!("the list has {} entries, and may have 1 to {LISTED_MAX}", list.get_ref().len());
        return Err(Fault::new(list.span(), key, reason, "leave the key out where it is not to matter"));
    }
    list.get_ref().iter().map(|text| value(text, key, |text| parse(text))).collect()
}

/// Well-known communities are kept. NO_EXPORT, NO_ADVERTISE and NO_EXPORT_SUBCONFED limit how far a route is advertised (RFC 1997).
/// GRACEFUL_SHUTDOWN marks a link that Microsoft drains (requirement B7).
fn removable(text: &str) -> Result<Community, Why> {
    let found = community(text)?;
    if found.0 >> 16 == WELL_KNOWN {
        let reason =
            format!("{found} is a well-known community, and what it forbids stays forbidden (RFC 1997)");
        return Err((reason, "have it removed where the route comes from".to_owned()));
    }
    Ok(found)
}

fn source(text: &str) -> Result<RouteSource, Why> {
    RouteSource::WORDS.iter().find(|(word, _)| *word == text).map(|(_, source)| *source).ok_or_else(|| {
        let words: Vec<&str> = RouteSource::WORDS.iter().map(|(word, _)| *word).collect();
        (format!("`{text}` is not where routes come from"), format!("use one of: {}", words.join(", ")))
    })
}

/// Any 32-bit number: an AS that cannot be a peer's can still be in a path.
fn asn(number: i64) -> Result<Asn, Why> {
    u32::try_from(number).map(Asn).map_err(|_| {
        (format!("{number} is not a 32-bit AS number"), "write a number such as 65001".to_owned())
    })
}

fn length(number: i64) -> Result<usize, Why> {
    usize::try_from(number).ok().filter(|length| (1..=255).contains(length)).ok_or_else(|| {
        (format!("{number} is not between 1 and 255"), "write how many ASes the path has at least".to_owned())
    })
}

fn reason(text: &str) -> Result<String, Why> {
    let length = text.chars().count();
    if text.trim().is_empty() || length > REASON_MAX || text.chars().any(char::is_control) {
        let reason = format!("{text:?} is no reason of 1 to {REASON_MAX} printable characters");
        return Err((reason, "write what `erdp show refused` is to say".to_owned()));
    }
    Ok(text.to_owned())
}

impl Ledger {
    /// The policy that a key attaches.
    pub(super) fn policy(
        &mut self,
        raw: Option<&Spanned<String>>,
        key: &str,
        is_inbound: bool,
    ) -> Result<Option<String>, Fault> {
        let Some(raw) = raw else { return Ok(None) };
        let name = raw.get_ref();
        let Some(policy) = self.policies.iter().find(|policy| policy.name == *name) else {
            let names: Vec<&str> = self.policies.iter().map(|policy| policy.name.as_str()).collect();
            let remedy = match names.is_empty() {
                true => "add a [[policy]] table with that name".to_owned(),
                false => format!("use one of: {}", names.join(", ")),
            };
            return Err(Fault::new(raw.span(), key, format!("there is no policy `{name}`"), remedy));
        };
        if !is_inbound && policy.prefers() {
            let reason = format!(
                "`{name}` gives a local preference, which is never sent to another AS (RFC 4271 section 5.1.5)"
            );
            return Err(Fault::new(
                raw.span(),
                key,
                reason,
                "use prepend on the way out, or attach it with policy-in",
            ));
        }
        self.attached.insert(name.clone());
        Ok(Some(name.clone()))
    }

    /// A policy that is attached nowhere does nothing.
    pub(super) fn policies_are_attached(&mut self, raw: &[Spanned<RawPolicy>]) {
        for table in raw {
            let name = &table.get_ref().name;
            if !self.attached.contains(name.get_ref()) {
                let reason = format!("`{}` is attached nowhere, so it does nothing", name.get_ref());
                let remedy =
                    "write policy-in or policy-out at a peering, an attachment or a peer, or remove it";
                self.warn(name.span(), "policy.name".into(), reason, remedy);
            }
        }
    }
}
