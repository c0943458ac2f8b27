//! The maps: their definitions, and the stages' view of them. The only place of this program where map values are touched.

use core::{
    arch::asm,
    intrinsics::{AtomicOrdering, atomic_cxchg},
    ptr::read_volatile,
};

use aya_ebpf::{
    helpers::{bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns},
    macros::map,
    maps::{Array, DevMap, HashMap, PerCpuArray, ProgramArray, RingBuf},
    programs::XdpContext,
};
use erdp_common::{
    abi::{
        Attachment, BfdSession, Bucket, Budget, CpuCounters, DropSample, Errand, Group, KernelLayout,
        MAX_ATTACHMENTS, MAX_BFD_SESSIONS, MAX_GROUPS, MAX_IFINDEX, MAX_LINKS, MAX_NEXT_HOPS, MAX_PEERS,
        MAX_POLICERS, MAX_PROFILES, MAX_VLAN_BLOCKS, Meter, NeighbourWanted, NextHop, PEER_BFD_SHIFT,
        PeerKey, Policer, Port, QosProfile, SAMPLE_SLOTS, SAMPLE_WINDOW_BITS, SampleBudget, TX_SLOTS, Vlan,
        Word, counter,
    },
    budget,
    classify::Class,
    family::{Address, Family},
    fib::{self, Line},
    policer::{Payment, TICK_SHIFT, TIME_FRACTION_BITS},
    tables::Tables,
};

use crate::functions;

/// `BPF_F_MMAPABLE` (Linux 5.5).
const MMAPABLE: u32 = 1 << 10;

#[map]
static PORTS: Array<Port> = Array::with_max_entries(MAX_IFINDEX + 1, 0);
#[map]
static VLANS: Array<Vlan> = Array::with_max_entries(MAX_VLAN_BLOCKS * 4096, 0);
#[map]
static ATTACHMENTS: Array<Attachment> = Array::with_max_entries(MAX_ATTACHMENTS, 0);
#[map]
static GROUPS: Array<Group> = Array::with_max_entries(MAX_GROUPS, 0);
#[map]
static NEXT_HOPS: Array<NextHop> = Array::with_max_entries(MAX_NEXT_HOPS, 0);
#[map]
static LINKS: Array<u64> = Array::with_max_entries(MAX_LINKS, 0);
#[map]
static PEERS: HashMap<PeerKey, u32> = HashMap::with_max_entries(MAX_PEERS, 0);
/// The pool of the forwarding trie; the controller sets its real size at load time and writes it through `mmap`.
#[map]
static FIB_LINES: Array<Line> = Array::with_max_entries(fib::ROOT_LINES, MMAPABLE);
/// Egress attachment, or the control port of one -> interface.
#[map]
static TX_PORTS: DevMap = DevMap::with_max_entries(TX_SLOTS, 0);
#[map]
static COUNTERS: PerCpuArray<CpuCounters> = PerCpuArray::with_max_entries(1, 0);
#[map]
static POLICERS: Array<Policer> = Array::with_max_entries(MAX_POLICERS, 0);
#[map]
static BUCKETS: Array<Bucket> = Array::with_max_entries(MAX_POLICERS, 0);
#[map]
static BUDGETS: Array<Budget> = Array::with_max_entries(budget::SLOTS, 0);
#[map]
static BUDGET_WORDS: Array<Word> = Array::with_max_entries(budget::SLOTS, 0);
/// BFD sessions; the controller writes them through `mmap`.
#[map]
static BFD_SESSIONS: Array<BfdSession> = Array::with_max_entries(MAX_BFD_SESSIONS, MMAPABLE);
/// The program for BFD, at 0.
#[map]
static BFD: ProgramArray = ProgramArray::with_max_entries(1, 0);
/// What the program for dropped packets is told by the router, on this CPU.
#[map]
static ERRAND: PerCpuArray<Errand> = PerCpuArray::with_max_entries(1, 0);
/// The program for dropped packets, at 0.
#[map]
static DROPPED: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
static PROFILES: Array<QosProfile> = Array::with_max_entries(MAX_PROFILES, 0);
/// [`Meter`]s, as plain words: cells may not be in a static.
#[map]
static METERS: PerCpuArray<[u64; size_of::<Meter>() / 8]> = PerCpuArray::with_max_entries(counter::METERS, 0);
/// See [`crate::losses`].
#[map]
static KERNEL: Array<KernelLayout> = Array::with_max_entries(1, 0);
/// The virtual clock of tests, in 2^-8 ns.
#[map]
static VIRTUAL_CLOCK: Array<u64> = Array::with_max_entries(1, 0);
/// Bounded: when it is full, the wish is lost and the next packet makes it again.
#[map]
static NEIGHBOURS_WANTED: RingBuf = RingBuf::with_byte_size(64 * 1024, 0);
/// Samples of dropped frames. Bounded: when it is full, samples are lost; the drop counters never are.
#[map]
static DROP_SAMPLES: RingBuf = RingBuf::with_byte_size(128 * 1024, 0);
#[map]
static SAMPLE_BUDGETS: PerCpuArray<SampleBudget> = PerCpuArray::with_max_entries(SAMPLE_SLOTS, 0);

/// Set by the controller at load time: how many frames a CPU samples of one drop reason in a window; 0: none.
#[unsafe(no_mangle)]
static SAMPLES_IN_WINDOW: u32 = 0;

/// Set by the controller at load time: log drops through aya-log.
#[unsafe(no_mangle)]
static LOG_DROPS: u8 = 0;

/// Set by the controller at load time: both directions of a flow hash alike.
#[unsafe(no_mangle)]
static SYMMETRIC_HASH: u8 = 0;

/// Set by a test at load time: time is what [`VIRTUAL_CLOCK`] says.
#[unsafe(no_mangle)]
static CLOCK_IS_VIRTUAL: u8 = 0;

/// The maps of this program as the stages read them.
pub struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn port(&self, ifindex: u32) -> Option<&Port> {
        PORTS.get(ifindex)
    }
    #[inline(always)]
    fn vlan(&self, block: u16, vid: u16) -> Option<&Vlan> {
        if block == 0 {
            return None;
        }
        VLANS.get(u32::from(block) * 4096 + u32::from(vid))
    }
    #[inline(always)]
    fn attachment(&self, id: u16) -> Option<&Attachment> {
        ATTACHMENTS.get(u32::from(id))
    }
    #[inline(always)]
    fn fib_line(&self, line: u32) -> Option<&Line> {
        FIB_LINES.get(line)
    }
    #[cfg(not(feature = "bench"))]
    #[inline(always)]
    fn longest_match<F: Family>(&self, root: u32, destination: Address) -> u32 {
        functions::longest_match::<F>(root, destination)
    }
    /// The benchmark's object is this program over the kernel's LPM trie, and differs in nothing else.
    #[cfg(feature = "bench")]
    #[inline(always)]
    fn longest_match<F: Family>(&self, _root: u32, destination: Address) -> u32 {
        crate::bench::lpm::<F>(destination)
    }
    #[inline(always)]
    fn group(&self, id: u32) -> Option<&Group> {
        GROUPS.get(id)
    }
    #[inline(always)]
    fn hashes_symmetrically(&self) -> bool {
        // SAFETY: a global that the loader sets before the program exists; the verifier folds it, so it costs nothing.
        (unsafe { read_volatile(&raw const SYMMETRIC_HASH) }) != 0
    }
    #[inline(always)]
    fn next_hop(&self, id: u16) -> Option<&NextHop> {
        NEXT_HOPS.get(u32::from(id))
    }
    #[inline(always)]
    fn link_is_alive(&self, link: u16) -> bool {
        // SAFETY: a map value; volatile, because a failover writes it while packets are forwarded.
        LINKS.get(u32::from(link)).is_some_and(|word| unsafe { read_volatile(word) } != 0)
    }
    #[inline(always)]
    fn peer(&self, key: &PeerKey) -> Option<u32> {
        // SAFETY: a number, which is copied at once; the controller writes it whole.
        unsafe { PEERS.get(*key) }.map(|value| value >> PEER_BFD_SHIFT)
    }
    #[inline(always)]
    fn bfd_session(&self, id: u32) -> Option<&BfdSession> {
        BFD_SESSIONS.get(id)
    }
    #[inline(always)]
    fn peer_at<F: Family>(&self, attachment: u16, source: Address) -> u32 {
        functions::peer_at::<F>(attachment, source)
    }
    #[inline(always)]
    fn usable(&self, next_hop: u32) -> u32 {
        functions::usable(next_hop)
    }
    #[inline(always)]
    fn judge_bfd(&self, session: u32) -> bool {
        functions::judge_bfd(session)
    }
    #[inline(always)]
    fn policer(&self, id: u16) -> Option<&Policer> {
        POLICERS.get(u32::from(id))
    }
    #[inline(always)]
    fn bucket(&self, id: u16) -> Option<&Bucket> {
        BUCKETS.get(u32::from(id))
    }
    #[inline(always)]
    fn profile(&self, id: u16) -> Option<&QosProfile> {
        PROFILES.get(u32::from(id))
    }
    #[inline(always)]
    fn meter(&self, policer: u16, class: Class) -> Option<&Meter> {
        let words = METERS.get_ptr_mut(counter::meter(policer, class))?;
        // SAFETY: a value of a per-CPU map: this CPU is its only user while the program runs; size and alignment are a Meter's.
        Some(unsafe { &*words.cast::<Meter>() })
    }
    #[inline(always)]
    fn budget(&self, slot: u32) -> Option<&Budget> {
        BUDGETS.get(slot)
    }
    #[inline(always)]
    fn budget_word(&self, slot: u32) -> Option<&Word> {
        BUDGET_WORDS.get(slot)
    }
    #[inline(always)]
    fn take_budget(&self, kind: u32, attachment: u16) -> bool {
        functions::take_budget(kind, attachment)
    }
    #[inline(always)]
    fn is_public<F: Family>(&self, address: Address) -> bool {
        functions::is_public::<F>(address)
    }
    #[inline(always)]
    fn by_route<F: Family>(&self, root: u32, address: Address) -> u32 {
        functions::by_route(root, address)
    }

    #[inline(always)]
    fn pay(&self, policer: u16, class: Class, ip_bytes: u32) -> Payment {
        functions::pay(policer, class, ip_bytes)
    }
    #[inline(always)]
    fn other_member(&self, hash: u32, group: u32) -> u32 {
        functions::other_member(hash, group)
    }
    #[inline(always)]
    fn forget(&self, value: u32) -> u32 {
        let Some(errand) = ERRAND.get_ptr_mut(0) else {
            return value;
        };
        // SAFETY: a value of a per-CPU map: the programs of this CPU run one after the other. Volatile, or the compiler would see
        // what the verifier is not to see.
        unsafe {
            (&raw mut (*errand).reason).write_volatile(value);
            (&raw const (*errand).reason).read_volatile()
        }
    }
    #[inline(always)]
    fn now(&self) -> u64 {
        match virtual_clock() {
            Some(now) => now,
            // SAFETY: a helper without arguments.
            None => (unsafe { bpf_ktime_get_ns() }) << TIME_FRACTION_BITS,
        }
    }
    /// The kernel's jiffies (1 to 10 ms).
    #[inline(always)]
    fn tick(&self) -> u64 {
        match virtual_clock() {
            Some(now) => now >> TICK_SHIFT,
            // SAFETY: a helper without arguments.
            None => unsafe { bpf_jiffies64() },
        }
    }
    #[inline(always)]
    fn load(&self, word: &Word) -> u64 {
        // SAFETY: a map value; aligned 64-bit loads are atomic where BPF runs.
        unsafe { read_volatile(word.as_ptr()) }
    }
    /// Before Linux 6.8 the verifier does not learn from a comparison of a 32-bit register what its copy may hold; the compiler
    /// compares one and uses the other. So the bound is in an instruction that the compiler cannot see through and remove.
    #[inline(always)]
    fn fib_word(&self, line: &Line, index: u32) -> Option<u64> {
        const _: () = assert!(size_of::<Line>() == 8 * size_of::<Word>());
        if index >= 8 {
            return None;
        }
        let mut index = index as usize;
        // SAFETY: one instruction on one register.
        unsafe { asm!("{0} &= 7", inout(reg) index, options(pure, nomem, nostack)) };
        // SAFETY: below 8, the length of a line.
        Some(self.load(unsafe { line.get_unchecked(index) }))
    }
    #[inline(always)]
    fn store(&self, word: &Word, value: u64) {
        // SAFETY: a map value; aligned 64-bit stores are atomic where BPF runs.
        unsafe { word.as_ptr().write_volatile(value) }
    }
    #[inline(always)]
    fn exchange(&self, word: &Word, old: u64, new: u64) -> bool {
        // SAFETY: a map value, aligned; BPF_CMPXCHG (Linux 5.12).
        unsafe {
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                word.as_ptr(),
                old,
                new,
            )
            .1
        }
    }
}

/// The time of tests, if there is one.
#[inline(always)]
fn virtual_clock() -> Option<u64> {
    // SAFETY: a global that the loader sets before the program exists.
    if (unsafe { read_volatile(&raw const CLOCK_IS_VIRTUAL) }) == 0 {
        return None;
    }
    Some(VIRTUAL_CLOCK.get(0).copied().unwrap_or(0))
}

/// This CPU's counters. A failed look-up loses counts and never changes a verdict.
#[inline(always)]
pub fn counters() -> Option<&'static mut CpuCounters> {
    // SAFETY: a value of a per-CPU map: this CPU is its only user while a program runs, and each program asks once.
    COUNTERS.get_ptr_mut(0).map(|counters| unsafe { &mut *counters })
}

/// Where the running kernel has what [`crate::losses`] reads; `None`: nobody has said so.
#[inline(always)]
pub fn kernel_layout() -> Option<KernelLayout> {
    KERNEL.get(0).copied().filter(|layout| layout.ours != 0)
}

/// The link of an interface is dead, until the controller says otherwise.
#[inline(always)]
pub fn kill_link(ifindex: u32) {
    if let Some(link) = PORTS.get(ifindex).map(|port| port.link)
        && link != 0
        && let Some(word) = LINKS.get_ptr_mut(u32::from(link))
    {
        // SAFETY: a map value; aligned 64-bit stores are atomic where BPF runs.
        unsafe { word.write_volatile(0) }
    }
}

/// Redirects out of an attachment or into a control port; XDP_ABORTED when the slot is empty, which the exception tracepoint shows.
#[inline(always)]
pub fn redirect(slot: u16) -> u32 {
    TX_PORTS.redirect(u32::from(slot), 0).unwrap_or_else(|action| action)
}

/// Calls the program for dropped packets with an errand; comes back only when there is none.
#[inline(always)]
pub fn send_errand(ctx: &XdpContext, errand: Errand) {
    if let Some(slot) = ERRAND.get_ptr_mut(0) {
        // SAFETY: a value of a per-CPU map: the programs of this CPU run one after the other.
        unsafe { *slot = errand };
        // SAFETY: nothing here needs to be dropped.
        unsafe { DROPPED.tail_call(ctx, 0) };
    }
}

/// Calls the program for BFD with a session and the frame's length on arrival; comes back only when there is none.
#[inline(always)]
pub fn send_bfd(ctx: &XdpContext, session: u32, came: u32) {
    if let Some(slot) = ERRAND.get_ptr_mut(0) {
        // SAFETY: a value of a per-CPU map: the programs of this CPU run one after the other.
        unsafe {
            (&raw mut (*slot).group).write_volatile(session);
            (&raw mut (*slot).reason).write_volatile(came);
        }
        // SAFETY: nothing here needs to be dropped.
        unsafe { BFD.tail_call(ctx, 0) };
    }
}

/// The errand that the router has left on this CPU.
#[inline(always)]
pub fn errand() -> Option<Errand> {
    ERRAND.get(0).copied()
}

/// Tells the controller which neighbour to resolve.
#[inline(always)]
pub fn want(neighbour: &NeighbourWanted) {
    // A full ring is not an error: see NEIGHBOURS_WANTED.
    let _ = NEIGHBOURS_WANTED.output::<NeighbourWanted>(neighbour, 0);
}

/// When a frame may be sampled that is dropped for this reason: the time in nanoseconds, or `None` if this CPU has sampled enough
/// such frames in this window. The clock is the tick's, which costs little more than a load (Linux 5.11).
#[inline(always)]
pub fn may_sample(reason: u32) -> Option<u64> {
    // SAFETY: a global that the loader sets before the program exists.
    let most = u64::from(unsafe { read_volatile(&raw const SAMPLES_IN_WINDOW) });
    if most == 0 {
        return None;
    }
    let budget = SAMPLE_BUDGETS.get_ptr_mut(reason)?;
    // SAFETY: helpers without arguments; a value of a per-CPU map, whose only writer this CPU is while the program runs.
    unsafe {
        let now = if let Some(now) = virtual_clock() {
            now >> TIME_FRACTION_BITS
        } else {
            // In a flood most drops end here: the limit is reached, and the tick has not moved since.
            let jiffies = bpf_jiffies64();
            if (*budget).taken >= most && (*budget).jiffies == jiffies {
                return None;
            }
            (*budget).jiffies = jiffies;
            bpf_ktime_get_coarse_ns()
        };
        let window = now >> SAMPLE_WINDOW_BITS;
        if (*budget).window != window {
            (*budget).window = window;
            (*budget).taken = 0;
        }
        if (*budget).taken >= most {
            return None;
        }
        (*budget).taken += 1;
        Some(now)
    }
}

/// Hands the controller what `fill` writes into a zeroed sample.
#[inline(always)]
pub fn sample(fill: impl FnOnce(&mut DropSample)) {
    let Some(mut entry) = DROP_SAMPLES.reserve::<DropSample>(0) else {
        return;
    };
    entry.write(DropSample::EMPTY);
    // SAFETY: the line above has written all of it.
    fill(unsafe { entry.assume_init_mut() });
    entry.submit(0);
}

/// Whether drops are to be logged.
#[inline(always)]
pub fn logs_drops() -> bool {
    // SAFETY: a global that the loader sets before the program exists; volatile keeps the compiler from folding its default.
    (unsafe { read_volatile(&raw const LOG_DROPS) }) != 0
}
