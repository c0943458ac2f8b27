//! From the RIB's decisions and the kernel's facts to records in maps: resolve, compile, write only what differs.
//!
//! # A route's way
//! [`Forwarding::routes`] takes what the RIB has decided for prefixes of routing domains. Each *view* is one routing table
//! pair in the trie: one for each domain, which its MSEE attachments use, and one for each combination of domains that a CE
//! attachment lists (C6): there the first listed domain that has a route for a prefix wins. [`views`] says what may be in one. A set of next hops becomes a
//! group, equal sets share one; [`ids`] hands out identifiers, counted and reused only after a grace period.
//!
//! # A neighbour's way
//! [`Forwarding::neighbour`] turns a MAC address into the next hop's layer 2 header; on a connected subnet of a CE attachment
//! it also makes a host route. [`Forwarding::link`] writes the one word that a failover needs. Both are in [`neighbours`].
//!
//! Questions about packets are answered from what has been written (`asked`).
//!
//! # What must never happen
//! A packet meets a reference to a record that is not written: next hops are written before groups before routes, and
//! removed in reverse. Nothing here has a clock or does I/O but through [`Dataplane`]; time is an argument.

mod adopted;
mod asked;
mod connected;
mod ids;
mod neighbours;
mod renew;
mod reshape;
mod said;
mod shares;
mod suspend;
mod topology;
mod views;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    num::NonZero,
    sync::Arc,
};

use erdp_common::{
    abi::{
        Attachment, GROUP_DISCARD, GROUP_ENCRYPTED_ONLY, GROUP_GLEAN, GROUP_MEMBERS, GROUP_ZONE_FORBIDDEN,
        Group, MAX_GROUPS, MAX_NEXT_HOPS,
    },
    fib::build::{Fib, PoolFull, Prefix, Store, Table},
    group::{Member, fill},
};
use ipnet::IpNet;

pub use self::{
    adopted::Adopted,
    asked::Match,
    shares::scaled,
    suspend::Share,
    topology::{AttachmentFacts, SourceCheck, Topology},
    views::{Policy, Source},
};
use crate::{
    dataplane::{Dataplane, DataplaneError, Record},
    rib::DEFAULT_LOCAL_PREF,
    types::AttachmentId,
};
use ids::Ids;
use said::{Said, Word};
use shares::members_of;

/// A neighbour as the RIB names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NextHopKey {
    /// The attachment it is reached through.
    pub attachment: AttachmentId,
    /// Its address on that wire.
    pub address: IpAddr,
}

/// What a route leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// One of these neighbours, at most [`GROUP_MEMBERS`].
    Forward(BTreeSet<NextHopKey>),
    /// The same with shares of the flows that are the route's own, beside what the attachments weigh.
    Weighted(BTreeMap<NextHopKey, NonZero<u8>>),
    /// The destination is itself a neighbour on this attachment's wire.
    Glean(AttachmentId),
    /// Nothing: drop on purpose.
    Discard,
    /// Nothing: zones keep the two ends apart (C5).
    ZoneForbidden,
    /// Nothing: it must not go in clear (B9).
    EncryptedOnly,
}

/// What the kernel should do for a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Resolve it and keep it resolved: routes use it, or it is a peer.
    Watch(NextHopKey),
    /// No route uses it any more, and it is no peer.
    Forget(NextHopKey),
    /// It is not resolved, and now it can be: ask at once.
    Renew(NextHopKey),
}

/// Why a route could not be written. The maps hold the last good state.
#[derive(Debug, thiserror::Error)]
pub enum FibError {
    /// The trie's pool has no room left.
    #[error(
        "no room for {prefix}: it needs {needed} KiB more and the pool of {capacity} KiB is full; raise `fib-blocks`"
    )]
    PoolFull {
        /// The route.
        prefix: IpNet,
        /// KiB it lacks.
        needed: u32,
        /// KiB of the pool.
        capacity: u32,
    },
    /// All identifiers of a kind are in use.
    #[error("no room for {what}: all {limit} are in use")]
    IdsExhausted {
        /// `next hops` or `groups`.
        what: &'static str,
        /// How many there are.
        limit: u32,
    },
    /// The kernel refused.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
}

/// One routing table pair.
struct View {
    policy: Policy,
    /// Prefixes that only a forbidden source has.
    refusals: BTreeSet<IpNet>,
    table4: Table,
    table6: Table,
}

/// A prefix's group in a view, as it is and as it is to be; `None`: no route.
#[derive(Clone, Copy)]
struct Placement {
    prefix: IpNet,
    before: Option<u32>,
    group: Option<u32>,
}

/// Everything that has been written, and how it hangs together.
pub struct Forwarding {
    topology: Topology,
    /// Whether any prefix must not go in clear (B9); most edges have none.
    has_guards: bool,
    fib: Fib<Box<dyn Store + Send>>,
    views: Vec<View>,
    /// What each domain says about a prefix, as far as the trie does not say it; connected subnets and hosts are routes like others.
    /// What is installed is kept by the trie's own shadow and nowhere else: a full table is in memory often enough.
    said: Vec<Said>,
    /// What each domain's routes are worth that are not worth what most are: for views that compare. A full table is worth the same
    /// throughout, most often.
    worth: Vec<HashMap<IpNet, u32, foldhash::fast::RandomState>>,
    /// Prefixes that found no room, to be tried again when there may be some.
    unplaced: BTreeSet<(usize, IpNet)>,
    groups: Ids<Arc<Target>>,
    /// The records of the groups in use: a group that takes over from another keeps its buckets where it can.
    written: HashMap<u32, Group>,
    next_hops: Ids<NextHopKey>,
    macs: HashMap<NextHopKey, [u8; 6]>,
    link_facts: HashMap<AttachmentId, LinkFacts>,
    bfd: HashMap<NextHopKey, u16>,
    /// Attachments whose neighbours count as dead: see [`Self::suspend`].
    suspended: BTreeSet<AttachmentId>,
    /// Neighbours that are kept resolved whether a route leads to them or not: see [`Self::keep`].
    kept: BTreeSet<NextHopKey>,
    wishes: Vec<Wish>,
}

/// What the kernel says of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkFacts {
    /// Our MAC address.
    pub mac: [u8; 6],
    /// IP MTU in bytes, tags not counted.
    pub mtu: u16,
}

impl Forwarding {
    /// Writes ports, VLANs and attachments, and makes the empty tables of all views.
    pub fn new(topology: Topology, dataplane: &mut dyn Dataplane) -> Result<Self, FibError> {
        let store = dataplane
            .take_store()
            .ok_or_else(|| DataplaneError::Map { map: "FIB_LINES", reason: "handed out already".into() })?;
        let mut fib = Fib::new(store);
        let mut views = Vec::new();
        for policy in topology.views() {
            let full = |full: PoolFull| FibError::PoolFull {
                prefix: IpNet::default(),
                needed: full.needed,
                capacity: full.capacity,
            };
            let (table4, table6) = (fib.create_table().map_err(full)?, fib.create_table().map_err(full)?);
            views.push(View { policy, refusals: BTreeSet::new(), table4, table6 });
        }
        let has_guards = topology.attachments().any(|facts| !facts.encrypted_only.is_empty());
        let mut forwarding = Self {
            has_guards,
            topology,
            fib,
            views,
            said: Vec::new(),
            worth: Vec::new(),
            unplaced: BTreeSet::new(),
            groups: Ids::new(MAX_GROUPS),
            written: HashMap::new(),
            next_hops: Ids::new(MAX_NEXT_HOPS),
            macs: HashMap::new(),
            link_facts: HashMap::new(),
            bfd: HashMap::new(),
            suspended: BTreeSet::new(),
            kept: BTreeSet::new(),
            wishes: Vec::new(),
        };
        forwarding.write_attachments(dataplane)?;
        Ok(forwarding)
    }

    /// What the RIB has decided for a prefix of a domain; `None`: no route.
    pub fn route(
        &mut self,
        domain: usize,
        prefix: IpNet,
        target: Option<Target>,
        now_ns: u64,
        dataplane: &mut dyn Dataplane,
    ) -> Result<(), FibError> {
        self.routes([(domain, prefix, target.map(Arc::new))], now_ns, dataplane)
    }

    /// As [`Self::route`], of many prefixes: each node of the trie that they touch is published once. A route that finds no room in
    /// one view is placed in the others, and [`Self::retry`] tries again; the answer is the last error of any.
    pub fn routes(
        &mut self,
        changes: impl IntoIterator<Item = (usize, IpNet, Option<Arc<Target>>)>,
        now_ns: u64,
        dataplane: &mut dyn Dataplane,
    ) -> Result<(), FibError> {
        let mut words: Vec<Word> =
            changes.into_iter().map(|(at, prefix, it)| (at, prefix.trunc(), it)).collect();
        // Stable, so that of several words about a prefix the last one counts.
        words.sort_by_key(|(domain, prefix, _)| (*prefix, *domain));
        words.dedup_by(|later, kept| {
            let is_same = (later.0, later.1) == (kept.0, kept.1);
            if is_same {
                std::mem::swap(later, kept);
            }
            is_same
        });
        self.hear(&words);
        let mut touched: Vec<(usize, IpNet, &[Word])> = Vec::with_capacity(words.len());
        for news in words.chunk_by(|one, other| one.1 == other.1) {
            let Some((_, prefix, _)) = news.first() else { continue };
            for view in 0..self.views.len() {
                let is_concerned = |(domain, ..): &Word| self.views[view].policy.concerns(*domain);
                if news.iter().any(is_concerned) {
                    touched.push((view, *prefix, news));
                    if !self.views[view].refusals.is_empty() {
                        let within = self.refusals_within(view, *prefix);
                        touched.extend(within.into_iter().map(|refusal| (view, refusal, [].as_slice())));
                    }
                }
            }
        }
        if self.is_zoned() {
            // A refusal may be touched on its own account and by a route that covers it.
            touched.sort_unstable_by_key(|(view, prefix, news)| (*view, *prefix, news.is_empty()));
            touched.dedup_by_key(|(view, prefix, _)| (*view, *prefix));
        }
        let result = self.install_news(touched, now_ns, dataplane);
        words.into_iter().for_each(|word| self.leave_word(word));
        result
    }

    /// Sets the local preference of a domain's route to a prefix, for attachments that compare their circuits. It takes effect with the next
    /// [`Self::routes`] that has the route, changed or not.
    pub fn rank(&mut self, domain: usize, prefix: IpNet, worth: u32) {
        if worth == DEFAULT_LOCAL_PREF {
            if let Some(known) = self.worth.get_mut(domain).filter(|known| !known.is_empty()) {
                known.remove(&prefix);
            }
            return;
        }
        if self.worth.len() <= domain {
            self.worth.resize_with(domain + 1, HashMap::default);
        }
        self.worth[domain].insert(prefix, worth);
    }

    /// What a domain's route to a prefix is worth.
    fn worth(&self, domain: usize, prefix: &IpNet) -> u32 {
        let known = self.worth.get(domain).filter(|known| !known.is_empty());
        known.and_then(|known| known.get(prefix)).copied().unwrap_or(DEFAULT_LOCAL_PREF)
    }

    /// Tries again what found no room: lines and identifiers come free after their grace period. Stops at the first that
    /// still finds none.
    pub fn retry(&mut self, now_ns: u64, dataplane: &mut dyn Dataplane) -> Result<(), FibError> {
        while let Some(first) = self.unplaced.first().copied() {
            if self.install([first], now_ns, dataplane).is_err() {
                break;
            }
            (0..self.said.len()).for_each(|domain| self.leave_to_trie(domain, first.1));
        }
        Ok(())
    }

    /// Our own MAC address and MTU on an interface.
    pub fn link_facts(
        &mut self,
        ifindex: u32,
        facts: LinkFacts,
        dataplane: &mut dyn Dataplane,
    ) -> Result<(), FibError> {
        let on_it: Vec<AttachmentId> = self.topology.on_interface(ifindex).map(|facts| facts.id).collect();
        for attachment in on_it {
            if self.link_facts.insert(attachment, facts) == Some(facts) {
                continue;
            }
            self.write_next_hops(attachment, dataplane)?;
        }
        Ok(())
    }

    /// Which policers an attachment has, inbound and outbound; their records are written already.
    pub fn policers(
        &mut self,
        attachment: AttachmentId,
        policers: [u16; 2],
        dataplane: &mut dyn Dataplane,
    ) -> Result<(), FibError> {
        self.topology.set_policers(attachment, policers);
        self.write_attachments(dataplane)?;
        self.write_next_hops(attachment, dataplane)
    }

    /// Our link-local IPv6 address on an interface of the kernel, which neighbour solicitations may be for.
    pub fn link_local(
        &mut self,
        ifindex: u32,
        address: std::net::Ipv6Addr,
        dataplane: &mut dyn Dataplane,
    ) -> Result<(), FibError> {
        self.topology.set_link_local(ifindex, address);
        self.write_attachments(dataplane)
    }

    /// What the kernel should do for neighbours since the last call.
    pub fn take_wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.wishes)
    }

    /// The neighbour behind an identifier, for explanations.
    pub fn next_hop_key(&self, id: u16) -> Option<NextHopKey> {
        self.next_hops.iter().find(|(_, other)| *other == u32::from(id)).map(|(key, _)| *key)
    }

    /// What a group leads to, for explanations.
    pub fn target(&self, group: u32) -> Option<&Target> {
        self.groups.value(group).map(|target| &**target)
    }

    /// Routes in all views, and KiB of the trie in use.
    pub fn sizes(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([
            ("routes", self.views.iter().map(|view| (view.table4.len() + view.table6.len()) as u64).sum()),
            ("routes_without_room", self.unplaced.len() as u64),
            ("groups", self.groups.iter().count() as u64),
            ("next_hops", self.next_hops.iter().count() as u64),
            ("blocks", u64::from(self.fib.blocks_in_use())),
        ])
    }

    /// Puts right what somebody else has changed in the trie: one of `shares` shares of its lines, from this one on. The answer is
    /// how many words were wrong, and where to go on.
    pub fn repair_lines(&mut self, from: u32, shares: u32) -> (u32, u32) {
        let taken = self.fib.lines_taken();
        let lines = taken.div_ceil(shares.max(1)).max(1);
        let from = if from < taken { from } else { 0 };
        (self.fib.repair(from, lines), from + lines)
    }

    /// The attachments.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Makes the views' tries say what their domains say of these prefixes.
    fn install(
        &mut self,
        touched: impl IntoIterator<Item = (usize, IpNet)>,
        now_ns: u64,
        dataplane: &mut dyn Dataplane,
    ) -> Result<(), FibError> {
        let touched = touched.into_iter().map(|(view, prefix)| (view, prefix, [].as_slice()));
        self.install_news(touched, now_ns, dataplane)
    }

    /// The same where some of what the domains say is news.
    fn install_news<'a>(
        &mut self,
        touched: impl IntoIterator<Item = (usize, IpNet, &'a [Word])>,
        now_ns: u64,
        dataplane: &mut dyn Dataplane,
    ) -> Result<(), FibError> {
        let mut result = Ok(());
        let mut batches: BTreeMap<(usize, bool), Vec<Placement>> = BTreeMap::new();
        for (view, prefix, news) in touched {
            if !self.unplaced.is_empty() {
                self.unplaced.remove(&(view, prefix));
            }
            match self.resolve(view, prefix, news, now_ns, dataplane) {
                Ok(Some(placement)) => {
                    batches.entry((view, prefix.addr().is_ipv4())).or_default().push(placement);
                }
                Ok(None) => {}
                Err(error) => {
                    self.unplaced.insert((view, prefix));
                    result = Err(error);
                }
            }
        }
        for ((view, _), batch) in batches {
            result = self.place(view, &batch, now_ns).and(result);
        }
        result
    }

    /// What has to be written for a prefix: see [`views`]. Its group is held already.
    fn resolve(
        &mut self,
        view: usize,
        prefix: IpNet,
        news: &[Word],
        now_ns: u64,
        dataplane: &mut dyn Dataplane,
    ) -> Result<Option<Placement>, FibError> {
        let (wanted, is_refusal) = self.wanted(view, prefix, news);
        if is_refusal {
            self.views[view].refusals.insert(prefix);
        } else if !self.views[view].refusals.is_empty() {
            self.views[view].refusals.remove(&prefix);
        }
        let before = self.installed(view, prefix);
        let group = match wanted {
            Some(target) if before.is_some() && before == self.groups.get(&target) => before,
            Some(target) => Some(self.acquire_group(&target, before, now_ns, dataplane)?),
            None => None,
        };
        Ok((group != before).then_some(Placement { prefix, before, group }))
    }

    /// Publishes placements of one family. What finds no room is tried in halves, so that only what is too much stays out.
    fn place(&mut self, view: usize, batch: &[Placement], now_ns: u64) -> Result<(), FibError> {
        let Some(Placement { prefix, group, .. }) = batch.first().copied() else {
            return Ok(());
        };
        let table = match prefix {
            IpNet::V4(_) => &mut self.views[view].table4,
            IpNet::V6(_) => &mut self.views[view].table6,
        };
        let changes = batch.iter().map(|placement| (bits(placement.prefix), placement.group));
        match self.fib.apply(table, changes, now_ns) {
            Ok(_) => {
                // All are in the trie: nobody refers to the groups before any more.
                batch
                    .iter()
                    .filter_map(|placement| placement.before)
                    .for_each(|before| self.release_group(before, now_ns));
                Ok(())
            }
            Err(PoolFull { needed, capacity }) if batch.len() == 1 => {
                group.into_iter().for_each(|group| self.release_group(group, now_ns));
                self.unplaced.insert((view, prefix));
                Err(FibError::PoolFull { prefix, needed, capacity })
            }
            Err(_) => {
                let (one, other) = batch.split_at(batch.len() / 2);
                let first = self.place(view, one, now_ns);
                self.place(view, other, now_ns).and(first)
            }
        }
    }

    /// The group that a view's prefix leads to.
    fn installed(&self, view: usize, prefix: IpNet) -> Option<u32> {
        let table = match prefix {
            IpNet::V4(_) => &self.views[view].table4,
            IpNet::V6(_) => &self.views[view].table6,
        };
        self.fib.route(table, bits(prefix))
    }

    /// One more user of the target's group; next hops and group are written before anybody can refer to them. A new group moves as
    /// few flows as can be of the one that the route had `before`.
    fn acquire_group(
        &mut self,
        target: &Arc<Target>,
        before: Option<u32>,
        now_ns: u64,
        dataplane: &mut dyn Dataplane,
    ) -> Result<u32, FibError> {
        if let Some(id) = self.groups.reuse(target) {
            return Ok(id);
        }
        let mut members = Vec::new();
        for (key, share) in target.members().take(GROUP_MEMBERS) {
            let next_hop = self.acquire_next_hop(key, now_ns, dataplane)? as u16;
            members.push((next_hop, self.weight(key, share)));
        }
        let members = members_of(&members);
        let id = self
            .groups
            .acquire(target.clone(), now_ns)
            .ok_or(FibError::IdsExhausted { what: "groups", limit: MAX_GROUPS })?;
        let record = group(target, &members, before.and_then(|id| self.written.get(&id)));
        dataplane.write(&Record::Group(id, record))?;
        self.written.insert(id, record);
        Ok(id)
    }

    fn release_group(&mut self, id: u32, now_ns: u64) {
        let Some(target) = self.groups.release(id, now_ns) else {
            return;
        };
        self.written.remove(&id);
        for (key, _) in target.members().take(GROUP_MEMBERS) {
            self.release_next_hop(key, now_ns);
        }
    }

    /// A member's weight: its attachment's, times the share that the route gives it.
    fn weight(&self, key: NextHopKey, share: NonZero<u8>) -> u32 {
        let of_attachment = self.topology.attachment(key.attachment).map_or(1, |it| it.weight.get());
        u32::from(of_attachment) * u32::from(share.get())
    }

    fn write_attachments(&mut self, dataplane: &mut dyn Dataplane) -> Result<(), FibError> {
        for facts in self.topology.attachments() {
            let policy = self.topology.policy(facts.id);
            let Some(view) = self.views.iter().find(|view| view.policy == policy) else { continue };
            let record: Attachment = facts.record(view.table4.root(), view.table6.root());
            dataplane.write(&Record::Attachment(facts.id.number(), record))?;
            dataplane.write(&Record::TxPort(facts.id.number(), self.topology.target(facts.ifindex)))?;
        }
        for record in self.topology.port_records() {
            dataplane.write(&record)?;
        }
        Ok(())
    }
}

/// As the trie has it.
fn bits(prefix: IpNet) -> Prefix {
    match prefix {
        IpNet::V4(net) => Prefix::v4(net.addr().octets(), net.prefix_len()),
        IpNet::V6(net) => Prefix::v6(net.addr().octets(), net.prefix_len()),
    }
}

/// The record of a target with these members: flows by weight.
fn group(target: &Target, members: &[Member], before: Option<&Group>) -> Group {
    match target {
        Target::Discard => Group { kind: GROUP_DISCARD, ..Group::default() },
        Target::EncryptedOnly => Group { kind: GROUP_ENCRYPTED_ONLY, ..Group::default() },
        Target::ZoneForbidden => Group { kind: GROUP_ZONE_FORBIDDEN, ..Group::default() },
        Target::Glean(attachment) => {
            Group { kind: GROUP_GLEAN, attachment: attachment.number(), ..Group::default() }
        }
        Target::Forward(_) | Target::Weighted(_) => fill(members, before),
    }
}

#[cfg(test)]
mod tests;
