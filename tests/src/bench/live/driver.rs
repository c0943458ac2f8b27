//! The benchmark's object loaded once: the driver that aims each frame at another destination, and the contestants beside `erdp`.
//!
//! Two CPUs take two of these, because a driver's course is one map value: sharing it would measure the driver.

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader, TestRun as _, TestRunOptions,
    maps::{Array, DevMap, MapData, ProgramArray},
    programs::{ProgramFd, TestRunAttrs, Xdp, XdpMode},
};
use erdp_common::bench::TEMPLATE;
use etherparse::Ipv4Header;

use crate::bench::{
    arena::{take, xdp},
    routes::DESTINATIONS,
};

/// Programs of the object that are needed here.
const PROGRAMS: [&str; 5] =
    ["bench_driver", "bench_drop", "bench_redirect", "bench_fib_lookup", "bench_empty"];
/// Frames of a batch, as many as a driver's NAPI poll has.
const BATCH: u32 = 64;
/// Where an untagged IPv4 frame has its destination.
const DESTINATION_AT: u32 = 30;

/// How frames are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `BPF_F_TEST_XDP_LIVE_FRAMES` (Linux 5.18): real pages, and what is redirected is transmitted.
    Live,
    /// The verdict is only counted.
    TestRun,
}

/// A driver, its course and who is called by it.
pub struct Driver {
    ebpf: Ebpf,
    contestant: ProgramArray<MapData>,
    frame: Vec<u8>,
    ingress: u32,
    // The programs read them; the handles keep nothing alive but are what was written through.
    _maps: (DevMap<MapData>, DevMap<MapData>),
}

impl Driver {
    /// Loads the object. Frames come in on `ports[0]`; a bare redirect leaves by `ports[1]`.
    pub fn load(object: &[u8], ports: [u32; 3], frame: &[u8], destinations: &[[u64; 2]]) -> Result<Self> {
        ensure!(destinations.len() == DESTINATIONS, "{} destinations", destinations.len());
        ensure!(frame.len() >= TEMPLATE, "a frame of {} bytes", frame.len());
        let small = ["FIB_BLOCKS", "LPM4", "LPM6"];
        let mut loader = EbpfLoader::new();
        small.iter().for_each(|map| {
            loader.map_max_entries(map, 1);
        });
        let mut ebpf = loader.load(object).context("the benchmark's object")?;
        for name in PROGRAMS {
            xdp(&mut ebpf, name)?.load().with_context(|| format!("the kernel refuses {name}"))?;
        }
        let mut by_index: DevMap<MapData> = DevMap::try_from(take(&mut ebpf, "PORTS_BY_INDEX")?)?;
        let mut by_attachment: DevMap<MapData> = DevMap::try_from(take(&mut ebpf, "TX_PORTS")?)?;
        for port in ports {
            by_index.set(port, port, None, 0)?;
        }
        by_attachment.set(1, ports[1], None, 0)?;
        let mut to: Array<MapData, [u64; 2]> = Array::try_from(take(&mut ebpf, "DESTINATIONS")?)?;
        for (at, [address, _]) in (0..).zip(destinations) {
            to.set(at, [*address, checksum(frame, (address >> 32) as u32)?.into()], 0)?;
        }
        let mut course: Array<MapData, [u64; 16]> = Array::try_from(take(&mut ebpf, "COURSE")?)?;
        course.set(0, words(frame)?, 0)?;
        let contestant = ProgramArray::try_from(take(&mut ebpf, "CONTESTANT")?)?;
        let (frame, _maps) = (frame.to_vec(), (by_index, by_attachment));
        Ok(Self { ebpf, contestant, frame, ingress: ports[0], _maps })
    }

    /// Who is called from now on.
    pub fn choose(&mut self, program: &ProgramFd) -> Result<()> {
        self.contestant.set(0, program, 0).context("the contestant cannot be tail-called")
    }

    /// A program of the object.
    pub fn program(&mut self, name: &str) -> Result<ProgramFd> {
        Ok(xdp(&mut self.ebpf, name)?.fd()?.try_clone()?)
    }

    /// Puts a program of the object on an interface, native.
    pub fn attach(&mut self, name: &str, ifindex: u32) -> Result<()> {
        xdp(&mut self.ebpf, name)?
            .attach_to_if_index(ifindex, XdpMode::Driver)
            .with_context(|| format!("{name} on interface {ifindex}"))?;
        Ok(())
    }

    /// Runs frames through the driver and whoever is chosen; nanoseconds a frame by the kernel's own clock, which stops while it
    /// lets others run.
    pub fn run(&self, way: Way, frames: u32) -> Result<f64> {
        let context: Vec<u8> = [0, self.frame.len() as u32, 0, self.ingress, 0, 0]
            .iter()
            .flat_map(|word: &u32| word.to_ne_bytes())
            .collect();
        let attrs = match way {
            Way::Live => TestRunAttrs::new().xdp_live_frames(BATCH),
            Way::TestRun => TestRunAttrs::new(),
        };
        let options = TestRunOptions {
            data_in: Some(&self.frame),
            ctx_in: Some(&context),
            repeat: frames,
            attrs,
            ..Default::default()
        };
        let program: &Xdp = self
            .ebpf
            .program("bench_driver")
            .context("the object has no program bench_driver")?
            .try_into()?;
        let result = program.test_run(options).context("running frames (live ones need Linux 5.18)")?;
        Ok(result.duration.as_nanos() as f64)
    }
}

/// What the driver writes beside a destination, so that the frame is one that the kernel takes (RFC 791).
fn checksum(frame: &[u8], destination: u32) -> Result<u16> {
    let (mut header, _) = Ipv4Header::from_slice(&frame[14..]).context("the frame has no IPv4 header")?;
    header.destination = destination.to_be_bytes();
    Ok(header.calc_header_checksum())
}

/// The record `Course` (erdp_common::bench) for untagged IPv4.
fn words(frame: &[u8]) -> Result<[u64; 16]> {
    let mut bytes = 0u64.to_ne_bytes().to_vec();
    for word in [DESTINATIONS as u32 - 1, frame.len() as u32, DESTINATION_AT, 4, 0, 0] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes.extend_from_slice(&frame[..TEMPLATE]);
    let mut words = [0u64; 16];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_ne_bytes(bytes.try_into()?);
    }
    Ok(words)
}
