//! Names of Microsoft's communities (requirement E4), and route filters made of them (requirement D6).
//!
//! The table is data with a date (`data/expressroute-communities.csv`): Microsoft adds regions, and a community that the table does not
//! know is written as two numbers.

use std::sync::OnceLock;

use crate::bgp::Community;

const TABLE: &str = include_str!("../../data/expressroute-communities.csv");

/// Every named community, ordered as in the table.
pub fn named() -> &'static [(Community, &'static str)] {
    static ROWS: OnceLock<Vec<(Community, &str)>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let rows = TABLE.lines().filter(|line| !line.starts_with('#'));
        rows.filter_map(|line| line.split_once(',').and_then(|(value, name)| Some((parse(value)?, name))))
            .collect()
    })
}

/// What a community means; `None`: the table does not know it.
pub fn name(community: Community) -> Option<&'static str> {
    named().iter().find(|(known, _)| *known == community).map(|(_, name)| *name)
}

/// A community with what it means, where that is known (requirement E4).
pub fn described(community: Community) -> String {
    name(community).map_or(community.to_string(), |name| format!("{community} ({name})"))
}

/// A community by its name in the table (case and blanks do not matter) or as two numbers.
pub fn community(text: &str) -> Option<Community> {
    let wanted = plain(text);
    parse(text).or_else(|| named().iter().find(|(_, name)| plain(name) == wanted).map(|(value, _)| *value))
}

/// A name of Microsoft's as names are compared: without case, blanks, hyphens and underscores.
pub fn plain(text: &str) -> String {
    text.to_lowercase().replace([' ', '-', '_'], "")
}

fn parse(text: &str) -> Option<Community> {
    let (asn, value) = text.trim().split_once(':')?;
    Some(Community::new(asn.parse().ok()?, value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e4_every_community_of_the_table_has_one_name_and_is_found_by_it() {
        assert!(named().len() > 270, "{}", named().len());
        for (value, text) in named() {
            assert_eq!(
                (community(text), community(&value.to_string())),
                (Some(*value), Some(*value)),
                "{text}"
            );
            assert_eq!(name(*value), Some(*text));
        }
        let rows = [
            ("West Europe", "12076:51002"),
            ("westeurope storage", "12076:52002"),
            ("exchange-online", "12076:5010"),
            ("West Europe private", "12076:50002"),
            ("65000:1", "65000:1"),
        ];
        for (text, value) in rows {
            assert_eq!(community(text).map(|it| it.to_string()).as_deref(), Some(value), "{text}");
        }
        assert_eq!(
            (community("Atlantis"), community("70000:1"), name(Community::new(1, 1))),
            (None, None, None)
        );
    }
}
