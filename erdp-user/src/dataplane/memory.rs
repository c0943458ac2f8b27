//! The in-memory backend: the stages of the XDP program over tables in plain memory, for tests of the controller and
//! for the differential test, which holds the loaded program against it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use erdp_common::{
    abi::{
        BFD_SESSION_WORDS, Bucket, CpuCounters, Errand, NeighbourWanted, PeerKey, TRACE_ANSWERED, Trace,
        VERDICT_DROP, VERDICT_PUNT, VERDICT_TRANSMIT,
    },
    account::{account, originated},
    answer::answer,
    bfd, budget,
    classify::Class,
    fib::build::Store,
    memory::{Frame, MemoryTables},
    packet::Packet as _,
    pipeline::{Trail, Verdict, process},
    reason::DropReason,
    tables::Tables as _,
};

use super::{Answer, Counters, Dataplane, DataplaneError, Mode, Record, Tally, pins::About};

/// Tables shared between the dataplane and the store it has handed out.
#[derive(Clone, Debug)]
pub struct MemoryDataplane {
    tables: Arc<Mutex<MemoryTables>>,
    counts: Arc<Mutex<Box<CpuCounters>>>,
    store_taken: bool,
    /// Interfaces that were attached, in order.
    pub attached: Vec<u32>,
    /// Interfaces without a carrier, whatever the kernel has said of them.
    pub without_carrier: BTreeSet<String>,
    /// What the last generation has noted of sessions.
    pub sessions_up: Vec<PeerKey>,
}

impl MemoryDataplane {
    /// Empty tables with a pool of `blocks` trie blocks.
    pub fn new(blocks: u32) -> Self {
        Self {
            tables: Arc::new(Mutex::new(MemoryTables::new(blocks))),
            counts: Arc::default(),
            store_taken: false,
            attached: Vec::new(),
            without_carrier: BTreeSet::new(),
            sessions_up: Vec::new(),
        }
    }

    /// Reads the tables.
    pub fn with_tables<R>(&self, read: impl FnOnce(&mut MemoryTables) -> R) -> R {
        read(&mut self.tables.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets the policers' time, in 2^-8 ns.
    pub fn set_clock(&self, now: u64) {
        self.with_tables(|tables| tables.now = now);
    }

    /// The words of a policer's bucket, in the order of [`Record::Bucket`].
    pub fn bucket(&self, id: u16) -> [u64; 4] {
        self.with_tables(|tables| {
            let Bucket { sustained, peak, interactive, voice } = &tables.buckets[usize::from(id)];
            [sustained, peak, interactive, voice].map(|word| tables.load(word))
        })
    }

    /// The words of a BFD session's record.
    pub fn bfd_session(&self, id: u16) -> [u64; BFD_SESSION_WORDS] {
        self.with_tables(|tables| {
            std::array::from_fn(|at| tables.load(&tables.bfd_sessions[usize::from(id)].words()[at]))
        })
    }

    /// A frame comes in on an interface and is counted.
    pub fn run(&self, ifindex: u32, frame: &[u8]) -> Ran {
        let mut frame = Frame::new(frame);
        let (came, mut trail) = (frame.len() as u64, Trail::default());
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (verdict, answered) = self.with_tables(|tables| {
            let verdict = process(&mut frame, ifindex, tables, &mut trail);
            let verdict = bfd::finish(&mut frame, ifindex, verdict, tables, &mut trail);
            account(verdict, &trail, came, &frame, &mut counts);
            let answered = match verdict {
                Verdict::Drop(reason) => {
                    let Trail { group, next_hop, attachment, .. } = trail;
                    let errand = Errand { reason: reason as u32, group, next_hop, attachment };
                    answer(&mut frame, ifindex, errand, tables)
                }
                _ => None,
            };
            (verdict, answered)
        });
        if let Some(attachment) = answered {
            originated(attachment, &frame, &mut counts);
        }
        Ran { verdict, frame, wanted: trail.neighbour_wanted(), answered }
    }
}

/// What became of a frame.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its end.
    pub verdict: Verdict,
    /// As it would leave.
    pub frame: Frame,
    /// The neighbour that it asks for.
    pub wanted: Option<NeighbourWanted>,
    /// The attachment on which it leaves as the ICMP error that it has been made into.
    pub answered: Option<u16>,
}

impl Dataplane for MemoryDataplane {
    fn write(&mut self, record: &Record) -> Result<(), DataplaneError> {
        self.with_tables(|tables| match record {
            Record::Port(ifindex, port) => drop(tables.ports.insert(*ifindex, *port)),
            Record::Vlan(block, vid, vlan) => drop(tables.vlans.insert((*block, *vid), *vlan)),
            Record::Attachment(id, record) => tables.attachments[usize::from(*id)] = *record,
            Record::TxPort(..) => {}
            Record::NextHop(id, record) => tables.next_hops[usize::from(*id)] = *record,
            Record::Group(id, record) => tables.groups[*id as usize] = *record,
            Record::Link(id, alive) => tables.links[usize::from(*id)] = u64::from(*alive),
            Record::Policer(id, record) => tables.policers[usize::from(*id)] = *record,
            Record::Budget(kind, attachment, record) => {
                tables.budgets[budget::slot(*kind, *attachment) as usize] = *record;
            }
            Record::Bucket(id, [sustained, peak, interactive, voice]) => {
                let bucket = &tables.buckets[usize::from(*id)];
                let words = [&bucket.sustained, &bucket.peak, &bucket.interactive, &bucket.voice];
                for (word, value) in words.into_iter().zip([sustained, peak, interactive, voice]) {
                    while !tables.exchange(word, tables.load(word), *value) {}
                }
            }
            Record::Profile(id, record) => tables.profiles[usize::from(*id)] = *record,
            Record::Peer(key, true) => drop(tables.peers.insert(*key, 0)),
            Record::BfdPeer(key, session) => drop(tables.peers.insert(*key, *session)),
            Record::BfdSession(id, words) => {
                let record = tables.bfd_sessions[usize::from(*id)].words();
                record.iter().zip(words).for_each(|(word, value)| tables.store(word, *value));
            }
            Record::Peer(key, false) => drop(tables.peers.remove(key)),
        });
        Ok(())
    }

    fn take_store(&mut self) -> Option<Box<dyn Store + Send>> {
        let store = self.with_tables(|tables| tables.blocks.clone());
        (!std::mem::replace(&mut self.store_taken, true)).then(|| Box::new(store) as Box<dyn Store + Send>)
    }

    fn counters(&self) -> Result<Counters, DataplaneError> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Counters::read(&counts.slots.map(Tally::from)))
    }

    fn ask(&self, ifindex: u32, frame: &[u8]) -> Result<Answer, DataplaneError> {
        let mut frame = Frame::new(frame);
        let mut trail = Trail { is_question: true, ..Trail::default() };
        let verdict = self.with_tables(|tables| {
            let verdict = process(&mut frame, ifindex, tables, &mut trail);
            bfd::finish(&mut frame, ifindex, verdict, tables, &mut trail)
        });
        let (verdict, reason) = match verdict {
            Verdict::Transmit(_) | Verdict::FromKernel(_) => (VERDICT_TRANSMIT, 0),
            Verdict::Punt(kind) | Verdict::PuntVia(kind, _) => (VERDICT_PUNT, kind as u8),
            Verdict::Bfd(_) => (VERDICT_DROP, DropReason::BrokenReference as u8),
            Verdict::Drop(reason) => (VERDICT_DROP, reason as u8),
        };
        let Trail { attachment, group, next_hop, .. } = trail;
        let trace = Trace { magic: TRACE_ANSWERED, verdict, reason, attachment, group, next_hop, _pad: 0 };
        Ok(Answer { trace, frame: frame.bytes().to_vec() })
    }

    fn clock(&self) -> u64 {
        self.with_tables(|tables| tables.now)
    }

    fn attach(&mut self, _interface: &str, ifindex: u32, _mode: Mode) -> Result<(), DataplaneError> {
        self.attached.push(ifindex);
        Ok(())
    }

    fn policed(&self, id: u16, class: Class) -> [Tally; 4] {
        self.with_tables(|tables| {
            let counts = tables.meter(id, class).map(|meter| meter.counts.clone()).unwrap_or_default();
            counts.map(|[packets, bytes]| Tally { packets: packets.get(), bytes: bytes.get() })
        })
    }

    fn bucket_words(&self, id: u16) -> Option<[u64; 4]> {
        Some(self.bucket(id))
    }

    fn bfd_until(&self, session: u16) -> u64 {
        self.with_tables(|tables| tables.load(&tables.bfd_sessions[usize::from(session)].until))
    }

    fn has_carrier(&self, interface: &str) -> Option<bool> {
        Some(!self.without_carrier.contains(interface))
    }

    fn take_over(&mut self, ports: &BTreeMap<u32, String>, _about: About) -> Result<(), DataplaneError> {
        self.attached = ports.keys().copied().collect();
        Ok(())
    }

    fn note_session(&mut self, key: PeerKey, is_up: bool) -> Result<(), DataplaneError> {
        self.sessions_up.retain(|other| *other != key);
        self.sessions_up.extend(is_up.then_some(key));
        Ok(())
    }
}
