//! What the kernel's tables hold. Pure: [`Frame`]s, overruns and time go in, [`Change`]s and requests for dumps come out.
//!
//! Every route of a watched table is kept, wanted or not, because a later one may take its place without a word about it. Rules of
//! `fib_table_insert` and `fib6_add_rt2node` (Linux 6.18):
//! - IPv4: routes of one prefix, type of service and metric are a list. "Replace" takes the place of its first, "append" goes behind
//!   it, "prepend" (a plain create) before it. Equal ones cannot be in it twice. The first of the lowest metric is used.
//! - IPv6: gateways of one metric are one route with many next hops, and a message about it names them all, but one about its loss may
//!   name only those that have gone. Routes without a gateway or with an object stand beside it.
//!
//! A dump is wanted at the start, after an overrun, after [`Fact::Lost`] or a change of a link, when something does not fit, and every
//! [`CHECK_EVERY`] anyway: what that one finds is counted as repaired.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;

use super::{
    Change, Elsewhere, Fact, Frame, Hop, How, Kind, Leads, NextHop, Request, Route, Selected, Watch,
};

/// Time between the end of a dump and the next one at least; more where dumps take long.
const REST: Duration = Duration::from_millis(100);
/// A dump takes at most this share of the time: 1 in so many.
const SHARE: u32 = 5;
/// How often everything is compared without a reason.
const CHECK_EVERY: Duration = Duration::from_secs(60);

type Key = (u32, IpNet);

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Routes in the watched tables, wanted or not.
    pub routes: usize,
    /// Nexthop objects.
    pub next_hops: usize,
    /// Complete dumps.
    pub dumps: u64,
    /// Times that the kernel had no room for a notification.
    pub overruns: u64,
    /// Prefixes that a dump after the first has put right.
    pub repaired: u64,
}

/// Tables and objects at one time.
#[derive(Default)]
struct State {
    routes: HashMap<Key, Vec<Route>, foldhash::fast::RandomState>,
    next_hops: HashMap<u32, NextHop>,
    /// How many routes each object has.
    users: HashMap<u32, usize>,
}

/// A dump on its way.
enum Dump {
    /// None; the next may begin then.
    Idle,
    /// This has been asked for, by this number; what has come so far.
    Running { request: Request, sequence: u32, begun: Duration, state: State },
}

/// See the file.
pub struct Tracker {
    watches: Vec<Watch>,
    state: State,
    dump: Dump,
    sequence: u32,
    /// A dump is wanted.
    doubtful: bool,
    not_before: Duration,
    check_at: Duration,
    is_complete: bool,
    /// A dump is complete and has not been told of.
    completed: bool,
    links: HashMap<u32, bool>,
    changed: HashSet<Key>,
    changed_objects: HashSet<u32>,
    counts: Counts,
}

impl Tracker {
    /// Knows nothing, and wants a dump.
    pub fn new(watches: Vec<Watch>) -> Self {
        Self {
            watches,
            state: State::default(),
            dump: Dump::Idle,
            sequence: 0,
            doubtful: true,
            not_before: Duration::ZERO,
            check_at: Duration::MAX,
            is_complete: false,
            completed: false,
            links: HashMap::new(),
            changed: HashSet::new(),
            changed_objects: HashSet::new(),
            counts: Counts::default(),
        }
    }

    /// Takes a message.
    pub fn handle(&mut self, frame: Frame, now: Duration) {
        match (frame.answers, &mut self.dump) {
            (Some(answers), Dump::Running { sequence, state, .. }) if *sequence == answers => {
                match frame.fact {
                    Fact::Done(is_good) => self.end_of_part(is_good, frame.interrupted, now),
                    fact => {
                        self.doubtful |= frame.interrupted;
                        let watches = &self.watches;
                        // A dump knows only "there is".
                        let fact = match fact {
                            Fact::Route(table, prefix, route, _) => {
                                Fact::Route(table, prefix, route, How::Append)
                            }
                            fact => fact,
                        };
                        state.apply(watches, &fact, &mut Vec::new());
                    }
                }
            }
            (Some(_), _) => {}
            (None, _) => self.change(frame.fact),
        }
    }

    /// The kernel has lost notifications.
    pub fn handle_overrun(&mut self) {
        self.counts.overruns += 1;
        self.doubtful = true;
    }

    /// A request could not be made: once more, later.
    pub fn handle_refusal(&mut self, now: Duration) {
        self.end_of_part(false, false, now);
    }

    /// What to ask the kernel now, with the number of the request.
    pub fn poll_request(&mut self, now: Duration) -> Option<(Request, u32)> {
        if let Dump::Idle = self.dump {
            let is_due = (self.doubtful && now >= self.not_before) || now >= self.check_at;
            if !is_due {
                return None;
            }
            self.doubtful = false;
            self.begin(Request::NextHops, State::default(), now);
        }
        match &self.dump {
            Dump::Running { request, sequence, .. } if *sequence != self.sequence => {
                self.sequence = *sequence;
                Some((*request, *sequence))
            }
            _ => None,
        }
    }

    /// When [`Self::poll_request`] may have something without a message before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match (&self.dump, self.doubtful) {
            (Dump::Running { .. }, _) => None,
            (Dump::Idle, true) => Some(self.not_before.min(self.check_at)),
            (Dump::Idle, false) => (self.check_at != Duration::MAX).then_some(self.check_at),
        }
    }

    /// What is different since the last call; nothing before the first dump is complete.
    pub fn take_changes(&mut self) -> Vec<Change> {
        if !self.is_complete {
            return Vec::new();
        }
        self.mark_users();
        let mut changes = Vec::new();
        for key in std::mem::take(&mut self.changed) {
            let watches = self.watches.iter().enumerate().filter(|(_, watch)| watch.table == key.0);
            changes.extend(watches.map(|(index, watch)| Change {
                watch: index,
                prefix: key.1,
                selected: self.state.select(&key, watch),
            }));
        }
        changes.sort_unstable_by_key(|change| (change.watch, change.prefix));
        changes
    }

    /// The counts, if a dump has come to its end since the last call.
    pub fn take_completion(&mut self) -> Option<Counts> {
        std::mem::take(&mut self.completed).then(|| self.counts())
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        let routes = self.state.routes.values().map(Vec::len).sum();
        Counts { routes, next_hops: self.state.next_hops.len(), ..self.counts }
    }

    fn begin(&mut self, request: Request, state: State, begun: Duration) {
        // Zero is the kernel's own number.
        let sequence = self.sequence.wrapping_add(1).max(1);
        self.dump = Dump::Running { request, sequence, begun, state };
    }

    fn end_of_part(&mut self, is_good: bool, interrupted: bool, now: Duration) {
        let Dump::Running { request, begun, state, .. } = std::mem::replace(&mut self.dump, Dump::Idle)
        else {
            return;
        };
        self.doubtful |= interrupted;
        match request {
            // Linux before 5.3 has no objects: then no route has one either.
            Request::NextHops => self.begin(Request::Ipv4, state, begun),
            Request::Ipv4 if is_good => self.begin(Request::Ipv6, state, begun),
            Request::Ipv6 if is_good => {
                self.exchange(state);
                self.rest(begun, now);
            }
            Request::Ipv4 | Request::Ipv6 => {
                self.doubtful = true;
                self.rest(begun, now);
            }
        }
    }

    fn rest(&mut self, begun: Duration, now: Duration) {
        let took = now.saturating_sub(begun);
        self.not_before = now + REST.max(took * (SHARE - 1));
        self.check_at = now + CHECK_EVERY.max(took * SHARE * 10);
    }

    /// The dumped state takes the place of the one before.
    fn exchange(&mut self, state: State) {
        let before = std::mem::replace(&mut self.state, state);
        let mut differing: HashSet<Key> = HashSet::new();
        for (key, routes) in &before.routes {
            if self.state.routes.get(key) != Some(routes) {
                differing.insert(*key);
            }
        }
        differing.extend(self.state.routes.keys().filter(|key| !before.routes.contains_key(key)));
        let is_other = |id: &&u32| before.next_hops.get(id) != self.state.next_hops.get(id);
        let ids: HashSet<u32> =
            before.next_hops.keys().chain(self.state.next_hops.keys()).filter(is_other).copied().collect();
        if self.is_complete {
            self.counts.repaired += differing.len() as u64;
        }
        self.changed.extend(differing);
        self.changed_objects.extend(ids);
        self.counts.dumps += 1;
        self.is_complete = true;
        self.completed = true;
    }

    fn change(&mut self, fact: Fact) {
        match fact {
            Fact::Link(ifindex, is_up) => {
                self.doubtful |= self.links.insert(ifindex, is_up).is_some_and(|it| it != is_up)
            }
            Fact::Lost => self.doubtful = true,
            Fact::Done(_) => {}
            fact => {
                if let Fact::NextHop(id, _) | Fact::NextHopGone(id) = fact {
                    self.changed_objects.insert(id);
                }
                let mut touched = Vec::new();
                let fits = self.state.apply(&self.watches, &fact, &mut touched);
                if let Dump::Running { state, .. } = &mut self.dump {
                    // What has not been dumped yet need not fit.
                    state.apply(&self.watches, &fact, &mut Vec::new());
                }
                self.doubtful |= !fits && self.is_complete;
                self.changed.extend(touched);
            }
        }
    }

    /// Routes whose objects have changed, directly or in a group.
    fn mark_users(&mut self) {
        let mut ids = std::mem::take(&mut self.changed_objects);
        let groups: Vec<u32> = self.state.groups_with(&ids).collect();
        ids.extend(groups);
        ids.retain(|id| self.state.users.contains_key(id));
        if ids.is_empty() {
            return;
        }
        let uses =
            |routes: &Vec<Route>| routes.iter().any(|route| route.object.is_some_and(|id| ids.contains(&id)));
        self.changed.extend(self.state.routes.iter().filter(|(_, routes)| uses(routes)).map(|(key, _)| *key));
    }
}

impl State {
    /// Applies a fact; the prefixes that it has touched are added to `touched`. The answer is whether it fits to what is known.
    fn apply(&mut self, watches: &[Watch], fact: &Fact, touched: &mut Vec<Key>) -> bool {
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
        for id in list.iter().filter_map(|route| route.object) {
            *self.users.entry(id).or_default() += 1;
        }
        if list.is_empty() {
            self.routes.remove(&key);
        }
        fits
    }

    fn groups_with<'a>(&'a self, ids: &'a HashSet<u32>) -> impl Iterator<Item = u32> + 'a {
        self.next_hops.iter().filter_map(move |(id, next_hop)| match next_hop {
            NextHop::Group(members) => members.iter().any(|(member, _)| ids.contains(member)).then_some(*id),
            NextHop::Single(_) | NextHop::Discard | NextHop::Foreign => None,
        })
    }

    /// What the kernel would use of a prefix's routes that a watch wants.
    fn select(&self, key: &Key, watch: &Watch) -> Option<Selected> {
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
    if how == How::Replace
        && let Some(first) = list.iter().position(is_beside)
    {
        list[first] = route.clone();
        return;
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
