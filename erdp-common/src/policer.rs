//! Stage "police": is there room for the packet in its circuit's bucket (rules A1, A2)?
//!
//! The generic cell rate algorithm (ITU-T I.371) in its virtual scheduling form: a bucket is one word, the theoretical
//! arrival time (TAT). A packet conforms while `TAT - now` is not above a tolerance; then `TAT = max(TAT, now) + cost`. No
//! lock: a compare-exchange for each word, and a rate change resets nothing. A circuit has four words:
//!
//! | word | rate | tolerance |
//! |---|---|---|
//! | sustained | R | the credit (1 s of R by default): how long a burst to the peak may last |
//! | peak | 2R (`peak-2x`), else none | a few milliseconds |
//! | voice, interactive | the class's share of R | a few milliseconds; above it the packet counts as best effort |
//!
//! Classes differ only in tolerance: best effort is dropped first, then interactive, voice last. What is dropped charges
//! nothing. Time is counted in 2^-8 ns, because whole nanoseconds err by percents for 64-byte packets at 100 Gb/s; it wraps after
//! 833 days, and comparisons are signed differences.
//!
//! # Meters
//! Asking the bucket costs a reading of the clock and two or three compare-exchanges on words that all CPUs want. So a CPU pays
//! for a tenth of a millisecond's bytes at once (at low rates that is less than a packet, and it pays for each by itself) and
//! passes packets of that class on what it has paid, for the rest of the kernel's tick: its [`Meter`]. What is paid is never
//! given back and never paid twice, so the rate is exact; what a CPU holds unused is at most [`AHEAD_BYTES_MAX`] and is used
//! next time. The bucket's answer (conform, burst, marked) holds for all that was paid with it.

use crate::{
    abi::{Bucket, Meter, Policer, Word},
    classify::Class,
    tables::Tables,
};

/// Fraction bits of the time unit.
pub const TIME_FRACTION_BITS: u32 = 8;
/// Fraction bits of the cost of a byte, in nanoseconds.
pub const COST_FRACTION_BITS: u32 = 24;
/// A TAT further ahead than this (64 s) is none: the bucket has been idle for half of the clock's range.
const AHEAD_MAX: u64 = (64 * 1_000_000_000) << TIME_FRACTION_BITS;
/// The virtual clock's tick is 2^30 units, 4 ms.
pub const TICK_SHIFT: u32 = 30;
/// Most bytes that a CPU pays for at once.
pub const AHEAD_BYTES_MAX: u32 = 16 * 1024;
/// Attempts at a compare-exchange; each failure means that another CPU has succeeded.
const ATTEMPTS: u32 = 4;

/// How a packet got through.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Within the rate.
    Conform = 0,
    /// On credit.
    Burst = 1,
    /// Congestion experienced has been marked (RFC 3168).
    Marked = 2,
    /// Not at all.
    Dropped = 3,
}

impl Passage {
    /// Every outcome, in number order.
    pub const ALL: [Self; 4] = [Self::Conform, Self::Burst, Self::Marked, Self::Dropped];

    /// The name in counters and JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Conform => "conform",
            Self::Burst => "burst",
            Self::Marked => "marked",
            Self::Dropped => "dropped",
        }
    }
}

impl Meter {
    /// Whether a packet can pass on what has been paid for in this tick.
    #[inline(always)]
    pub fn covers(&self, ip_bytes: u32, tick: u64) -> bool {
        self.tick.get() == tick && self.paid.get() >= self.price(ip_bytes)
    }

    /// Takes a packet that is covered, and counts it by the bucket's answer. The answer here is whether it is to be marked,
    /// which only a transport that understands marks can be (`is_ect`).
    #[inline(always)]
    pub fn pass(&self, ip_bytes: u32, is_ect: bool) -> bool {
        self.paid.set(self.paid.get().wrapping_sub(self.price(ip_bytes)));
        let marked = self.passage.get() == Passage::Marked as u16;
        let passage = if marked && !is_ect { Passage::Burst as u16 } else { self.passage.get() };
        self.count(passage, ip_bytes);
        marked && is_ect
    }

    /// Marks only while the bucket fills: each mark moves the next one a quarter of the margin further, and room that comes back
    /// takes it along at half a margin's distance; in the last quarter everything is marked. A sender that has slowed down to
    /// less than the rate is left alone while the bucket empties: marked on, it would slow down again each round trip (CUBIC by
    /// 30 %), though once was enough.
    #[inline(always)]
    fn mark(&self, passage: Passage, room: u64, margin: u64) -> Passage {
        if passage != Passage::Marked {
            self.mark_below.set(margin);
            return passage;
        }
        let step = margin / 4;
        let below = self.mark_below.get();
        if room <= step || room < below {
            self.mark_below.set(room.saturating_sub(step));
            return Passage::Marked;
        }
        self.mark_below.set(below.max(room.saturating_sub(2 * step)));
        Passage::Burst
    }

    /// Counts a packet.
    #[inline(always)]
    pub fn count(&self, passage: u16, ip_bytes: u32) {
        if let Some([packets, bytes]) = self.counts.get(usize::from(passage)) {
            packets.set(packets.get() + 1);
            bytes.set(bytes.get() + u64::from(ip_bytes));
        }
    }

    #[inline(always)]
    fn price(&self, ip_bytes: u32) -> u32 {
        ip_bytes + u32::from(self.overhead.get())
    }
}

/// Whether a packet has been paid for.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payment {
    /// The policer, its bucket or the meter does not exist.
    Broken = 0,
    /// The bucket has no room; the meter has counted the packet as dropped.
    Refused = 1,
    /// The meter covers the packet.
    Paid = 2,
}

/// Asks a policer's bucket for a packet that this CPU's meter does not cover.
#[inline(always)]
pub fn pay<T: Tables>(id: u16, class: Class, ip_bytes: u32, tables: &T) -> Payment {
    let (Some(meter), Some(policer), Some(bucket)) =
        (tables.meter(id, class), tables.policer(id), tables.bucket(id))
    else {
        return Payment::Broken;
    };
    if refill(meter, bucket, policer, class, ip_bytes, tables) {
        return Payment::Paid;
    }
    meter.count(Passage::Dropped as u16, ip_bytes);
    Payment::Refused
}

/// Pays for a packet and for those to come, if the bucket has room; the answer is whether it has.
#[inline(always)]
fn refill<T: Tables>(
    meter: &Meter,
    bucket: &Bucket,
    policer: &Policer,
    class: Class,
    ip_bytes: u32,
    tables: &T,
) -> bool {
    let now = tables.now();
    let (passage, room) = judge(bucket, policer, class, now, tables);
    if passage == Passage::Dropped {
        return false;
    }
    let passage = meter.mark(passage, room, policer.mark_margin);
    meter.tick.set(tables.tick());
    meter.passage.set(passage as u16);
    meter.overhead.set(policer.overhead as u16);
    let price = meter.price(ip_bytes);
    let paid = meter.paid.get();
    if paid < price {
        let bytes = (price - paid).max(policer.ahead);
        charge(bucket, policer, class, bytes, now, tables);
        meter.paid.set(paid + bytes);
    }
    true
}

/// Judges a packet against a bucket without charging it; with the answer, how much room the sustained rate's tolerance has.
#[inline(always)]
pub fn judge<T: Tables>(
    bucket: &Bucket,
    policer: &Policer,
    class: Class,
    now: u64,
    tables: &T,
) -> (Passage, u64) {
    let effective = within_share(bucket, policer, class, now, tables);
    let sustained = ahead(tables.load(&bucket.sustained), now);
    let limit = tolerance(&policer.sustained_tolerance, effective);
    if sustained > limit {
        return (Passage::Dropped, 0);
    }
    if policer.peak_cost != 0
        && ahead(tables.load(&bucket.peak), now) > tolerance(&policer.peak_tolerance, effective)
    {
        return (Passage::Dropped, 0);
    }
    let room = limit - sustained;
    if room < policer.mark_margin {
        (Passage::Marked, room)
    } else if sustained > policer.burst_from {
        (Passage::Burst, room)
    } else {
        (Passage::Conform, room)
    }
}

/// Charges bytes that are let through, overhead included.
#[inline(always)]
fn charge<T: Tables>(bucket: &Bucket, policer: &Policer, class: Class, bytes: u32, now: u64, tables: &T) {
    let cost = |per_byte: u64| (u64::from(bytes) * per_byte) >> (COST_FRACTION_BITS - TIME_FRACTION_BITS);
    add(&bucket.sustained, cost(policer.sustained_cost), now, tables);
    if policer.peak_cost != 0 {
        add(&bucket.peak, cost(policer.peak_cost), now, tables);
    }
    // A class's own word is charged only for what it took within its share: above it, it was best effort.
    match class {
        Class::Voice if has_share(&bucket.voice, policer, now, tables) => {
            add(&bucket.voice, cost(policer.voice_cost), now, tables);
        }
        Class::Interactive if has_share(&bucket.interactive, policer, now, tables) => {
            add(&bucket.interactive, cost(policer.interactive_cost), now, tables);
        }
        _ => {}
    }
}

/// The class whose tolerances count: a class above its share is best effort.
#[inline(always)]
fn within_share<T: Tables>(bucket: &Bucket, policer: &Policer, class: Class, now: u64, tables: &T) -> Class {
    let within = match class {
        Class::Default => false,
        Class::Interactive => has_share(&bucket.interactive, policer, now, tables),
        Class::Voice => has_share(&bucket.voice, policer, now, tables),
    };
    if within { class } else { Class::Default }
}

#[inline(always)]
fn has_share<T: Tables>(word: &Word, policer: &Policer, now: u64, tables: &T) -> bool {
    ahead(tables.load(word), now) <= policer.share_tolerance
}

#[inline(always)]
fn tolerance(tolerances: &[u64; 3], class: Class) -> u64 {
    let [default, interactive, voice] = *tolerances;
    match class {
        Class::Default => default,
        Class::Interactive => interactive,
        Class::Voice => voice,
    }
}

/// How far a TAT is ahead of now; 0 when it is not.
#[inline(always)]
pub fn ahead(tat: u64, now: u64) -> u64 {
    let ahead = tat.wrapping_sub(now);
    if ahead <= AHEAD_MAX { ahead } else { 0 }
}

/// `TAT = max(TAT, now) + cost`. After [`ATTEMPTS`] failures the packet goes uncharged: other CPUs have charged theirs meanwhile.
#[inline(always)]
fn add<T: Tables>(word: &Word, cost: u64, now: u64, tables: &T) {
    for _ in 0..ATTEMPTS {
        let tat = tables.load(word);
        let next = now.wrapping_add(ahead(tat, now)).wrapping_add(cost);
        if tables.exchange(word, tat, next) {
            return;
        }
    }
}

#[cfg(any(feature = "std", test))]
mod rates;
#[cfg(any(feature = "std", test))]
pub use rates::{BurstPolicy, RateError, Rates};

#[cfg(test)]
mod tests;
