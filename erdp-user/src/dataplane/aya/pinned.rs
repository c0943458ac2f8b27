//! How one generation of the program follows another without a packet noticing.
//!
//! The next generation is loaded beside the one that forwards. Maps that hold *state* (counters, buckets, who is alive, who may
//! speak BGP, the rings) are shared, if the records are of the same version and mean the same: both programs count in one place, so
//! nothing is carried over and nothing counted is lost. Maps that hold *wishes* (routes, groups, next hops, ports, policers) are
//! new and are filled as if nobody had been there. When they are complete, [`AyaDataplane::take_over`] replaces the program of
//! each link in one step, or of none: what fails midway is put back.
//!
//! Where the records differ, buckets are copied just before (the old program still charges for some microseconds more, which is
//! the error), and what the old program has counted is added to the new one's sums from then on.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use ::aya::{
    Ebpf,
    maps::{Array, Map, MapData, PerCpuArray, PerCpuValues},
};
use erdp_common::abi::{
    self, ABI_VERSION, CpuCounters, DropSample, MAX_BFD_SESSIONS, MAX_LINKS, MAX_PEERS, MAX_POLICERS, Meter,
    PEER_BFD_SHIFT, PeerKey, SAMPLE_SLOTS, SampleBudget, counter,
};
use erdp_common::budget;
use nix::time::{ClockId, clock_gettime};

use super::{
    AyaDataplane, Dataplane, DataplaneError, MeterState, Mode, ROUTER, Raw, adopted::Wishes, chain,
    losses::attach_losses, xdp,
};
use crate::{
    dataplane::{
        Tally, bpffs,
        pins::{About, Generation, PinError, Pins},
    },
    kernel::has_interface,
};

/// Maps of state, with the size of their values and how many there are; the rings have no values and a size of their own.
const STATE: [(&str, usize, u32); 9] = [
    ("COUNTERS", size_of::<CpuCounters>(), 1),
    ("METERS", size_of::<Meter>(), counter::METERS),
    ("BUCKETS", size_of::<abi::Bucket>(), MAX_POLICERS),
    ("BUDGET_WORDS", size_of::<abi::Word>(), budget::SLOTS),
    ("SAMPLE_BUDGETS", size_of::<SampleBudget>(), SAMPLE_SLOTS),
    ("LINKS", size_of::<u64>(), MAX_LINKS),
    ("PEERS", size_of::<u32>(), MAX_PEERS),
    ("NEIGHBOURS_WANTED", 0, 64 * 1024),
    ("DROP_SAMPLES", 0, 128 * 1024),
];
/// BFD sessions are shared whatever else differs, if only this record is the same: they name their peers themselves, and a session
/// whose record nobody reads any more would be lost.
const SESSIONS: (&str, usize, u32) = ("BFD_SESSIONS", size_of::<abi::BfdSession>(), MAX_BFD_SESSIONS);
const _: () = assert!(size_of::<DropSample>() < 128 * 1024);

/// The generation that forwards, and whether its state means the same to the next one.
#[derive(Clone, Debug)]
pub struct Heritage {
    /// What forwards.
    pub generation: Generation,
    /// Maps of state are used on.
    pub shares: bool,
}

impl Heritage {
    /// Judges what is pinned by what the next generation would say about itself. The answer's second part says, where state is
    /// not shared, why.
    pub fn judge(pins: &Pins, generation: Generation, next: &About) -> (Self, Option<String>) {
        let about = &generation.about;
        let why = if about.abi != next.abi {
            Some(format!("its records are of version {}, ours of {}", about.abi, next.abi))
        } else if about.shape != next.shape || about.links != next.links {
            Some("the configuration or the interfaces differ".to_owned())
        } else {
            let folder = pins.maps(generation.number);
            STATE.iter().find_map(|(map, size, entries)| misfit(&folder.join(map), map, *size, *entries))
        };
        (Self { generation, shares: why.is_none() }, why)
    }
}

/// Why a pinned map cannot be used on.
fn misfit(path: &Path, map: &str, size: usize, entries: u32) -> Option<String> {
    let info = match MapData::from_pin(path).and_then(|data| data.info()) {
        Ok(info) => info,
        Err(error) => return Some(format!("its map {map} cannot be opened: {}", chain(&error))),
    };
    let (size_there, entries_there) = (info.value_size() as usize, info.max_entries());
    (size_there != size || entries_there != entries).then(|| {
        format!(
            "its map {map} has {entries_there} values of {size_there} bytes instead of {entries} of {size}"
        )
    })
}

/// Everything that a CPU counts, as words.
const COUNTER_WORDS: usize = size_of::<CpuCounters>() / 8;
const METER_WORDS: usize = size_of::<Meter>() / 8;
/// The words of a meter that are counts; those before are its state.
const METER_STATE: usize = 3;

type Counts<const WORDS: usize> = Vec<PerCpuArray<MapData, [u64; WORDS]>>;

/// What was counted in maps that no program uses any more, or only the one before. The newest first; they become one when we take
/// over.
struct Before {
    counters: Counts<COUNTER_WORDS>,
    meters: Counts<METER_WORDS>,
    links: Option<(Array<MapData, u64>, Vec<u32>)>,
    number: u32,
    shares: bool,
}

/// The pins of a loaded program.
pub(super) struct Pinned {
    pins: Pins,
    number: u32,
    heritage: Option<Heritage>,
    before: Option<Before>,
    pub(super) wishes: Option<Wishes>,
    is_complete: bool,
}

impl Pinned {
    /// The folder for the next generation.
    pub(super) fn begin(pins: Pins, heritage: Option<Heritage>) -> Result<Self, DataplaneError> {
        let number = heritage.as_ref().map_or(1, |heritage| heritage.generation.number + 1);
        // What a start that was killed has left without a link is nobody's.
        if heritage.is_none() {
            pins.remove()?;
        }
        pins.begin(number)?;
        let before = heritage.as_ref().map(|heritage| Before::open(&pins, heritage));
        let wishes = heritage.as_ref().and_then(|heritage| {
            let opened = Wishes::open(&pins, heritage);
            opened.unwrap_or_else(|error| {
                tracing::warn!(%error, "what still forwards cannot be read: it goes on until all peers have said everything");
                None
            })
        });
        Ok(Self { pins, number, heritage, before, wishes, is_complete: false })
    }

    pub(super) fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The maps that are used on.
    pub(super) fn shared(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        let all = self.heritage.as_ref().is_some_and(|heritage| heritage.shares);
        let folder = self.heritage.as_ref().map(|heritage| self.pins.maps(heritage.generation.number));
        folder.into_iter().flat_map(move |folder| {
            let (map, size, entries) = SESSIONS;
            let path = folder.join(map);
            let sessions = misfit(&path, map, size, entries).is_none().then_some((map, path));
            let state = STATE.iter().filter(move |_| all).map(move |(map, ..)| (*map, folder.join(map)));
            sessions.into_iter().chain(state)
        })
    }

    /// Pins the program and all maps. The dot of `.rodata` is not allowed in a name there, and nobody needs it: the programs hold theirs.
    pub(super) fn pin_all(&self, ebpf: &mut Ebpf) -> Result<(), DataplaneError> {
        let folder = self.pins.maps(self.number);
        let path = self.pins.own_program(self.number);
        let program = xdp(ebpf, ROUTER)?.fd().map_err(|error| DataplaneError::Load(chain(&error)))?;
        bpffs::pin(program.as_fd(), &path).map_err(|error| PinError::Io { path, error })?;
        for (name, map) in ebpf.maps().filter(|(name, _)| !name.contains('.')) {
            map.pin(folder.join(name)).map_err(|error| DataplaneError::Load(chain(&error)))?;
        }
        Ok(())
    }

    pub(super) fn detach_all(&self) {
        for (_, path) in self.pins.xdp_links() {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(pin = %path.display(), %error, "detaching");
            }
        }
    }
}

impl Drop for Pinned {
    /// A start that has not come to its end leaves what was there before.
    fn drop(&mut self) {
        if self.is_complete {
            return;
        }
        let undone = match &self.heritage {
            Some(_) => self.pins.retire(self.number),
            None => self.pins.remove().map(drop),
        };
        if let Err(error) = undone {
            tracing::warn!(%error, "pins stay");
        }
    }
}

/// Under this name the next generation finds what those before have counted.
fn before(map: &str) -> String {
    format!("{map}_BEFORE")
}

impl Before {
    fn open(pins: &Pins, Heritage { generation, shares }: &Heritage) -> Self {
        let folder = pins.maps(generation.number);
        let links = misfit(&folder.join("LINKS"), "LINKS", size_of::<u64>(), MAX_LINKS).is_none() && !shares;
        let links = links.then(|| MapData::from_pin(folder.join("LINKS")).ok()).flatten();
        Self {
            counters: counts(&folder, "COUNTERS", 1, *shares),
            meters: counts(&folder, "METERS", counter::METERS, *shares),
            links: links
                .and_then(|data| Some((Map::Array(data).try_into().ok()?, generation.about.links.clone()))),
            number: generation.number,
            shares: *shares,
        }
    }

    /// Makes one map of all that was counted before, and pins it for the next generation.
    fn fold(&mut self, pins: &Pins, number: u32) -> Result<(), DataplaneError> {
        fold(&mut self.counters, 1, 0)?;
        fold(&mut self.meters, counter::METERS, METER_STATE)?;
        for map in ["COUNTERS", "METERS"] {
            let (from, to) = (pins.maps(self.number), pins.maps(number).join(before(map)));
            let from = if self.shares { from.join(before(map)) } else { from.join(map) };
            if from.exists() && !to.exists() {
                let pinned = bpffs::open(&from).and_then(|it| bpffs::pin(it.as_fd(), &to));
                pinned.map_err(|error| PinError::Io { path: to, error })?;
            }
        }
        Ok(())
    }
}

/// The maps of counts that are not shared: the one of the generation before and the one of those before it.
fn counts<const WORDS: usize>(folder: &Path, map: &str, entries: u32, shares: bool) -> Counts<WORDS> {
    let names = [map.to_owned(), before(map)];
    let open = |name: String| {
        let path = folder.join(&name);
        let data =
            misfit(&path, &name, 8 * WORDS, entries).is_none().then(|| MapData::from_pin(&path).ok())?;
        Map::PerCpuArray(data?).try_into().ok()
    };
    names.into_iter().skip(usize::from(shares)).filter_map(open).collect()
}

/// Adds the counts of older maps to those of the newest, which no program counts in any more.
fn fold<const WORDS: usize>(
    maps: &mut Counts<WORDS>,
    entries: u32,
    from: usize,
) -> Result<(), DataplaneError> {
    let failed =
        |error: &dyn std::error::Error| DataplaneError::Map { map: "COUNTERS", reason: chain(error) };
    let Some((newest, older)) = maps.split_first_mut() else { return Ok(()) };
    for older in older {
        for at in 0..entries {
            let (Ok(sum), Ok(more)) = (newest.get(&at, 0), older.get(&at, 0)) else { continue };
            let mut cpus: Vec<[u64; WORDS]> = sum.iter().copied().collect();
            for (sum, more) in cpus.iter_mut().zip(more.iter()) {
                sum.iter_mut().zip(more).skip(from).for_each(|(sum, more)| *sum += more);
            }
            let cpus = PerCpuValues::try_from(cpus).map_err(|error| failed(&error))?;
            newest.set(at, cpus, 0).map_err(|error| failed(&error))?;
        }
    }
    maps.truncate(1);
    Ok(())
}

/// A link that runs the new program already, to be put back if a later one fails.
pub(super) struct Replaced {
    link: OwnedFd,
    before: OwnedFd,
}

impl AyaDataplane {
    /// Whether there is a generation before this one that still forwards.
    pub fn waits(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.heritage.is_some() && !pinned.is_complete)
    }

    /// For how long what forwards has been without its controller, since the first start that found it so.
    pub fn lost(&self) -> Duration {
        let lost = |pinned: &Pinned| {
            let generation = &pinned.heritage.as_ref()?.generation;
            Some(pinned.pins.lost(generation.number, since_boot()))
        };
        self.pinned.as_ref().and_then(lost).unwrap_or_default()
    }

    /// Whether the program goes on when this process dies.
    pub fn is_pinned(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.is_complete)
    }

    /// The program runs on all ports from now on: links that are pinned get it in one step each, the others are made. All of them
    /// or none.
    pub(super) fn take_ports_over(
        &mut self,
        ports: &BTreeMap<u32, String>,
        about: About,
    ) -> Result<(), DataplaneError> {
        let mode = about.mode;
        if self.pinned.is_none() {
            self.tell_of_carriers();
            return ports.iter().try_for_each(|(ifindex, name)| self.attach(name, *ifindex, mode));
        }
        self.copy_buckets();
        let (mut replaced, mut made) = (Vec::new(), Vec::new());
        for (ifindex, name) in ports {
            match self.take_port(*ifindex, name, mode) {
                Ok(Some(one)) => replaced.push(one),
                Ok(None) => made.push(*ifindex),
                // It has gone since it was looked for: the others go on.
                Err(error) if !has_interface(*ifindex) => {
                    tracing::error!(interface = name, %error, "the interface has gone meanwhile");
                }
                Err(error) => {
                    self.put_back(replaced, &made);
                    return Err(error);
                }
            }
        }
        if self.losses_counted {
            let pins = self.pinned.as_ref().map(|pinned| pinned.pins.clone());
            self.losses_counted = attach_losses(&mut self.ebpf, pins.as_ref())?;
        }
        self.tell_of_carriers();
        self.complete(ports, about)
    }

    /// Lost carriers go straight to the links' words, where this kernel says what it takes.
    fn tell_of_carriers(&mut self) {
        if let Err(error) = self.watch_carriers() {
            tracing::warn!(error = %chain(&error), "a lost carrier is noticed by rtnetlink only");
        }
    }

    /// The new program on one port; the answer is what is needed to go back, if there was a link.
    pub(super) fn take_port(
        &mut self,
        ifindex: u32,
        name: &str,
        mode: Mode,
    ) -> Result<Option<Replaced>, DataplaneError> {
        let Some(pinned) = &self.pinned else { return Ok(None) };
        let path = pinned.pins.xdp_link(ifindex);
        let refused = |error: std::io::Error| DataplaneError::Attach {
            interface: name.into(),
            reason: error.to_string(),
        };
        if let Ok(link) = bpffs::open(&path) {
            match bpffs::xdp_link(link.as_fd()) {
                Ok(found) if found.ifindex == ifindex => {
                    let before = pinned.pins.program(found.program).map_err(refused)?;
                    let program = xdp(&mut self.ebpf, ROUTER)?;
                    let program = program.fd().map_err(|error| DataplaneError::Load(chain(&error)))?;
                    bpffs::update_link(link.as_fd(), program.as_fd()).map_err(refused)?;
                    return Ok(Some(Replaced { link, before }));
                }
                // The interface that it was made for has gone, and with it what it did.
                _ => fs::remove_file(&path).map_err(refused)?,
            }
        }
        self.attach(name, ifindex, mode).map(|()| None)
    }

    fn put_back(&self, replaced: Vec<Replaced>, made: &[u32]) {
        for Replaced { link, before } in replaced {
            if let Err(error) = bpffs::update_link(link.as_fd(), before.as_fd()) {
                tracing::error!(%error, "an interface keeps the new program");
            }
        }
        for ifindex in made {
            let pin = self.pinned.as_ref().map(|pinned| pinned.pins.xdp_link(*ifindex));
            pin.into_iter().for_each(|pin| drop(fs::remove_file(pin)));
        }
    }

    /// The generation is the one that forwards; the one before stays pinned until [`Self::retire_others`].
    fn complete(&mut self, ports: &BTreeMap<u32, String>, about: About) -> Result<(), DataplaneError> {
        let Some(pinned) = &mut self.pinned else { return Ok(()) };
        pinned.pins.complete(&Generation { number: pinned.number, about })?;
        pinned.is_complete = true;
        for (_, path) in pinned.pins.xdp_links().filter(|(ifindex, _)| !ports.contains_key(ifindex)) {
            // An interface that the configuration no longer has.
            fs::remove_file(&path).map_err(|error| PinError::Io { path, error })?;
        }
        pinned.heritage = None;
        pinned.wishes = None;
        match &mut pinned.before {
            Some(before) => before.fold(&pinned.pins, pinned.number),
            None => Ok(()),
        }
    }

    /// Every other generation goes: nobody can come back to it.
    pub(super) fn retire_generations(&mut self) -> Result<(), DataplaneError> {
        match &self.pinned {
            Some(pinned) => Ok(pinned.pins.retire_others(pinned.number)?),
            None => Ok(()),
        }
    }

    /// What a policer has seen goes on where its bucket is a new one.
    fn copy_buckets(&mut self) {
        let Some(heritage) = self.pinned.as_ref().and_then(|it| it.heritage.as_ref().map(|h| (it, h))) else {
            return;
        };
        let (pinned, Heritage { generation, shares }) = heritage;
        let path = pinned.pins.maps(generation.number).join("BUCKETS");
        if *shares || misfit(&path, "BUCKETS", size_of::<abi::Bucket>(), MAX_POLICERS).is_some() {
            return;
        }
        let Ok(data) = MapData::from_pin(&path) else { return };
        let Ok(before): Result<Array<MapData, [u64; 4]>, _> = Map::Array(data).try_into() else { return };
        for id in 0..MAX_POLICERS {
            if let Ok(words) = before.get(&id, 0)
                && words != [0; 4]
                && let Err(error) = self.buckets.set(id, words, 0)
            {
                tracing::warn!(policer = id, %error, "a bucket begins full");
            }
        }
    }

    /// Removes every pin: the end for good.
    pub fn release(&mut self) -> Result<(), DataplaneError> {
        if let Some(pinned) = &mut self.pinned {
            pinned.pins.remove()?;
            pinned.is_complete = true;
        }
        Ok(())
    }

    /// Carrier as the generation before numbers it, while that one forwards on maps of its own.
    pub(super) fn write_link_before(&mut self, ifindex: u32, alive: bool) -> Result<(), DataplaneError> {
        let before = self.pinned.as_mut().and_then(|pinned| pinned.before.as_mut());
        let Some((map, links)) = before.and_then(|before| before.links.as_mut()) else { return Ok(()) };
        let Some(at) = links.iter().position(|other| *other == ifindex) else { return Ok(()) };
        let written = map.set(at as u32 + 1, u64::from(alive), 0);
        written.map_err(|error| DataplaneError::Map { map: "LINKS", reason: chain(&error) })
    }

    /// What the generation before has counted, slot by slot.
    pub(super) fn counted_before(&self, slots: &mut [Tally]) {
        let before = self.pinned.as_ref().and_then(|pinned| pinned.before.as_ref());
        for map in before.iter().flat_map(|before| &before.counters) {
            for cpu in map.get(&0, 0).iter().flat_map(|cpus| cpus.iter()) {
                let counts = cpu.chunks_exact(2).map(|pair| Tally { packets: pair[0], bytes: pair[1] });
                slots.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
        }
    }

    /// What the generation before has metered.
    pub(super) fn metered_before(&self, slot: u32) -> Vec<MeterState> {
        let before = self.pinned.as_ref().and_then(|pinned| pinned.before.as_ref());
        let maps = before.iter().flat_map(|before| &before.meters);
        let cpus = maps.filter_map(|map| map.get(&slot, 0).ok());
        cpus.flat_map(|cpus| cpus.iter().map(|words| MeterState::read(*words)).collect::<Vec<_>>()).collect()
    }

    /// The peers whose sessions were up when the generation before lost its controller.
    pub fn peers_before(pins: &Pins, generation: &Generation) -> Vec<PeerKey> {
        let data = MapData::from_pin(pins.maps(generation.number).join("PEERS")).ok();
        let map = data.and_then(|data| Map::HashMap(data).try_into().ok());
        let map: Option<::aya::maps::HashMap<MapData, Raw<PeerKey>, u32>> = map;
        let entries = map.iter().flat_map(|map| map.iter().flatten());
        entries
            .filter(|(_, state)| *state % (1 << PEER_BFD_SHIFT) == PEER_UP)
            .map(|(key, _)| key.0)
            .collect::<Vec<_>>()
    }

    /// Notes whether a peer's session is up, for whoever comes after us.
    pub(super) fn write_session_note(&mut self, key: PeerKey, is_up: bool) -> Result<(), DataplaneError> {
        let state = if is_up { PEER_UP } else { PEER_KNOWN };
        // The number of its BFD session stays.
        let before = self.peers.get(&Raw(key), 0).unwrap_or_default() >> PEER_BFD_SHIFT;
        let written = self.peers.insert(Raw(key), state | before << PEER_BFD_SHIFT, 0);
        written.map_err(|error| DataplaneError::Map { map: "PEERS", reason: chain(&error) })
    }
}

/// A peer that may speak BGP. The program looks at the number of its BFD session only, which is in the bits above.
pub(super) const PEER_KNOWN: u32 = 1;
/// One whose session is established.
const PEER_UP: u32 = 2;

/// `CLOCK_BOOTTIME`: pins do not outlive a boot.
fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// What this build says about its maps, for interfaces in the order of their liveness words.
pub fn about(links: Vec<u32>, shape: u64, mode: Mode) -> About {
    About { abi: ABI_VERSION, mode, links, shape }
}
