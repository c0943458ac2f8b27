//! Which regions of Azure a circuit reaches: the geopolitical region of each (requirement A6), the clouds that are apart (requirement H2), and
//! the regions that are near a peering location, which is all that a Local circuit reaches.

use crate::{
    bgp::Community,
    rib::communities::{self, plain},
};

/// The day on which the tables were compared with what Microsoft publishes.
pub const AS_OF: &str = "2026-11-21";

/// Geopolitical region, and Azure's regions in it. The last two are national clouds.
pub const GEOPOLITICAL: [(&str, &[&str]); 13] = [
    (
        "North America",
        &[
            "East US",
            "East US 2",
            "West US",
            "West US 2",
            "West US 3",
            "Central US",
            "North Central US",
            "South Central US",
            "West Central US",
            "Canada Central",
            "Canada East",
            "Mexico Central",
        ],
    ),
    ("South America", &["Brazil South", "Brazil Southeast", "Chile Central"]),
    (
        "Europe",
        &[
            "North Europe",
            "West Europe",
            "UK South",
            "UK West",
            "France Central",
            "France South",
            "Germany North",
            "Germany West Central",
            "Norway East",
            "Norway West",
            "Switzerland North",
            "Switzerland West",
            "Sweden Central",
            "Sweden South",
            "Italy North",
            "Poland Central",
            "Spain Central",
        ],
    ),
    ("Asia", &["East Asia", "Southeast Asia", "Malaysia West", "Indonesia Central", "Taiwan North"]),
    ("Japan", &["Japan East", "Japan West"]),
    ("South Korea", &["Korea Central", "Korea South"]),
    (
        // The communities have their words in another order than the portal.
        "India",
        &[
            "Central India",
            "South India",
            "West India",
            "India Central",
            "India South",
            "India West",
            "Jio India Central",
            "Jio India West",
        ],
    ),
    ("Oceania", &["Australia East", "Australia Southeast", "New Zealand North"]),
    ("Australia Government", &["Australia Central", "Australia Central 2"]),
    ("Middle East", &["UAE North", "UAE Central", "Qatar Central", "Israel Central"]),
    ("Africa", &["South Africa North", "South Africa West"]),
    (
        US_GOVERNMENT,
        &[
            "US Gov Virginia",
            "US Gov Arizona",
            "US Gov Texas",
            "US Gov Iowa",
            "US DoD Central",
            "US DoD East",
        ],
    ),
    (CHINA, &["China East", "China East 2", "China East 3", "China North", "China North 2", "China North 3"]),
];

/// The cloud of the government of the United States.
pub const US_GOVERNMENT: &str = "US Government";
/// The cloud that 21Vianet operates.
pub const CHINA: &str = "China";

/// Peering location, as the beginning of its name, and the regions that a Local circuit reaches from there.
pub const NEAR: [(&str, &[&str]); 26] = [
    ("Amsterdam", &["West Europe"]),
    ("Dublin", &["North Europe"]),
    ("London", &["UK South"]),
    ("Newport", &["UK West"]),
    ("Paris", &["France Central"]),
    ("Marseille", &["France South"]),
    ("Frankfurt", &["Germany West Central"]),
    ("Berlin", &["Germany North"]),
    ("Zurich", &["Switzerland North"]),
    ("Geneva", &["Switzerland West"]),
    ("Oslo", &["Norway East"]),
    ("Stavanger", &["Norway West"]),
    ("Milan", &["Italy North"]),
    ("Chicago", &["North Central US"]),
    ("Dallas", &["South Central US"]),
    ("Washington DC", &["East US", "East US 2"]),
    ("Silicon Valley", &["West US"]),
    ("Seattle", &["West US 2"]),
    ("Phoenix", &["West US 3"]),
    ("Toronto", &["Canada Central"]),
    ("Quebec City", &["Canada East"]),
    ("Sydney", &["Australia East"]),
    ("Melbourne", &["Australia Southeast"]),
    ("Singapore", &["Southeast Asia"]),
    ("Hong Kong", &["East Asia"]),
    ("Tokyo", &["Japan East"]),
];

/// The names of the geopolitical regions.
pub fn geopolitical_names() -> Vec<&'static str> {
    GEOPOLITICAL.iter().map(|(name, _)| *name).collect()
}

/// A geopolitical region by its name; case and blanks do not matter.
pub fn geopolitical(text: &str) -> Option<&'static str> {
    GEOPOLITICAL.iter().map(|(name, _)| *name).find(|name| plain(name) == plain(text))
}

/// Microsoft's writing of a region (`westeurope` too); `None`: the table does not know it.
pub fn name(text: &str) -> Option<&'static str> {
    let all = GEOPOLITICAL.iter().flat_map(|(_, regions)| regions.iter());
    all.copied().find(|name| plain(name) == plain(text))
}

/// The geopolitical region in which a region of Azure is; `None`: the table does not know it.
pub fn geopolitical_of(region: &str) -> Option<&'static str> {
    let is_in = |regions: &&[&str]| regions.iter().any(|name| plain(name) == plain(region));
    GEOPOLITICAL.iter().find(|(_, regions)| is_in(regions)).map(|(name, _)| *name)
}

/// Whether a geopolitical region is a cloud of its own, which no public circuit reaches.
pub fn is_national(geopolitical: &str) -> bool {
    [US_GOVERNMENT, CHINA].contains(&geopolitical)
}

/// The regions near a peering location; `None`: the table does not know the location.
pub fn near(location: &str) -> Option<&'static [&'static str]> {
    NEAR.iter().find(|(start, _)| plain(location).starts_with(&plain(start))).map(|(_, regions)| *regions)
}

/// The region of Azure that a community of Microsoft's names; `None`: it names a service, or nothing that is known.
pub fn region_of(community: Community) -> Option<&'static str> {
    let text = communities::name(community)?;
    let services = [" private", " storage", " SQL", " Cosmos DB", " backup"];
    name(services.iter().find_map(|service| text.strip_suffix(service)).unwrap_or(text))
}

/// The geopolitical region that a community of Microsoft's names; `None`: it names a service, or nothing that is known.
pub fn of_community(community: Community) -> Option<&'static str> {
    if communities::name(community)?.contains("(US Gov)") {
        return Some(US_GOVERNMENT);
    }
    geopolitical_of(region_of(community)?)
}

/// Whether a community is of Office 365, which a Standard circuit does not carry (requirement A6).
pub fn is_office(community: Community) -> bool {
    let name = communities::name(community).unwrap_or_default();
    ["Exchange Online", "SharePoint Online", "Skype For Business", "Other Office 365"]
        .iter()
        .any(|it| name.starts_with(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Option<&'static str> {
        of_community(communities::community(name).unwrap())
    }

    #[test]
    fn a6_every_region_of_the_table_of_communities_has_its_geopolitical_region() {
        let services = [
            "private",
            "storage",
            "SQL",
            "Cosmos DB",
            "backup",
            "Online",
            "Global",
            "Entra",
            "Resource",
            "PSTN",
            "Defender",
        ];
        let regions =
            communities::named().iter().filter(|(_, name)| !services.iter().any(|it| name.contains(it)));
        let unknown: Vec<_> = regions.filter(|(value, _)| of_community(*value).is_none()).collect();
        println!("without a geopolitical region: {unknown:?}");
        assert!(unknown.is_empty(), "{unknown:?}");
        assert_eq!((of("West Europe"), of("Japan East private")), (Some("Europe"), Some("Japan")));
        assert_eq!(
            (of("12076:5010"), of("12076:5110"), of("China East 2")),
            (None, Some(US_GOVERNMENT), Some(CHINA))
        );
    }

    #[test]
    fn a6_a_location_and_a_region_are_found_however_they_are_written() {
        assert_eq!(near("Amsterdam2"), Some(&["West Europe"][..]));
        assert_eq!(
            (name("westeurope"), geopolitical_of("east us 2")),
            (Some("West Europe"), Some("North America"))
        );
        for region in ["Central India", "southindia", "West India", "India Central"] {
            assert_eq!(geopolitical_of(region), Some("India"), "{region}");
        }
        assert_eq!(
            (geopolitical_of("Australia East"), geopolitical_of("australiacentral2")),
            (Some("Oceania"), Some("Australia Government"))
        );
        assert_eq!((near("Atlantis"), geopolitical("europe")), (None, Some("Europe")));
        assert!(is_office(communities::community("12076:5030").unwrap()));
        assert!(!is_office(communities::community("West Europe").unwrap()));
    }
}
