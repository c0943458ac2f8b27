//! The prefix guard (requirement D1): Microsoft drops a session that announces more prefixes than the circuit's SKU allows, so more are
//! never announced. What is held back depends on the prefixes only, and so is the same on both links of a circuit.
//!
//! How many that are is data with a date ([`crate::azure::prefixes`]). Prefixes are ranked, the shorter first and then by address; the first as many as are allowed are
//! told. Where the configuration says `aggregate`, neighbours are first replaced by what covers both, the longest first, until the rest
//! fits; an aggregate's own packets without a longer match are discarded here and not sent in a circle.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::policy::HoldBack;
use crate::bgp::Family;
use crate::config::WhenFull;

/// A prefix by rank: the shorter first, then by address.
type Ranked = (u8, IpNet);

fn ranked(prefix: IpNet) -> Ranked {
    (prefix.prefix_len(), prefix)
}

/// The meter of one family of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Meter {
    /// Prefixes that are to be advertised.
    pub wanted: usize,
    /// Prefixes that are advertised, aggregates included.
    pub told: usize,
    /// Aggregates among them.
    pub aggregates: usize,
    /// Prefixes that are held back, or covered by an aggregate.
    pub held: usize,
    /// How many Microsoft takes.
    pub limit: u32,
}

impl Meter {
    /// How full it is: 0, 80, 90 or 100 percent and above, by what is wanted.
    pub fn level(&self) -> u8 {
        let percent = self.wanted as u64 * 100 / u64::from(self.limit.max(1));
        match percent {
            0..80 => 0,
            80..90 => 80,
            90..=100 if self.wanted <= self.limit as usize => 90,
            _ => 100,
        }
    }
}

/// What one domain wants to tell its MSEEs of one family, and which part of it is told.
#[derive(Debug)]
pub(super) struct Guard {
    limit: usize,
    when_full: WhenFull,
    told: BTreeSet<Ranked>,
    held: BTreeSet<Ranked>,
    /// What stands for others, and is told in their place.
    aggregates: BTreeSet<IpNet>,
    /// Those others.
    covered: BTreeSet<IpNet>,
    is_dirty: bool,
}

impl Guard {
    pub fn new(limit: u32, when_full: WhenFull) -> Self {
        Self {
            limit: limit as usize,
            when_full,
            told: BTreeSet::new(),
            held: BTreeSet::new(),
            aggregates: BTreeSet::new(),
            covered: BTreeSet::new(),
            is_dirty: false,
        }
    }

    /// Another limit; what is told is worked out anew, and [`Self::settle`] says what became of aggregates.
    pub fn set_limit(&mut self, limit: u32, when_full: WhenFull) {
        (self.limit, self.when_full) = (limit as usize, when_full);
        self.told.append(&mut self.held);
        if let Some(first_held) = self.told.iter().nth(self.limit).copied() {
            self.held = self.told.split_off(&first_held);
        }
        self.is_dirty = true;
    }

    /// One more prefix is to be told; what is told or held back differently by that.
    pub fn add(&mut self, prefix: IpNet) -> Vec<IpNet> {
        if self.held.contains(&ranked(prefix)) || !self.told.insert(ranked(prefix)) {
            return Vec::new();
        }
        self.is_dirty = true;
        let mut changed = vec![prefix];
        if self.told.len() > self.limit
            && let Some(last) = self.told.pop_last()
        {
            self.held.insert(last);
            changed.push(last.1);
        }
        changed
    }

    /// A prefix is not to be told any more.
    pub fn remove(&mut self, prefix: IpNet) -> Vec<IpNet> {
        let mut changed = Vec::new();
        if self.told.remove(&ranked(prefix)) {
            changed.push(prefix);
            if let Some(first) = self.held.pop_first() {
                self.told.insert(first);
                changed.push(first.1);
            }
        } else if self.held.remove(&ranked(prefix)) {
            changed.push(prefix);
        }
        self.is_dirty |= !changed.is_empty();
        changed
    }

    /// Works aggregates out anew if something has changed; aggregates that came or went, and prefixes that they cover or no longer do.
    pub fn settle(&mut self) -> (Vec<(IpNet, bool)>, Vec<IpNet>) {
        if !std::mem::take(&mut self.is_dirty) {
            return (Vec::new(), Vec::new());
        }
        let (aggregates, covered) = match self.when_full {
            WhenFull::Aggregate => aggregate(&self.told.union(&self.held).copied().collect(), self.limit),
            _ if self.aggregates.is_empty() => return (Vec::new(), Vec::new()),
            _ => Default::default(),
        };
        let gone = self.aggregates.difference(&aggregates).map(|net| (*net, false));
        let come = aggregates.difference(&self.aggregates).map(|net| (*net, true));
        let changed: Vec<(IpNet, bool)> = gone.chain(come).collect();
        let mut concerned: Vec<IpNet> = covered.symmetric_difference(&self.covered).copied().collect();
        // Those that fit now, because others are covered.
        concerned.extend(self.held.iter().map(|(_, prefix)| *prefix));
        (self.aggregates, self.covered) = (aggregates, covered);
        (changed, concerned)
    }

    /// Whether a prefix is told.
    pub fn passes(&self, prefix: IpNet) -> bool {
        if self.covered.contains(&prefix) {
            return false;
        }
        // What aggregates make room for: the held ones that nothing covers, if all of them fit.
        self.told.contains(&ranked(prefix)) || self.told_count() <= self.limit && !self.aggregates.is_empty()
    }

    /// Why a prefix that is to be told is not.
    pub fn reason(&self, prefix: IpNet) -> HoldBack {
        if self.covered.contains(&prefix) { HoldBack::Aggregated } else { HoldBack::NoRoom }
    }

    fn told_count(&self) -> usize {
        self.told.len() + self.held.len() - self.covered.len() + self.aggregates.len()
    }

    /// The aggregates that are told.
    pub fn aggregates(&self) -> &BTreeSet<IpNet> {
        &self.aggregates
    }

    pub fn meter(&self) -> Meter {
        let wanted = self.told.len() + self.held.len();
        let told =
            if self.aggregates.is_empty() { self.told.len() } else { self.told_count().min(self.limit) };
        Meter {
            wanted,
            told,
            aggregates: self.aggregates.len(),
            held: wanted + self.aggregates.len() - told,
            limit: self.limit as u32,
        }
    }
}

/// Pairs of neighbours become one, the longest and the highest addresses first, until at most `limit` are left; what came of it, and
/// what it covers. Nothing where even that is not enough: then holding back alone decides, which is the same on every box.
fn aggregate(wanted: &BTreeSet<Ranked>, limit: usize) -> (BTreeSet<IpNet>, BTreeSet<IpNet>) {
    // A whole Internet leaked to us is no plan for aggregates.
    const MOST: usize = 1 << 17;
    if wanted.len() <= limit || wanted.len() > MOST {
        return (BTreeSet::new(), BTreeSet::new());
    }
    // Each prefix of the present set, and the wanted ones that it stands for.
    let mut present: BTreeMap<Ranked, Vec<IpNet>> = wanted.iter().map(|key| (*key, vec![key.1])).collect();
    let mut cursor = present.last_key_value().map(|(key, _)| *key);
    while present.len() > limit {
        let Some(key) = cursor else { return (BTreeSet::new(), BTreeSet::new()) };
        cursor = present.range(..key).next_back().map(|(key, _)| *key);
        let Some((parent, sibling)) = family_of(key.1) else { continue };
        let sibling = ranked(sibling);
        if !present.contains_key(&sibling) {
            continue;
        }
        let mut members = present.remove(&key).unwrap_or_default();
        members.extend(present.remove(&sibling).unwrap_or_default());
        if cursor == Some(sibling) {
            cursor = present.range(..sibling).next_back().map(|(key, _)| *key);
        }
        present.entry(ranked(parent)).or_default().extend(members);
    }
    let aggregates = present.keys().filter(|key| !wanted.contains(key)).map(|(_, prefix)| *prefix).collect();
    let covered = present
        .iter()
        .flat_map(|((_, prefix), members)| members.iter().copied().filter(move |member| member != prefix))
        .collect();
    (aggregates, covered)
}

/// What covers a prefix and its neighbour, and that neighbour. Nothing shorter than /8 is ever made up.
fn family_of(prefix: IpNet) -> Option<(IpNet, IpNet)> {
    const SHORTEST: u8 = 8;
    let parent = prefix.supernet().filter(|parent| parent.prefix_len() >= SHORTEST)?;
    let sibling = parent.subnets(prefix.prefix_len()).ok()?.find(|other| *other != prefix)?;
    Some((parent, sibling))
}

/// The index of a family in pairs of limits and guards.
pub(super) fn at(family: Family) -> usize {
    usize::from(family == Family::Ipv6Unicast)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn told(guard: &Guard) -> Vec<String> {
        let wanted = guard.told.union(&guard.held).map(|(_, prefix)| *prefix).filter(|it| guard.passes(*it));
        wanted.chain(guard.aggregates.iter().copied()).map(|prefix| prefix.to_string()).collect()
    }

    #[test]
    fn d1_what_is_held_back_is_the_same_in_whatever_order_prefixes_come_and_never_above_the_limit() {
        let all: Vec<IpNet> = (0..40u8).map(|n| net(&format!("10.{n}.0.0/{}", 16 + n % 5))).collect();
        let mut orders = vec![all.clone(), all.iter().rev().copied().collect::<Vec<_>>()];
        orders.push((0..40).map(|n| all[n * 7 % 40]).collect());
        let mut outcomes = BTreeSet::new();
        for order in orders {
            let mut guard = Guard::new(12, WhenFull::HoldBack);
            for prefix in order {
                guard.add(prefix);
                assert!(told(&guard).len() <= 12);
            }
            let meter = guard.meter();
            assert_eq!((meter.wanted, meter.told, meter.held, meter.level()), (40, 12, 28, 100));
            outcomes.insert(told(&guard));
        }
        assert_eq!(outcomes.len(), 1);
    }

    #[test]
    fn d1_what_fits_again_is_told_again_and_every_change_is_named() {
        let mut guard = Guard::new(2, WhenFull::HoldBack);
        let (a, b, c) = (net("10.0.0.0/16"), net("10.1.0.0/16"), net("10.2.0.0/24"));
        assert_eq!((guard.add(c), guard.add(b)), (vec![c], vec![b]));
        assert_eq!(guard.add(a), [a, c], "the longest makes room");
        assert_eq!(guard.add(a), []);
        assert_eq!(guard.remove(b), [b, c]);
        assert!(guard.passes(a) && guard.passes(c) && !guard.passes(b));
    }

    #[test]
    fn d1_the_meter_warns_at_80_and_90_percent() {
        let mut guard = Guard::new(10, WhenFull::HoldBack);
        let mut levels = Vec::new();
        for n in 0..11 {
            guard.add(net(&format!("10.{n}.0.0/16")));
            levels.push(guard.meter().level());
        }
        assert_eq!(levels, [0, 0, 0, 0, 0, 0, 0, 80, 90, 90, 100]);
    }

    #[test]
    fn d1_neighbours_become_one_until_the_rest_fits_and_are_themselves_again_when_there_is_room() {
        let mut guard = Guard::new(3, WhenFull::Aggregate);
        for text in ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24", "20.0.0.0/16"] {
            guard.add(net(text));
        }
        let (changed, _) = guard.settle();
        assert_eq!(changed, [(net("10.0.0.0/23"), true), (net("10.0.2.0/23"), true)]);
        assert_eq!(told(&guard), ["20.0.0.0/16", "10.0.0.0/23", "10.0.2.0/23"]);
        assert_eq!(guard.meter().told, 3);
        guard.add(net("30.0.0.0/16"));
        let (changed, _) = guard.settle();
        assert_eq!(changed.last(), Some(&(net("10.0.0.0/22"), true)));
        assert_eq!(told(&guard), ["20.0.0.0/16", "30.0.0.0/16", "10.0.0.0/22"]);
        for text in ["30.0.0.0/16", "20.0.0.0/16", "10.0.3.0/24"] {
            guard.remove(net(text));
        }
        guard.settle();
        assert_eq!(told(&guard), ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"]);
    }

    #[test]
    fn d1_where_no_neighbours_are_left_the_rest_is_held_back() {
        let mut guard = Guard::new(2, WhenFull::Aggregate);
        for text in ["10.0.0.0/24", "10.9.1.0/24", "10.20.2.0/24"] {
            guard.add(net(text));
        }
        guard.settle();
        assert_eq!(told(&guard), ["10.0.0.0/24", "10.9.1.0/24"]);
    }
}
