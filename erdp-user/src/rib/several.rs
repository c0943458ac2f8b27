//! The paths of a peer that tells several to one prefix (RFC 7911): each with its identifier, its attributes and its refusals.
//!
//! They are kept apart from the routes of peers that tell one, which pay nothing for this. A prefix has few of them, so they are a
//! list, in the order of their identifiers. How many there are at most is bounded as routes are: each counts for `max-prefixes`.

use std::sync::Arc;

use ipnet::IpNet;

use super::adj_in::{PathIn, Refusals};
use super::budget::{HeldSets, PATH_BYTES, REFUSED_BYTES};
use super::drain::is_draining;
use super::prefix_map::PrefixMap;
use crate::bgp::{Family, PathAttributes, PathId};

/// All of them, of one peer.
#[derive(Default)]
pub(super) struct SeveralPaths {
    prefixes: PrefixMap<Vec<Told>>,
    /// What their sets of attributes take.
    sets: HeldSets,
    /// IPv4 and IPv6 paths.
    counts: [usize; 2],
    refused: usize,
    stale: usize,
    draining: usize,
}

/// One path.
struct Told {
    id: PathId,
    /// As received; one copy of each set.
    attributes: Arc<PathAttributes>,
    refusals: Option<Refusals>,
    is_stale: bool,
}

impl SeveralPaths {
    /// Stores a path; whether anything is different now.
    pub fn insert(
        &mut self,
        prefix: IpNet,
        id: PathId,
        attributes: &Arc<PathAttributes>,
        refusals: Option<Refusals>,
    ) -> bool {
        let mut paths = self.prefixes.remove(&prefix).unwrap_or_default();
        let now = Told { id, attributes: attributes.clone(), refusals, is_stale: false };
        self.count(&prefix, &now, true);
        let is_same = match paths.binary_search_by_key(&id, |path| path.id) {
            Ok(at) => {
                let before = std::mem::replace(&mut paths[at], now);
                self.count(&prefix, &before, false);
                // Attributes are interned: the same ones are at the same address.
                Arc::ptr_eq(&before.attributes, attributes) && before.refusals == paths[at].refusals
            }
            Err(at) => {
                paths.insert(at, now);
                false
            }
        };
        self.prefixes.insert(&prefix, paths);
        !is_same
    }

    /// Removes a path; whether it was there.
    pub fn remove(&mut self, prefix: IpNet, id: PathId) -> bool {
        self.retain(prefix, |path| path.id != id)
    }

    /// Removes all paths to a prefix that are not to stay; whether there was one.
    fn retain(&mut self, prefix: IpNet, stays: impl Fn(&Told) -> bool) -> bool {
        let Some(paths) = self.prefixes.remove(&prefix) else { return false };
        let (stay, gone): (Vec<Told>, Vec<Told>) = paths.into_iter().partition(stays);
        gone.iter().for_each(|path| self.count(&prefix, path, false));
        if !stay.is_empty() {
            self.prefixes.insert(&prefix, stay);
        }
        !gone.is_empty()
    }

    /// From now on everything of a family counts as not said again.
    pub fn mark_stale(&mut self, family: Family) {
        for prefix in self.prefixes.keys_of(family) {
            let Some(mut paths) = self.prefixes.remove(&prefix) else { continue };
            for path in paths.iter_mut().filter(|path| !path.is_stale) {
                path.is_stale = true;
                self.stale += 1;
            }
            self.prefixes.insert(&prefix, paths);
        }
    }

    /// Removes what was not said again of a family; the prefixes of it.
    pub fn sweep(&mut self, family: Family) -> Vec<IpNet> {
        if self.stale == 0 {
            return Vec::new();
        }
        let mut gone = self.prefixes.keys_of(family);
        gone.retain(|prefix| self.retain(*prefix, |path| !path.is_stale));
        gone
    }

    /// Removes all paths of a family; the prefixes of it.
    pub fn remove_family(&mut self, family: Family) -> Vec<IpNet> {
        let gone = self.prefixes.keys_of(family);
        for prefix in &gone {
            self.retain(*prefix, |_| false);
        }
        gone
    }

    /// Judges every path again; the prefixes about which the answer differs.
    pub fn judge_again(&mut self, judge: impl Fn(IpNet, &PathAttributes) -> Option<Refusals>) -> Vec<IpNet> {
        let mut differing = Vec::new();
        for prefix in self.prefixes.keys().collect::<Vec<_>>() {
            let Some(mut paths) = self.prefixes.remove(&prefix) else { continue };
            let mut differs = false;
            for path in &mut paths {
                let refusals = judge(prefix, &path.attributes);
                differs |= refusals != path.refusals;
                self.refused -= usize::from(path.refusals.is_some());
                self.refused += usize::from(refusals.is_some());
                path.refusals = refusals;
            }
            self.prefixes.insert(&prefix, paths);
            if differs {
                differing.push(prefix);
            }
        }
        differing
    }

    /// The paths to a prefix, in the order of their identifiers.
    pub fn paths(&self, prefix: &IpNet) -> impl Iterator<Item = PathIn<'_>> {
        let paths = if self.is_empty() { None } else { self.prefixes.get(prefix) };
        paths.into_iter().flatten().map(Told::view)
    }

    /// Every path.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, PathIn<'_>)> {
        self.prefixes.iter().flat_map(|(prefix, paths)| paths.iter().map(move |path| (prefix, path.view())))
    }

    /// Every prefix, once.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        self.prefixes.keys()
    }

    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// How many paths of a family there are.
    pub fn count_of(&self, family: Family) -> usize {
        self.counts[super::guard::at(family)]
    }

    /// How many paths there are, and how many of them at least one domain refused.
    pub fn counts(&self) -> (usize, usize) {
        (self.counts.iter().sum(), self.refused)
    }

    /// How many of them the peer has not said again, and how many ask to be spared.
    pub fn stale_and_draining(&self) -> (usize, usize) {
        (self.stale, self.draining)
    }

    fn count(&mut self, prefix: &IpNet, path: &Told, comes: bool) {
        let step = |count: &mut usize, counts: bool| match (counts, comes) {
            (false, _) => {}
            (true, true) => *count += 1,
            (true, false) => *count -= 1,
        };
        step(&mut self.counts[super::guard::at(Family::of(prefix))], true);
        step(&mut self.refused, path.refusals.is_some());
        step(&mut self.stale, path.is_stale);
        step(&mut self.draining, is_draining(&path.attributes));
        if comes {
            self.sets.add(&path.attributes);
        } else {
            self.sets.remove(&path.attributes);
        }
    }

    /// What all of it takes, by the rules of [`super::budget`].
    pub fn memory(&self) -> usize {
        self.sets.bytes() + self.counts.iter().sum::<usize>() * PATH_BYTES + self.refused * REFUSED_BYTES
    }

    /// Whether some path has these attributes; they are interned.
    pub fn has_set(&self, set: &Arc<PathAttributes>) -> bool {
        self.sets.contains(set)
    }
}

impl Told {
    fn view(&self) -> PathIn<'_> {
        PathIn { path: Some(self.id), attributes: &self.attributes, refusals: self.refusals.as_ref() }
    }
}
