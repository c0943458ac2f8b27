//! Frames and tables in plain memory: the host's side of [`Packet`], [`Tables`] and [`Store`].
//!
//! The packet tables, the property tests and the in-memory dataplane run the very stages of the XDP program over these.

use core::sync::atomic::{AtomicU64, Ordering};
use std::{collections::HashMap, sync::Arc, vec, vec::Vec};

use crate::{
    abi::{
        Attachment, BfdSession, Bucket, Budget, Group, MAX_ATTACHMENTS, MAX_BFD_SESSIONS, MAX_GROUPS,
        MAX_LINKS, MAX_NEXT_HOPS, MAX_POLICERS, MAX_PROFILES, MAX_VLAN_BLOCKS, Meter, NextHop, PeerKey,
        Policer, Port, QosProfile, Vlan, Word, counter,
    },
    budget,
    classify::Class,
    fib::{BLOCK_LINES, Line, build::Store},
    packet::{OFFSET_MAX, Packet, Window},
    policer::TICK_SHIFT,
    tables::Tables,
};

/// Bytes that may be added in front of a frame, as the kernel's XDP_PACKET_HEADROOM less its frame record.
const HEADROOM: usize = 216;

/// A frame in memory.
#[derive(Clone, Debug)]
pub struct Frame {
    bytes: Vec<u8>,
    start: usize,
}

impl Frame {
    /// A copy of the bytes, with headroom in front.
    pub fn new(frame: &[u8]) -> Self {
        let mut bytes = vec![0; HEADROOM];
        bytes.extend_from_slice(frame);
        Self { bytes, start: HEADROOM }
    }

    /// The bytes from the Ethernet header on.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl Packet for Frame {
    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn read<T: Window>(&self, at: usize) -> Option<T> {
        if at > OFFSET_MAX {
            return None;
        }
        let window = self.bytes().get(at..at + size_of::<T>())?;
        // SAFETY: the window has exactly size_of::<T>() bytes, and `Window` allows every bit pattern at any alignment.
        Some(unsafe { window.as_ptr().cast::<T>().read_unaligned() })
    }

    fn write<T: Window>(&mut self, at: usize, value: T) -> Option<()> {
        if at > OFFSET_MAX {
            return None;
        }
        let start = self.start;
        let window = self.bytes.get_mut(start + at..start + at + size_of::<T>())?;
        // SAFETY: as in `read`.
        unsafe { window.as_mut_ptr().cast::<T>().write_unaligned(value) };
        Some(())
    }

    fn cut_to(&mut self, len: usize) -> Option<()> {
        (len <= self.len()).then(|| self.bytes.truncate(self.start + len))
    }

    fn cut_front(&mut self, bytes: i32) -> Option<()> {
        let start = self.start.checked_add_signed(bytes as isize)?;
        // bpf_xdp_adjust_head keeps at least an Ethernet header.
        if start + 14 > self.bytes.len() {
            return None;
        }
        self.start = start;
        Some(())
    }
}

/// The maps in memory.
#[derive(Clone, Debug)]
pub struct MemoryTables {
    /// Interfaces by index.
    pub ports: HashMap<u32, Port>,
    /// VLAN blocks of 4,096.
    pub vlans: HashMap<(u16, u16), Vlan>,
    /// Attachments by identifier.
    pub attachments: Vec<Attachment>,
    /// Groups by identifier.
    pub groups: Vec<Group>,
    /// Both directions of a flow hash alike.
    pub symmetric_hash: bool,
    /// Next hops by identifier.
    pub next_hops: Vec<NextHop>,
    /// Liveness words.
    pub links: Vec<u64>,
    /// Configured BGP peers, with their BFD sessions.
    pub peers: HashMap<PeerKey, u32>,
    /// BFD sessions.
    pub bfd_sessions: Arc<[BfdSession]>,
    /// Forwarding trie.
    pub blocks: MemoryStore,
    /// What circuits are limited to.
    pub policers: Vec<Policer>,
    /// Their state.
    pub buckets: Arc<[Bucket]>,
    /// How often the slow path may be used, by [`budget::slot`].
    pub budgets: Vec<Budget>,
    /// The state of these.
    pub budget_words: Arc<[Word]>,
    /// DSCP by peering.
    pub profiles: Vec<QosProfile>,
    /// The virtual clock, in 2^-8 ns.
    pub now: u64,
    /// Meters of the one CPU there is, by [`counter::meter`].
    pub meters: Vec<Meter>,
}

impl MemoryTables {
    /// Empty tables with a pool of `blocks` blocks.
    pub fn new(blocks: u32) -> Self {
        Self {
            ports: HashMap::new(),
            vlans: HashMap::new(),
            attachments: vec![Attachment::default(); MAX_ATTACHMENTS as usize],
            groups: vec![Group::default(); MAX_GROUPS as usize],
            symmetric_hash: false,
            next_hops: vec![NextHop::default(); MAX_NEXT_HOPS as usize],
            links: vec![0; MAX_LINKS as usize],
            peers: HashMap::new(),
            bfd_sessions: (0..MAX_BFD_SESSIONS).map(|_| BfdSession::default()).collect(),
            blocks: MemoryStore::new(blocks),
            policers: vec![Policer::default(); MAX_POLICERS as usize],
            buckets: (0..MAX_POLICERS).map(|_| Bucket::default()).collect(),
            budgets: vec![Budget::default(); budget::SLOTS as usize],
            budget_words: (0..budget::SLOTS).map(|_| Word::default()).collect(),
            profiles: vec![QosProfile::transparent(); MAX_PROFILES as usize],
            now: 0,
            meters: vec![Meter::default(); counter::METERS as usize],
        }
    }
}

impl Tables for MemoryTables {
    fn port(&self, ifindex: u32) -> Option<&Port> {
        self.ports.get(&ifindex)
    }
    fn vlan(&self, block: u16, vid: u16) -> Option<&Vlan> {
        (block != 0 && u32::from(block) < MAX_VLAN_BLOCKS).then(|| self.vlans.get(&(block, vid)))?
    }
    fn attachment(&self, id: u16) -> Option<&Attachment> {
        self.attachments.get(usize::from(id))
    }
    fn fib_line(&self, line: u32) -> Option<&Line> {
        self.blocks.0.get(line as usize)
    }
    fn group(&self, id: u32) -> Option<&Group> {
        self.groups.get(id as usize)
    }
    fn hashes_symmetrically(&self) -> bool {
        self.symmetric_hash
    }
    fn next_hop(&self, id: u16) -> Option<&NextHop> {
        self.next_hops.get(usize::from(id))
    }
    fn link_is_alive(&self, link: u16) -> bool {
        self.links.get(usize::from(link)).is_some_and(|word| *word != 0)
    }
    fn peer(&self, key: &PeerKey) -> Option<u32> {
        self.peers.get(key).copied()
    }
    fn bfd_session(&self, id: u32) -> Option<&BfdSession> {
        self.bfd_sessions.get(id as usize)
    }
    fn policer(&self, id: u16) -> Option<&Policer> {
        self.policers.get(usize::from(id))
    }
    fn bucket(&self, id: u16) -> Option<&Bucket> {
        self.buckets.get(usize::from(id))
    }
    fn profile(&self, id: u16) -> Option<&QosProfile> {
        self.profiles.get(usize::from(id))
    }
    fn budget(&self, slot: u32) -> Option<&Budget> {
        self.budgets.get(slot as usize)
    }
    fn budget_word(&self, slot: u32) -> Option<&Word> {
        self.budget_words.get(slot as usize)
    }
    fn now(&self) -> u64 {
        self.now
    }
    fn load(&self, word: &Word) -> u64 {
        atomic(word).load(Ordering::Relaxed)
    }
    fn store(&self, word: &Word, value: u64) {
        atomic(word).store(value, Ordering::Relaxed);
    }
    fn exchange(&self, word: &Word, old: u64, new: u64) -> bool {
        atomic(word).compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
    fn meter(&self, policer: u16, class: Class) -> Option<&Meter> {
        self.meters.get(counter::meter(policer, class) as usize)
    }
    fn tick(&self) -> u64 {
        self.now >> TICK_SHIFT
    }
}

fn atomic(word: &Word) -> &AtomicU64 {
    // SAFETY: aligned as a u64 is, alive as long as the word, and only ever accessed as an atomic here.
    unsafe { AtomicU64::from_ptr(word.as_ptr()) }
}

/// Lines of the trie in memory; clones share them, as the kernel and the controller do.
#[derive(Clone, Debug)]
pub struct MemoryStore(Arc<[Line]>);

impl MemoryStore {
    /// A pool of empty blocks of 1 KiB.
    pub fn new(blocks: u32) -> Self {
        Self((0..blocks * BLOCK_LINES).map(|_| Line::default()).collect())
    }
}

impl Store for MemoryStore {
    fn capacity(&self) -> u32 {
        self.0.len() as u32
    }
    fn word(&self, line: u32, at: usize) -> u64 {
        atomic(&self.0[line as usize][at]).load(Ordering::Relaxed)
    }
    fn publish(&mut self, line: u32, at: usize, word: u64) {
        atomic(&self.0[line as usize][at]).store(word, Ordering::Release);
    }
    fn wait_for_readers(&mut self) -> bool {
        false
    }
}
