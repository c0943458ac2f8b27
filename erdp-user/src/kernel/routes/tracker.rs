//! What has changed in the kernel's tables, for whom, and when they are to be dumped. Pure: [`Frame`]s, overruns and time go in, [`Change`]s and
//! requests for dumps come out. What is known is in [`super::state`].
//!
//! A dump is wanted at the start, after an overrun, after [`Fact::Lost`] or a change of a link, when something does not fit, and every
//! [`CHECK_EVERY`] anyway: what that one finds is counted as repaired.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::{
    Change, Fact, Frame, How, Request, Route, Watch,
    state::{Key, State},
};

/// Time between the end of a dump and the next one at least; more where dumps take long.
const REST: Duration = Duration::from_millis(100);
/// A dump takes at most this share of the time: 1 in so many.
const SHARE: u32 = 5;
/// A dump is not taken to have lasted longer: the process may have been stopped meanwhile, or the machine.
const LONGEST: Duration = Duration::from_secs(15);
/// How often everything is compared without a reason.
const CHECK_EVERY: Duration = Duration::from_secs(60);

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

/// A dump on its way.
enum Dump {
    /// None; the next may begin then.
    Idle,
    /// This has been asked for, by this number; what has come so far. Before the first answer all that is heard is older than the dump.
    Running { request: Request, sequence: u32, answered: bool, begun: Duration, state: State },
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
            (Some(answers), Dump::Running { sequence, answered, state, .. }) if *sequence == answers => {
                *answered = true;
                // A dump knows only "there is".
                let fact = match frame.fact {
                    Fact::Done(is_good) => return self.end_of_part(is_good, frame.interrupted, now),
                    Fact::Route(table, prefix, route, _) => Fact::Route(table, prefix, route, How::Append),
                    fact => fact,
                };
                self.doubtful |= frame.interrupted;
                state.apply(&self.watches, &fact, &mut Vec::new());
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
        self.dump = Dump::Running { request, sequence, answered: false, begun, state };
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
        let took = now.saturating_sub(begun).min(LONGEST);
        self.not_before = now + REST.max(took * (SHARE - 1));
        self.check_at = now + CHECK_EVERY.max(took * SHARE * 10);
    }

    /// The dumped state takes the place of the one before.
    fn exchange(&mut self, state: State) {
        let before = std::mem::replace(&mut self.state, state);
        let keys: HashSet<&Key> = before.routes.keys().chain(self.state.routes.keys()).collect();
        let is_other = |key: &&Key| !self.wanted(&before, key).eq(self.wanted(&self.state, key));
        let differing: Vec<Key> = keys.into_iter().filter(is_other).copied().collect();
        let is_other = |id: &&u32| before.next_hops.get(id) != self.state.next_hops.get(id);
        let ids: Vec<u32> =
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

    /// The routes of a prefix that somebody wants.
    fn wanted<'a>(&'a self, state: &'a State, key: &Key) -> impl Iterator<Item = &'a Route> {
        let table = key.0;
        let is_wanted = move |route: &&Route| {
            let mut watches = self.watches.iter().filter(|watch| watch.table == table);
            watches.any(|watch| watch.protocols.contains(&route.protocol))
        };
        state.routes.get(key).into_iter().flatten().filter(is_wanted)
    }

    fn change(&mut self, fact: Fact) {
        match fact {
            // What it was before is not known of the first message about an interface: it may have been the other thing.
            Fact::Link(ifindex, is_up) => self.doubtful |= self.links.insert(ifindex, is_up) != Some(is_up),
            Fact::Lost => self.doubtful = true,
            Fact::Done(_) => {}
            fact => {
                if let Fact::NextHop(id, _) | Fact::NextHopGone(id) = fact {
                    self.changed_objects.insert(id);
                }
                let mut touched = Vec::new();
                let fits = self.state.apply(&self.watches, &fact, &mut touched);
                if let Dump::Running { request, answered, state, .. } = &mut self.dump
                    && request.has_come_to(&fact, *answered)
                {
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

impl Request {
    /// Whether a dump of this part has begun, or been made, of what a change is about: if not, the dump is newer than the change.
    fn has_come_to(self, fact: &Fact, answered: bool) -> bool {
        let part = match fact {
            Fact::Route(_, prefix, ..) | Fact::RouteGone(_, prefix, _) if prefix.addr().is_ipv4() => {
                Self::Ipv4
            }
            Fact::Route(..) | Fact::RouteGone(..) => Self::Ipv6,
            Fact::NextHop(..) | Fact::NextHopGone(_) | Fact::Link(..) | Fact::Lost | Fact::Done(_) => {
                Self::NextHops
            }
        };
        part < self || (part == self && answered)
    }
}
