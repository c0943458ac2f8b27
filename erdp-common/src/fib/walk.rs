//! Reading a table back from its lines alone, without the shadow that has drawn it: which group leads where.
//!
//! Leaves are pushed, so what comes out is rows of neighbouring addresses with the same group, and not the routes that were put in. That
//! is enough to say whether one table knows a way wherever another one does ([`covers`]), which a start asks before it stops the
//! program of the controller before.

use std::vec::Vec;

use super::{CHILD, LINE_MASK, ROOT_LINES, node::Kind};

/// A row of addresses: its first one, left-aligned in 128 bits, and the group that it and the following ones lead to; 0: none.
type Row = (u128, u32);

/// Lines that somebody has drawn a table into.
pub struct Drawn<'a> {
    /// First line of the root.
    pub root: u32,
    /// Word `at` of a line; 0 for what is outside the pool.
    pub word: &'a dyn Fn(u32, usize) -> u64,
}

impl Drawn<'_> {
    /// The entry for the first 16 bits of an address.
    fn entry(&self, slot: u16) -> u32 {
        let word = (self.word)(self.root + u32::from(slot >> 4), usize::from(slot >> 1 & 7));
        (word >> (32 * (slot & 1))) as u32
    }

    /// The rows below an entry that stands for the first `level` bits of `bits`.
    fn rows(&self, entry: u32, bits: u128, level: u32, rows: &mut Vec<Row>) {
        if entry & CHILD == 0 || level >= 128 {
            if rows.last().is_none_or(|(_, group)| *group != entry & !CHILD) {
                rows.push((bits, entry & !CHILD));
            }
            return;
        }
        let first = entry & LINE_MASK;
        Kind::of(entry).values(
            |line, at| (self.word)(first + line, at),
            |slot, value| self.rows(value, bits | u128::from(slot) << (120 - level), level + 8, rows),
        );
    }
}

/// Whether `now` has a group wherever `before` has one, and `may_follow(group before, group now)` is true of each pair. The
/// groups are those of leaves; a pair is asked about more than once.
pub fn covers(before: &Drawn<'_>, now: &Drawn<'_>, mut may_follow: impl FnMut(u32, u32) -> bool) -> bool {
    let (mut rows_before, mut rows_now) = (Vec::new(), Vec::new());
    (0..(ROOT_LINES * 16) as usize).all(|slot| {
        let entry = before.entry(slot as u16);
        if entry == 0 {
            return true;
        }
        rows_before.clear();
        rows_now.clear();
        let bits = (slot as u128) << 112;
        before.rows(entry, bits, 16, &mut rows_before);
        now.rows(now.entry(slot as u16), bits, 16, &mut rows_now);
        pairs(&rows_before, &rows_now)
            .all(|(before, now)| before == 0 || (now != 0 && may_follow(before, now)))
    })
}

/// The groups of two tables side by side, for each row in which neither changes. Both begin at the same address.
fn pairs(one: &[Row], other: &[Row]) -> impl Iterator<Item = (u32, u32)> {
    let (mut at, mut beside) = (0, 0);
    std::iter::from_fn(move || {
        let pair = (one.get(at)?.1, other.get(beside)?.1);
        let next = |rows: &[Row], at: usize| rows.get(at + 1).map_or(u128::MAX, |(first, _)| *first);
        let (end, end_beside) = (next(one, at), next(other, beside));
        at += usize::from(end <= end_beside);
        beside += usize::from(end_beside <= end);
        Some(pair)
    })
}
