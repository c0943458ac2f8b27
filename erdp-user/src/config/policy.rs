//! Named policies for routes (requirements B9, B11): what is done with those that a rule names, on the way in or on the way out.
//!
//! The first rule of a policy that a route matches decides. A route that no rule matches is treated as without a policy. No policy lets
//! in or out what ExpressRoute's own rules refuse: those are asked first.

use std::fmt;

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use crate::bgp::{Asn, Community};

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Policy {
    /// The operator's name for it, unique.
    pub name: String,
    /// Its rules, in their order.
    #[serde(rename = "rule")]
    pub rules: Vec<PolicyRule>,
}

impl Policy {
    /// Whether some rule gives a local preference, which means something on the way in only.
    pub fn prefers(&self) -> bool {
        let prefers =
            |rule: &PolicyRule| matches!(&rule.then, Then::Accept(changes) if changes.local_pref.is_some());
        self.rules.iter().any(prefers)
    }
}

/// A rule: which routes it is about, and what is done with them. A route matches that fulfils every condition that is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PolicyRule {
    /// Its prefix is in one of these ranges; empty: any prefix.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<PrefixRange>,
    /// It has one of these communities; empty: with any, or none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<Community>,
    /// This AS is in its path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_path_contains: Option<Asn>,
    /// This AS is the last of its path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin_as: Option<Asn>,
    /// Its path has at least so many ASes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_path_at_least: Option<usize>,
    /// Where it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<RouteSource>,
    /// What is done with it.
    pub then: Then,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// The route is not used, or not advertised, for this reason.
    Refuse(String),
    /// It is, with these changes.
    Accept(Changes),
}

/// What becomes of an accepted route's attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Changes {
    /// How it ranks, highest first; `None`: as the session's routes do. On the way in only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_pref: Option<u32>,
    /// How often an AS is repeated in its path: on the way in the neighbour's, on the way out ours.
    pub prepend: u8,
    /// Communities that it has from then on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add_communities: Vec<Community>,
    /// Communities that it does not have any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_communities: Vec<Community>,
}

impl Changes {
    /// Whether the attributes are others than before.
    pub fn is_of_attributes(&self) -> bool {
        self.prepend > 0 || !self.add_communities.is_empty() || !self.remove_communities.is_empty()
    }
}

/// Where a route comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteSource {
    /// A BGP session.
    Bgp,
    /// The kernel's routing table.
    Kernel,
    /// A subnet of an attachment of ours.
    Connected,
}

impl RouteSource {
    /// The words for them.
    pub const WORDS: [(&str, RouteSource); 3] =
        [("bgp", RouteSource::Bgp), ("kernel", RouteSource::Kernel), ("connected", RouteSource::Connected)];
}

/// Prefixes within one, of some lengths: `10.0.0.0/8 ge 16 le 24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixRange {
    /// What they are within.
    pub prefix: IpNet,
    /// The shortest.
    pub ge: u8,
    /// The longest.
    pub le: u8,
}

impl PrefixRange {
    /// Whether a prefix is one of them.
    pub fn contains(&self, prefix: &IpNet) -> bool {
        (self.ge..=self.le).contains(&prefix.prefix_len()) && self.prefix.contains(prefix)
    }

    /// As an operator writes it: a prefix alone is itself, `le` and `ge` are bounds of the length.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let prefix: IpNet = words
            .next()
            .and_then(|word| word.parse().ok())
            .ok_or_else(|| format!("{text:?} does not begin with a prefix"))?;
        if prefix.trunc() != prefix {
            return Err(format!("{prefix} has host bits: the prefix is {}", prefix.trunc()));
        }
        let (length, longest) = (prefix.prefix_len(), prefix.max_prefix_len());
        let (mut ge, mut le) = (None, None);
        while let Some(word) = words.next() {
            let bound = match word {
                "ge" => &mut ge,
                "le" => &mut le,
                _ => return Err(format!("{text:?}: `{word}` is neither `ge` nor `le`")),
            };
            let number = words.next().and_then(|number| number.parse::<u8>().ok());
            let number = number.filter(|number| (length..=longest).contains(number));
            let number = number
                .ok_or_else(|| format!("{text:?}: `{word}` needs a length from {length} to {longest}"))?;
            if bound.replace(number).is_some() {
                return Err(format!("{text:?} has `{word}` twice"));
            }
        }
        let (ge, le) = match (ge, le) {
            (None, None) => (length, length),
            (Some(ge), None) => (ge, longest),
            (None, Some(le)) => (length, le),
            (Some(ge), Some(le)) => (ge, le),
        };
        if ge > le {
            return Err(format!("{text:?}: no length is at least {ge} and at most {le}"));
        }
        Ok(Self { prefix, ge, le })
    }
}

impl fmt::Display for PrefixRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.prefix)?;
        if (self.ge, self.le) != (self.prefix.prefix_len(), self.prefix.prefix_len()) {
            write!(f, " ge {} le {}", self.ge, self.le)?;
        }
        Ok(())
    }
}

impl Serialize for PrefixRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_prefixes_has_the_lengths_that_ge_and_le_say_and_a_prefix_alone_is_itself() {
        for (text, within, outside) in [
            ("10.0.0.0/8", "10.0.0.0/8", "10.0.0.0/9"),
            ("10.0.0.0/8 le 24", "10.1.2.0/24", "10.1.2.0/25"),
            ("10.0.0.0/8 ge 24", "10.1.2.128/32", "10.1.0.0/23"),
            ("10.0.0.0/8 ge 16 le 24", "10.1.0.0/16", "10.0.0.0/8"),
            ("0.0.0.0/0 le 32", "203.0.113.0/24", "fd00::/8"),
            ("fd00::/8 le 48", "fd00:1::/32", "fe00::/8"),
        ] {
            let range = PrefixRange::parse(text).unwrap();
            assert!(range.contains(&within.parse().unwrap()), "{text} {within}");
            assert!(!range.contains(&outside.parse().unwrap()), "{text} {outside}");
            assert_eq!(PrefixRange::parse(&range.to_string()), Ok(range), "{range}");
        }
        for (text, word) in [
            ("", "begin with a prefix"),
            ("10.0.0.0", "begin with a prefix"),
            ("10.0.0.1/8", "host bits"),
            ("10.0.0.0/8 le", "needs a length"),
            ("10.0.0.0/8 le 33", "from 8 to 32"),
            ("10.0.0.0/8 ge 7", "from 8 to 32"),
            ("10.0.0.0/8 ge 24 le 16", "no length"),
            ("10.0.0.0/8 le 16 le 17", "twice"),
            ("10.0.0.0/8 up to 16", "neither"),
        ] {
            assert!(PrefixRange::parse(text).is_err_and(|why| why.contains(word)), "{text}");
        }
    }
}
