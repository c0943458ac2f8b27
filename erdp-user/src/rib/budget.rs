//! What a peer's routes may take (requirement D2): how many prefixes of each family, and how many bytes. Without the second limit a few
//! thousand prefixes with attributes as long as a message fill any machine.
//!
//! # What is counted
//! Each set of attributes that some route of the peer has, once, with its lists ([`PathAttributes::held_bytes`]); for each route what it
//! takes here, in the tables of its domains and of those who are told of it, by rough constants. Sets are shared between peers, and each
//! pays for them: whose session ends must not put another one above its limit.
//!
//! # Above a limit
//! A customer's router or a service is sent away with Cease/1 and comes back after a wait. From an MSEE the surplus is refused and the session
//! stays, because the other MSEE of the circuit announces the same. What is refused is not kept at all; a prefix whose new attributes
//! find no room loses its old ones too, which are not the peer's word any more. Once there is room again, the peer is asked to announce
//! everything anew (RFC 2918).

use std::borrow::Cow;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::adj_in::AdjRibIn;
use super::topology::RibPeer;
use super::{Map, Rib, guard};
use crate::bgp::{Excess, Family, Moment, PathAttributes, PathId, PeerId};
use crate::config::WhenTooMany;

/// What a prefix takes in all tables, roughly: IPv4, IPv6.
pub(super) const PREFIX_BYTES: [usize; 2] = [96, 160];
/// What the reasons of a refused route take.
pub(super) const REFUSED_BYTES: usize = 64;
/// What a path with an identifier takes.
pub(super) const PATH_BYTES: usize = 160;
/// Of one peer, a line so often at most.
const QUIET: Duration = Duration::from_secs(10);
/// Between two requests to announce everything anew.
const ASK_EVERY: Duration = Duration::from_secs(60);
/// Who has had less than this gives nothing back that is worth looking for.
const WORTH_SWEEPING: usize = 256 << 10;
/// When memory of a peer that has gone is looked for: what others were told of its routes is there until they are told otherwise.
const SWEEP_AFTER: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(8)];

/// The sets of attributes that a peer's routes have, each counted once.
#[derive(Default)]
pub(super) struct HeldSets {
    /// How many routes have a set, by its address: a set that some route has is nowhere else.
    users: Map<usize, u32>,
    /// The set that a route was given last, and how many routes have it beside those in `users`: an UPDATE gives many prefixes one set.
    last: Option<(usize, u32)>,
    bytes: usize,
}

impl HeldSets {
    /// One route more has a set.
    pub fn add(&mut self, set: &Arc<PathAttributes>) {
        let key = Arc::as_ptr(set).addr();
        match &mut self.last {
            Some((last, routes)) if *last == key => *routes += 1,
            last => {
                if let Some((before, routes)) = last.replace((key, 1)) {
                    *self.users.entry(before).or_default() += routes;
                }
                if !self.users.contains_key(&key) {
                    self.bytes += set.held_bytes();
                }
            }
        }
    }

    /// One route less has a set.
    pub fn remove(&mut self, set: &Arc<PathAttributes>) {
        let key = Arc::as_ptr(set).addr();
        if let Some((last, routes)) = &mut self.last
            && *last == key
        {
            *routes -= 1;
            if *routes == 0 {
                self.last = None;
                self.forget_unused(key, set);
            }
            return;
        }
        if let Some(routes) = self.users.get_mut(&key) {
            *routes -= 1;
            if *routes == 0 {
                self.users.remove(&key);
                self.forget_unused(key, set);
            }
        }
    }

    fn forget_unused(&mut self, key: usize, set: &PathAttributes) {
        if !self.users.contains_key(&key) {
            self.bytes -= set.held_bytes();
        }
    }

    /// Whether some route has a set.
    pub fn contains(&self, set: &Arc<PathAttributes>) -> bool {
        let key = Arc::as_ptr(set).addr();
        self.last.is_some_and(|(last, _)| last == key) || self.users.contains_key(&key)
    }

    /// What all of them take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What of an announcement is taken.
pub(super) struct Admitted<'a> {
    pub prefixes: Cow<'a, [IpNet]>,
    /// What is refused, and by which limit.
    pub surplus: Option<(Vec<IpNet>, Excess)>,
}

/// What of an announcement there is room for. `is_held`: some route of the peer has these attributes already.
pub(super) fn admit<'a>(
    peer: &RibPeer,
    adj_in: &AdjRibIn,
    prefixes: &'a [IpNet],
    path: Option<PathId>,
    attributes: &PathAttributes,
    is_held: impl FnOnce() -> bool,
) -> Admitted<'a> {
    let all = Admitted { prefixes: Cow::Borrowed(prefixes), surplus: None };
    let Some(family) = prefixes.first().map(Family::of) else { return all };
    if peer.when_too_many == WhenTooMany::Cease {
        return all;
    }
    let (limit, each) =
        (limit(peer), if path.is_some() { PATH_BYTES } else { PREFIX_BYTES[guard::at(family)] });
    let (mut count, mut memory) = (adj_in.count(family), adj_in.memory());
    let mut of_set = attributes.held_bytes();
    let at_most = memory.saturating_add(of_set).saturating_add(prefixes.len() * (each + REFUSED_BYTES));
    if count + prefixes.len() <= limit as usize && at_most <= peer.max_memory {
        return all;
    }
    if is_held() {
        of_set = 0;
    }
    let (mut taken, mut refused, mut excess) = (Vec::new(), Vec::new(), None);
    for prefix in prefixes {
        let is_new = adj_in.attributes(prefix, path).is_none();
        let more = of_set + if is_new { each + REFUSED_BYTES } else { 0 };
        if is_new && count >= limit as usize {
            excess = excess.or(Some(Excess::Prefixes { family, limit }));
            refused.push(*prefix);
        } else if memory + more > peer.max_memory {
            excess = excess.or(Some(Excess::Memory { limit: peer.max_memory }));
            refused.push(*prefix);
        } else {
            (count, memory, of_set) = (count + usize::from(is_new), memory + more, 0);
            taken.push(*prefix);
        }
    }
    Admitted { prefixes: Cow::Owned(taken), surplus: excess.map(|excess| (refused, excess)) }
}

/// The limit that a peer exceeds with what is stored of it, if that ends its session.
pub(super) fn ending_excess(peer: &RibPeer, adj_in: &AdjRibIn, family: Family) -> Option<Excess> {
    if peer.when_too_many != WhenTooMany::Cease {
        return None;
    }
    if adj_in.count(family) > limit(peer) as usize {
        return Some(Excess::Prefixes { family, limit: limit(peer) });
    }
    (adj_in.memory() > peer.max_memory).then_some(Excess::Memory { limit: peer.max_memory })
}

fn limit(peer: &RibPeer) -> u32 {
    peer.max_prefixes.map_or(u32::MAX, |max| max.limit)
}

/// What one peer has announced above its limits.
#[derive(Clone, Copy, Debug, Default)]
struct Over {
    /// How often a prefix was refused, ever.
    refused: u64,
    /// The limit, and an example, while something is missing.
    missing: Option<(Excess, IpNet)>,
    /// Of which families.
    families: [bool; 2],
    unlogged: u64,
    logged: Option<Moment>,
    asked: Option<Moment>,
}

/// That of all peers, and when memory is to be looked for.
#[derive(Debug, Default)]
pub(super) struct Surpluses {
    of: std::collections::BTreeMap<PeerId, Over>,
    wanted_again: Vec<(PeerId, Family)>,
    sweeps: Vec<Moment>,
    has_released: bool,
}

/// Prefixes of a peer that were refused because there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surplus {
    /// Who announces them.
    pub peer: PeerId,
    /// Which limit is exceeded.
    pub excess: Excess,
    /// One of them.
    pub example: IpNet,
    /// How many times one was refused: of [`Rib::take_surplus`] since the last time, of [`Rib::surplus`] ever.
    pub refused: u64,
}

impl Surpluses {
    pub fn note(&mut self, peer: PeerId, refused: &[IpNet], excess: Excess) {
        let Some(example) = refused.first() else { return };
        let over = self.of.entry(peer).or_default();
        over.refused += refused.len() as u64;
        over.unlogged += refused.len() as u64;
        over.missing = Some((excess, *example));
        over.families[guard::at(Family::of(example))] = true;
    }

    /// A new session announces everything.
    pub fn begin(&mut self, peer: PeerId) {
        if let Some(over) = self.of.get_mut(&peer) {
            (over.missing, over.families) = (None, [false; 2]);
        }
    }

    /// A peer that had so much has gone.
    pub fn end(&mut self, peer: PeerId, memory: usize, now: Moment) {
        self.begin(peer);
        if memory >= WORTH_SWEEPING {
            self.sweeps = SWEEP_AFTER.map(|after| now + after).to_vec();
        }
    }

    /// How often a prefix of a peer was refused, and whether one is missing now.
    pub fn counts(&self, peer: PeerId) -> (u64, bool) {
        self.of.get(&peer).map_or((0, false), |over| (over.refused, over.missing.is_some()))
    }
}

impl Rib {
    /// Sees to memory that nobody uses any more, and to peers whose refused prefixes have room now.
    pub(super) fn tick_budget(&mut self) {
        let now = self.now;
        let due = self.surpluses.sweeps.len();
        self.surpluses.sweeps.retain(|at| *at > now);
        if self.surpluses.sweeps.len() < due {
            self.last_paths = None;
            self.attributes.sweep_now();
            self.paths.sweep_now();
            self.surpluses.has_released = true;
        }
        for (peer, over) in &mut self.surpluses.of {
            let is_early = over.asked.is_some_and(|asked| now - asked < ASK_EVERY);
            let (Some(_), false, Some(config)) = (over.missing, is_early, self.config.peer(*peer)) else {
                continue;
            };
            let Some(adj_in) = self.adj_in.get(usize::from(peer.0)) else { continue };
            let families = [Family::Ipv4Unicast, Family::Ipv6Unicast];
            let missing: Vec<Family> =
                families.into_iter().filter(|it| over.families[guard::at(*it)]).collect();
            let has_room = |family: &Family| is_roomy(adj_in.count(*family), limit(config) as usize);
            if is_roomy(adj_in.memory(), config.max_memory) && missing.iter().all(has_room) {
                self.surpluses.wanted_again.extend(missing.into_iter().map(|family| (*peer, family)));
                (over.missing, over.families, over.asked) = (None, [false; 2], Some(now));
            }
        }
    }

    /// The families that peers are to be asked for again: some of their prefixes were refused for want of room, and now there is some.
    pub fn take_wanted_again(&mut self) -> Vec<(PeerId, Family)> {
        mem::take(&mut self.surpluses.wanted_again)
    }

    /// The refused prefixes that are to be logged now.
    pub fn take_surplus(&mut self) -> Vec<Surplus> {
        let now = self.now;
        let mut list = Vec::new();
        for (peer, over) in &mut self.surpluses.of {
            let is_early = over.logged.is_some_and(|logged| now - logged < QUIET);
            let (Some((excess, example)), false, 1..) = (over.missing, is_early, over.unlogged) else {
                continue;
            };
            over.logged = Some(now);
            list.push(Surplus { peer: *peer, excess, example, refused: mem::take(&mut over.unlogged) });
        }
        list
    }

    /// The peers of which prefixes are missing now because they announce too much.
    pub fn surplus(&self) -> impl Iterator<Item = Surplus> {
        self.surpluses.of.iter().filter_map(|(peer, over)| {
            let (excess, example) = over.missing?;
            Some(Surplus { peer: *peer, excess, example, refused: over.refused })
        })
    }

    /// Whether memory has become free that is worth giving back to the system.
    pub fn take_released(&mut self) -> bool {
        mem::take(&mut self.surpluses.has_released)
    }
}

/// Nine tenths are in use at most.
fn is_roomy(used: usize, limit: usize) -> bool {
    used <= limit - limit / 10
}
