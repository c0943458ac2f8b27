//! What one peer has been told on its present session, and how the difference to what it should know is packed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::topology::RibPeer;
use super::{
    Map, Set,
    policy::{exported, is_stripped},
    prefix_map::PrefixMap,
};
use crate::bgp::{Family, PathAttributes, RefreshMark, SessionFacts, Update, wire};

/// Prefixes that are looked at in one call of [`AdjRibOut::take`], which is about a tenth of a second of work: whoever asks for more does
/// what else is due first.
const TAKEN_MAX: usize = 32_768;

/// Adj-RIB-Out (RFC 4271 section 3.2). It keeps attributes as they were received from elsewhere, which are shared by all
/// peers; what the peer reads is made of them when it is sent.
#[derive(Default)]
pub(super) struct AdjRibOut {
    /// Empty while the session is down.
    families: BTreeSet<Family>,
    told: PrefixMap<Arc<PathAttributes>>,
    /// Prefixes about which the peer may have to be told something else.
    due: Set<IpNet>,
    /// The part of them that is being told, the last one first: neighbours in the address space tend to have the same attributes, and
    /// then are in the same message.
    telling: Vec<IpNet>,
    /// Families that it asked to be told again, different or not.
    again: BTreeSet<Family>,
    /// The one of them that is being told.
    repeating: Option<Family>,
    /// Whether it wants beginning and end of that to be marked (RFC 7313).
    marks: bool,
    /// Families whose first table is not complete yet.
    initial: BTreeSet<Family>,
    /// The same attributes are exported otherwise than when they were told.
    exports_differ: bool,
    /// How messages are made on the session.
    context: wire::Context,
    /// What should be known and is not told, because no message could hold its attributes (RFC 8654 section 4).
    too_long: BTreeSet<IpNet>,
    /// Of those, one that has not been logged.
    unlogged: Option<IpNet>,
    /// How often a route was told without attributes that the peer is not to have.
    stripped: u64,
}

impl AdjRibOut {
    /// A session is up, and these prefixes are due.
    pub fn open(&mut self, facts: &SessionFacts, due: impl Iterator<Item = IpNet>) {
        self.families = facts.families.iter().copied().collect();
        self.marks = facts.enhanced_refresh;
        self.again.clear();
        self.telling.clear();
        self.repeating = None;
        self.initial = self.families.clone();
        self.due = due.filter(|prefix| self.families.contains(&Family::of(prefix))).collect();
        self.told = PrefixMap::default();
        self.context = wire::Context::of(facts);
        self.too_long.clear();
    }

    /// After [`Self::open`] for a session that another process has begun: the peer knows this already.
    pub fn was_told(&mut self, prefix: IpNet, attributes: Arc<PathAttributes>) {
        self.told.insert(&prefix, attributes);
        self.due.insert(prefix);
    }

    /// Likewise: the families whose first table is not complete.
    pub fn is_untold(&mut self, families: &[Family]) {
        self.initial = families.iter().copied().collect();
    }

    /// What the peer knows, and the families whose first table is not complete yet.
    pub fn known(&self) -> (impl Iterator<Item = (IpNet, &Arc<PathAttributes>)>, Vec<Family>) {
        (self.told.iter(), self.initial.iter().copied().collect())
    }

    /// What the peer knows of a prefix.
    pub fn told(&self, prefix: &IpNet) -> Option<&Arc<PathAttributes>> {
        self.told.get(prefix)
    }

    /// The session is over.
    pub fn close(&mut self) {
        *self = AdjRibOut { stripped: self.stripped, ..AdjRibOut::default() };
    }

    /// The peer asks to be told everything of a family again (RFC 2918).
    pub fn refresh(&mut self, family: Family) {
        if self.families.contains(&family) {
            self.again.insert(family);
        }
    }

    /// What should be known about a prefix may have changed.
    pub fn mark(&mut self, prefix: IpNet) {
        if self.families.contains(&Family::of(&prefix)) {
            self.due.insert(prefix);
        }
    }

    /// What should be known about anything that was told may have changed.
    pub fn mark_told(&mut self) {
        self.due.extend(self.told.keys());
    }

    /// The same for what is exported of the same attributes: everything that was told is told again.
    pub fn tell_again(&mut self) {
        self.mark_told();
        self.exports_differ = true;
    }

    pub fn is_up(&self) -> bool {
        !self.families.is_empty()
    }

    pub fn is_due(&self) -> bool {
        !(self.due.is_empty() && self.telling.is_empty() && self.initial.is_empty() && self.again.is_empty())
            || self.repeating.is_some()
    }

    pub fn families(&self) -> BTreeSet<Family> {
        self.families.clone()
    }

    /// How many prefixes the peer has been told.
    pub fn count(&self) -> usize {
        self.told.len()
    }

    /// Updates that close the gap between what was told and what `should` be known, about [`TAKEN_MAX`] prefixes at most; while
    /// [`Self::is_due`], there are more.
    pub fn take(
        &mut self,
        peer: &RibPeer,
        mut should: impl FnMut(IpNet) -> Option<Arc<PathAttributes>>,
    ) -> Vec<Update> {
        let (mut updates, mut left) = (Vec::new(), TAKEN_MAX);
        while left > 0 && self.next_part(&mut updates) {
            let part = self.telling.split_off(self.telling.len().saturating_sub(left));
            left -= part.len();
            let mut packing = Packing::default();
            for prefix in part.into_iter().rev() {
                self.tell(prefix, peer, should(prefix), &mut packing);
            }
            self.stripped += packing.stripped(peer);
            updates.extend(packing.into_updates(peer));
        }
        updates
    }

    /// Whether there is something to tell: the rest of a part, what is due, or a family again. Marks go between them: End-of-RIB when
    /// nothing is due any more, and after that (RFC 7313 section 4) those around a family that is told again.
    fn next_part(&mut self, updates: &mut Vec<Update>) -> bool {
        if !self.telling.is_empty() {
            return true;
        }
        let marks = self.marks;
        let mark = |mark| marks.then(|| Update { refresh: Some(mark), ..Update::default() });
        if let Some(family) = self.repeating.take() {
            updates.extend(mark(RefreshMark::End(family)));
        }
        if !self.due.is_empty() {
            self.telling = std::mem::take(&mut self.due).into_iter().collect();
            self.telling.sort_unstable_by_key(|prefix| Reverse(*prefix));
            return true;
        }
        self.exports_differ = false;
        let end = |family| Update { end_of_rib: Some(family), ..Update::default() };
        updates.extend(std::mem::take(&mut self.initial).into_iter().map(end));
        let Some(family) = self.again.pop_first() else { return false };
        updates.extend(mark(RefreshMark::Begin(family)));
        self.repeating = Some(family);
        self.telling = self.told.keys_of(family);
        self.telling.sort_unstable_by_key(|prefix| Reverse(*prefix));
        true
    }

    /// What is known about a prefix from `now` on.
    fn tell(
        &mut self,
        prefix: IpNet,
        peer: &RibPeer,
        now: Option<Arc<PathAttributes>>,
        packing: &mut Packing,
    ) {
        let Some(next_hop) = peer.next_hop_self(Family::of(&prefix)) else { return };
        let is_too_long = now.as_ref().is_some_and(|now| !self.fits(now, peer, &prefix));
        self.note_length(prefix, is_too_long);
        let Some(now) = now.filter(|_| !is_too_long) else {
            if self.told.remove(&prefix).is_some() {
                packing.withdraw(prefix);
            }
            return;
        };
        let before = self.told.insert(&prefix, now.clone());
        let is_same = |before: Arc<PathAttributes>| {
            Arc::ptr_eq(&before, &now) || exported(&before, peer, next_hop) == exported(&now, peer, next_hop)
        };
        if self.exports_differ || self.repeating.is_some() || !before.is_some_and(is_same) {
            packing.announce(prefix, now);
        }
    }

    /// Whether a message of the session can hold a route. Nearly all are so short that nothing need be encoded to know.
    fn fits(&self, attributes: &PathAttributes, peer: &RibPeer, prefix: &IpNet) -> bool {
        /// What we may add: our AS in front as often as can be, a community, OTC, another next hop.
        const ADDED_BYTES: usize = 512;
        let is_plain = attributes.wire_bytes_at_most() + ADDED_BYTES <= wire::MAX_MESSAGE_BYTES;
        let Some(next_hop) = peer.next_hop_self(Family::of(prefix)) else { return true };
        is_plain || wire::fits(&exported(attributes, peer, next_hop), prefix, &self.context)
    }

    fn note_length(&mut self, prefix: IpNet, is_too_long: bool) {
        if !is_too_long {
            if !self.too_long.is_empty() {
                self.too_long.remove(&prefix);
            }
        } else if self.too_long.insert(prefix) {
            self.unlogged = Some(prefix);
        }
    }

    /// What should be known and no message can hold.
    pub fn too_long(&self) -> &BTreeSet<IpNet> {
        &self.too_long
    }

    /// One of them, if there has been a new one since the last call.
    pub fn take_too_long(&mut self) -> Option<IpNet> {
        self.unlogged.take()
    }

    /// How often a route was told without attributes that the peer is not to have.
    pub fn stripped(&self) -> u64 {
        self.stripped
    }

    /// Whether packets from this address find their way back by what the peer has been told (requirement D8).
    pub fn covers(&self, address: std::net::IpAddr) -> bool {
        let longest = IpNet::from(address);
        (0..=longest.prefix_len())
            .any(|length| IpNet::new(address, length).is_ok_and(|prefix| self.told.get(&prefix).is_some()))
    }
}

/// Prefixes sorted into updates: one for each family's withdrawals, one for each family and set of attributes.
#[derive(Default)]
struct Packing {
    withdrawn: BTreeMap<Family, Vec<IpNet>>,
    announced: Map<(Family, Arc<PathAttributes>), Vec<IpNet>>,
}

impl Packing {
    fn withdraw(&mut self, prefix: IpNet) {
        self.withdrawn.entry(Family::of(&prefix)).or_default().push(prefix);
    }

    fn announce(&mut self, prefix: IpNet, attributes: Arc<PathAttributes>) {
        self.announced.entry((Family::of(&prefix), attributes)).or_default().push(prefix);
    }

    /// How many routes are told without attributes that the peer is not to have.
    fn stripped(&self, peer: &RibPeer) -> u64 {
        let stripped = self.announced.iter().filter(|((_, attributes), _)| is_stripped(attributes, peer));
        stripped.map(|(_, prefixes)| prefixes.len() as u64).sum()
    }

    fn into_updates(self, peer: &RibPeer) -> Vec<Update> {
        let mut updates = Vec::new();
        for mut withdrawn in self.withdrawn.into_values() {
            withdrawn.sort_unstable();
            updates.push(Update { withdrawn, ..Update::default() });
        }
        // Sets that differ only in what is not exported (MED) become one.
        let mut groups: Map<(Family, PathAttributes), Vec<IpNet>> = Map::default();
        for ((family, attributes), prefixes) in self.announced {
            let Some(next_hop) = peer.next_hop_self(family) else { continue };
            groups.entry((family, exported(&attributes, peer, next_hop))).or_default().extend(prefixes);
        }
        let mut announcements: Vec<_> = groups.into_iter().collect();
        for (_, prefixes) in &mut announcements {
            prefixes.sort_unstable();
        }
        // Each prefix is in one group only, so the first ones order the groups without ties.
        announcements.sort_unstable_by_key(|(_, prefixes)| prefixes.first().copied());
        updates.extend(announcements.into_iter().map(|((_, attributes), announced)| Update {
            announced,
            attributes: Some(Arc::new(attributes)),
            ..Update::default()
        }));
        updates
    }
}
