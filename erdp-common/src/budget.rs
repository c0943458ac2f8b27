//! Stage "budget": how often the slow path may be used, for each kind of use and each attachment by itself.
//!
//! What goes to the kernel, asks for a neighbour or is answered costs far more than what is forwarded. Each kind has a bucket of
//! its own on each attachment (a GCRA word as the policer's, one unit a packet), so that a flood of echo requests cannot keep
//! BGP waiting, nor one attachment's ARP another's.

use crate::{
    abi::{Budget, MAX_ATTACHMENTS},
    policer::{TIME_FRACTION_BITS, ahead},
    reason::PuntKind,
    tables::Tables,
};

/// Kinds of use with a budget; punts come first, by the numbers of [`PuntKind`].
pub const KINDS: u32 = 16;
/// ICMP errors ([`crate::answer`]).
pub const ANSWER: u32 = 14;
/// Neighbours to be resolved.
pub const RESOLVE: u32 = 15;
/// Entries of the map of budgets.
pub const SLOTS: u32 = KINDS * MAX_ATTACHMENTS;

const ATTEMPTS: u32 = 4;
const SECOND: u64 = 1_000_000_000 << TIME_FRACTION_BITS;

const _: () = assert!(PuntKind::ALL.len() < ANSWER as usize);

impl Budget {
    /// So many packets a second in the long run, `burst` of them at once; a rate of 0 is no limit.
    pub const fn new(packets_per_second: u32, burst: u32) -> Self {
        if packets_per_second == 0 {
            return Self { cost: 0, tolerance: 0 };
        }
        let cost = SECOND / packets_per_second as u64;
        Self { cost, tolerance: cost * burst.saturating_sub(1) as u64 }
    }
}

/// What an attachment may use by default: enough for what is normal, little enough that the kernel's CPU stays free.
///
/// BGP: a full table in minimal messages while a session is new. BFD: some peers at the shortest interval; what is beyond has been
/// noted in its session all the same. ARP and ND: every host of a large subnet at once.
pub const fn default_of(kind: u32) -> Budget {
    match kind {
        BGP => Budget::new(20_000, 10_000),
        BFD => Budget::new(2_000, 500),
        ANSWER => Budget::new(1_000, 100),
        RESOLVE => Budget::new(200, 100),
        _ => Budget::new(500, 200),
    }
}

const BGP: u32 = PuntKind::Bgp as u32;
const BFD: u32 = PuntKind::Bfd as u32;

/// Slot of a kind's budget on an attachment.
#[inline(always)]
pub const fn slot(kind: u32, attachment: u16) -> u32 {
    kind * MAX_ATTACHMENTS + attachment as u32
}

/// Takes one packet from a budget; the answer is whether there was room. A budget that cannot be looked up is no limit.
#[inline(always)]
pub fn take<T: Tables>(kind: u32, attachment: u16, tables: &T) -> bool {
    let slot = slot(kind, attachment);
    let (Some(budget), Some(word)) = (tables.budget(slot), tables.budget_word(slot)) else {
        return true;
    };
    if budget.cost == 0 {
        return true;
    }
    let now = tables.now();
    for _ in 0..ATTEMPTS {
        let tat = tables.load(word);
        let used = ahead(tat, now);
        if used > budget.tolerance {
            return false;
        }
        if tables.exchange(word, tat, now.wrapping_add(used).wrapping_add(budget.cost)) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{ANSWER, RESOLVE, SECOND, slot, take};
    use crate::{abi::Budget, memory::MemoryTables};

    #[test]
    fn a_flood_gets_the_burst_and_then_the_rate_and_takes_nothing_from_others() {
        let mut tables = MemoryTables::new(0);
        tables.now = 7 * SECOND;
        for (kind, attachment) in [(ANSWER, 1), (ANSWER, 2), (RESOLVE, 1)] {
            tables.budgets[slot(kind, attachment) as usize] = Budget::new(100, 10);
        }
        let mut passed = 0;
        for _ in 0..100_000 {
            tables.now += SECOND / 100_000;
            passed += u32::from(take(ANSWER, 1, &tables));
        }
        assert!((109..=111).contains(&passed), "{passed} in a second of 100 with a burst of 10");
        for (kind, attachment) in [(ANSWER, 2), (RESOLVE, 1)] {
            let at_once = (0..100).filter(|_| take(kind, attachment, &tables)).count();
            assert_eq!(at_once, 10, "{kind} on {attachment}");
        }
    }

    #[test]
    fn no_rate_is_no_limit() {
        let tables = MemoryTables::new(0);
        assert!((0..1_000_000).all(|_| take(ANSWER, 3, &tables)));
    }
}
