//! How full a policer's bucket is for a traffic class, out of its words: what a question is answered with. The packet path's judgement is
//! [`erdp_common::policer::judge`]; the test holds this against it.

use erdp_common::{
    abi::Policer,
    classify::Class,
    policer::{COST_FRACTION_BITS, TIME_FRACTION_BITS, ahead},
};

/// What a class has of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Octets that the class may be ahead of the rate.
    pub credit_bytes: u64,
    /// Octets of these that are left.
    pub room_bytes: u64,
    /// How much of the credit is used, in percent: of the rate's or of the peak's, whichever is more. Above 100 nothing passes.
    pub used_percent: u64,
    /// Whether nothing of the class passes now.
    pub is_full: bool,
    /// Whether the class has used up its own share and counts as best effort.
    pub above_share: bool,
}

/// What a class has of a bucket whose words are these: sustained, peak, interactive, voice. Times are in 2^-8 ns.
pub fn level(
    policer: &Policer,
    [sustained, peak, interactive, voice]: [u64; 4],
    class: Class,
    now: u64,
) -> Level {
    let above = |word: u64| ahead(word, now) > policer.share_tolerance;
    let above_share = match class {
        Class::Default => false,
        Class::Interactive => above(interactive),
        Class::Voice => above(voice),
    };
    let at = if above_share { 0 } else { class as usize };
    let limit = policer.sustained_tolerance[at];
    let used = ahead(sustained, now);
    let (peak_limit, peak_used) = match policer.peak_cost {
        0 => (u64::MAX, 0),
        _ => (policer.peak_tolerance[at], ahead(peak, now)),
    };
    Level {
        credit_bytes: bytes(limit, policer.sustained_cost),
        room_bytes: bytes(limit.saturating_sub(used), policer.sustained_cost),
        used_percent: percent(used, limit).max(percent(peak_used, peak_limit)),
        is_full: used > limit || peak_used > peak_limit,
        above_share,
    }
}

/// How many octets a time is worth.
fn bytes(time: u64, cost: u64) -> u64 {
    let time = u128::from(time) << (COST_FRACTION_BITS - TIME_FRACTION_BITS);
    u64::try_from(time / u128::from(cost.max(1))).unwrap_or(u64::MAX)
}

/// Rounded up, so that more than all is more than 100.
fn percent(part: u64, whole: u64) -> u64 {
    u64::try_from((u128::from(part) * 100).div_ceil(u128::from(whole.max(1)))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use erdp_common::{
        abi::{Bucket, Word},
        memory::MemoryTables,
        policer::{BurstPolicy, Passage, Rates, judge},
    };
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = (1_000 * 1_000_000_000) << TIME_FRACTION_BITS;
    const MS: u64 = 1_000_000 << TIME_FRACTION_BITS;

    #[test]
    fn an_idle_bucket_has_its_whole_credit_and_a_second_of_debt_has_used_it() {
        let policer = Rates::new(1_000_000_000, BurstPolicy::Peak2x).policer().unwrap();
        let idle = level(&policer, [NOW; 4], Class::Default, NOW);
        assert_eq!((idle.used_percent, idle.is_full, idle.room_bytes), (0, false, idle.credit_bytes));
        assert!((124_000_000..=126_000_000).contains(&idle.credit_bytes), "{idle:?}: a second of 1 Gbit/s");
        let half = level(&policer, [NOW + 500 * MS, NOW, NOW, NOW], Class::Default, NOW);
        assert!((49..=51).contains(&half.used_percent), "{half:?}");
        let full = level(&policer, [NOW + 1_100 * MS, NOW, NOW, NOW], Class::Default, NOW);
        assert!(full.is_full && full.room_bytes == 0 && full.used_percent > 100, "{full:?}");
        let voice = level(&policer, [NOW, NOW, NOW, NOW + 30 * MS], Class::Voice, NOW);
        assert!(voice.above_share && voice.credit_bytes == idle.credit_bytes, "{voice:?}");
    }

    proptest! {
        #[test]
        fn a_bucket_is_full_exactly_when_the_packet_path_drops(
            ahead in prop::array::uniform4(-100_000i64..2_000_000),
            class in 0u8..3,
            policy in 0..3,
        ) {
            let policy = [BurstPolicy::Peak2x, BurstPolicy::DualLink, BurstPolicy::Headroom20][policy as usize];
            let policer = Rates::new(500_000_000, policy).policer().unwrap();
            let words = ahead.map(|us| NOW.wrapping_add_signed((us << TIME_FRACTION_BITS) * 1_000));
            let [sustained, peak, interactive, voice] = words.map(Word::new);
            let bucket = Bucket { sustained, peak, interactive, voice };
            let tables = MemoryTables::new(1);
            let class = Class::from_number(class);
            let (passage, _) = judge(&bucket, &policer, class, NOW, &tables);
            prop_assert_eq!(level(&policer, words, class, NOW).is_full, passage == Passage::Dropped);
        }
    }
}
