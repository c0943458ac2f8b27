//! Questions about some routes of a list: which prefixes, from or to whom, with which community. Pure: what a prefix of a table has to be to be meant.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Which routes of the domains are meant: those that everything here says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct RouteQuery {
    /// Which prefixes; none: all.
    pub place: Option<Place>,
    /// One of whose paths is of this peer: its address, or its attachment's name.
    pub peer: Option<String>,
    /// Of this routing domain, or of all of this circuit.
    pub domain: Option<String>,
    /// With this community: two numbers, or its name.
    pub community: Option<String>,
}

/// Which prefixes are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// This one.
    Exactly(IpNet),
    /// This one and all within it.
    Within(IpNet),
    /// The longest one that has this address.
    LongestFor(IpAddr),
}

impl Place {
    /// The prefixes of a table that are meant, in no order. `is_there` says whether the table has a prefix, `all` are those that it has.
    pub fn of<I: Iterator<Item = IpNet>>(
        self,
        is_there: impl Fn(IpNet) -> bool,
        all: impl Fn() -> I,
    ) -> Vec<IpNet> {
        match self {
            Self::Exactly(prefix) => {
                [prefix.trunc()].into_iter().filter(|prefix| is_there(*prefix)).collect()
            }
            Self::Within(prefix) => all().filter(|other| prefix.contains(other)).collect(),
            Self::LongestFor(address) => {
                let longest = IpNet::from(address).prefix_len();
                let prefixes = (0..=longest).rev().filter_map(|length| IpNet::new(address, length).ok());
                prefixes.map(|prefix| prefix.trunc()).find(|prefix| is_there(*prefix)).into_iter().collect()
            }
        }
    }

    /// As an operator writes it: a prefix or an address, and `longer` for all within it. A prefix with host bits is the address's.
    pub fn parse(text: &str, longer: bool) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            let address = address.to_canonical();
            return Ok(if longer { Self::Within(address.into()) } else { Self::LongestFor(address) });
        }
        match text.parse::<IpNet>() {
            Ok(prefix) if longer => Ok(Self::Within(prefix.trunc())),
            Ok(prefix) => Ok(Self::Exactly(prefix.trunc())),
            Err(_) => Err(format!(
                "{text:?} is neither a prefix nor an address: write it like 198.18.64.0/20 or fd00::1"
            )),
        }
    }
}

/// Which paths are meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PathQuery {
    /// Of this peer: its address, or its attachment's name.
    pub peer: String,
    /// Received from it, or advertised to it.
    pub way: Way,
    /// To these prefixes; none: to all.
    pub place: Option<Place>,
}

/// Between a peer and us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// What the peer has announced.
    Received,
    /// What the peer is advertised.
    Advertised,
}

/// The beginning of what is asked, for the log: names may be of any length.
pub(super) fn short(text: &str) -> String {
    const LONGEST: usize = 240;
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_finds_its_longest_match_a_prefix_itself_and_longer_all_within_it() {
        let table =
            ["0.0.0.0/0", "198.18.0.0/15", "198.18.64.0/20", "198.18.64.0/24", "fd00::/8", "fd00:18::/32"]
                .map(net);
        let found = |text: &str, longer| {
            let place = Place::parse(text, longer).unwrap();
            let mut found = place.of(|prefix| table.contains(&prefix), || table.iter().copied());
            found.sort();
            found.iter().map(IpNet::to_string).collect::<Vec<_>>().join(" ")
        };
        for (text, longer, expected) in [
            ("198.18.64.9", false, "198.18.64.0/24"),
            ("198.18.65.9", false, "198.18.64.0/20"),
            ("203.0.113.1", false, "0.0.0.0/0"),
            ("fd00:18::1", false, "fd00:18::/32"),
            ("2001:db8::1", false, ""),
            ("198.18.64.0/20", false, "198.18.64.0/20"),
            ("198.18.64.9/20", false, "198.18.64.0/20"),
            ("198.18.64.0/21", false, ""),
            ("198.18.0.0/15", true, "198.18.0.0/15 198.18.64.0/20 198.18.64.0/24"),
            ("::/0", true, "fd00::/8 fd00:18::/32"),
            ("198.18.64.9", true, ""),
            ("::ffff:198.18.64.9", false, "198.18.64.0/24"),
        ] {
            assert_eq!(found(text, longer), expected, "{text} {longer}");
        }
        assert!(Place::parse("West Europe", false).is_err_and(|why| why.contains("neither a prefix")));
    }
}
