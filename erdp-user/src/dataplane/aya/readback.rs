//! What was written is still there: every record that this controller has put into a map is read back in turn, and put right where
//! somebody else has changed it (`bpftool map update`, another program, memory that failed).
//!
//! Each call takes a share, so that a round over all records takes less than a second without holding the controller up; a record
//! costs one system call. The trie's lines are compared in memory, through the mapping (`dataplane::mapped`). Links are looked at
//! once a round: a pin that was removed has taken the program off its interface.
//!
//! Not looked at: state that the program writes itself (counters, buckets, rings), and records that nobody has ever written here,
//! which nothing refers to. Of peers, who may reach the kernel, there are no others either.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::AsFd,
};

use ::aya::maps::MapError;
use erdp_common::{
    abi::{PEER_BFD_SHIFT, PeerKey},
    budget,
};

use super::{AyaDataplane, DataplaneError, Mode, Raw, Record, chain};
use crate::{dataplane::bpffs, kernel::has_interface};

/// Calls in which a round is done.
const SHARES: usize = 5;

/// Which record of which map.
type Key = (u8, u64);
/// The links' words among them.
const LINK: u8 = 6;

/// The records that were written last, and where the next read-back begins.
#[derive(Debug, Default)]
pub(super) struct Written {
    records: BTreeMap<Key, Record>,
    /// Each with the number of its BFD session.
    peers: BTreeMap<([u8; 16], u64), u32>,
    next: Option<Key>,
}

/// What a read-back has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Records that were wrong, by map.
    pub by_map: BTreeMap<&'static str, u64>,
    /// What could not be put right, or not be looked at; the rest was.
    pub failed: Vec<String>,
    /// Whether a round is over.
    pub is_round_over: bool,
}

impl Written {
    pub(super) fn note(&mut self, record: &Record) {
        match record {
            Record::Peer(PeerKey { address, attachment }, true) => {
                self.peers.insert((*address, *attachment), 0);
            }
            Record::BfdPeer(PeerKey { address, attachment }, session) => {
                self.peers.insert((*address, *attachment), *session);
            }
            Record::Peer(PeerKey { address, attachment }, false) => {
                self.peers.remove(&(*address, *attachment));
            }
            _ => {
                if let Some(key) = key(record) {
                    self.records.insert(key, *record);
                }
            }
        }
    }

    /// The links' words.
    fn links(&self) -> impl Iterator<Item = &Record> {
        self.records.range((LINK, 0)..=(LINK, u64::MAX)).map(|(_, record)| record)
    }

    /// The next share of a round, and whether it is the last.
    fn share(&mut self) -> (Vec<Record>, bool) {
        let most = self.records.len().div_ceil(SHARES).max(1);
        let from = self.next.take().unwrap_or_default();
        let mut rest = self.records.range(from..);
        let share = rest.by_ref().take(most).map(|(_, record)| *record).collect();
        self.next = rest.next().map(|(key, _)| *key);
        (share, self.next.is_none())
    }
}

/// `None`: the program writes it too, or it is looked at in another way.
fn key(record: &Record) -> Option<Key> {
    Some(match record {
        Record::Port(ifindex, _) => (0, u64::from(*ifindex)),
        Record::Vlan(block, vid, _) => (1, u64::from(*block) << 16 | u64::from(*vid)),
        Record::Attachment(id, _) => (2, u64::from(*id)),
        Record::TxPort(slot, _) => (3, u64::from(*slot)),
        Record::NextHop(id, _) => (4, u64::from(*id)),
        Record::Group(id, _) => (5, u64::from(*id)),
        Record::Link(id, _) => (LINK, u64::from(*id)),
        Record::Policer(id, _) => (7, u64::from(*id)),
        Record::Budget(kind, attachment, _) => (8, u64::from(budget::slot(*kind, *attachment))),
        Record::Profile(id, _) => (9, u64::from(*id)),
        Record::Bucket(..) | Record::Peer(..) | Record::BfdPeer(..) | Record::BfdSession(..) => return None,
    })
}

impl AyaDataplane {
    /// Reads a share of what was written back and puts right what differs; an interface without its program gets it again. What fails
    /// holds nothing else up.
    pub fn read_back(&mut self, ports: &BTreeMap<u32, String>, mode: Mode) -> Repaired {
        let (share, is_round_over) = self.written.share();
        let mut repaired = Repaired { is_round_over, ..Repaired::default() };
        for record in share {
            match self.repair(&record) {
                Ok(None) => {}
                Ok(Some(map)) => repaired.count(map, 1),
                Err(error) => repaired.failed.push(error.to_string()),
            }
        }
        if is_round_over {
            match self.repair_peers() {
                Ok(peers) => repaired.count("PEERS", peers),
                Err(error) => repaired.failed.push(error.to_string()),
            }
            self.repair_links(ports, mode, &mut repaired);
        }
        repaired
    }

    /// Puts a record right; the answer is its map, if it was wrong.
    fn repair(&mut self, record: &Record) -> Result<Option<&'static str>, DataplaneError> {
        let (map, is_right) = self.holds(record)?;
        // A link that is dead was not damaged: see `dead_links`.
        if is_right || matches!(record, Record::Link(_, true)) {
            return Ok(None);
        }
        self.put(record)?;
        Ok(Some(map))
    }

    /// Links whose word says that they are dead and was written otherwise: they are as they are, because a driver that takes nothing
    /// says so at once and the controller may not have heard of it yet.
    pub(super) fn read_dead_links(&self) -> Result<Vec<u16>, DataplaneError> {
        let mut dead = Vec::new();
        for record in self.written.links() {
            if let (false, Record::Link(id, true)) = (self.holds(record)?.1, record) {
                dead.push(*id);
            }
        }
        Ok(dead)
    }

    /// The record's map, and whether it says what was written.
    fn holds(&self, record: &Record) -> Result<(&'static str, bool), DataplaneError> {
        let (map, holds) = match record {
            Record::Port(at, record) => ("PORTS", same(self.ports.get(at, 0), |it| it.0 == *record)),
            Record::Vlan(block, vid, record) => {
                let at = u32::from(*block) * 4096 + u32::from(*vid);
                ("VLANS", same(self.vlans.get(&at, 0), |it| it.0 == *record))
            }
            Record::Attachment(id, record) => {
                ("ATTACHMENTS", same(self.attachments.get(&u32::from(*id), 0), |it| it.0 == *record))
            }
            Record::TxPort(slot, ifindex) => {
                // Empty is right where there is no such interface: the kernel has emptied it before we were told.
                let found = match self.tx_ports.get(u32::from(*slot), 0) {
                    Err(MapError::KeyNotFound) => Ok(*ifindex == 0 || !has_interface(*ifindex)),
                    found => same(found, |it| it.if_index == *ifindex),
                };
                ("TX_PORTS", found)
            }
            Record::NextHop(id, record) => {
                ("NEXT_HOPS", same(self.next_hops.get(&u32::from(*id), 0), |it| it.0 == *record))
            }
            Record::Group(id, record) => ("GROUPS", same(self.groups.get(id, 0), |it| it.0 == *record)),
            Record::Link(id, alive) => {
                ("LINKS", same(self.links.get(&u32::from(*id), 0), |it| it == u64::from(*alive)))
            }
            Record::Policer(id, record) => {
                ("POLICERS", same(self.policers.get(&u32::from(*id), 0), |it| it.0 == *record))
            }
            Record::Budget(kind, attachment, record) => {
                let at = budget::slot(*kind, *attachment);
                ("BUDGETS", same(self.budgets.get(&at, 0), |it| it.0 == *record))
            }
            Record::Profile(id, record) => {
                ("PROFILES", same(self.profiles.get(&u32::from(*id), 0), |it| it.0 == *record))
            }
            Record::Bucket(..) | Record::Peer(..) | Record::BfdPeer(..) | Record::BfdSession(..) => {
                return Ok(("", true));
            }
        };
        holds.map(|holds| (map, holds)).map_err(|error| DataplaneError::Map { map, reason: chain(&error) })
    }

    /// Exactly the peers of the configuration are in the map.
    fn repair_peers(&mut self) -> Result<u64, DataplaneError> {
        let failed = |error: MapError| DataplaneError::Map { map: "PEERS", reason: chain(&error) };
        let entries = self.peers.iter().flatten();
        let there: BTreeMap<([u8; 16], u64), u32> = entries
            .map(|(key, value)| ((key.0.address, key.0.attachment), value >> PEER_BFD_SHIFT))
            .collect();
        let wanted = &self.written.peers;
        let mut repaired = 0;
        for at in there.keys().chain(wanted.keys()).collect::<BTreeSet<_>>() {
            if there.get(at) == wanted.get(at) {
                continue;
            }
            let key = Raw(PeerKey { address: at.0, attachment: at.1 });
            match wanted.get(at) {
                None => self.peers.remove(&key).map_err(failed)?,
                Some(session) => {
                    let value = super::pinned::PEER_KNOWN | session << PEER_BFD_SHIFT;
                    self.peers.insert(key, value, 0).map_err(failed)?;
                }
            }
            repaired += 1;
        }
        Ok(repaired)
    }

    /// Every port runs our program by its pinned link.
    fn repair_links(&mut self, ports: &BTreeMap<u32, String>, mode: Mode, repaired: &mut Repaired) {
        if !self.is_pinned() {
            return;
        }
        let info = self.program().and_then(|it| it.info().map_err(|it| DataplaneError::Load(chain(&it))));
        let program = match info {
            Ok(info) => info.id(),
            Err(error) => return repaired.failed.push(error.to_string()),
        };
        for (ifindex, name) in ports {
            let Some(path) = self.pinned.as_ref().map(|pinned| pinned.pins().xdp_link(*ifindex)) else {
                break;
            };
            let link = bpffs::open(&path).and_then(|link| bpffs::xdp_link(link.as_fd()));
            if !has_interface(*ifindex)
                || link.is_ok_and(|link| (link.program, link.ifindex) == (program, *ifindex))
            {
                continue;
            }
            match self.take_port(*ifindex, name, mode) {
                Ok(_) => repaired.count("links", 1),
                // It has gone since it was looked for.
                Err(_) if !has_interface(*ifindex) => {}
                Err(error) => repaired.failed.push(error.to_string()),
            }
        }
    }
}

impl Repaired {
    fn count(&mut self, map: &'static str, records: u64) {
        if records > 0 {
            *self.by_map.entry(map).or_default() += records;
        }
    }
}

fn same<T>(found: Result<T, MapError>, is_right: impl Fn(T) -> bool) -> Result<bool, MapError> {
    match found {
        Ok(found) => Ok(is_right(found)),
        // A slot of the device map that is empty.
        Err(MapError::KeyNotFound) => Ok(false),
        Err(error) => Err(error),
    }
}
