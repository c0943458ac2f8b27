//! Shares and movement, against counting: who has how many flows, and which flows have another member than before.

use core::num::NonZero;
use std::{collections::BTreeMap, vec, vec::Vec};

use proptest::prelude::*;

use super::{Member, fill, flow_hash, mix, pick};
use crate::{
    abi::{GROUP_BUCKETS, GROUP_MEMBERS, Group, NEXT_HOP_RESOLVED, NextHop},
    family::{Family as _, V4, V6},
    memory::{Frame, MemoryTables},
    reason::DropReason,
};

const FLOWS: u32 = 40_000;

fn member(next_hop: u16, weight: u8) -> Member {
    Member { next_hop, weight: NonZero::new(weight).expect("not zero") }
}

/// Next hops 1 to 8, each on the link of its number; all are alive.
fn tables() -> MemoryTables {
    let mut tables = MemoryTables::new(1);
    for id in 1..=8 {
        tables.next_hops[id] =
            NextHop { flags: NEXT_HOP_RESOLVED, link: id as u16, attachment: 1, ..NextHop::default() };
        tables.links[id] = 1;
    }
    tables
}

/// The tables with this group as number 1.
fn with(tables: &MemoryTables, group: &Group) -> MemoryTables {
    let mut tables = tables.clone();
    tables.groups[1] = *group;
    tables
}

fn chosen(group: &Group, tables: &MemoryTables) -> Vec<u16> {
    let tables = with(tables, group);
    (0..FLOWS).map(|flow| pick(hash(flow), 1, group, &tables).map_or(0, |(id, _)| id)).collect()
}

/// As well mixed as a flow's.
fn hash(flow: u32) -> u32 {
    (mix(u64::from(flow) + 1) >> 32) as u32
}

/// In thousandths of all.
fn shares(chosen: &[u16]) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    chosen.iter().for_each(|id| *counts.entry(*id).or_insert(0) += 1_000);
    counts.values_mut().for_each(|count| *count /= chosen.len());
    counts
}

fn buckets_of(group: &Group) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for slot in group.buckets {
        *counts.entry(group.members[usize::from(slot)]).or_insert(0) += 1;
    }
    counts
}

#[test]
fn buckets_follow_the_weights_and_everybody_has_one() {
    let rows: [(&[u8], &[usize]); 7] = [
        (&[1], &[64]),
        (&[1, 1], &[32, 32]),
        (&[1, 1, 1], &[22, 21, 21]),
        (&[3, 1], &[48, 16]),
        (&[10, 1], &[58, 6]),
        (&[255, 1, 1], &[62, 1, 1]),
        (&[1, 2, 3, 4, 5, 6, 7, 8], &[2, 4, 5, 7, 9, 11, 12, 14]),
    ];
    for (weights, expected) in rows {
        let members: Vec<Member> = (1..).zip(weights).map(|(id, weight)| member(id, *weight)).collect();
        let group = fill(&members, None);
        let counts: Vec<usize> = buckets_of(&group).into_values().collect();
        assert_eq!(counts, expected, "{weights:?}");
    }
}

#[test]
fn members_beyond_eight_and_none_at_all_are_no_fault() {
    let many: Vec<Member> = (1..=20).map(|id| member(id, 1)).collect();
    assert_eq!(buckets_of(&fill(&many, None)).len(), GROUP_MEMBERS);
    assert_eq!(fill(&[], None).members, [0; GROUP_MEMBERS]);
    let empty = fill(&[], None);
    assert_eq!(pick(7, 1, &empty, &with(&tables(), &empty)).err(), Some(DropReason::NoLiveLink));
}

#[test]
fn when_members_die_their_flows_go_to_the_living_by_weight_and_all_come_back() {
    let rows: [(&[u8], &[u16]); 9] = [
        (&[1, 1], &[1]),
        (&[1, 1, 1, 1], &[1]),
        (&[1, 1, 1, 1], &[1, 3]),
        (&[8, 4, 2, 1], &[1]),
        (&[8, 4, 2, 1], &[2, 3]),
        (&[100, 10, 1], &[1]),
        (&[255, 1, 1, 1, 1, 1, 1, 1], &[1]),
        (&[255, 1, 1], &[1]),
        (&[255, 2, 1, 1], &[1]),
    ];
    for (weights, dead) in rows {
        let members: Vec<Member> = (1..).zip(weights).map(|(id, weight)| member(id, *weight)).collect();
        let (group, mut tables) = (fill(&members, None), tables());
        let before = chosen(&group, &tables);
        for id in dead {
            let was = chosen(&group, &tables);
            tables.links[usize::from(*id)] = 0;
            for (was, is) in was.iter().zip(chosen(&group, &tables)) {
                assert!(is == *was || was == id, "{weights:?}: a flow of {was} moved to {is} when {id} died");
            }
        }
        let moved = before.iter().zip(chosen(&group, &tables)).filter(|(was, _)| dead.contains(was));
        let moved: Vec<u16> = moved.map(|(_, is)| is).collect();
        let moved = shares(&moved);
        let living = buckets_of(&group).into_iter().filter(|(id, _)| !dead.contains(id));
        let living: BTreeMap<u16, usize> = living.collect();
        let all: usize = living.values().sum();
        for (id, buckets) in living {
            let (is, due) = (moved.get(&id).copied().unwrap_or(0), buckets * 1_000 / all);
            assert!(
                is.abs_diff(due) < 20,
                "{weights:?} without {dead:?}: {id} has {is} of 1000 moved, due {due}"
            );
        }
        for id in dead.iter().rev() {
            let was = chosen(&group, &tables);
            tables.links[usize::from(*id)] = 1;
            for (was, is) in was.iter().zip(chosen(&group, &tables)) {
                assert!(
                    is == *was || is == *id,
                    "{weights:?}: a flow of {was} moved to {is} when {id} came back"
                );
            }
        }
        assert_eq!(chosen(&group, &tables), before, "{weights:?}: not all came back");
    }
}

#[test]
fn without_a_usable_member_the_reason_is_the_most_hopeful_one() {
    let (group, mut tables) = (fill(&[member(1, 1), member(2, 1)], None), tables());
    tables.links[1] = 0;
    tables.next_hops[2].flags = 0;
    for flow in 0..64 {
        assert_eq!(
            pick(hash(flow), 1, &group, &with(&tables, &group)).err(),
            Some(DropReason::NeighbourUnresolved)
        );
    }
    tables.links[2] = 0;
    assert_eq!(pick(0, 1, &group, &with(&tables, &group)).err(), Some(DropReason::NoLiveLink));
}

fn weights() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![1..=4u8, 1..=255u8], 1..=GROUP_MEMBERS)
}

/// Buckets that have another member.
fn moved(before: &Group, after: &Group) -> Vec<(u16, u16)> {
    let owner = |group: &Group, bucket| group.members[usize::from(group.buckets[bucket])];
    let pairs = (0..GROUP_BUCKETS).map(|bucket| (owner(before, bucket), owner(after, bucket)));
    pairs.filter(|(was, is)| was != is).collect()
}

proptest! {
    /// What makes shares Webster's, and no other's: nobody has a bucket to which another has the better claim.
    #[test]
    fn no_bucket_would_be_better_placed_elsewhere(weights in weights()) {
        let members: Vec<Member> = (1..).zip(&weights).map(|(id, weight)| member(id, *weight)).collect();
        let counts = buckets_of(&fill(&members, None));
        prop_assert_eq!(counts.len(), weights.len(), "somebody has no bucket");
        let weight = |id: &u16| usize::from(weights[usize::from(*id) - 1]);
        for (one, ones) in &counts {
            for (other, others) in counts.iter().filter(|(_, others)| **others > 1) {
                // weight / (buckets + 1/2) of who would get it, weight / (buckets - 1/2) of who would lose it.
                let (wants, has) = (weight(one) * (2 * others - 1), weight(other) * (2 * ones + 1));
                prop_assert!(wants <= has, "{weights:?}: {one} has {ones}, {other} has {others}");
            }
        }
    }

    /// Any history of comings, goings and changes of weight, from whatever buckets it began with.
    #[test]
    fn only_flows_of_the_member_that_changes_move(
        start in weights(),
        steps in prop::collection::vec((0..GROUP_MEMBERS, 0..=255u8), 1..12),
    ) {
        let mut weights = [0u8; GROUP_MEMBERS];
        weights[..start.len()].copy_from_slice(&start);
        let members = |weights: &[u8]| -> Vec<Member> {
            (1..).zip(weights).filter(|(_, weight)| **weight > 0).map(|(id, weight)| member(id, *weight)).collect()
        };
        let mut group = fill(&members(&weights), None);
        for (at, weight) in steps {
            let who = at as u16 + 1;
            let was = std::mem::replace(&mut weights[at], weight);
            if weights.iter().all(|weight| *weight == 0) {
                weights[at] = was;
                continue;
            }
            let next = fill(&members(&weights), Some(&group));
            for (from, to) in moved(&group, &next) {
                let (gives, takes) = (weight < was, weight > was);
                prop_assert!(
                    (gives && from == who) || (takes && to == who),
                    "{who} from {was} to {weight}: a bucket moved from {from} to {to}; {weights:?}"
                );
            }
            prop_assert_eq!(buckets_of(&next), buckets_of(&fill(&members(&weights), None)));
            group = next;
        }
    }
}

/// The routes of one that has gone are withdrawn, so its group is replaced by one without it, and that one by a third later.
#[test]
fn who_returns_takes_the_buckets_that_it_has_left_and_no_others() {
    let owners = |group: &Group| group.buckets.map(|slot| group.members[usize::from(slot)]);
    for (one, other) in [(1, 1), (3, 1), (1, 7), (2, 3)] {
        let both = [member(11, one), member(22, other)];
        let by_first = [&both[..1], &both[1..]].map(|first| fill(&both, Some(&fill(first, None))));
        let whole = fill(&both, None);
        assert_eq!(by_first.map(|group| owners(&group)), [owners(&whole); 2], "whoever came first");
        for left in [&both[..1], &both[1..]] {
            let alone = fill(left, Some(&whole));
            assert_eq!(
                owners(&fill(&both, Some(&alone))),
                owners(&whole),
                "{one} to {other}, {left:?} was left"
            );
        }
    }
    let all: Vec<Member> = (1..=GROUP_MEMBERS as u16).map(|id| member(id, 1)).collect();
    let whole = fill(&all, None);
    for gone in 0..all.len() {
        let mut rest = all.clone();
        rest.remove(gone);
        let without = fill(&rest, Some(&whole));
        assert_eq!(owners(&fill(&all, Some(&without))), owners(&whole), "{gone} of eight");
    }
}

#[test]
fn buckets_of_a_group_that_does_not_forward_are_not_kept() {
    let discard = Group { kind: crate::abi::GROUP_DISCARD, ..Group::default() };
    let members = vec![member(1, 1), member(2, 1)];
    assert_eq!(fill(&members, Some(&discard)), fill(&members, None));
}

/// An IPv4 or IPv6 packet with nothing but addresses, protocol and ports; its hash.
fn hash_of(ends: [u8; 2], ports: [u16; 2], protocol: u8, fragment: bool, v6: bool, symmetric: bool) -> u32 {
    let ports: Vec<u8> = ports.iter().flat_map(|port| port.to_be_bytes()).collect();
    let datagram = if v6 {
        let mut packet = vec![0x60, 0, 0, 0, 0, 12, if fragment { 44 } else { protocol }, 64];
        ends.iter().for_each(|end| packet.extend([0xfd, *end, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, *end]));
        packet.extend(fragment.then_some([protocol, 0, 0, 1, 0, 0, 0, 0]).into_iter().flatten());
        packet.extend(&ports);
        packet.resize(52, 0);
        V6::parse(&Frame::new(&packet), 0)
    } else {
        let more = if fragment { 0x20 } else { 0 };
        let mut packet = vec![0x45, 0, 0, 24, 0, 0, more, 0, 64, protocol, 0, 0];
        ends.iter().for_each(|end| packet.extend([20, 0, 0, *end]));
        packet.extend(&ports);
        V4::parse(&Frame::new(&packet), 0)
    };
    flow_hash(&datagram.expect("a packet"), symmetric)
}

#[test]
fn both_directions_hash_alike_if_that_is_wanted_and_only_then() {
    // Ends, ports, protocol, fragment; whether the other direction hashes alike without being told to.
    let rows = [
        ([1, 2], [40_000, 443], 6, false, false),
        ([2, 1], [40_000, 443], 17, false, false),
        ([1, 2], [443, 443], 132, false, false),
        ([1, 1], [40_000, 443], 17, false, false),
        ([1, 1], [443, 443], 17, false, true),
        ([1, 2], [40_000, 443], 17, true, false),
        ([2, 1], [40_000, 443], 6, true, false),
        ([1, 2], [8, 0], 1, false, false),
        ([1, 2], [0, 0], 47, false, false),
    ];
    for (ends, ports, protocol, fragment, alike) in rows {
        let back = ([ends[1], ends[0]], [ports[1], ports[0]]);
        for v6 in [false, true] {
            let hash = |symmetric| {
                let there = hash_of(ends, ports, protocol, fragment, v6, symmetric);
                (there, hash_of(back.0, back.1, protocol, fragment, v6, symmetric))
            };
            let row = (ends, ports, protocol, fragment, v6);
            let (there, back) = hash(true);
            assert_eq!(there, back, "{row:?}");
            let (there, back) = hash(false);
            assert_eq!(there == back, alike, "{row:?}");
        }
    }
}

#[test]
fn a_symmetric_hash_still_tells_flows_apart_and_spreads_them() {
    let hash = |ends, ports, protocol| hash_of(ends, ports, protocol, false, false, true);
    let one = hash([1, 2], [40_000, 443], 6);
    for (ends, ports, protocol) in
        [([1, 3], [40_000, 443], 6), ([1, 2], [40_001, 443], 6), ([1, 2], [40_000, 443], 17)]
    {
        assert_ne!(hash(ends, ports, protocol), one, "{ends:?} {ports:?} {protocol}");
    }
    let mut buckets = [0; GROUP_BUCKETS];
    for port in 0..64_000 {
        buckets[hash([1, 2], [port, 443], 17) as usize % GROUP_BUCKETS] += 1;
    }
    assert!(buckets.iter().all(|flows| (800..1_200).contains(flows)), "{buckets:?}");
}
