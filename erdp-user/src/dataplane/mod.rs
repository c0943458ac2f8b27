//! The dataplane: what the controller writes and what it reads back.
//!
//! [`Dataplane`] has two implementations: [`aya`] loads the XDP program and writes its maps, [`memory`] runs the same stages
//! on the host for tests. Both hold the same records (`erdp_common::abi`). A route's way ends here; a packet never sees a
//! dangling reference, because the caller writes next hops before groups before routes and removes in reverse.
//!
//! Files: [`aya`] (load, attach, ask, count), [`bpffs`] and [`pins`] (what outlives this process), [`btf`] (where this kernel's
//! structures have their members), [`mapped`] (the trie's blocks through `mmap`), [`sessions`] (BFD's records likewise), [`question`]
//! (frames for `erdp ask`), [`sample`] (the headers of a dropped frame), [`memory`].

pub mod aya;
pub mod bpffs;
pub mod btf;
pub mod mapped;
pub mod memory;
pub mod pins;
pub mod question;
pub mod sample;
pub mod sessions;

use std::collections::BTreeMap;

use erdp_common::{
    abi::{
        Attachment, BFD_SESSION_WORDS, Budget, Count, Group, NextHop, PeerKey, Policer, Port, QosProfile,
        Trace, VERDICT_DROP, VERDICT_PUNT, VERDICT_TRANSMIT, Vlan, counter,
    },
    bfd::UNJUDGED,
    classify::Class,
    fib::build::Store,
    reason::{DropReason, PuntKind},
};
use serde::{Deserialize, Serialize};

use self::pins::About;
use crate::{fib::Adopted, types::AttachmentId};

/// One record of one map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// An interface by its index.
    Port(u32, Port),
    /// A VLAN identifier in a block.
    Vlan(u16, u16, Vlan),
    /// A logical interface.
    Attachment(u16, Attachment),
    /// Slot of the device map (an egress attachment, or [`erdp_common::abi::control_slot`] of one) -> interface index; 0: none.
    TxPort(u16, u32),
    /// A neighbour.
    NextHop(u16, NextHop),
    /// What routes lead to.
    Group(u32, Group),
    /// Liveness of a link: the one word of a failover.
    Link(u16, bool),
    /// What a circuit is limited to; its bucket is left as it is.
    Policer(u16, Policer),
    /// The state of a policer: theoretical arrival times at the sustained and the peak rate, of interactive and of voice.
    Bucket(u16, [u64; 4]),
    /// How often a kind of use of the slow path is allowed on an attachment, see [`erdp_common::budget`]; its state stays.
    Budget(u32, u16, Budget),
    /// How a peering treats DSCP.
    Profile(u16, QosProfile),
    /// A BGP peer that may (or may no longer) speak to this router.
    Peer(PeerKey, bool),
    /// The same of a peer that speaks BFD too, with its session's number.
    BfdPeer(PeerKey, u32),
    /// A BFD session's record, word by word: for its beginning. The running session writes through the mapping ([`sessions`]).
    BfdSession(u16, [u64; BFD_SESSION_WORDS]),
}

/// What went wrong at the kernel's door.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// Load or verify failed.
    #[error(
        "the kernel refuses the XDP program: {0}; needs Linux 5.15 or newer with BTF (CONFIG_DEBUG_INFO_BTF), see `erdp check`"
    )]
    Load(String),
    /// Attach failed.
    #[error(
        "interface {interface}: no native XDP: {reason}; use a driver with XDP support, make its transmit queues <= the \
         receive queues of its peer and its MTU <= 3498, or accept slow generic XDP with --allow-generic"
    )]
    Attach {
        /// Interface name.
        interface: String,
        /// What the kernel said.
        reason: String,
    },
    /// A map operation failed.
    #[error("map {map}: {reason}")]
    Map {
        /// Map name.
        map: &'static str,
        /// What the kernel said.
        reason: String,
    },
    /// A test run failed.
    #[error("BPF_PROG_TEST_RUN: {0}")]
    Ask(String),
    /// A pin.
    #[error(transparent)]
    Pin(#[from] pins::PinError),
}

/// What the program did with a question.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The program's own account.
    pub trace: Trace,
    /// The frame as it would leave.
    pub frame: Vec<u8>,
}

impl Answer {
    /// `transmit`, `punt` or `drop`.
    pub fn verdict(&self) -> &'static str {
        match self.trace.verdict {
            VERDICT_TRANSMIT => "transmit",
            VERDICT_PUNT => "punt",
            VERDICT_DROP => "drop",
            _ => "unknown",
        }
    }

    /// The reason of a drop.
    pub fn drop_reason(&self) -> Option<DropReason> {
        (self.trace.verdict == VERDICT_DROP).then(|| DropReason::from_number(self.trace.reason))?
    }

    /// The kind of a punt.
    pub fn punt_kind(&self) -> Option<PuntKind> {
        (self.trace.verdict == VERDICT_PUNT).then(|| PuntKind::from_number(self.trace.reason))?
    }
}

/// Everything the core does to the packet path. What has an answer here needs none of a packet path that has one generation, no BFD and no
/// interface of its own.
pub trait Dataplane: Send {
    /// Writes one record; the map holds the old or the new one, never a mixture of two.
    fn write(&mut self, record: &Record) -> Result<(), DataplaneError>;
    /// The blocks of the trie; they are handed out once.
    fn take_store(&mut self) -> Option<Box<dyn Store + Send>>;
    /// Frames since the start, all CPUs.
    fn counters(&self) -> Result<Counters, DataplaneError>;
    /// Asks the program what it would do with a frame that comes in on an interface: nothing is sent or counted.
    fn ask(&self, ifindex: u32, frame: &[u8]) -> Result<Answer, DataplaneError>;
    /// The policers' time, in 2^-8 ns.
    fn clock(&self) -> u64;
    /// Starts to receive on an interface.
    fn attach(&mut self, interface: &str, ifindex: u32, mode: Mode) -> Result<(), DataplaneError>;
    /// A policer's packets and IP bytes of a class by passage, all CPUs.
    fn policed(&self, id: u16, class: Class) -> [Tally; 4] {
        let _ = (id, class);
        [Tally::default(); 4]
    }
    /// The words of a policer's bucket, in the order of [`Record::Bucket`]; `None`: they cannot be read.
    fn bucket_words(&self, id: u16) -> Option<[u64; 4]> {
        let _ = id;
        None
    }
    /// Until when a BFD session lets its next hop be used, or [`erdp_common::bfd::UNJUDGED`], or [`erdp_common::bfd::DEAD`].
    fn bfd_until(&self, session: u16) -> u64 {
        let _ = session;
        UNJUDGED
    }
    /// The links whose liveness flag says that they are dead.
    fn dead_links(&self) -> Result<Vec<u16>, DataplaneError> {
        Ok(Vec::new())
    }
    /// Whether an interface has a carrier, asked for now; `None`: its driver does not tell.
    fn has_carrier(&self, interface: &str) -> Option<bool> {
        let _ = interface;
        None
    }
    /// Where another generation still forwards: a link's liveness flag there.
    fn link_before(&mut self, ifindex: u32, alive: bool) -> Result<(), DataplaneError> {
        let _ = (ifindex, alive);
        Ok(())
    }
    /// The same: a neighbour has another MAC address; without the one before, the attachment's only neighbour has.
    fn mac_before(
        &mut self,
        attachment: AttachmentId,
        before: Option<[u8; 6]>,
        now: [u8; 6],
    ) -> Result<(), DataplaneError> {
        let _ = (attachment, before, now);
        Ok(())
    }
    /// What that generation forwards by, as long as it does and its records mean what ours do.
    fn adopted(&self) -> Option<&dyn Adopted> {
        None
    }
    /// Forwards on these ports in the place of whatever forwarded before.
    fn take_over(&mut self, ports: &BTreeMap<u32, String>, about: About) -> Result<(), DataplaneError> {
        let _ = (ports, about);
        Ok(())
    }
    /// Nothing of other generations is left.
    fn retire_others(&mut self) -> Result<(), DataplaneError> {
        Ok(())
    }
    /// Notes for the next process whether a session is up.
    fn note_session(&mut self, key: PeerKey, is_up: bool) -> Result<(), DataplaneError> {
        let _ = (key, is_up);
        Ok(())
    }
}

/// How the program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// In the driver, before the kernel has made a packet buffer.
    Native,
    /// After it: slow, works with any driver.
    Generic,
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Frames.
    pub packets: u64,
    /// Bytes, from the Ethernet header on.
    pub bytes: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

impl From<Count> for Tally {
    fn from(count: Count) -> Self {
        Self { packets: count.packets, bytes: count.bytes }
    }
}

/// The counters of the packet path. `rx + originated + from_kernel = tx + punted + dropped`; of `tx` and of what was punted into
/// control ports, `transmit_lost` never arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Received on all ports.
    pub rx: Tally,
    /// Redirected.
    pub tx: Tally,
    /// Handed to the kernel, by kind.
    pub punted: BTreeMap<&'static str, Tally>,
    /// Dropped, by reason.
    pub dropped: BTreeMap<&'static str, Tally>,
    /// Made by the program itself: ICMP errors about frames that are among the dropped.
    pub originated: Tally,
    /// Of the kernel's own, through the control ports of tagged attachments; in `tx` too.
    pub from_kernel: Tally,
    /// Redirected but not taken by the egress driver, or refused by the redirect; bytes are not known.
    pub transmit_lost: Tally,
    /// Received and redirected by attachment identifier.
    #[serde(skip)]
    pub attachments: BTreeMap<u16, (Tally, Tally)>,
}

impl Counters {
    /// From the counter map; `slot` answers the sum over all CPUs.
    pub fn read(slots: &[Tally]) -> Self {
        let slot = |at: u32| slots.get(at as usize).copied().unwrap_or_default();
        let mut counters = Self::default();
        for reason in DropReason::ALL {
            counters.dropped.insert(reason.label(), slot(counter::DROP + *reason as u32));
        }
        for kind in PuntKind::ALL {
            counters.punted.insert(kind.label(), slot(counter::PUNT + *kind as u32));
        }
        for id in 0..erdp_common::abi::MAX_ATTACHMENTS as u16 {
            let (rx, tx) = (slot(counter::received(id)), slot(counter::redirected(id)));
            counters.rx += rx;
            counters.tx += tx;
            if rx != Tally::default() || tx != Tally::default() {
                counters.attachments.insert(id, (rx, tx));
            }
        }
        counters.originated = slot(counter::ORIGINATED);
        counters.from_kernel = slot(counter::FROM_KERNEL);
        counters.transmit_lost = slot(counter::TRANSMIT_LOST);
        counters.transmit_lost += slot(counter::REDIRECT_FAILED);
        counters
    }

    /// Packets received that no verdict accounts for; 0 unless ERDP is at fault. Negative is as wrong as positive.
    pub fn unexplained(&self) -> i64 {
        let ended: u64 = self.punted.values().chain(self.dropped.values()).map(|tally| tally.packets).sum();
        (self.rx.packets + self.originated.packets + self.from_kernel.packets) as i64
            - (self.tx.packets + ended) as i64
    }
}
