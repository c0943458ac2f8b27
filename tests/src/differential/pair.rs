//! One edge, twice: in the kernel and on the host.

use std::fmt;

use anyhow::{Result, ensure};
use erdp::dataplane::{
    Counters, Dataplane as _, Record,
    aya::{AyaDataplane, Buffers, LoadOptions},
    memory::MemoryDataplane,
};
use erdp_common::{
    abi::{Attachment, MAX_POLICERS, Trace},
    classify::Class,
    pipeline::Verdict,
};

use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    unistd::Pid,
};

use crate::packets::{Edge, Ports};

/// Shorter frames are refused by the kernel's test run (ETH_HLEN; net/bpf/test_run.c, Linux 6.18).
pub const FRAME_MIN: usize = 14;
/// Longer frames do not fit one page together with headroom, tailroom and the question's metadata.
pub const FRAME_MAX: usize = 3_400;

/// Blocks of the forwarding trie.
const BLOCKS: u32 = 2048;

/// The loaded program and the host's stages with the same records.
pub struct Pair {
    kernel: AyaDataplane,
    host: MemoryDataplane,
    _edges: [Edge; 2],
    buffers: Buffers,
}

/// What became of a frame.
#[derive(Debug)]
pub enum Outcome {
    /// Both did this.
    Same(Trace),
    /// They did not do the same.
    Different(Box<Difference>),
    /// Below [`FRAME_MIN`]: not asked.
    TooShort,
    /// Above [`FRAME_MAX`]: not asked.
    TooLong,
}

/// A frame for which kernel and host differ.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Interface it came in on.
    pub ifindex: u32,
    /// The frame.
    pub frame: Vec<u8>,
    /// In what they differ.
    pub what: String,
}

impl Pair {
    /// Loads the program and builds the edge in both. The host's time stands still: for a few frames only.
    pub fn new(ports: Ports) -> Result<Self> {
        let kernel = AyaDataplane::load(LoadOptions { fib_blocks: BLOCKS, ..LoadOptions::default() })?;
        Self::build(kernel, ports)
    }

    /// As [`Self::in_virtual_time`], but both directions of a flow hash alike: in the kernel, and on the host if `host` says so.
    pub fn with_symmetric_hash(ports: Ports, now: u64, host: bool) -> Result<Self> {
        let options = LoadOptions { symmetric_hash: true, ..LoadOptions::default() };
        let pair = Self::with_clock(options, ports, now)?;
        pair.host.with_tables(|tables| tables.symmetric_hash = host);
        Ok(pair)
    }

    /// As [`Self::new`], but the time of both is what [`Self::set_clock`] says, `now` to begin with.
    pub fn in_virtual_time(ports: Ports, now: u64) -> Result<Self> {
        Self::with_clock(LoadOptions::default(), ports, now)
    }

    fn with_clock(options: LoadOptions, ports: Ports, now: u64) -> Result<Self> {
        let mut kernel =
            AyaDataplane::load(LoadOptions { fib_blocks: BLOCKS, virtual_clock: true, ..options })?;
        kernel.set_clock(now)?;
        let mut pair = Self::build(kernel, ports)?;
        pair.set_clock(now)?;
        Ok(pair)
    }

    /// This thread stays on one CPU from here on: the program's meters are a CPU's, and the host has one.
    fn build(mut kernel: AyaDataplane, ports: Ports) -> Result<Self> {
        let mut here = CpuSet::new();
        here.set(sched_getcpu()?)?;
        sched_setaffinity(Pid::from_raw(0), &here)?;
        let mut host = MemoryDataplane::new(BLOCKS);
        host.set_clock(kernel.clock());
        let _edges = [Edge::build(&mut kernel, ports)?, Edge::build(&mut host, ports)?];
        Ok(Self { kernel, host, _edges, buffers: Buffers::default() })
    }

    /// Sets the time of both, in 2^-8 ns.
    pub fn set_clock(&mut self, now: u64) -> Result<()> {
        self.host.set_clock(now);
        Ok(self.kernel.set_clock(now)?)
    }

    /// Writes a record on both sides.
    pub fn write(&mut self, record: &Record) -> Result<()> {
        self.kernel.write(record)?;
        Ok(self.host.write(record)?)
    }

    /// Writes a record on the host's side only: a difference that must be found, to test the test.
    pub fn plant(&mut self, record: &Record) -> Result<()> {
        Ok(self.host.write(record)?)
    }

    /// Puts a frame to both, as a question and as traffic.
    pub fn compare(&mut self, ifindex: u32, frame: &[u8]) -> Result<Outcome> {
        if frame.len() < FRAME_MIN {
            return Ok(Outcome::TooShort);
        }
        if frame.len() > FRAME_MAX {
            return Ok(Outcome::TooLong);
        }
        let host = self.host.ask(ifindex, frame)?;
        let (trace, bytes) = self.kernel.ask_with(ifindex, frame, &mut self.buffers)?;
        let mut what = None;
        if trace != host.trace {
            what = Some(format!("the question's answer: kernel {trace:?}, host {:?}", host.trace));
        } else if bytes != host.frame {
            what = Some(bytes_differ("the question's frame", bytes, &host.frame));
        }
        let ran = self.host.run(ifindex, frame);
        let (action, bytes) = self.kernel.run(ifindex, frame, &mut self.buffers)?;
        let wanted = self.kernel.next_wanted();
        let expected = if ran.answered.is_some() { XDP_REDIRECT } else { xdp_action(ran.verdict) };
        if action != expected {
            what.get_or_insert_with(|| {
                format!(
                    "the XDP action: kernel {action}, host {:?}, answered on {:?}",
                    ran.verdict, ran.answered
                )
            });
        } else if bytes != ran.frame.bytes() {
            what.get_or_insert_with(|| bytes_differ("the frame that leaves", bytes, ran.frame.bytes()));
        } else if wanted != ran.wanted {
            what.get_or_insert_with(|| {
                format!("the wanted neighbour: kernel {wanted:?}, host {:?}", ran.wanted)
            });
        }
        Ok(match what {
            None => Outcome::Same(trace),
            Some(what) => Outcome::Different(Box::new(Difference { ifindex, frame: frame.to_vec(), what })),
        })
    }

    /// The smallest frame, by cutting and zeroing, for which they still differ.
    pub fn shrink(&mut self, difference: Difference) -> Result<Difference> {
        let mut best = difference;
        let mut step = best.frame.len();
        while step > 0 {
            let mut at = 0;
            while at < best.frame.len() {
                let end = (at + step).min(best.frame.len());
                let mut cut = best.frame.clone();
                cut.drain(at..end);
                let mut zeroed = best.frame.clone();
                zeroed[at..end].fill(0);
                let smaller = self.still(best.ifindex, &cut)?;
                let plainer = match smaller {
                    None if zeroed != best.frame => self.still(best.ifindex, &zeroed)?,
                    other => other,
                };
                at = if let Some(found) = plainer {
                    let shorter = found.frame.len() < best.frame.len();
                    best = found;
                    if shorter { at } else { end }
                } else {
                    end
                };
            }
            step /= 2;
        }
        Ok(best)
    }

    fn still(&mut self, ifindex: u32, frame: &[u8]) -> Result<Option<Difference>> {
        Ok(match self.compare(ifindex, frame)? {
            Outcome::Different(difference) => Some(*difference),
            _ => None,
        })
    }

    /// An attachment's record.
    pub fn attachment(&self, id: u16) -> Attachment {
        self.host.with_tables(|tables| tables.attachments[usize::from(id)])
    }

    /// Compares every bucket to the unit of time, and what every policer has counted.
    pub fn compare_policers(&self) -> Result<()> {
        for id in 0..MAX_POLICERS as u16 {
            let (kernel, host) = (self.kernel.bucket(id)?, self.host.bucket(id));
            ensure!(kernel == host, "bucket {id} differs:\nkernel {kernel:?}\nhost   {host:?}");
            for class in Class::ALL {
                let (kernel, host) = (self.kernel.policed(id, class), self.host.policed(id, class));
                ensure!(kernel == host, "policer {id}, {}: kernel {kernel:?}, host {host:?}", class.label());
            }
        }
        Ok(())
    }

    /// Packets of a class that went through a policer, by passage.
    pub fn policed(&self, id: u16, class: Class) -> [u64; 4] {
        self.kernel.policed(id, class).map(|tally| tally.packets)
    }

    /// Compares all counters, and checks that every frame received has ended in exactly one of them.
    pub fn compare_counters(&self) -> Result<Counters> {
        let (kernel, host) = (self.kernel.counters()?, self.host.counters()?);
        // The loss tracepoints see the whole machine, and a test run's redirects are never flushed: not comparable here.
        let kernel = Counters { transmit_lost: host.transmit_lost, ..kernel };
        ensure!(kernel == host, "the counters differ:\nkernel {kernel:?}\nhost   {host:?}");
        ensure!(kernel.unexplained() == 0, "{} frames without a verdict's counter", kernel.unexplained());
        Ok(kernel)
    }
}

const XDP_REDIRECT: u32 = 4;

/// `enum xdp_action` (linux/bpf.h) of a verdict.
fn xdp_action(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Bfd(_) | Verdict::Drop(_) => 1,
        Verdict::Punt(_) => 2,
        Verdict::Transmit(_) | Verdict::PuntVia(..) | Verdict::FromKernel(_) => XDP_REDIRECT,
    }
}

fn bytes_differ(what: &str, kernel: &[u8], host: &[u8]) -> String {
    format!("{what}:\nkernel {}\nhost   {}", hex(kernel), hex(host))
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "interface {}, {} bytes: {}\nframe  {}",
            self.ifindex,
            self.frame.len(),
            self.what,
            hex(&self.frame)
        )
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
