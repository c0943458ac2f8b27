//! Target "policer": packets of any size, class and time against a bucket and one CPU's meters, beside a model that is slow and plain: absolute
//! times in 128 bits, nothing that wraps, no compare-exchange. Each packet must have the same fate, each bucket the same words.

use anyhow::{Context as _, Result, ensure};
use erdp_common::{
    abi::Policer,
    classify::Class,
    memory::MemoryTables,
    policer::{BurstPolicy, Payment, Rates, pay},
    tables::Tables as _,
};

use super::{Octets, must};

const ID: u16 = 1;
const PACKETS_MOST: usize = 600;
/// A byte's cost is in 2^-24 ns and time in 2^-8 ns.
const COST_SHIFT: u32 = 16;
/// Whoever is further ahead than 64 s has been idle for half of the clock's range.
const AHEAD_MOST: u128 = 64_000_000_000 << 8;

/// The first octets are the policer and the time at which it begins, each six after them a packet.
pub fn run(bytes: &[u8]) {
    must(check(bytes));
}

/// A bucket with absolute times.
struct Model {
    policer: Policer,
    sustained: u128,
    peak: u128,
    interactive: u128,
    voice: u128,
    /// What is paid and not used, by class: octets, and the tick in which they may be used.
    paid: [(u64, Option<u128>); 3],
}

impl Model {
    fn room(until: u128, now: u128) -> u128 {
        let ahead = until.saturating_sub(now);
        if ahead <= AHEAD_MOST { ahead } else { 0 }
    }

    fn has_share(&self, class: Class, now: u128) -> bool {
        let until = match class {
            Class::Default => return false,
            Class::Interactive => self.interactive,
            Class::Voice => self.voice,
        };
        Self::room(until, now) <= u128::from(self.policer.share_tolerance)
    }

    /// Whether a packet passes.
    fn offer(&mut self, class: Class, bytes: u32, now: u128, tick: u128) -> bool {
        let price = u64::from(bytes) + u64::from(self.policer.overhead);
        let at = class as usize;
        let (paid, paid_in) = self.paid[at];
        if paid_in == Some(tick) && paid >= price {
            self.paid[at].0 -= price;
            return true;
        }
        let tolerance_of = if self.has_share(class, now) { class as usize } else { 0 };
        let sustained = Self::room(self.sustained, now);
        let is_full = sustained > u128::from(self.policer.sustained_tolerance[tolerance_of])
            || self.policer.peak_cost != 0
                && Self::room(self.peak, now) > u128::from(self.policer.peak_tolerance[tolerance_of]);
        if is_full {
            return false;
        }
        let mut paid = paid;
        if paid < price {
            let bytes = (price - paid).max(u64::from(self.policer.ahead));
            self.charge(class, bytes, now);
            paid += bytes;
        }
        self.paid[at] = (paid - price, Some(tick));
        true
    }

    fn charge(&mut self, class: Class, bytes: u64, now: u128) {
        let cost = |per_byte: u64| (u128::from(bytes) * u128::from(per_byte)) >> COST_SHIFT;
        let add = |until: &mut u128, cost: u128| *until = now + Self::room(*until, now) + cost;
        let has_share = self.has_share(class, now);
        add(&mut self.sustained, cost(self.policer.sustained_cost));
        if self.policer.peak_cost != 0 {
            add(&mut self.peak, cost(self.policer.peak_cost));
        }
        match class {
            Class::Voice if has_share => add(&mut self.voice, cost(self.policer.voice_cost)),
            Class::Interactive if has_share => {
                add(&mut self.interactive, cost(self.policer.interactive_cost));
            }
            _ => {}
        }
    }
}

fn rates(octets: &mut Octets<'_>) -> Rates {
    let [kind, size] = [octets.octet(), octets.octet()];
    let bits_per_second =
        [1_000_000, 10_000_000, 1_000_000_000, 10_000_000_000, 400_000_000_000, 1_600_000_000_000]
            [usize::from(size % 6)];
    let policy = [BurstPolicy::Peak2x, BurstPolicy::DualLink, BurstPolicy::Headroom20][usize::from(kind % 3)];
    Rates {
        ecn: kind & 0x80 != 0,
        credit_ms: u64::from(octets.octet()) * 8,
        overhead: u32::from(kind >> 2 & 15) * 4,
        voice_percent: size >> 1,
        ..Rates::new(bits_per_second, policy)
    }
}

fn check(bytes: &[u8]) -> Result<()> {
    let mut octets = Octets(bytes);
    let mut policer = rates(&mut octets).policer().map_err(|error| anyhow::anyhow!("{error:?}"))?;
    // Half of them begin where the clock's word wraps soon.
    let begin = if octets.octet() % 2 == 0 { 1 << 40 } else { u64::MAX - (1 << 38) };
    if octets.octet() % 2 == 0 {
        policer.ahead = 0;
    }
    let mut tables = MemoryTables::new(0);
    tables.policers[usize::from(ID)] = policer;
    let start = u128::from(begin);
    let bucket = &tables.buckets[usize::from(ID)];
    for word in [&bucket.sustained, &bucket.peak, &bucket.interactive, &bucket.voice] {
        ensure!(tables.exchange(word, 0, begin), "a new bucket is empty");
    }
    let mut model = Model {
        policer,
        sustained: start,
        peak: start,
        interactive: start,
        voice: start,
        paid: [(0, None); 3],
    };
    let (mut now, mut passed) = (start, 0_u128);
    for number in 0..PACKETS_MOST {
        if octets.is_empty() {
            break;
        }
        let kind = octets.octet();
        let class = Class::ALL[usize::from(kind % 3)];
        now += u128::from(octets.word()) << (kind >> 2 & 31).min(24);
        let bytes = u32::from(octets.word() % 9_200).max(20);
        tables.now = now as u64;
        let (words, ticks) = (&tables, u128::from(tables.tick()));
        let meter = words.meter(ID, class).context("a meter")?;
        let passes = meter.covers(bytes, words.tick())
            || match pay(ID, class, bytes, words) {
                Payment::Paid => true,
                Payment::Refused => false,
                Payment::Broken => anyhow::bail!("a broken policer"),
            };
        if passes {
            meter.pass(bytes, kind & 0x80 != 0);
            passed += u128::from(bytes) + u128::from(policer.overhead);
        }
        let expected = model.offer(class, bytes, now, ticks);
        ensure!(passes == expected, "packet {number} of {bytes} octets, {class:?}, at {now}: {passes}");
        let bucket = &tables.buckets[usize::from(ID)];
        for (name, word, until) in [
            ("sustained", &bucket.sustained, model.sustained),
            ("peak", &bucket.peak, model.peak),
            ("interactive", &bucket.interactive, model.interactive),
            ("voice", &bucket.voice, model.voice),
        ] {
            ensure!(tables.load(word) == until as u64, "{name}: {} and {until}", tables.load(word));
        }
    }
    // Never more than the depth, what time has given, and what was paid at once.
    let cost = |bytes: u128| (bytes * u128::from(policer.sustained_cost)) >> COST_SHIFT;
    let deepest = policer.sustained_tolerance.into_iter().max().unwrap_or_default();
    let at_once = u128::from(policer.ahead.max(9_200)) + u128::from(policer.overhead);
    let most = u128::from(deepest) + (now - start) + cost(at_once) + PACKETS_MOST as u128;
    ensure!(cost(passed) <= most, "{passed} octets in {} of time", now - start);
    Ok(())
}
