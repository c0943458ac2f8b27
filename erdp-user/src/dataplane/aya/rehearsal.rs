//! The program of this build on copies of the maps that forward now: what would it do with the same frames?
//!
//! Both programs are asked by BPF_PROG_TEST_RUN with the marker of a question, so that neither sends or counts anything; the running
//! one by the identifier that its link tells.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use ::aya::{
    Pod,
    maps::{Array, DevMap, HashMap, Map, MapData, MapError},
};
use erdp_common::{
    abi::{PeerKey, Trace},
    fib::{BLOCK_LINES, LINE_WORDS, build::Store},
};

use super::{
    AyaDataplane, Buffers, DataplaneError, LoadOptions, OBJECT, Raw, chain, map_lines, question::ask_program,
};
use crate::dataplane::{
    bpffs,
    mapped::MappedLines,
    pins::{Generation, PinError, Pins},
};

/// This build's program beside the one that runs.
pub struct Rehearsal {
    ours: AyaDataplane,
    running: BTreeMap<u32, OwnedFd>,
}

/// A frame as each program would send it on, with its account.
pub type Outcome = (Trace, Vec<u8>);

impl Rehearsal {
    /// Loads the program with maps of its own and copies what the generation that forwards knows.
    pub fn new(pins: &Pins, generation: &Generation, options: LoadOptions) -> Result<Self, DataplaneError> {
        let folder = pins.maps(generation.number);
        let lines = opened(&folder, "FIB_LINES")?;
        let blocks = lines.info().map_err(|error| failed("FIB_LINES", &error))?.max_entries() / BLOCK_LINES;
        let mut ours = AyaDataplane::load_object(OBJECT, LoadOptions { fib_blocks: blocks, ..options })?;
        let mapped = MappedLines::new(AsFd::as_fd(lines.fd()), blocks * BLOCK_LINES);
        let mapped = mapped.map_err(|error| failed("FIB_LINES", &error))?;
        let mut copy =
            ours.store.take().map_or_else(|| map_lines(&mut ours.ebpf, blocks * BLOCK_LINES), Ok)?;
        for line in 0..blocks * BLOCK_LINES {
            for at in 0..LINE_WORDS {
                let word = mapped.read(line, at);
                if word != 0 {
                    copy.publish(line, at, word);
                }
            }
        }
        copied(&folder, "PORTS", &mut ours.ports)?;
        copied(&folder, "VLANS", &mut ours.vlans)?;
        copied(&folder, "ATTACHMENTS", &mut ours.attachments)?;
        copied(&folder, "NEXT_HOPS", &mut ours.next_hops)?;
        copied(&folder, "GROUPS", &mut ours.groups)?;
        copied(&folder, "LINKS", &mut ours.links)?;
        copied(&folder, "POLICERS", &mut ours.policers)?;
        copied(&folder, "PROFILES", &mut ours.profiles)?;
        copied(&folder, "BUCKETS", &mut ours.buckets)?;
        let slots: DevMap<MapData> = typed(&folder, "TX_PORTS", Map::DevMap)?;
        for (slot, value) in (0..).zip(slots.iter()) {
            if let Ok(value) = value {
                ours.tx_ports
                    .set(slot, value.if_index, None, 0)
                    .map_err(|error| failed("TX_PORTS", &error))?;
            }
        }
        let peers: HashMap<MapData, Raw<PeerKey>, u32> = typed(&folder, "PEERS", Map::HashMap)?;
        for (key, value) in peers.iter().flatten() {
            ours.peers.insert(key, value, 0).map_err(|error| failed("PEERS", &error))?;
        }
        let mut running = BTreeMap::new();
        for (ifindex, path) in pins.xdp_links() {
            let program =
                bpffs::open(&path).and_then(|link| pins.program(bpffs::xdp_link(link.as_fd())?.program));
            running.insert(ifindex, program.map_err(|error| PinError::Io { path, error })?);
        }
        Ok(Self { ours, running })
    }

    /// What the running program and ours do with a frame that comes in on an interface; `None`: nothing runs there.
    pub fn ask(&self, ifindex: u32, frame: &[u8]) -> Result<Option<(Outcome, Outcome)>, DataplaneError> {
        let Some(running) = self.running.get(&ifindex) else { return Ok(None) };
        let before = ask_program(running.as_fd(), ifindex, frame)?;
        let mut buffers = Buffers::default();
        let (trace, frame) = self.ours.ask_with(ifindex, frame, &mut buffers)?;
        Ok(Some((before, (trace, frame.to_vec()))))
    }
}

fn failed(map: &'static str, error: &dyn std::error::Error) -> DataplaneError {
    DataplaneError::Map { map, reason: chain(error) }
}

fn opened(folder: &Path, map: &'static str) -> Result<MapData, DataplaneError> {
    MapData::from_pin(folder.join(map)).map_err(|error| failed(map, &error))
}

fn typed<T: TryFrom<Map, Error = MapError>>(
    folder: &Path,
    map: &'static str,
    kind: impl Fn(MapData) -> Map,
) -> Result<T, DataplaneError> {
    kind(opened(folder, map)?).try_into().map_err(|error| failed(map, &error))
}

/// Every value that is not zero; an error where the values are not of the same size: another ABI, whose routes are learned anew and
/// not copied.
fn copied<V: Pod>(
    folder: &Path,
    map: &'static str,
    to: &mut Array<MapData, V>,
) -> Result<(), DataplaneError> {
    let from: Array<MapData, V> = typed(folder, map, Map::Array)?;
    for at in 0..from.len().min(to.len()) {
        let value = from.get(&at, 0).map_err(|error| failed(map, &error))?;
        to.set(at, value, 0).map_err(|error| failed(map, &error))?;
    }
    Ok(())
}
