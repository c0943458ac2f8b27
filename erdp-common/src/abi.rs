//! The records in the BPF maps: every map type lives here once, for both sides.
//!
//! `repr(C)`, explicit padding, no `bool`, `enum` or `usize`; sizes are asserted beside the types. Change one and
//! [`ABI_VERSION`] goes up. Identifiers (attachment, next hop, group, link) start at 1: 0 means "none".

use core::cell::Cell;

/// Version of all records below and of the map layout; the program and the controller must agree.
pub const ABI_VERSION: u32 = 5;

/// Interfaces are looked up by their index directly; one with a higher index is refused at start.
pub const MAX_IFINDEX: u32 = 65_535;
/// Attachments (interface and tags) an edge may have, including the unused 0.
pub const MAX_ATTACHMENTS: u32 = 256;
/// Tables of 4,096 VLAN identifiers, including the unused 0.
pub const MAX_VLAN_BLOCKS: u32 = 64;
/// Next hops, including the unused 0.
pub const MAX_NEXT_HOPS: u32 = 4_096;
/// Next-hop groups, including the unused 0.
pub const MAX_GROUPS: u32 = 4_096;
/// Links whose liveness is one word each, including the unused 0.
pub const MAX_LINKS: u32 = 256;
/// (attachment, address) pairs that may speak BGP to this router.
pub const MAX_PEERS: u32 = 1_024;
/// BFD sessions, including the unused 0.
pub const MAX_BFD_SESSIONS: u32 = 256;
/// Policers, including the unused 0.
pub const MAX_POLICERS: u32 = 512;
/// QoS profiles, including the unused 0.
pub const MAX_PROFILES: u32 = 64;
/// Members of a next-hop group.
pub const GROUP_MEMBERS: usize = 8;
/// Buckets of a next-hop group: flows are spread in steps of 1/64.
pub const GROUP_BUCKETS: usize = 64;

/// An interface, by its index: which attachment untagged frames belong to, and where its VLANs are.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Attachment of untagged frames.
    pub attachment: u16,
    /// Block in the VLAN table for the outer tag.
    pub vlan_block: u16,
    /// The interface is the control port of this attachment: what comes in is from the kernel. Such a port has nothing else.
    pub control_of: u16,
    /// Its word in the link table; 0: none, what becomes of its carrier is nobody's business.
    pub link: u16,
}

/// A VLAN identifier in a block of 4,096.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vlan {
    /// Attachment of frames for which this is the last tag.
    pub attachment: u16,
    /// Block for the second tag.
    pub inner_block: u16,
    /// Explicit padding to 8 bytes.
    pub _pad: u32,
}

/// A logical interface: where a frame has come in.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// First of the 4,096 lines of its routing table's IPv4 root.
    pub root4: u32,
    /// First of the 4,096 lines of its routing table's IPv6 root.
    pub root6: u32,
    /// `ATTACHMENT_*` bits.
    pub flags: u32,
    /// Our IPv4 address, network order; zero: none.
    pub local4: [u8; 4],
    /// Our IPv6 address; zero: none.
    pub local6: [u8; 16],
    /// Our link-local IPv6 address; zero: none.
    pub link_local6: [u8; 16],
    /// Policer of what comes in here (MSEE side); 0: none.
    pub policer: u16,
    /// QoS profile of its peering (MSEE side); 0: none.
    pub profile: u16,
    /// VLAN identifiers of its control port's frames, outer first; 0: none. Without [`ATTACHMENT_CONTROL`] not looked at.
    pub tags: [u16; 2],
}

/// The attachment forwards: its circuit is enabled.
pub const ATTACHMENT_ENABLED: u32 = 1;
/// The attachment faces Microsoft; otherwise the customer.
pub const ATTACHMENT_MSEE: u32 = 2;
/// What came in on one side may leave on the same side (C2).
pub const ATTACHMENT_HAIRPIN: u32 = 4;
/// The attachment faces a service: a VPN, NAT or appliance in a forwarding namespace of its own (B8, C5). Neither Microsoft nor the
/// customer, so that what came from either may go there and come back.
pub const ATTACHMENT_SERVICE: u32 = 8;
/// The bits that say which side an attachment or a next hop is on; the same in both records. Both set: the other edge box (B1a), behind
/// which are Microsoft and the customer.
pub const SIDE_BITS: u32 = ATTACHMENT_MSEE | ATTACHMENT_SERVICE;
/// The attachment is tagged and has a control port: the kernel is reached through it, see [`crate::control`].
pub const ATTACHMENT_CONTROL: u32 = 16;

/// What comes in is dropped if its source's route leads elsewhere than to Microsoft, see [`crate::source`].
pub const ATTACHMENT_SOURCES: u32 = 32;
/// With [`ATTACHMENT_SOURCES`]: also if its source has no route.
pub const ATTACHMENT_SOURCES_ROUTED: u32 = 64;

/// Slots of the device map: the attachments, then their control ports.
pub const TX_SLOTS: u32 = 2 * MAX_ATTACHMENTS;

/// The slot of an attachment's control port in the device map.
pub const fn control_slot(attachment: u16) -> u16 {
    MAX_ATTACHMENTS as u16 + attachment
}

/// Longest layer 2 header without its last ethertype: two MAC addresses and two tags.
pub const L2_MAX: usize = 20;

/// A neighbour: how to reach it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextHop {
    /// `NEXT_HOP_*` bits.
    pub flags: u32,
    /// Egress attachment, and slot in the device map.
    pub attachment: u16,
    /// Word in the link table that says whether it is alive.
    pub link: u16,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Bytes of `l2` in use: 12, 16 or 20.
    pub l2_len: u8,
    /// Explicit padding.
    pub _pad: u8,
    /// Policer of what leaves here (MSEE side); 0: none.
    pub policer: u16,
    /// QoS profile of its peering (MSEE side); 0: none.
    pub profile: u16,
    /// Destination MAC, source MAC and up to two tags (each ethertype and identifier); the last ethertype is the packet's.
    pub l2: [u8; L2_MAX],
    /// BFD session of the peer that it is; 0: none, and the link alone says whether it is alive.
    pub bfd: u16,
    /// Explicit padding to 40 bytes.
    pub _pad2: u16,
}

/// The neighbour's MAC address is known.
pub const NEXT_HOP_RESOLVED: u32 = 1;
/// The next hop is on the Microsoft side.
pub const NEXT_HOP_MSEE: u32 = 2;
/// The next hop is a service.
pub const NEXT_HOP_SERVICE: u32 = 8;
/// Only packets from public sources may be sent there: Microsoft peering (D4).
pub const NEXT_HOP_PUBLIC_SOURCES: u32 = 4;

/// What a route leads to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// `GROUP_*` value.
    pub kind: u16,
    /// For [`GROUP_GLEAN`]: the attachment on whose wire the destination itself is.
    pub attachment: u16,
    /// Next hops; 0: no member.
    pub members: [u16; GROUP_MEMBERS],
    /// Index into `members` for each share of the flows.
    pub buckets: [u8; GROUP_BUCKETS],
}

impl Default for Group {
    fn default() -> Self {
        Self { kind: GROUP_NONE, attachment: 0, members: [0; GROUP_MEMBERS], buckets: [0; GROUP_BUCKETS] }
    }
}

/// An unused record.
pub const GROUP_NONE: u16 = 0;
/// Forward to one of the members.
pub const GROUP_FORWARD: u16 = 1;
/// The destination is a neighbour that is not resolved yet: ask for it.
pub const GROUP_GLEAN: u16 = 2;
/// Drop on purpose.
pub const GROUP_DISCARD: u16 = 3;
/// Drop because zones may not meet (C5).
pub const GROUP_ZONE_FORBIDDEN: u16 = 4;
/// Drop because it must not go in clear (B9).
pub const GROUP_ENCRYPTED_ONLY: u16 = 5;

/// What a circuit is limited to in one direction. Costs are 2^-24 ns a byte, tolerances 2^-8 ns; see [`crate::policer`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policer {
    /// Time of a byte at the sustained rate; 0: the policer is off.
    pub sustained_cost: u64,
    /// Time of a byte at the peak rate; 0: no peak.
    pub peak_cost: u64,
    /// Time of a byte at the interactive class's share.
    pub interactive_cost: u64,
    /// Time of a byte at voice's share.
    pub voice_cost: u64,
    /// Tolerances of the sustained rate: default, interactive, voice.
    pub sustained_tolerance: [u64; 3],
    /// Tolerances of the peak rate.
    pub peak_tolerance: [u64; 3],
    /// Tolerance of a class's own share.
    pub share_tolerance: u64,
    /// Above this a packet lives on credit.
    pub burst_from: u64,
    /// ECT packets are marked when the tolerance is nearer than this; 0: never.
    pub mark_margin: u64,
    /// Bytes that are charged beside those of the IP packet; at most [`OVERHEAD_MAX`].
    pub overhead: u32,
    /// Bytes that a CPU pays for at once, to pass the next packets without asking the bucket; 0: each packet by itself.
    pub ahead: u32,
}

/// Largest overhead of a packet.
pub const OVERHEAD_MAX: u32 = 1 << 16;

/// A 64-bit word that CPUs share; backends access it by atomic operations only.
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Word(core::cell::UnsafeCell<u64>);

// SAFETY: every access goes through the backends' atomic loads and exchanges.
unsafe impl Sync for Word {}

impl Word {
    /// With a value.
    pub const fn new(value: u64) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    /// For the backends.
    pub const fn as_ptr(&self) -> *mut u64 {
        self.0.get()
    }
}

/// The state of a policer: theoretical arrival times.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Bucket {
    /// At the sustained rate.
    pub sustained: Word,
    /// At the peak rate.
    pub peak: Word,
    /// Of the interactive class.
    pub interactive: Word,
    /// Of voice.
    pub voice: Word,
}

/// What one CPU may still pass of one class without asking the policer's bucket, and what it has passed; see
/// [`crate::policer`]. A meter belongs to one CPU, hence cells and no atomics.
#[repr(C)]
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// The kernel's tick in which the bucket was asked last.
    pub tick: Cell<u64>,
    /// Bytes that have been paid for and not been used.
    pub paid: Cell<u32>,
    /// Bytes that are charged beside those of the IP packet.
    pub overhead: Cell<u16>,
    /// Number of the [`crate::policer::Passage`] that the bucket has answered.
    pub passage: Cell<u16>,
    /// The next mark is due when the room in the bucket is less than this, as time.
    pub mark_below: Cell<u64>,
    /// Packets and IP bytes by passage.
    pub counts: [[Cell<u64>; 2]; 4],
}

/// A BFD session, see [`crate::bfd`]: all of what the packet path knows of it, and all that a restarted controller has to adopt. The
/// controller maps the array of them (`BPF_F_MMAPABLE`) and writes words. Times are those of the kernel's monotonic clock in 2^-8 ns.
#[repr(C)]
#[derive(Debug, Default)]
pub struct BfdSession {
    /// The complement of the tick in which the peer was found alive last; 0: ask again. Written by the program.
    pub fresh: Word,
    /// Until when the peer is alive unless it is heard; or [`crate::bfd::DEAD`], or [`crate::bfd::UNJUDGED`]. Written by both.
    pub until: Word,
    /// When the peer was heard last in state Up. Written by the program.
    pub heard: Word,
    /// When the controller sent last: its heartbeat in this session.
    pub sent: Word,
    /// The program answers when the controller has sent nothing for longer than this.
    pub answer_after: Word,
    /// And for so long, counted from there; 0: never.
    pub answer_for: Word,
    /// The packet to answer with: its words, the first byte highest. The first has our discriminator; 0: the session is not in use.
    pub template_0: Word,
    /// Its second word.
    pub template_1: Word,
    /// Its third word.
    pub template_2: Word,
    /// UDP port to answer from.
    pub source_port: Word,
    /// In microseconds: how often the peer may send, as it counts for the detection time.
    pub required_min_rx: Word,
    /// First word of the last valid packet: flags and the peer's discriminator. Written by the program, like what follows.
    pub remote: Word,
    /// In microseconds: how often that packet says that the peer sends (upper half) and can receive.
    pub remote_timers: Word,
    /// Valid packets.
    pub received: Word,
    /// Packets that the program has answered.
    pub answered: Word,
    /// How often the deadline has passed.
    pub expired: Word,
    /// When it was seen last that it had.
    pub expired_at: Word,
    /// Whose session it is: attachment, and the number of the protocol's address family (4 or 6) above it.
    pub owner: Word,
    /// The peer's address, IPv4 as `::ffff:a.b.c.d`: bytes 0 to 7 in memory order.
    pub address_0: Word,
    /// Bytes 8 to 15.
    pub address_1: Word,
    /// Explicit padding to three lines of 64 bytes.
    pub _pad: [Word; 4],
}

/// Words of a [`BfdSession`].
pub const BFD_SESSION_WORDS: usize = size_of::<BfdSession>() / size_of::<Word>();

impl BfdSession {
    /// Its words in the record's order.
    pub const fn words(&self) -> &[Word; BFD_SESSION_WORDS] {
        // SAFETY: repr(C) and nothing but words; the number of them follows from the size.
        unsafe { &*core::ptr::from_ref(self).cast::<[Word; BFD_SESSION_WORDS]>() }
    }
}

/// Where this kernel's structures have what is read of a device that takes nothing any more, in bytes, and whose links are ours. All
/// zero: not known, and nothing is read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelLayout {
    /// `net_device.ifindex`.
    pub ifindex: u32,
    /// `net_device.nd_net`, a pointer to `net`.
    pub net: u32,
    /// `net.net_cookie` (Linux 5.14).
    pub net_cookie: u32,
    /// Explicit padding.
    pub _pad: u32,
    /// Our network namespace's cookie.
    pub ours: u64,
}

/// How often a use of the slow path is allowed on an attachment, see [`crate::budget`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Time between two packets in the long run, in 2^-8 ns; 0: no limit.
    pub cost: u64,
    /// How far ahead of that they may come.
    pub tolerance: u64,
}

/// What the program for dropped packets is told about one, see [`crate::answer`]. The one for BFD gets two numbers by the same record: the
/// frame's length on arrival as `reason`, the session as `group`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errand {
    /// Number of the drop reason.
    pub reason: u32,
    /// Group of the longest match; 0: none.
    pub group: u32,
    /// The next hop that was chosen; 0: none.
    pub next_hop: u16,
    /// Ingress attachment; 0: none.
    pub attachment: u16,
}

/// A range of UDP ports of the Teams client.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
    /// Class number.
    pub class: u8,
    /// DSCP to leave with.
    pub dscp: u8,
}

/// How a peering treats DSCP, see [`crate::classify`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QosProfile {
    /// Class number by DSCP.
    pub class: [u8; 64],
    /// DSCP to leave with, by DSCP.
    pub dscp: [u8; 64],
    /// Classes of unmarked packets by port.
    pub ports: [PortRange; 3],
    /// Ranges in use; 0: unmarked packets are best effort.
    pub ranges: u16,
}

impl QosProfile {
    /// Everything is best effort and leaves as it came.
    #[cfg(any(feature = "std", test))]
    pub fn transparent() -> Self {
        let dscp = core::array::from_fn(|code| code as u8);
        Self {
            class: [0; 64],
            dscp,
            ports: [PortRange { first: 0, last: 0, class: 0, dscp: 0 }; 3],
            ranges: 0,
        }
    }
}

/// Who may speak BGP to this router.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PeerKey {
    /// Its address, IPv4 as `::ffff:a.b.c.d`; first and aligned, because the program writes it in whole words.
    pub address: [u8; 16],
    /// The attachment it must come in on.
    pub attachment: u64,
}

/// What the map of peers holds for a key: above this bit the number of its BFD session, 0 being none; below, what the controller notes
/// for the one after it.
pub const PEER_BFD_SHIFT: u32 = 8;

/// Packets and bytes (of the frame, without FCS) on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Frames.
    pub packets: u64,
    /// Bytes from the Ethernet header on.
    pub bytes: u64,
}

/// Everything that one CPU counts, in one record: one look-up for all of a packet's counters.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuCounters {
    /// See [`counter`].
    pub slots: [Count; counter::SLOTS as usize],
    /// Frames redirected that no loss tracepoint has spoken of yet.
    pub unsent: u64,
}

impl Default for CpuCounters {
    fn default() -> Self {
        Self { slots: [Count::default(); counter::SLOTS as usize], unsent: 0 }
    }
}

/// Slots of [`CpuCounters`].
pub mod counter {
    /// First slot of drop reasons.
    pub const DROP: u32 = 0;
    /// First slot of punt kinds.
    pub const PUNT: u32 = 64;
    /// Frames that the egress driver did not take after a redirect; bytes are not known and stay 0.
    pub const TRANSMIT_LOST: u32 = 80;
    /// Frames whose redirect the kernel refused; bytes stay 0.
    pub const REDIRECT_FAILED: u32 = 81;
    /// ICMP errors that ERDP has made of frames it had dropped.
    pub const ORIGINATED: u32 = 82;
    /// Frames of the edge's own kernel that came in through control ports and left with their tags; bytes without these.
    pub const FROM_KERNEL: u32 = 83;
    /// First slot of attachments: received at `ATTACHMENTS + 2 * id`, redirected at the next one.
    pub const ATTACHMENTS: u32 = 96;
    /// Number of slots.
    pub const SLOTS: u32 = ATTACHMENTS + 2 * super::MAX_ATTACHMENTS;

    /// Slots of the map of meters: one for each class of each policer.
    pub const METERS: u32 = 3 * super::MAX_POLICERS;

    /// Slot of a class's meter of a policer.
    pub const fn meter(policer: u16, class: crate::classify::Class) -> u32 {
        3 * policer as u32 + class as u32
    }

    /// Slot of frames received on an attachment (0: no attachment).
    ///
    /// A slot in any case: with a comparison instead, the compiler compares one copy of the number and uses another, of which a
    /// verifier before Linux 6.8 has then learned nothing.
    pub const fn received(attachment: u16) -> u32 {
        ATTACHMENTS + 2 * (attachment as u32 % super::MAX_ATTACHMENTS)
    }

    /// Slot of frames redirected out of an attachment.
    pub const fn redirected(attachment: u16) -> u32 {
        received(attachment) + 1
    }
}

/// What the program did with a frame, written into the metadata area of a question (see `erdp explain`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// [`TRACE_MAGIC`] in a question; [`TRACE_ANSWERED`] in the answer.
    pub magic: u32,
    /// `VERDICT_*` value.
    pub verdict: u8,
    /// Number of the drop reason or punt kind.
    pub reason: u8,
    /// Ingress attachment.
    pub attachment: u16,
    /// Group of the longest match.
    pub group: u32,
    /// Chosen next hop.
    pub next_hop: u16,
    /// Explicit padding.
    pub _pad: u16,
}

/// Marks a frame as a question: it is answered and not counted.
pub const TRACE_MAGIC: u32 = 0x4552_4450;
/// Marks the answer.
pub const TRACE_ANSWERED: u32 = 0x4552_4441;
/// Redirected through the device map.
pub const VERDICT_TRANSMIT: u8 = 1;
/// Handed to the kernel.
pub const VERDICT_PUNT: u8 = 2;
/// Dropped.
pub const VERDICT_DROP: u8 = 3;

/// A destination on one of our wires that has no neighbour entry: the controller asks the kernel to resolve it.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NeighbourWanted {
    /// The address, IPv4 as `::ffff:a.b.c.d`; first, because the program writes it in whole words.
    pub address: [u8; 16],
    /// The attachment on whose wire it is.
    pub attachment: u32,
    /// Explicit padding to 24 bytes.
    pub _pad: u32,
}

/// Bytes of a dropped frame that a sample holds: two tags, IPv6, one extension header and TCP fit.
pub const SAMPLE_BYTES: usize = 96;
/// Samples are limited in windows of 2^30 ns, about a second.
pub const SAMPLE_WINDOW_BITS: u32 = 30;
/// Slots of the map of sample budgets: one for each drop reason.
pub const SAMPLE_SLOTS: u32 = counter::PUNT;

/// A dropped frame, for the operator: why, where, and the front of its bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropSample {
    /// When, in nanoseconds of the monotonic clock, as of the kernel's last tick.
    pub time_ns: u64,
    /// Interface it came in on.
    pub ifindex: u32,
    /// Length of the frame in bytes when it was dropped.
    pub len: u32,
    /// Group of the longest match; 0: none.
    pub group: u32,
    /// Ingress attachment; 0: none.
    pub attachment: u16,
    /// Chosen next hop; 0: none.
    pub next_hop: u16,
    /// Bytes of `head` that are the frame's.
    pub captured: u16,
    /// Number of the drop reason.
    pub reason: u8,
    /// Explicit padding.
    pub _pad: [u8; 5],
    /// The front of the frame.
    pub head: [u8; SAMPLE_BYTES],
}

impl DropSample {
    /// Of nothing.
    pub const EMPTY: Self = Self {
        time_ns: 0,
        ifindex: 0,
        len: 0,
        group: 0,
        attachment: 0,
        next_hop: 0,
        captured: 0,
        reason: 0,
        _pad: [0; 5],
        head: [0; SAMPLE_BYTES],
    };
}

/// How many samples a CPU has taken of one drop reason.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleBudget {
    /// The window of the last one.
    pub window: u64,
    /// Samples in it.
    pub taken: u64,
    /// When it was last looked at, by the kernel's tick.
    pub jiffies: u64,
}

const _: () = {
    assert!(NEXT_HOP_MSEE | NEXT_HOP_SERVICE == SIDE_BITS);
    assert!(size_of::<DropSample>() == 32 + SAMPLE_BYTES);
    assert!(size_of::<SampleBudget>() == 24);
    assert!(size_of::<Port>() == 8);
    assert!(size_of::<Vlan>() == 8);
    assert!(size_of::<Attachment>() == 56);
    assert!(size_of::<NextHop>() == 40);
    assert!(size_of::<BfdSession>() == 192);
    assert!(size_of::<Policer>() == 112);
    assert!(size_of::<Bucket>() == 32);
    assert!(size_of::<KernelLayout>() == 24);
    assert!(size_of::<Budget>() == 16);
    assert!(size_of::<Errand>() == 12);
    assert!(size_of::<Meter>() == 88);
    assert!(size_of::<QosProfile>() == 148);
    assert!(size_of::<Group>() == 84);
    assert!(size_of::<PeerKey>() == 24);
    assert!(size_of::<Count>() == 16);
    assert!(size_of::<CpuCounters>() == 16 * counter::SLOTS as usize + 8);
    assert!(size_of::<Trace>() == 16);
    assert!(size_of::<NeighbourWanted>() == 24);
};
