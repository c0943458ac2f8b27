//! Faults of the router that are planted on purpose, each of a kind that a mistake in its code might be: an oracle that does not find them
//! proves nothing. [`Planted`] is the packet path with those that are a matter of writes; the others are asked for where the edge is driven.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use erdp::{
    dataplane::{
        Answer, Counters, Dataplane, DataplaneError, Mode, Record, Tally, memory::MemoryDataplane,
        pins::About,
    },
    types::AttachmentId,
};
use erdp_common::{
    abi::{NEXT_HOP_RESOLVED, PeerKey},
    classify::Class,
    fib::build::Store,
};

use super::plan::{CE0, M5};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// A lost carrier does not reach the liveness flag.
    LinkFlagLost,
    /// A next hop keeps the MAC address that it had first.
    NextHopStale,
    /// A group that is written again keeps its members.
    GroupLost,
    /// An attachment of private peering looks its packets up in Microsoft peering's table (C1).
    DomainLeak,
    /// An MSEE's withdrawals are overlooked.
    WithdrawalMissed,
    /// What one circuit's MSEEs announce is advertised to another's (D9).
    TransitLeak,
    /// Every fifth update is not sent.
    UpdateLost,
    /// BFD's verdict reaches neither the record nor the core.
    BfdIgnored,
    /// The end of a session is not noticed.
    EndMissed,
    /// Routes of a session that was shut for good are kept as if its peer restarted.
    StaleKept,
    /// A peer above its limit is not sent away (D2).
    OverflowLost,
    /// A peering that is enabled stays shut (B6).
    EnableLost,
    /// An update is repeated every few seconds.
    Chatter,
    /// The second of two circuits is preferred (B11).
    WrongRank,
}

impl Plant {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::LinkFlagLost,
        Self::NextHopStale,
        Self::GroupLost,
        Self::DomainLeak,
        Self::WithdrawalMissed,
        Self::TransitLeak,
        Self::UpdateLost,
        Self::BfdIgnored,
        Self::EndMissed,
        Self::StaleKept,
        Self::OverflowLost,
        Self::EnableLost,
        Self::Chatter,
        Self::WrongRank,
    ];

    /// Of this name, as `Debug` prints it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| format!("{it:?}") == name)
    }
}

/// What forwards until a new process takes over: the maps of the one before.
#[derive(Clone)]
pub struct Before {
    /// They.
    pub maps: MemoryDataplane,
    /// Whether the new one has taken over.
    pub is_over: Arc<AtomicBool>,
}

/// The packet path, with a fault or without.
pub struct Planted {
    inner: MemoryDataplane,
    before: Option<Before>,
    plant: Option<Plant>,
    next_hops: BTreeMap<u16, [u8; 6]>,
    groups: BTreeSet<u32>,
    public_root: u32,
}

impl Planted {
    /// Over these maps, after others or not.
    pub fn new(inner: MemoryDataplane, before: Option<Before>, plant: Option<Plant>) -> Self {
        Self { inner, before, plant, next_hops: BTreeMap::new(), groups: BTreeSet::new(), public_root: 0 }
    }

    /// What becomes of a record; `None`: it is lost.
    fn planted(&mut self, record: &Record) -> Option<Record> {
        match (self.plant, record) {
            (Some(Plant::LinkFlagLost), Record::Link(_, false)) => None,
            (Some(Plant::NextHopStale), Record::NextHop(id, next_hop)) => {
                let mut next_hop = *next_hop;
                let mac: [u8; 6] = next_hop.l2.first_chunk().copied().unwrap_or_default();
                if next_hop.flags & NEXT_HOP_RESOLVED != 0 {
                    let first = *self.next_hops.entry(*id).or_insert(mac);
                    next_hop.l2[..6].copy_from_slice(&first);
                }
                Some(Record::NextHop(*id, next_hop))
            }
            (Some(Plant::GroupLost), Record::Group(id, _)) => self.groups.insert(*id).then_some(*record),
            (Some(Plant::DomainLeak), Record::Attachment(id, attachment)) => {
                let mut attachment = *attachment;
                if usize::from(*id) == M5 + 1 {
                    self.public_root = attachment.root4;
                }
                if usize::from(*id) == CE0 + 1 && self.public_root != 0 {
                    attachment.root4 = self.public_root;
                }
                Some(Record::Attachment(*id, attachment))
            }
            _ => Some(*record),
        }
    }
}

impl Dataplane for Planted {
    fn write(&mut self, record: &Record) -> Result<(), DataplaneError> {
        self.planted(record).map_or(Ok(()), |record| self.inner.write(&record))
    }

    fn take_store(&mut self) -> Option<Box<dyn Store + Send>> {
        self.inner.take_store()
    }

    fn counters(&self) -> Result<Counters, DataplaneError> {
        self.inner.counters()
    }

    fn ask(&self, ifindex: u32, frame: &[u8]) -> Result<Answer, DataplaneError> {
        self.inner.ask(ifindex, frame)
    }

    fn clock(&self) -> u64 {
        self.inner.clock()
    }

    fn attach(&mut self, interface: &str, ifindex: u32, mode: Mode) -> Result<(), DataplaneError> {
        self.inner.attach(interface, ifindex, mode)
    }

    fn policed(&self, id: u16, class: Class) -> [Tally; 4] {
        self.inner.policed(id, class)
    }

    fn bfd_until(&self, session: u16) -> u64 {
        self.inner.bfd_until(session)
    }

    fn has_carrier(&self, interface: &str) -> Option<bool> {
        self.inner.has_carrier(interface)
    }

    fn link_before(&mut self, ifindex: u32, alive: bool) -> Result<(), DataplaneError> {
        // Interfaces are numbered from 1 on, and so are their liveness flags.
        let flag = Record::Link(ifindex as u16, alive);
        self.before.as_mut().map_or(Ok(()), |before| before.maps.write(&flag))
    }

    fn mac_before(
        &mut self,
        attachment: AttachmentId,
        before: Option<[u8; 6]>,
        now: [u8; 6],
    ) -> Result<(), DataplaneError> {
        if let Some(Before { maps, .. }) = &self.before {
            maps.with_tables(|tables| {
                let its = tables.next_hops.iter_mut().filter(|it| it.attachment == attachment.number());
                let is_meant = |it: &[u8]| before.is_none_or(|before| it == before);
                its.filter(|it| is_meant(&it.l2[..6])).for_each(|it| it.l2[..6].copy_from_slice(&now));
            });
        }
        Ok(())
    }

    fn take_over(&mut self, ports: &BTreeMap<u32, String>, about: About) -> Result<(), DataplaneError> {
        if let Some(before) = self.before.take() {
            before.is_over.store(true, Ordering::Relaxed);
        }
        self.inner.take_over(ports, about)
    }

    fn note_session(&mut self, key: PeerKey, is_up: bool) -> Result<(), DataplaneError> {
        self.inner.note_session(key, is_up)
    }
}
