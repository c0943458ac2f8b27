//! The kernel backend: loads the XDP program with aya, attaches it, writes its maps.
//!
//! The object was built by `cargo xtask build` and is part of this binary. What is loaded without pins is released when this value
//! is dropped or the process ends: links detach, maps vanish. With [`AyaDataplane::load_pinned`] it stays: see [`super::pins`] for
//! where, and `pinned` for how one generation follows another.

use std::{
    collections::{BTreeMap, HashMap as StdHashMap},
    io,
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
};

mod adopted;
mod carrier;
mod losses;
mod pinned;
mod question;
mod readback;
mod rehearsal;

use ::aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, DevMap, HashMap, Map, MapData, MapError, PerCpuArray, ProgramArray, RingBuf},
    programs::{Program, Xdp, XdpMode, links::FdLink, xdp::XdpLinkId},
};
use erdp_common::{
    abi::{self, CpuCounters, DropSample, NeighbourWanted, PeerKey, counter},
    budget,
    classify::Class,
    fib::{BLOCK_LINES, build::Store},
};

use tokio::io::unix::AsyncFd;

use self::{
    losses::{attach_losses, load_losses},
    pinned::Pinned,
};
pub use self::{
    pinned::{Heritage, about},
    question::Buffers,
    readback::Repaired,
    rehearsal::{Outcome, Rehearsal},
};
use super::{
    Answer, Counters, Dataplane, DataplaneError, Mode, Record, Tally,
    mapped::MappedLines,
    pins::{About, Pins},
    sessions::{self, MappedSessions},
};
use crate::{
    fib::Adopted,
    kernel::{datagram::monotonic_ns, has_interface, preflight::has_carrier},
    types::AttachmentId,
};

static OBJECT: &[u8] = ::aya::include_bytes_aligned!(env!("ERDP_BPF_OBJECT"));

/// The BPF object that this binary carries.
pub fn object() -> &'static [u8] {
    OBJECT
}

/// A record of the ABI as aya wants it.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Raw<T>(T);

// SAFETY: the records are repr(C) integers without padding (sizes asserted in `abi`).
unsafe impl Pod for Raw<abi::Port> {}
// SAFETY: as above.
unsafe impl Pod for Raw<abi::Vlan> {}
// SAFETY: as above.
unsafe impl Pod for Raw<abi::Attachment> {}
// SAFETY: as above.
unsafe impl Pod for Raw<abi::NextHop> {}
// SAFETY: as above.
unsafe impl Pod for Raw<abi::Group> {}
// SAFETY: as above.
unsafe impl Pod for Raw<PeerKey> {}
// SAFETY: as above.
unsafe impl Pod for Raw<abi::Policer> {}
// SAFETY: as above.
unsafe impl Pod for Raw<abi::QosProfile> {}
// SAFETY: as above.
unsafe impl Pod for Raw<abi::Budget> {}
// SAFETY: as above.
unsafe impl Pod for Raw<abi::KernelLayout> {}
// SAFETY: as above.
unsafe impl Pod for Raw<CpuCounters> {}

/// The program on every port.
const ROUTER: &str = "erdp";
/// The program for dropped packets, reached by a tail call.
const DROPPED: &str = "erdp_dropped";
/// The program for BFD, reached likewise.
const BFD: &str = "erdp_bfd";

/// How the program is loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions {
    /// Blocks of the forwarding trie, 1 KiB each, all routing domains and both families together.
    pub fib_blocks: u32,
    /// Log drops through aya-log.
    pub log_drops: bool,
    /// Both directions of a flow hash alike.
    pub symmetric_hash: bool,
    /// Dropped frames that are sampled: so many of one reason on one CPU in about a second; 0: none.
    pub drop_samples: u32,
    /// The policers' time stands still but for [`AyaDataplane::set_clock`]: for tests.
    pub virtual_clock: bool,
}

/// What a CPU's [`abi::Meter`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterState {
    /// Bytes that have been paid for and not been used, overhead included.
    pub paid: u32,
    /// Packets and IP bytes by passage.
    pub counts: [Tally; 4],
}

impl MeterState {
    /// The record's words: tick; paid, overhead and passage; mark; four pairs.
    fn read([_, paid, _, a, b, c, d, e, f, g, h]: [u64; size_of::<abi::Meter>() / 8]) -> Self {
        let counts = [[a, b], [c, d], [e, f], [g, h]].map(|[packets, bytes]| Tally { packets, bytes });
        let [a, b, c, d, ..] = paid.to_ne_bytes();
        Self { paid: u32::from_ne_bytes([a, b, c, d]), counts }
    }
}

/// The loaded program and its maps.
pub struct AyaDataplane {
    ports: Array<MapData, Raw<abi::Port>>,
    vlans: Array<MapData, Raw<abi::Vlan>>,
    attachments: Array<MapData, Raw<abi::Attachment>>,
    next_hops: Array<MapData, Raw<abi::NextHop>>,
    groups: Array<MapData, Raw<abi::Group>>,
    links: Array<MapData, u64>,
    kernel: Array<MapData, Raw<abi::KernelLayout>>,
    policers: Array<MapData, Raw<abi::Policer>>,
    buckets: Array<MapData, [u64; 4]>,
    budgets: Array<MapData, Raw<abi::Budget>>,
    profiles: Array<MapData, Raw<abi::QosProfile>>,
    meters: PerCpuArray<MapData, [u64; size_of::<abi::Meter>() / 8]>,
    virtual_clock: Option<Array<MapData, u64>>,
    peers: HashMap<MapData, Raw<PeerKey>, u32>,
    tx_ports: DevMap<MapData>,
    counters: PerCpuArray<MapData, Raw<CpuCounters>>,
    wanted: Option<RingBuf<MapData>>,
    drop_samples: Option<RingBuf<MapData>>,
    store: Option<MappedLines>,
    bfd_sessions: Arc<MappedSessions>,
    links_fd: OwnedFd,
    _called: [ProgramArray<MapData>; 2],
    attached: StdHashMap<String, XdpLinkId>,
    ebpf: Ebpf,
    losses_counted: bool,
    pinned: Option<Pinned>,
    written: readback::Written,
}

impl AyaDataplane {
    /// Loads and verifies the program; attaches nothing yet.
    pub fn load(options: LoadOptions) -> Result<Self, DataplaneError> {
        Self::load_object(OBJECT, options)
    }

    /// As [`Self::load`], from another object with the same maps: the benchmark's.
    pub fn load_object(object: &[u8], options: LoadOptions) -> Result<Self, DataplaneError> {
        Self::load_with(object, options, None)
    }

    /// As [`Self::load`], beside what is pinned: maps that are shared with the generation that forwards are those, the others are
    /// new; all of them are pinned.
    pub fn load_pinned(
        options: LoadOptions,
        pins: Pins,
        heritage: Option<Heritage>,
    ) -> Result<Self, DataplaneError> {
        Self::load_with(OBJECT, options, Some(Pinned::begin(pins, heritage)?))
    }

    fn load_with(
        object: &[u8],
        options: LoadOptions,
        pinned: Option<Pinned>,
    ) -> Result<Self, DataplaneError> {
        let log_drops = u8::from(options.log_drops);
        let symmetric_hash = u8::from(options.symmetric_hash);
        let clock_is_virtual = u8::from(options.virtual_clock);
        let fib_lines = options.fib_blocks.saturating_mul(BLOCK_LINES);
        let mut loader = EbpfLoader::new();
        for (map, path) in pinned.iter().flat_map(Pinned::shared) {
            loader.map_pin_path(map, path);
        }
        let mut ebpf = loader
            .map_max_entries("FIB_LINES", fib_lines)
            .override_global("LOG_DROPS", &log_drops, true)
            .override_global("SAMPLES_IN_WINDOW", &options.drop_samples, true)
            .override_global("SYMMETRIC_HASH", &symmetric_hash, true)
            .override_global("CLOCK_IS_VIRTUAL", &clock_is_virtual, true)
            .load(object)
            .map_err(|error| DataplaneError::Load(chain(&error)))?;
        for program in [ROUTER, DROPPED, BFD] {
            xdp(&mut ebpf, program)?.load().map_err(|error| DataplaneError::Load(chain(&error)))?;
        }
        pinned.iter().try_for_each(|pinned| pinned.pin_all(&mut ebpf))?;
        let called = [called(&mut ebpf, "DROPPED", DROPPED)?, called(&mut ebpf, "BFD", BFD)?];
        let bfd_sessions = Arc::new(map_sessions(&mut ebpf)?);
        let links_fd = array_fd(&ebpf, "LINKS")?;
        load_losses(&mut ebpf)?;
        let losses_counted = pinned.is_some() || attach_losses(&mut ebpf, None)?;
        let store = map_lines(&mut ebpf, fib_lines)?;
        Ok(Self {
            ports: typed(&mut ebpf, "PORTS")?,
            vlans: typed(&mut ebpf, "VLANS")?,
            attachments: typed(&mut ebpf, "ATTACHMENTS")?,
            next_hops: typed(&mut ebpf, "NEXT_HOPS")?,
            groups: typed(&mut ebpf, "GROUPS")?,
            links: typed(&mut ebpf, "LINKS")?,
            kernel: typed(&mut ebpf, "KERNEL")?,
            policers: typed(&mut ebpf, "POLICERS")?,
            buckets: typed(&mut ebpf, "BUCKETS")?,
            budgets: typed(&mut ebpf, "BUDGETS")?,
            profiles: typed(&mut ebpf, "PROFILES")?,
            meters: typed(&mut ebpf, "METERS")?,
            virtual_clock: options.virtual_clock.then(|| typed(&mut ebpf, "VIRTUAL_CLOCK")).transpose()?,
            peers: typed(&mut ebpf, "PEERS")?,
            tx_ports: typed(&mut ebpf, "TX_PORTS")?,
            counters: typed(&mut ebpf, "COUNTERS")?,
            wanted: Some(typed(&mut ebpf, "NEIGHBOURS_WANTED")?),
            drop_samples: Some(typed(&mut ebpf, "DROP_SAMPLES")?),
            store: Some(store),
            bfd_sessions,
            links_fd,
            _called: called,
            attached: StdHashMap::new(),
            ebpf,
            losses_counted,
            pinned,
            written: readback::Written::default(),
        })
    }
}

impl AyaDataplane {
    /// The ring of neighbours that packets have asked for; handed out once. Needs a tokio runtime.
    pub fn take_wanted(&mut self) -> io::Result<AsyncFd<RingBuf<MapData>>> {
        watched(self.wanted.take().ok_or_else(|| io::Error::other("handed out already"))?)
    }

    /// The next neighbour that a packet has asked for, unless the ring has been handed out.
    pub fn next_wanted(&mut self) -> Option<NeighbourWanted> {
        self.wanted.as_mut()?.next().and_then(|item| neighbour_wanted(&item))
    }

    /// The ring of samples of dropped frames; handed out once. Needs a tokio runtime.
    pub fn take_drop_samples(&mut self) -> io::Result<AsyncFd<RingBuf<MapData>>> {
        watched(self.drop_samples.take().ok_or_else(|| io::Error::other("handed out already"))?)
    }

    /// The next sample of a dropped frame, unless the ring has been handed out.
    pub fn next_drop_sample(&mut self) -> Option<DropSample> {
        self.drop_samples.as_mut()?.next().and_then(|item| drop_sample(&item))
    }

    /// Writes that a link is dead, from another thread.
    pub fn link_killer(&self) -> Result<impl FnMut(u16) + Send + 'static, DataplaneError> {
        let failed = |reason: String| DataplaneError::Map { map: "LINKS", reason };
        let fd = self.links_fd.try_clone().map_err(|error| failed(error.to_string()))?;
        let data = MapData::from_fd(fd).map_err(|error| failed(chain(&error)))?;
        let mut links: Array<MapData, u64> =
            Map::Array(data).try_into().map_err(|error: MapError| failed(chain(&error)))?;
        Ok(move |link: u16| {
            if let Err(error) = links.set(u32::from(link), 0, 0) {
                tracing::error!(link, error = %chain(&error), "a dead link stays in use until the controller sees it");
            }
        })
    }

    /// The BFD sessions' records, shared with the packet path.
    pub fn bfd_sessions(&self) -> Arc<MappedSessions> {
        Arc::clone(&self.bfd_sessions)
    }

    /// Passes the program's log (aya-log) on to `log`, for as long as the runtime lives.
    pub fn forward_log(&mut self) -> io::Result<()> {
        let logger = aya_log::EbpfLogger::init(&mut self.ebpf).map_err(io::Error::other)?;
        let mut logger = watched(logger)?;
        tokio::spawn(async move {
            while let Ok(mut guard) = logger.readable_mut().await {
                guard.get_inner_mut().flush();
                guard.clear_ready();
            }
        });
        Ok(())
    }

    /// Takes the program off all interfaces.
    pub fn detach_all(&mut self) {
        if let Some(pinned) = &self.pinned {
            pinned.detach_all();
        }
        for (interface, link) in std::mem::take(&mut self.attached) {
            let detached = xdp(&mut self.ebpf, ROUTER).map(|program| program.detach(link));
            if let Ok(Err(error)) = detached {
                tracing::warn!(interface, %error, "detaching");
            }
        }
    }

    /// The meters of a class of a policer, one for each CPU.
    pub fn meters(&self, id: u16, class: Class) -> Vec<MeterState> {
        let slot = counter::meter(id, class);
        let cpus = self.meters.get(&slot, 0);
        let mut cpus: Vec<MeterState> = cpus
            .map_or_else(|_| Vec::new(), |cpus| cpus.iter().map(|words| MeterState::read(*words)).collect());
        cpus.extend(self.metered_before(slot));
        cpus
    }

    /// The words of a policer's bucket, in the order of [`Record::Bucket`].
    pub fn bucket(&self, id: u16) -> Result<[u64; 4], DataplaneError> {
        let words = self.buckets.get(&u32::from(id), 0);
        words.map_err(|error| DataplaneError::Map { map: "BUCKETS", reason: chain(&error) })
    }

    /// Sets the policers' time, in 2^-8 ns, if it was loaded with a virtual clock.
    pub fn set_clock(&mut self, now: u64) -> Result<(), DataplaneError> {
        let map = "VIRTUAL_CLOCK";
        let clock = self.virtual_clock.as_mut().ok_or_else(|| DataplaneError::Map {
            map,
            reason: "the program was loaded with the kernel's clock".into(),
        })?;
        clock.set(0, now, 0).map_err(|error| DataplaneError::Map { map, reason: chain(&error) })
    }

    /// How many instructions the verifier has walked for each program of the object, by its name; `None`: it is not loaded,
    /// or this kernel does not tell (it does from Linux 5.16 on).
    pub fn verified_instructions(&self) -> BTreeMap<String, Option<u32>> {
        let walked =
            |program: &Program| program.info().ok().and_then(|info| info.verified_instruction_count());
        self.ebpf.programs().map(|(name, program)| (name.to_owned(), walked(program))).collect()
    }

    /// Whether the tracepoints that tell losses after a redirect are attached.
    pub fn counts_losses(&self) -> bool {
        self.losses_counted
    }

    /// The loaded object: the benchmark's has programs and maps that are none of this type's business.
    pub fn object_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// The loaded XDP program.
    pub fn program(&self) -> Result<&Xdp, DataplaneError> {
        let program = self.ebpf.program(ROUTER).ok_or_else(|| missing(ROUTER))?;
        program.try_into().map_err(|error| DataplaneError::Load(chain(&error)))
    }
}

impl AyaDataplane {
    /// One record into its map.
    fn put(&mut self, record: &Record) -> Result<(), DataplaneError> {
        let (map, result) = match record {
            Record::BfdSession(id, words) => {
                let record = self.bfd_sessions.record(*id).words();
                record.iter().zip(words).for_each(|(word, value)| sessions::store(word, *value));
                return Ok(());
            }
            Record::Port(ifindex, port) => ("PORTS", self.ports.set(*ifindex, Raw(*port), 0)),
            Record::Vlan(block, vid, vlan) => {
                ("VLANS", self.vlans.set(u32::from(*block) * 4096 + u32::from(*vid), Raw(*vlan), 0))
            }
            Record::Attachment(id, record) => {
                ("ATTACHMENTS", self.attachments.set(u32::from(*id), Raw(*record), 0))
            }
            Record::TxPort(id, ifindex) => {
                let slot = u32::from(*id);
                let result = match self.tx_ports.set(slot, *ifindex, None, 0) {
                    // It has gone a moment ago: its slot is empty, as the kernel leaves it.
                    Err(_) if !has_interface(*ifindex) => self.tx_ports.set(slot, 0, None, 0),
                    result => result,
                };
                return result
                    .map_err(|error| DataplaneError::Map { map: "TX_PORTS", reason: chain(&error) });
            }
            Record::NextHop(id, record) => ("NEXT_HOPS", self.next_hops.set(u32::from(*id), Raw(*record), 0)),
            Record::Group(id, record) => ("GROUPS", self.groups.set(*id, Raw(*record), 0)),
            Record::Link(id, alive) => ("LINKS", self.links.set(u32::from(*id), u64::from(*alive), 0)),
            Record::Policer(id, record) => ("POLICERS", self.policers.set(u32::from(*id), Raw(*record), 0)),
            Record::Budget(kind, attachment, record) => {
                ("BUDGETS", self.budgets.set(budget::slot(*kind, *attachment), Raw(*record), 0))
            }
            Record::Bucket(id, words) => ("BUCKETS", self.buckets.set(u32::from(*id), *words, 0)),
            Record::Profile(id, record) => ("PROFILES", self.profiles.set(u32::from(*id), Raw(*record), 0)),
            Record::Peer(key, true) => ("PEERS", self.peers.insert(Raw(*key), pinned::PEER_KNOWN, 0)),
            Record::BfdPeer(key, session) => (
                "PEERS",
                self.peers.insert(Raw(*key), pinned::PEER_KNOWN | session << abi::PEER_BFD_SHIFT, 0),
            ),
            Record::Peer(key, false) => ("PEERS", gone_is_fine(self.peers.remove(&Raw(*key)))),
        };
        result.map_err(|error| DataplaneError::Map { map, reason: chain(&error) })
    }
}

impl Dataplane for AyaDataplane {
    fn write(&mut self, record: &Record) -> Result<(), DataplaneError> {
        self.put(record)?;
        self.written.note(record);
        Ok(())
    }

    fn take_store(&mut self) -> Option<Box<dyn Store + Send>> {
        self.store.take().map(|store| Box::new(store) as Box<dyn Store + Send>)
    }

    fn counters(&self) -> Result<Counters, DataplaneError> {
        let cpus = self
            .counters
            .get(&0, 0)
            .map_err(|error| DataplaneError::Map { map: "COUNTERS", reason: chain(&error) })?;
        let mut slots = vec![Tally::default(); counter::SLOTS as usize];
        for cpu in cpus.iter() {
            slots.iter_mut().zip(cpu.0.slots).for_each(|(sum, count)| *sum += count.into());
        }
        self.counted_before(&mut slots);
        Ok(Counters::read(&slots))
    }

    fn ask(&self, ifindex: u32, frame: &[u8]) -> Result<Answer, DataplaneError> {
        let mut buffers = Buffers::default();
        self.ask_with(ifindex, frame, &mut buffers)
            .map(|(trace, frame)| Answer { trace, frame: frame.to_vec() })
    }

    fn clock(&self) -> u64 {
        if let Some(clock) = &self.virtual_clock {
            return clock.get(&0, 0).unwrap_or_default();
        }
        monotonic_ns() << erdp_common::policer::TIME_FRACTION_BITS
    }

    fn attach(&mut self, interface: &str, ifindex: u32, mode: Mode) -> Result<(), DataplaneError> {
        let flags = match mode {
            Mode::Native => XdpMode::Driver,
            Mode::Generic => XdpMode::Skb,
        };
        let program = xdp(&mut self.ebpf, ROUTER)?;
        let refused = |reason| DataplaneError::Attach { interface: interface.into(), reason };
        let link = program.attach_to_if_index(ifindex, flags).map_err(|error| refused(chain(&error)))?;
        let Some(pinned) = &self.pinned else {
            self.attached.insert(interface.into(), link);
            return Ok(());
        };
        let link = program.take_link(link).map_err(|error| refused(chain(&error)))?;
        let link = FdLink::try_from(link).map_err(|error| refused(chain(&error)))?;
        link.pin(pinned.pins().xdp_link(ifindex)).map(drop).map_err(|error| refused(chain(&error)))
    }

    fn policed(&self, id: u16, class: Class) -> [Tally; 4] {
        let mut sum = [Tally::default(); 4];
        for meter in self.meters(id, class) {
            sum.iter_mut().zip(meter.counts).for_each(|(sum, count)| *sum += count);
        }
        sum
    }

    fn bucket_words(&self, id: u16) -> Option<[u64; 4]> {
        self.bucket(id).ok()
    }

    fn bfd_until(&self, session: u16) -> u64 {
        sessions::load(&self.bfd_sessions.record(session).until)
    }

    fn dead_links(&self) -> Result<Vec<u16>, DataplaneError> {
        self.read_dead_links()
    }

    fn has_carrier(&self, interface: &str) -> Option<bool> {
        has_carrier(interface).ok()
    }

    fn link_before(&mut self, ifindex: u32, alive: bool) -> Result<(), DataplaneError> {
        self.write_link_before(ifindex, alive)
    }

    fn mac_before(
        &mut self,
        attachment: AttachmentId,
        before: Option<[u8; 6]>,
        now: [u8; 6],
    ) -> Result<(), DataplaneError> {
        self.write_mac_before(attachment, before, now)
    }

    fn adopted(&self) -> Option<&dyn Adopted> {
        self.wishes_before().map(|wishes| wishes as &dyn Adopted)
    }

    fn take_over(&mut self, ports: &BTreeMap<u32, String>, about: About) -> Result<(), DataplaneError> {
        self.take_ports_over(ports, about)
    }

    fn retire_others(&mut self) -> Result<(), DataplaneError> {
        self.retire_generations()
    }

    fn note_session(&mut self, key: PeerKey, is_up: bool) -> Result<(), DataplaneError> {
        self.write_session_note(key, is_up)
    }
}

/// A record of the ring of neighbours that packets have asked for.
pub fn neighbour_wanted(record: &[u8]) -> Option<NeighbourWanted> {
    let (address, rest) = record.split_first_chunk()?;
    let attachment = u32::from_ne_bytes(*rest.first_chunk()?);
    Some(NeighbourWanted { address: *address, attachment, _pad: 0 })
}

/// A record of the ring of samples of dropped frames.
pub fn drop_sample(record: &[u8]) -> Option<DropSample> {
    let record: [u8; size_of::<DropSample>()] = record.try_into().ok()?;
    // SAFETY: a DropSample is integers without hidden padding (its size is asserted): every bit pattern is one.
    Some(unsafe { std::mem::transmute::<[u8; size_of::<DropSample>()], DropSample>(record) })
}

/// A ring buffer as tokio waits for it.
fn watched<T: AsRawFd>(ring: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: the rings own their file descriptor, answer with the same one always, and close it only when they are dropped,
    // which AsyncFd does after it has deregistered.
    unsafe { AsyncFd::register(ring) }.map_err(Into::into)
}

fn map_lines(ebpf: &mut Ebpf, lines: u32) -> Result<MappedLines, DataplaneError> {
    let map = |reason| DataplaneError::Map { map: "FIB_LINES", reason };
    let Some(Map::Array(data)) = ebpf.map("FIB_LINES") else {
        return Err(missing("FIB_LINES"));
    };
    let fd = std::os::fd::AsFd::as_fd(data.fd());
    MappedLines::new(fd, lines).map_err(|error: io::Error| map(format!("mmap: {error}")))
}

/// A descriptor of its own for an array.
fn array_fd(ebpf: &Ebpf, name: &'static str) -> Result<OwnedFd, DataplaneError> {
    let Some(Map::Array(data)) = ebpf.map(name) else {
        return Err(missing(name));
    };
    let fd = std::os::fd::AsFd::as_fd(data.fd()).try_clone_to_owned();
    fd.map_err(|error| DataplaneError::Map { map: name, reason: error.to_string() })
}

fn map_sessions(ebpf: &mut Ebpf) -> Result<MappedSessions, DataplaneError> {
    let Some(Map::Array(data)) = ebpf.map("BFD_SESSIONS") else {
        return Err(missing("BFD_SESSIONS"));
    };
    MappedSessions::new(std::os::fd::AsFd::as_fd(data.fd()))
        .map_err(|error| DataplaneError::Map { map: "BFD_SESSIONS", reason: format!("mmap: {error}") })
}

/// Puts a program where the router's tail call finds it. The map is to live as long as the programs.
fn called(
    ebpf: &mut Ebpf,
    map: &'static str,
    program: &str,
) -> Result<ProgramArray<MapData>, DataplaneError> {
    let mut programs: ProgramArray<MapData> = typed(ebpf, map)?;
    let fd = xdp(ebpf, program)?.fd().map_err(|error| DataplaneError::Load(chain(&error)))?;
    programs.set(0, fd, 0).map_err(|error| DataplaneError::Map { map, reason: chain(&error) })?;
    Ok(programs)
}

fn xdp<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp, DataplaneError> {
    let program = ebpf.program_mut(name).ok_or_else(|| missing(name))?;
    program.try_into().map_err(|error| DataplaneError::Load(chain(&error)))
}

fn typed<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, DataplaneError> {
    let map = ebpf.take_map(name).ok_or_else(|| missing(name))?;
    map.try_into().map_err(|error: MapError| DataplaneError::Map { map: name, reason: chain(&error) })
}

fn missing(name: &str) -> DataplaneError {
    DataplaneError::Load(format!(
        "the object has no `{name}`: it was built from another version, run `cargo xtask build`"
    ))
}

/// Removing what is not there is what was wanted.
fn gone_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        other => other,
    }
}

/// An error with its causes: the kernel's words are at the end of the chain.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
