//! What the generation before still forwards by, while ours waits to take over: read, asked, and told of what cannot wait.
//!
//! Only a generation whose records mean the same as ours is looked into ([`Heritage::shares`]); any other just goes on until we know
//! enough.

use std::os::fd::AsFd;

use ::aya::{
    Pod,
    maps::{Array, Map, MapData, MapError},
};
use erdp_common::{
    abi::{self, GROUP_FORWARD, NEXT_HOP_RESOLVED},
    fib::{BLOCK_LINES, LINE_WORDS},
};

use super::{Answer, AyaDataplane, DataplaneError, Heritage, Raw, chain, question::ask_program};
use crate::{
    dataplane::{
        bpffs,
        mapped::MappedLines,
        pins::{PinError, Pins},
    },
    fib::Adopted,
    types::AttachmentId,
};

/// A next hop as its record names it: records know no IP addresses.
pub type Neighbour = (AttachmentId, [u8; 6]);

/// The maps of wishes of the generation that forwards.
pub(super) struct Wishes {
    lines: MappedLines,
    count: u32,
    attachments: Array<MapData, Raw<abi::Attachment>>,
    groups: Array<MapData, Raw<abi::Group>>,
    next_hops: Array<MapData, Raw<abi::NextHop>>,
    links: Array<MapData, u64>,
}

impl Wishes {
    /// Opens them; `None`: their records may mean something else.
    pub(super) fn open(pins: &Pins, heritage: &Heritage) -> Result<Option<Self>, DataplaneError> {
        if !heritage.shares {
            return Ok(None);
        }
        let folder = pins.maps(heritage.generation.number);
        let opened =
            |map: &'static str| MapData::from_pin(folder.join(map)).map_err(|error| failed(map, &error));
        let lines = opened("FIB_LINES")?;
        let count = lines.info().map_err(|error| failed("FIB_LINES", &error))?.max_entries();
        let count = count - count % BLOCK_LINES;
        Ok(Some(Self {
            lines: MappedLines::new(lines.fd().as_fd(), count)
                .map_err(|error| failed("FIB_LINES", &error))?,
            count,
            attachments: array("ATTACHMENTS", opened("ATTACHMENTS")?)?,
            groups: array("GROUPS", opened("GROUPS")?)?,
            next_hops: array("NEXT_HOPS", opened("NEXT_HOPS")?)?,
            links: array("LINKS", opened("LINKS")?)?,
        }))
    }

    fn next_hop(&self, id: u16) -> Option<abi::NextHop> {
        self.next_hops.get(&u32::from(id), 0).ok().map(|raw| raw.0).filter(|record| record.attachment != 0)
    }

    fn members(&self, group: u32) -> Vec<abi::NextHop> {
        let Ok(Raw(group)) = self.groups.get(&group, 0) else { return Vec::new() };
        let members = group.members.into_iter().filter(|id| group.kind == GROUP_FORWARD && *id != 0);
        members.filter_map(|id| self.next_hop(id)).collect()
    }

    fn is_alive(&self, record: &abi::NextHop) -> bool {
        record.flags & NEXT_HOP_RESOLVED != 0
            && self.links.get(&u32::from(record.link), 0).is_ok_and(|word| word != 0)
    }

    fn set_mac(
        &mut self,
        attachment: AttachmentId,
        before: Option<[u8; 6]>,
        now: [u8; 6],
    ) -> Result<u32, MapError> {
        let mut changed = 0;
        for id in 1..self.next_hops.len() {
            let Raw(mut record) = self.next_hops.get(&id, 0)?;
            let is_meant = before.is_none_or(|before| record.l2.starts_with(&before));
            if record.attachment == attachment.number() && is_meant && !record.l2.starts_with(&now) {
                record.l2[..6].copy_from_slice(&now);
                self.next_hops.set(id, Raw(record), 0)?;
                changed += 1;
            }
        }
        Ok(changed)
    }
}

impl Adopted for Wishes {
    fn roots(&self, attachment: AttachmentId) -> Option<[u32; 2]> {
        let Raw(record) = self.attachments.get(&u32::from(attachment.number()), 0).ok()?;
        Some([record.root4, record.root6])
    }

    fn word(&self, line: u32, at: usize) -> u64 {
        if line < self.count && at < LINE_WORDS { self.lines.read(line, at) } else { 0 }
    }

    fn egress(&self, group: u32) -> Vec<AttachmentId> {
        let alive = self.members(group).into_iter().filter(|record| self.is_alive(record));
        alive.filter_map(|record| AttachmentId::numbered(record.attachment)).collect()
    }
}

impl AyaDataplane {
    /// What the program that forwards now would do with a frame, as [`super::Dataplane::ask`]; `None`: ours does.
    pub fn ask_adopted(&self, ifindex: u32, frame: &[u8]) -> Option<Result<Answer, DataplaneError>> {
        let pins = self.pinned.as_ref().filter(|_| self.waits())?.pins();
        let path = pins.xdp_link(ifindex);
        let program =
            bpffs::open(&path).and_then(|link| pins.program(bpffs::xdp_link(link.as_fd())?.program));
        let asked = program.map_err(|error| PinError::Io { path, error }.into());
        Some(asked.and_then(|program| {
            let (trace, frame) = ask_program(program.as_fd(), ifindex, frame)?;
            Ok(Answer { trace, frame })
        }))
    }

    /// The neighbours that a group of the generation before has as members.
    pub fn members_adopted(&self, group: u32) -> Vec<Neighbour> {
        let members = self.wishes_before().map(|wishes| wishes.members(group)).unwrap_or_default();
        members.iter().filter_map(neighbour).collect()
    }

    /// The neighbour that a next hop of the generation before is.
    pub fn next_hop_adopted(&self, id: u16) -> Option<Neighbour> {
        self.wishes_before()?.next_hop(id).as_ref().and_then(neighbour)
    }

    /// A neighbour has another MAC address: the generation before learns of it too.
    pub(super) fn write_mac_before(
        &mut self,
        attachment: AttachmentId,
        before: Option<[u8; 6]>,
        now: [u8; 6],
    ) -> Result<(), DataplaneError> {
        let Some(wishes) = self.wishes_before_mut() else { return Ok(()) };
        wishes.set_mac(attachment, before, now).map(drop).map_err(|error| failed("NEXT_HOPS", &error))
    }

    pub(super) fn wishes_before(&self) -> Option<&Wishes> {
        self.waits().then(|| self.pinned.as_ref()?.wishes.as_ref())?
    }

    fn wishes_before_mut(&mut self) -> Option<&mut Wishes> {
        if self.waits() { self.pinned.as_mut()?.wishes.as_mut() } else { None }
    }
}

fn neighbour(record: &abi::NextHop) -> Option<Neighbour> {
    let mut mac = [0; 6];
    mac.copy_from_slice(&record.l2[..6]);
    Some((AttachmentId::numbered(record.attachment)?, mac))
}

fn array<V: Pod>(map: &'static str, data: MapData) -> Result<Array<MapData, V>, DataplaneError> {
    Map::Array(data).try_into().map_err(|error: MapError| failed(map, &error))
}

fn failed(map: &'static str, error: &dyn std::error::Error) -> DataplaneError {
    DataplaneError::Map { map, reason: chain(error) }
}
