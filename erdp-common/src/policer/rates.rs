//! From a bandwidth to the numbers of a [`Policer`]: host side, exact integer arithmetic.

use crate::abi::{OVERHEAD_MAX, Policer, PortRange, QosProfile};

use super::{AHEAD_BYTES_MAX, COST_FRACTION_BITS, TIME_FRACTION_BITS};
use crate::classify::Class;

const SECOND_NS: u128 = 1_000_000_000;
/// Tolerance of the peak rate and of class shares, in milliseconds.
const SHORT_MS: u64 = 20;
/// How much time at the sustained rate a CPU pays for at once: a hundredth of what best effort may be ahead without credit.
const AHEAD_US: u128 = 100;

/// What "burst up to twice the bandwidth" means (rule A2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BurstPolicy {
    /// One bucket for both links of a direction: R sustained, 2R peak, credit R x credit time. The FAQ's meaning.
    #[default]
    Peak2x,
    /// R on each link, each with its own bucket. What MSEEs do today.
    DualLink,
    /// 1.2 R on each link. ExpressRoute Direct.
    Headroom20,
}

/// What a policer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// R in bits a second.
    pub bits_per_second: u64,
    /// Meaning of bursts.
    pub policy: BurstPolicy,
    /// Credit, as time at R, in milliseconds.
    pub credit_ms: u64,
    /// Voice's share of R in percent.
    pub voice_percent: u8,
    /// The interactive class's share of R in percent.
    pub interactive_percent: u8,
    /// Bytes charged beside those of the IP packet: 0 counts IP bytes.
    pub overhead: u32,
    /// Mark ECT packets before any drop.
    pub ecn: bool,
}

impl Rates {
    /// Microsoft's usual values for a bandwidth.
    pub const fn new(bits_per_second: u64, policy: BurstPolicy) -> Self {
        Self {
            bits_per_second,
            policy,
            credit_ms: 1_000,
            voice_percent: 30,
            interactive_percent: 40,
            overhead: 0,
            ecn: false,
        }
    }

    /// The record.
    pub fn policer(&self) -> Result<Policer, RateError> {
        if !(1_000_000..=1_600_000_000_000).contains(&self.bits_per_second) {
            return Err(RateError { bits_per_second: self.bits_per_second });
        }
        let rate = u128::from(self.bits_per_second);
        let sustained = match self.policy {
            BurstPolicy::Peak2x | BurstPolicy::DualLink => rate,
            BurstPolicy::Headroom20 => rate * 6 / 5,
        };
        let peak = matches!(self.policy, BurstPolicy::Peak2x).then_some(rate * 2);
        let short = millis(SHORT_MS);
        // Without a peak there is nothing to burst to: the credit is only what smooths TCP.
        let credit = if peak.is_some() { millis(self.credit_ms).max(short / 2) } else { short / 2 };
        let ahead = sustained * AHEAD_US / 8_000_000;
        Ok(Policer {
            sustained_cost: cost(sustained),
            peak_cost: peak.map_or(0, cost),
            interactive_cost: cost(rate * u128::from(self.interactive_percent.clamp(1, 100)) / 100),
            voice_cost: cost(rate * u128::from(self.voice_percent.clamp(1, 100)) / 100),
            sustained_tolerance: by_class(credit, short),
            peak_tolerance: by_class(short / 2, short),
            share_tolerance: short / 4,
            burst_from: short / 4,
            mark_margin: if self.ecn { short / 4 } else { 0 },
            overhead: self.overhead.min(OVERHEAD_MAX - 1),
            ahead: u32::try_from(ahead).unwrap_or(u32::MAX).min(AHEAD_BYTES_MAX),
        })
    }
}

/// Best effort has the credit; interactive and voice may go beyond it by a quarter and a half of the short tolerance.
fn by_class(credit: u64, short: u64) -> [u64; 3] {
    [credit, credit + short / 4, credit + short / 2]
}

/// Time of a byte in 2^-24 ns, rounded to nearest: exact to 2 parts in 10^6 at 400 Gb/s.
fn cost(bits_per_second: u128) -> u64 {
    let numerator = (8 * SECOND_NS) << COST_FRACTION_BITS;
    u64::try_from((numerator + bits_per_second / 2) / bits_per_second).unwrap_or(u64::MAX)
}

/// Milliseconds in the time unit.
const fn millis(millis: u64) -> u64 {
    (millis * 1_000_000) << TIME_FRACTION_BITS
}

/// A rate that no circuit has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateError {
    /// The rate.
    pub bits_per_second: u64,
}

impl core::fmt::Display for RateError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} bit/s is not between 1 Mbit/s and 1.6 Tbit/s", self.bits_per_second)
    }
}

impl QosProfile {
    /// Microsoft peering (rules F): EF voice, AF41 and AF21 interactive, AF11 and CS0 best effort, any other code to 0;
    /// `by_ports`: unmarked Teams traffic by its client ports.
    pub fn microsoft(by_ports: bool) -> Self {
        let mut profile = Self { dscp: [0; 64], ..Self::by_code() };
        for code in [46, 34, 18, 10] {
            profile.dscp[code] = code as u8;
        }
        if by_ports { profile.with_teams_ports([46, 34, 18]) } else { profile }
    }

    /// Private peering: the same classes, every code kept.
    pub fn private() -> Self {
        Self::by_code()
    }

    /// The same, and unmarked Teams traffic is classified by its client ports; it stays unmarked, as every code is kept.
    pub fn private_by_ports() -> Self {
        Self::by_code().with_teams_ports([0; 3])
    }

    /// Audio, video and sharing by client port, with the codes that they leave with.
    fn with_teams_ports(self, [audio, video, sharing]: [u8; 3]) -> Self {
        let range = |first, last, class: Class, dscp| PortRange { first, last, class: class as u8, dscp };
        let ports = [
            range(50_000, 50_019, Class::Voice, audio),
            range(50_020, 50_039, Class::Interactive, video),
            range(50_040, 50_059, Class::Interactive, sharing),
        ];
        Self { ports, ranges: 3, ..self }
    }

    fn by_code() -> Self {
        let mut profile = Self::transparent();
        profile.class[46] = Class::Voice as u8;
        profile.class[34] = Class::Interactive as u8;
        profile.class[18] = Class::Interactive as u8;
        profile
    }
}
