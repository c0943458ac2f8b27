//! What BGP says about a route: the path attributes, and the update that carries them.
//!
//! These are the types that the RIB computes with. They are independent of any codec (`wire` converts), are compared and
//! hashed as values, and are shared by `Arc`, because one UPDATE names hundreds of prefixes that have them in common.
//!
//! RFC 4271 section 5 (attributes), RFC 1997 and 8092 (communities), RFC 4360 (extended communities), RFC 6793 (four-octet
//! AS numbers), RFC 5065 (confederation segments do not count), RFC 9774 (sets are deprecated).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Ballast, Family};

/// An autonomous system number, always in its four-octet form (RFC 6793).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Asn(pub u32);

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AS{}", self.0)
    }
}

/// Where the origin of a route said it had it from (RFC 4271 section 5.1.1); the order is that of preference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Interior to the originating AS; the most preferred.
    #[default]
    Igp,
    /// Learned by the historic EGP protocol.
    Egp,
    /// By some other means, usually redistribution.
    Incomplete,
}

/// One segment of an AS_PATH.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AsPathSegment {
    /// AS numbers in the order of the path, the neighbour's first.
    Sequence(Vec<Asn>),
    /// An unordered set left by aggregation. Received ones are withdrawn (RFC 9774), none is ever sent.
    Set(Vec<Asn>),
    /// Members of a confederation (RFC 5065): not counted in the length.
    ConfedSequence(Vec<Asn>),
    /// Unordered members of a confederation: not counted in the length.
    ConfedSet(Vec<Asn>),
}

impl AsPathSegment {
    /// The AS numbers, in the order of the wire.
    pub fn asns(&self) -> &[Asn] {
        match self {
            Self::Sequence(asns) | Self::Set(asns) | Self::ConfedSequence(asns) | Self::ConfedSet(asns) => {
                asns
            }
        }
    }
}

/// The AS_PATH: the autonomous systems a route has crossed, the nearest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AsPath {
    /// The segments in wire order.
    pub segments: Vec<AsPathSegment>,
}

impl AsPath {
    /// A path of one sequence; an empty list of numbers is the empty path.
    pub fn sequence(asns: impl IntoIterator<Item = u32>) -> Self {
        let asns: Vec<Asn> = asns.into_iter().map(Asn).collect();
        Self { segments: if asns.is_empty() { Vec::new() } else { vec![AsPathSegment::Sequence(asns)] } }
    }

    /// The length the decision process compares: a set counts one (RFC 4271 section 9.1.2.2 a), confederation segments
    /// nothing (RFC 5065 section 5.3).
    pub fn len(&self) -> usize {
        self.segments
            .iter()
            .map(|segment| match segment {
                AsPathSegment::Sequence(asns) => asns.len(),
                AsPathSegment::Set(_) => 1,
                AsPathSegment::ConfedSequence(_) | AsPathSegment::ConfedSet(_) => 0,
            })
            .sum()
    }

    /// True for a path that was originated by a peer in our own AS.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether the path has crossed `asn`: the loop check of RFC 4271 section 9.1.2.
    pub fn contains(&self, asn: Asn) -> bool {
        self.asns().any(|member| member == asn)
    }

    /// All AS numbers in wire order, repetitions included.
    pub fn asns(&self) -> impl Iterator<Item = Asn> + '_ {
        self.segments.iter().flat_map(|segment| segment.asns().iter().copied())
    }

    /// The neighbour's AS: the first number of a leading sequence.
    pub fn first(&self) -> Option<Asn> {
        match self.segments.first() {
            Some(AsPathSegment::Sequence(asns)) => asns.first().copied(),
            _ => None,
        }
    }

    /// The AS that originated the route: the last number, unless a set hides it.
    pub fn origin(&self) -> Option<Asn> {
        match self.segments.last() {
            Some(AsPathSegment::Sequence(asns)) => asns.last().copied(),
            _ => None,
        }
    }

    /// The path with `asn` in front (RFC 4271 section 5.1.2); a full or foreign first segment gets a new one before it.
    #[must_use]
    pub fn prepended(&self, asn: Asn) -> Self {
        let mut segments = self.segments.clone();
        match segments.first_mut() {
            Some(AsPathSegment::Sequence(asns)) if asns.len() < usize::from(u8::MAX) => asns.insert(0, asn),
            _ => segments.insert(0, AsPathSegment::Sequence(vec![asn])),
        }
        Self { segments }
    }
}

impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for segment in &self.segments {
            let (open, close, between) = match segment {
                AsPathSegment::Sequence(_) => ("", "", " "),
                AsPathSegment::Set(_) => ("{", "}", ","),
                AsPathSegment::ConfedSequence(_) => ("(", ")", " "),
                AsPathSegment::ConfedSet(_) => ("[", "]", ","),
            };
            let numbers: Vec<String> = segment.asns().iter().map(|asn| asn.0.to_string()).collect();
            write!(f, "{}{open}{}{close}", if first { "" } else { " " }, numbers.join(between))?;
            first = false;
        }
        Ok(())
    }
}

/// A community of RFC 1997: the AS number in the upper half, its value in the lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Community(pub u32);

impl Community {
    /// The community `asn:value`.
    pub const fn new(asn: u16, value: u16) -> Self {
        Self((asn as u32) << 16 | value as u32)
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff)
    }
}

/// A large community of RFC 8092: the AS whose meaning it is, and the two parts of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LargeCommunity(pub u32, pub u32, pub u32);

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.0, self.1, self.2)
    }
}

/// AGGREGATOR: who formed an aggregate (RFC 4271 section 5.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Aggregator {
    /// The aggregating AS.
    pub asn: Asn,
    /// The aggregating speaker's BGP identifier.
    pub router_id: Ipv4Addr,
}

/// An optional transitive attribute ERDP does not interpret but must pass on (RFC 4271 section 5).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RawAttribute {
    /// Optional, transitive and partial, and no other bit of the flags octet: Partial is set, because we do not know the attribute.
    pub flags: u8,
    /// The attribute's type code.
    pub code: u8,
    /// The value.
    pub value: Vec<u8>,
}

impl RawAttribute {
    /// Whether attributes of a type code are read, and so never are raw ones: those of RFC 4271, 4760, 4360, 6793, 8092 and 9234, and
    /// COMMUNITIES.
    pub fn is_read(code: u8) -> bool {
        matches!(code, 1..=8 | 14..=18 | 32 | 35)
    }
}

/// Which of the optional transitive attributes that ERDP reads carry the Partial bit: somebody on the way did not know the attribute,
/// or has added it without being the originator. Nobody may take the bit away (RFC 4271 section 5). A set in one octet, because a full
/// table has hundreds of thousands of sets of attributes; a member is there only if its attribute is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partial(u8);

impl Partial {
    /// AGGREGATOR, and AS4_AGGREGATOR, which says the same.
    pub const AGGREGATOR: Self = Self(1);
    /// COMMUNITIES.
    pub const COMMUNITIES: Self = Self(1 << 1);
    /// EXTENDED_COMMUNITIES.
    pub const EXTENDED_COMMUNITIES: Self = Self(1 << 2);
    /// LARGE_COMMUNITIES.
    pub const LARGE_COMMUNITIES: Self = Self(1 << 3);
    /// ONLY_TO_CUSTOMER.
    pub const ONLY_TO_CUSTOMER: Self = Self(1 << 4);
    /// AS4_PATH, which only peers without four-octet AS numbers send and are sent.
    pub const AS4_PATH: Self = Self(1 << 5);

    /// The member for an attribute of this type code, if there is one.
    pub fn of_code(code: u8) -> Option<Self> {
        match code {
            7 | 18 => Some(Self::AGGREGATOR),
            8 => Some(Self::COMMUNITIES),
            16 => Some(Self::EXTENDED_COMMUNITIES),
            17 => Some(Self::AS4_PATH),
            32 => Some(Self::LARGE_COMMUNITIES),
            35 => Some(Self::ONLY_TO_CUSTOMER),
            _ => None,
        }
    }

    /// Whether nothing carries the bit.
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` carry it.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Without `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// Everything a set of prefixes shares. Compared as a value: equal attributes mean routes may travel in one UPDATE.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PathAttributes {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH, already merged with AS4_PATH (RFC 6793 section 4.2.3).
    pub as_path: AsPath,
    /// Where to send packets: NEXT_HOP, or the global address of MP_REACH_NLRI (link-local where it has only that).
    pub next_hop: IpAddr,
    /// MULTI_EXIT_DISC; lower is better, absent counts as 0.
    pub med: Option<u32>,
    /// LOCAL_PREF; ignored on receipt from, and never sent to, an external peer (RFC 4271 section 5.1.5).
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// Which attributes carry the Partial bit; those of [`Self::unknown_transitive`] have theirs in their flags.
    #[serde(default, skip_serializing_if = "Partial::is_empty")]
    pub partial: Partial,
    /// AGGREGATOR.
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES, in wire order.
    pub communities: Vec<Community>,
    /// EXTENDED_COMMUNITIES as 64-bit values, in wire order; only carried on. Boxed, like others that most routes have none of: a full
    /// table has hundreds of thousands of sets.
    pub extended_communities: Box<[u64]>,
    /// LARGE_COMMUNITIES, in wire order.
    pub large_communities: Box<[LargeCommunity]>,
    /// ONLY_TO_CUSTOMER (RFC 9234): who marked the route as one that must not go up or sideways any more.
    pub only_to_customer: Option<Asn>,
    /// What is passed on unread.
    pub unknown_transitive: Box<[RawAttribute]>,
}

impl PathAttributes {
    /// The attributes of a route originated here: origin IGP, the empty path, nothing optional.
    pub fn originated(next_hop: IpAddr) -> Self {
        Self {
            origin: Origin::Igp,
            as_path: AsPath::default(),
            next_hop,
            med: None,
            local_pref: None,
            atomic_aggregate: false,
            partial: Partial::default(),
            aggregator: None,
            communities: Vec::new(),
            extended_communities: Box::default(),
            large_communities: Box::default(),
            only_to_customer: None,
            unknown_transitive: Box::default(),
        }
    }

    /// What one copy of the set takes in memory, its lists and what the allocator adds to each included.
    pub fn held_bytes(&self) -> usize {
        const ALLOCATION: usize = 16;
        let list = |bytes: usize| if bytes == 0 { 0 } else { bytes + ALLOCATION };
        let segments = self.as_path.segments.as_slice();
        let path: usize = segments.iter().map(|segment| list(size_of_val(segment.asns()))).sum();
        let unread: usize = self.unknown_transitive.iter().map(|raw| list(raw.value.len())).sum();
        let lists = [
            size_of_val(segments),
            size_of_val(self.communities.as_slice()),
            size_of_val(&*self.extended_communities),
            size_of_val(&*self.large_communities),
            size_of_val(&*self.unknown_transitive),
        ];
        size_of::<Self>() + ALLOCATION + path + unread + lists.into_iter().map(list).sum::<usize>()
    }

    /// What the set takes in an UPDATE at most, without prefixes; where AS numbers have two octets, AS4_PATH repeats the path.
    pub fn wire_bytes_at_most(&self) -> usize {
        // Everything of fixed length, with the headers of all attributes: next hops of both families, MED and so on.
        const FIXED: usize = 160;
        let segments = self.as_path.segments.iter();
        // A sequence of more than 255 is cut.
        let path: usize = segments.map(|it| 8 * it.asns().len() + 4 * (1 + it.asns().len() / 255)).sum();
        let unread: usize = self.unknown_transitive.iter().map(|raw| 4 + raw.value.len()).sum();
        let communities = 4 * self.communities.len() + 8 * self.extended_communities.len();
        FIXED + path + communities + 12 * self.large_communities.len() + unread
    }

    /// Whether the route was originated in our own AS, so that what is added to it is added by its originator.
    pub fn is_originated_here(&self) -> bool {
        self.as_path.is_empty()
    }

    /// Adds a community. An attribute that somebody other than the originator attaches carries the Partial bit (RFC 4271 section 5);
    /// one that is there already keeps the bit that it has.
    pub fn add_community(&mut self, community: Community) {
        if self.communities.contains(&community) {
            return;
        }
        if self.communities.is_empty() && !self.is_originated_here() {
            self.partial = self.partial.with(Partial::COMMUNITIES);
        }
        self.communities.push(community);
    }

    /// Marks the route as one for customers only, unless somebody has done so before (RFC 9234 section 5); Partial as in
    /// [`Self::add_community`].
    pub fn mark_only_to_customer(&mut self, by: Asn) {
        if self.only_to_customer.is_some() {
            return;
        }
        if !self.is_originated_here() {
            self.partial = self.partial.with(Partial::ONLY_TO_CUSTOMER);
        }
        self.only_to_customer = Some(by);
    }

    /// Forgets the Partial bit of attributes that are not there.
    pub fn settle_partial(&mut self) {
        let absent = [
            (Partial::AGGREGATOR, self.aggregator.is_none()),
            (Partial::COMMUNITIES, self.communities.is_empty()),
            (Partial::EXTENDED_COMMUNITIES, self.extended_communities.is_empty()),
            (Partial::LARGE_COMMUNITIES, self.large_communities.is_empty()),
            (Partial::ONLY_TO_CUSTOMER, self.only_to_customer.is_none()),
        ];
        for (member, _) in absent.into_iter().filter(|(_, is_absent)| *is_absent) {
            self.partial = self.partial.without(member);
        }
    }
}

/// Tells the paths of one peer to one prefix apart (RFC 7911 section 3); means nothing else, and nothing to anybody but that peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PathId(pub u32);

/// One change of routes: what is gone, what is there and by which attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Prefixes no longer reachable through the sender, of either family.
    pub withdrawn: Vec<IpNet>,
    /// Prefixes reachable with `attributes`; all of the family of the attributes' next hop.
    pub announced: Vec<IpNet>,
    /// The attributes of `announced`; present exactly when that is not empty.
    pub attributes: Option<Arc<PathAttributes>>,
    /// Of which of the sender's paths to these prefixes this is; `None` where it tells but one (RFC 7911).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathId>,
    /// Set when the sender has told all its routes of this family (RFC 4724 section 2).
    pub end_of_rib: Option<Family>,
    /// Set where the sender begins or ends telling a family again (RFC 7313).
    pub refresh: Option<RefreshMark>,
    /// Counted while it is on its way from a peer to the controller.
    #[serde(skip)]
    pub ballast: Ballast,
}

/// Marks around a repeated family (RFC 7313 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefreshMark {
    /// BoRR: what is not told again before the end is gone.
    Begin(Family),
    /// EoRR.
    End(Family),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_length_counts_sets_once_and_confederations_never() {
        let path = AsPath {
            segments: vec![
                AsPathSegment::ConfedSequence(vec![Asn(65001), Asn(65002)]),
                AsPathSegment::Sequence(vec![Asn(12076), Asn(8075)]),
                AsPathSegment::Set(vec![Asn(1), Asn(2), Asn(3)]),
            ],
        };
        assert_eq!(path.len(), 3);
        assert_eq!(path.to_string(), "(65001 65002) 12076 8075 {1,2,3}");
        assert!(path.contains(Asn(3)) && path.contains(Asn(65002)) && !path.contains(Asn(4)));
        assert_eq!((path.first(), path.origin()), (None, None));
    }

    #[test]
    fn prepending_extends_a_sequence_and_starts_a_new_one_when_it_is_full() {
        let path = AsPath::sequence([12076]).prepended(Asn(65000));
        assert_eq!(path, AsPath::sequence([65000, 12076]));
        assert_eq!((path.first(), path.origin()), (Some(Asn(65000)), Some(Asn(12076))));
        let full = AsPath::sequence(1..=255).prepended(Asn(7));
        assert_eq!(full.segments.len(), 2);
        assert_eq!((full.len(), full.first()), (256, Some(Asn(7))));
        assert_eq!(AsPath::default().prepended(Asn(7)), AsPath::sequence([7]));
    }

    #[test]
    fn communities_read_as_operators_write_them() {
        assert_eq!(Community::new(12076, 51010).to_string(), "12076:51010");
        assert_eq!(LargeCommunity(65536, 1, 2).to_string(), "65536:1:2");
    }
}
