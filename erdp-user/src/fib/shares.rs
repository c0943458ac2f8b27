//! How flows are shared between a route's next hops: by the weights of their attachments, and by shares that the route itself gives.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZero,
};

use erdp_common::group::Member;

use super::{NextHopKey, Target};

impl Target {
    /// To these neighbours, each with its share; one that is named twice has the larger one.
    pub fn to(members: impl IntoIterator<Item = (NextHopKey, NonZero<u8>)>) -> Self {
        let mut all: BTreeMap<NextHopKey, NonZero<u8>> = BTreeMap::new();
        for (key, share) in members {
            all.entry(key).and_modify(|known| *known = share.max(*known)).or_insert(share);
        }
        let mut shares = all.values();
        let first = shares.next().copied();
        if shares.all(|share| Some(*share) == first) {
            return Self::Forward(all.into_keys().collect::<BTreeSet<_>>());
        }
        Self::Weighted(all)
    }

    /// The neighbours with their shares; none of what does not forward.
    pub fn members(&self) -> impl Iterator<Item = (NextHopKey, NonZero<u8>)> {
        let (equal, weighted) = match self {
            Self::Forward(keys) => (Some(keys), None),
            Self::Weighted(shares) => (None, Some(shares)),
            Self::Glean(_) | Self::Discard | Self::ZoneForbidden | Self::EncryptedOnly => (None, None),
        };
        let equal = equal.into_iter().flatten().map(|key| (*key, NonZero::<u8>::MIN));
        equal.chain(weighted.into_iter().flatten().map(|(key, share)| (*key, *share)))
    }

    /// Whether packets are sent on.
    pub fn forwards(&self) -> bool {
        matches!(self, Self::Forward(_) | Self::Weighted(_))
    }
}

/// The members of a group with these weights.
pub(super) fn members_of(weighted: &[(u16, u32)]) -> Vec<Member> {
    let weights = scaled(weighted.iter().map(|(_, weight)| *weight));
    weighted
        .iter()
        .zip(weights)
        .map(|((next_hop, _), weight)| Member { next_hop: *next_hop, weight })
        .collect()
}

/// Weights in the same ratio, as far as 1 to 255 has it; nobody gets nothing.
pub fn scaled(weights: impl Iterator<Item = u32> + Clone) -> Vec<NonZero<u8>> {
    let largest = weights.clone().max().unwrap_or(1).max(1);
    let scale = |weight: u32| match largest {
        0..=255 => weight,
        // 255 times a weight of 32 bits needs more than those.
        _ => (u64::from(weight) * 255 / u64::from(largest)) as u32,
    };
    weights.map(|weight| NonZero::new(scale(weight) as u8).unwrap_or(NonZero::<u8>::MIN)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fib::AttachmentId;

    #[test]
    fn weights_keep_their_ratio_and_nobody_gets_nothing() {
        let rows: [(&[u32], &[u8]); 6] = [
            (&[1, 1], &[1, 1]),
            (&[10, 20], &[10, 20]),
            (&[255, 1], &[255, 1]),
            (&[256, 128], &[255, 127]),
            (&[65_536, 1], &[255, 1]),
            (&[u32::MAX, u32::MAX / 3], &[255, 85]),
        ];
        for (weights, expected) in rows {
            let found: Vec<u8> = scaled(weights.iter().copied()).into_iter().map(NonZero::get).collect();
            assert_eq!(found, expected, "{weights:?}");
        }
    }

    #[test]
    fn equal_shares_are_a_group_like_any_other_and_unequal_ones_are_not() {
        let key =
            |host: u8| NextHopKey { attachment: AttachmentId::at(0), address: [198, 18, 0, host].into() };
        let share = |number| NonZero::<u8>::new(number).expect("not zero");
        let equal = Target::to([(key(1), share(7)), (key(2), share(7))]);
        assert_eq!(equal, Target::Forward([key(1), key(2)].into()));
        let unequal = Target::to([(key(1), share(1)), (key(2), share(3)), (key(1), share(2))]);
        assert_eq!(unequal.members().collect::<Vec<_>>(), [(key(1), share(2)), (key(2), share(3))]);
        assert!(unequal.forwards() && !Target::Discard.forwards());
    }
}
