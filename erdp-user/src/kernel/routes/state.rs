//! The routes and nexthop objects of the watched tables at one time, and what one fact changes in them.
//!
//! Every route of a watched table is kept, wanted or not, because a later one may take its place without a word about it. Rules of
//! `fib_table_insert` and `fib6_add_rt2node` (Linux 6.18):
//! - IPv4: routes of one prefix, type of service and metric are a list. "Replace" takes the place of its first, "append" goes behind
//!   it, "prepend" (a plain create) before it. Equal ones cannot be in it twice, so a "replace" by one that is there already says only
//!   that its nexthop object is another thing now. The first of the lowest metric is used.
//! - IPv6: gateways of one metric are one route with many next hops, and a message about it names them all, but one about its loss may
//!   name only those that have gone. Routes without a gateway or with an object stand beside it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ipnet::IpNet;

use super::{Elsewhere, Fact, Hop, How, Kind, Leads, NextHop, Route, Selected, Watch};

/// Table and prefix.
pub(super) type Key = (u32, IpNet);

/// Tables and objects at one time.
#[derive(Default)]
pub(super) struct State {
    pub routes: HashMap<Key, Vec<Route>, foldhash::fast::RandomState>,
    pub next_hops: HashMap<u32, NextHop>,
    /// How many routes each object has.
    pub users: HashMap<u32, usize>,
}

impl State {
    /// Applies a fact; the prefixes that it has touched are added to `touched`. The answer is whether it fits to what is known.
    pub fn apply(&mut self, watches: &[Watch], fact: &Fact, touched: &mut Vec<Key>) -> bool {
        let is_watched = |table: u32| watches.iter().any(|watch| watch.table == table);
        match fact {
            Fact::Route(table, prefix, route, how) if is_watched(*table) => {
                let key = (*table, *prefix);
                self.edit(key, |list| {
                    insert(list, route, *how, prefix.addr().is_ipv4());
                    true
                });
                touched.push(key);
                route.object.is_none_or(|id| self.next_hops.contains_key(&id))
            }
            Fact::RouteGone(table, prefix, route) if is_watched(*table) => {
                let key = (*table, *prefix);
                touched.push(key);
                self.edit(key, |list| remove(list, route, prefix.addr().is_ipv4()))
            }
            Fact::NextHop(id, next_hop) => {
                self.next_hops.insert(*id, next_hop.clone());
                true
            }
            Fact::NextHopGone(id) => {
                self.next_hops.remove(id);
                self.remove_users(*id, touched);
                true
            }
            Fact::Route(..) | Fact::RouteGone(..) | Fact::Link(..) | Fact::Lost | Fact::Done(_) => true,
        }
    }

    /// The kernel removes routes together with their object, and need not say so.
    fn remove_users(&mut self, id: u32, touched: &mut Vec<Key>) {
        if !self.users.contains_key(&id) {
            return;
        }
        let is_user = |route: &Route| route.object == Some(id);
        let keys: Vec<Key> = self
            .routes
            .iter()
            .filter(|(_, routes)| routes.iter().any(is_user))
            .map(|(key, _)| *key)
            .collect();
        for key in &keys {
            self.edit(*key, |list| {
                list.retain(|route| !is_user(route));
                true
            });
        }
        touched.extend(keys);
    }

    /// Changes the routes of a prefix, and who uses which object with them.
    fn edit(&mut self, key: Key, edit: impl FnOnce(&mut Vec<Route>) -> bool) -> bool {
        let list = self.routes.entry(key).or_default();
        for id in list.iter().filter_map(|route| route.object) {
            if let Some(count) = self.users.get_mut(&id) {
                *count -= 1;
                if *count == 0 {
                    self.users.remove(&id);
                }
            }
        }
        let fits = edit(list);
        // Stable: those of one metric keep their order, which alone means something.
        list.sort_by_key(|route| (route.metric, route.tos));
        for id in list.iter().filter_map(|route| route.object) {
            *self.users.entry(id).or_default() += 1;
        }
        if list.is_empty() {
            self.routes.remove(&key);
        }
        fits
    }

    pub fn groups_with<'a>(&'a self, ids: &'a HashSet<u32>) -> impl Iterator<Item = u32> + 'a {
        self.next_hops.iter().filter_map(move |(id, next_hop)| match next_hop {
            NextHop::Group(members) => members.iter().any(|(member, _)| ids.contains(member)).then_some(*id),
            NextHop::Single(_) | NextHop::Discard | NextHop::Foreign => None,
        })
    }

    /// What the kernel would use of a prefix's routes that a watch wants.
    pub fn select(&self, key: &Key, watch: &Watch) -> Option<Selected> {
        let wanted = self.routes.get(key)?.iter().filter(|route| watch.protocols.contains(&route.protocol));
        let usable = wanted.filter_map(|route| Some((route, self.leads(route)?)));
        let (route, leads) = usable.min_by_key(|(route, _)| (route.tos != 0, route.metric))?;
        let leads = if route.tos == 0 { leads } else { Leads::Elsewhere(Elsewhere::Tos) };
        Some(Selected { metric: route.metric, protocol: route.protocol, leads })
    }

    /// Where a route leads; `None`: nowhere at present, or its object is not known.
    fn leads(&self, route: &Route) -> Option<Leads> {
        let hops: Arc<[Hop]> = match (route.kind, route.object) {
            (Kind::Discard, _) => return Some(Leads::Discard),
            (Kind::Throw, _) => return Some(Leads::Elsewhere(Elsewhere::Throw)),
            (Kind::Unicast, None) if !route.hops.iter().any(|hop| hop.dead) => route.hops.clone(),
            (Kind::Unicast, None) => route.hops.iter().filter(|hop| !hop.dead).cloned().collect(),
            (Kind::Unicast, Some(id)) => match self.next_hops.get(&id)? {
                NextHop::Discard => return Some(Leads::Discard),
                NextHop::Foreign => return None,
                NextHop::Single(hop) => Some(hop).filter(|hop| !hop.dead).into_iter().cloned().collect(),
                NextHop::Group(members) => {
                    if let [(only, _)] = members[..]
                        && self.next_hops.get(&only) == Some(&NextHop::Discard)
                    {
                        return Some(Leads::Discard);
                    }
                    members.iter().filter_map(|(id, weight)| self.member(*id, *weight)).collect()
                }
            },
        };
        (!hops.is_empty()).then_some(Leads::Hops(hops))
    }

    fn member(&self, id: u32, weight: u32) -> Option<Hop> {
        match self.next_hops.get(&id)? {
            NextHop::Single(hop) if !hop.dead => Some(Hop { weight, ..hop.clone() }),
            NextHop::Single(_) | NextHop::Discard | NextHop::Group(_) | NextHop::Foreign => None,
        }
    }
}

fn insert(list: &mut Vec<Route>, route: &Route, how: How, is_ipv4: bool) {
    if is_ipv4 { insert_v4(list, route, how) } else { insert_v6(list, route, how) }
}

fn insert_v4(list: &mut Vec<Route>, route: &Route, how: How) {
    let is_beside = |other: &Route| other.metric == route.metric && other.tos == route.tos;
    if how == How::Replace {
        // One that is there already has an object that is another thing now (`fib_info_notify_update`, Linux 6.18): it stays where it is.
        let place = list.iter().position(|other| is_same(other, route));
        if let Some(at) = place.or_else(|| list.iter().position(is_beside)) {
            list[at] = route.clone();
            return;
        }
    }
    list.retain(|other| !is_same(other, route) && (how != How::Alone || !is_beside(other)));
    match how {
        How::Prepend => list.insert(0, route.clone()),
        How::Alone | How::Append | How::Replace => list.push(route.clone()),
    }
}

/// Gateways of one metric are one route.
fn joins(route: &Route) -> bool {
    route.kind == Kind::Unicast
        && route.object.is_none()
        && route.hops.iter().all(|hop| hop.gateway.is_some())
}

fn insert_v6(list: &mut Vec<Route>, route: &Route, how: How) {
    let place = if joins(route) {
        let is_joined = |other: &Route| other.metric == route.metric && joins(other);
        let place = list.iter().position(is_joined);
        let mut at = 0;
        list.retain(|other| {
            at += 1;
            Some(at - 1) == place || !is_joined(other)
        });
        place
    } else {
        list.iter().position(|other| is_same(other, route)).or_else(|| {
            let is_beside = |other: &Route| other.metric == route.metric && !joins(other);
            (how == How::Replace).then(|| list.iter().position(is_beside)).flatten()
        })
    };
    // Where nothing of its own sort can be replaced, the first of its metric is.
    let instead = || {
        (how == How::Replace).then(|| list.iter().position(|other| other.metric == route.metric)).flatten()
    };
    match place.or_else(instead) {
        Some(at) => list[at] = route.clone(),
        None => list.push(route.clone()),
    }
}

/// Removes a route; whether it was there.
fn remove(list: &mut Vec<Route>, route: &Route, is_ipv4: bool) -> bool {
    if let Some(at) = list.iter().position(|other| is_same(other, route)) {
        list.remove(at);
        return true;
    }
    if is_ipv4 || !joins(route) {
        return false;
    }
    let Some(at) = list.iter().position(|other| other.metric == route.metric && joins(other)) else {
        return false;
    };
    let is_gone = |hop: &Hop| route.hops.iter().any(|gone| leads_alike(gone, hop));
    let left: Arc<[Hop]> = list[at].hops.iter().filter(|hop| !is_gone(hop)).cloned().collect();
    let fits = left.len() + route.hops.len() == list[at].hops.len();
    if left.is_empty() {
        list.remove(at);
    } else {
        list[at].hops = left;
    }
    fits
}

/// Whether it is the same route for the kernel; what has become of its interfaces does not matter.
fn is_same(one: &Route, other: &Route) -> bool {
    (one.metric, one.tos, one.protocol, one.kind, one.object)
        == (other.metric, other.tos, other.protocol, other.kind, other.object)
        && one.hops.len() == other.hops.len()
        && one.hops.iter().zip(other.hops.iter()).all(|(a, b)| leads_alike(a, b) && a.weight == b.weight)
}

fn leads_alike(one: &Hop, other: &Hop) -> bool {
    (one.ifindex, one.gateway) == (other.ifindex, other.gateway)
}
