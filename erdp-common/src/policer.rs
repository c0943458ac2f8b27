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
//! 833 days, and comparisons are signed differences. `now` may be stale by less than any tolerance (a clock cached per CPU).

use crate::{
    abi::{Bucket, Policer, Word},
    classify::Class,
    tables::Tables,
};

/// Fraction bits of the time unit.
pub const TIME_FRACTION_BITS: u32 = 8;
/// Fraction bits of the cost of a byte, in nanoseconds.
pub const COST_FRACTION_BITS: u32 = 24;
/// A TAT further ahead than this (64 s) is none: the bucket has been idle for half of the clock's range.
const AHEAD_MAX: u64 = (64 * 1_000_000_000) << TIME_FRACTION_BITS;
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

/// Judges a packet against a bucket without charging it.
#[inline(always)]
pub fn judge<T: Tables>(bucket: &Bucket, policer: &Policer, class: Class, now: u64, tables: &T) -> Passage {
    let effective = within_share(bucket, policer, class, now, tables);
    let sustained = ahead(tables.load(&bucket.sustained), now);
    let limit = tolerance(&policer.sustained_tolerance, effective);
    if sustained > limit {
        return Passage::Dropped;
    }
    if policer.peak_cost != 0
        && ahead(tables.load(&bucket.peak), now) > tolerance(&policer.peak_tolerance, effective)
    {
        return Passage::Dropped;
    }
    if policer.mark_margin != 0 && sustained + policer.mark_margin > limit {
        Passage::Marked
    } else if sustained > policer.burst_from {
        Passage::Burst
    } else {
        Passage::Conform
    }
}

/// Charges a packet that was let through.
#[inline(always)]
pub fn charge<T: Tables>(
    bucket: &Bucket,
    policer: &Policer,
    class: Class,
    ip_bytes: u32,
    now: u64,
    tables: &T,
) {
    let bytes = u64::from(ip_bytes + policer.overhead);
    let cost = |per_byte: u64| (bytes * per_byte) >> (COST_FRACTION_BITS - TIME_FRACTION_BITS);
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
fn ahead(tat: u64, now: u64) -> u64 {
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
