//! A node as its lines hold it: which kind fits, and what its words are. Pure: slots in, words out.

use super::{
    BLOCK_LINES, CHILD, HEADER_SHIFT, LINE_MASK, LINE_WORDS, SPLIT_SHIFT, WIDTH_SHIFT, pool::Piece, runs_max,
    values_at,
};

/// Slots of a node.
pub(super) const SLOTS: usize = 256;

/// A set of slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotSet(pub [u64; 4]);

impl SlotSet {
    /// Every slot.
    pub const ALL: Self = Self([u64::MAX; 4]);

    /// The borders of a row of `count` slots: where it begins and where the next one does.
    pub fn add_borders(&mut self, first: u8, count: usize) {
        self.0[usize::from(first >> 6)] |= 1 << (first & 63);
        if let Some(word) = self.0.get_mut((usize::from(first) + count) >> 6) {
            *word |= 1 << ((usize::from(first) + count) & 63);
        }
    }

    fn is_subset(self, other: Self) -> bool {
        self.0.iter().zip(other.0).all(|(word, other)| word & !other == 0)
    }
}

/// How a node's lines are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// Lines, as a power of two.
    pub split: u8,
    /// Words of bitmap in a line; 0: flat.
    header: u8,
    /// Bits of a value, as a power of two.
    width: u8,
}

/// How wide values up to this one are.
pub(super) fn width(largest: u32) -> u8 {
    match largest {
        0..=0x3 => 1,
        0x4..=0xf => 2,
        0x10..=0xff => 3,
        0x100..=0xffff => 4,
        _ => 5,
    }
}

impl Kind {
    /// The smallest that holds these runs.
    pub fn fitting(borders: SlotSet, width: u8) -> Self {
        let flat = Self { split: width - 1, header: 0, width };
        (0..flat.split.min(3))
            .map(|split| Self { split, header: 4 >> split, width })
            .find(|kind| kind.most_runs(borders) <= runs_max(u32::from(kind.header), u32::from(width)))
            .unwrap_or(flat)
    }

    /// As an entry says.
    pub fn of(entry: u32) -> Self {
        let [split, header, width] =
            [SPLIT_SHIFT, HEADER_SHIFT, WIDTH_SHIFT].map(|at| (entry >> at & 7) as u8);
        Self { split, header, width }
    }

    /// The entry of a node of this kind.
    pub fn entry(self, line: u32) -> u32 {
        let Self { split, header, width } = self;
        let fields = [(split, SPLIT_SHIFT), (header, HEADER_SHIFT), (width, WIDTH_SHIFT)];
        fields.iter().fold(CHILD | line, |entry, (field, at)| entry | u32::from(*field) << at)
    }

    /// Whether a node of this kind with these runs can say what `wanted` demands, without another bitmap.
    pub fn can_say(self, runs: SlotSet, wanted: SlotSet, width: u8) -> bool {
        self.width >= width && wanted.is_subset(self.with_firsts(runs))
    }

    /// Each line's first slot begins a run, whether or not there is a bit.
    fn with_firsts(self, mut borders: SlotSet) -> SlotSet {
        if self.header == 0 {
            return SlotSet::ALL;
        }
        borders.0.iter_mut().step_by(self.header.into()).for_each(|word| *word |= 1);
        borders
    }

    fn most_runs(self, borders: SlotSet) -> u32 {
        let runs = self.with_firsts(borders).0;
        let lines = runs.chunks(self.header.into());
        lines.map(|words| words.iter().map(|word| word.count_ones()).sum()).max().unwrap_or(0)
    }

    /// The runs that a node's words speak of.
    pub fn runs(self, word: impl Fn(u32, usize) -> u64) -> SlotSet {
        if self.header == 0 {
            return SlotSet::ALL;
        }
        let header = usize::from(self.header);
        self.with_firsts(SlotSet(core::array::from_fn(|at| word((at / header) as u32, at % header))))
    }

    /// The first slot of each run that a node's words speak of, in order, with its value: what [`Self::words`] was given.
    pub fn values(self, word: impl Fn(u32, usize) -> u64, mut each: impl FnMut(u8, u32)) {
        let width = 1usize << self.width;
        let per_line = SLOTS >> self.split;
        let value = |line: usize, bit: usize| {
            (word(line as u32, bit / 64) >> (bit % 64)) as u32
                & 1u64.wrapping_shl(width as u32).wrapping_sub(1) as u32
        };
        if self.header == 0 {
            (0..SLOTS).for_each(|slot| each(slot as u8, value(slot / per_line, slot % per_line * width)));
            return;
        }
        let runs = self.runs(&word).0;
        for (line, bitmap) in runs.chunks(self.header.into()).enumerate() {
            let mut bit = values_at(self.header.into()) as usize;
            for (at, bits) in bitmap.iter().enumerate() {
                let mut left = *bits;
                while left != 0 {
                    let slot = (line * bitmap.len() + at) * 64 + left.trailing_zeros() as usize;
                    each(slot as u8, value(line, bit));
                    bit += width;
                    left &= left - 1;
                }
            }
        }
    }

    /// The words of a node with these runs, whose slots have these values; the first `8 << split` are in use.
    pub fn words(self, runs: SlotSet, values: &[u32; SLOTS]) -> Words {
        let mut words = Words([0; WORDS_MAX]);
        let width = 1 << self.width;
        if self.header == 0 {
            let each = 64 / width;
            for (word, values) in words.0.iter_mut().zip(values.chunks(each)) {
                *word = values.iter().rev().fold(0, |word, value| word << width | u64::from(*value));
            }
            return words;
        }
        let (header, runs) = (usize::from(self.header), self.with_firsts(runs));
        for (line, bitmap) in runs.0.chunks(header).enumerate() {
            let out = &mut words.0[line * LINE_WORDS..(line + 1) * LINE_WORDS];
            out[..header].copy_from_slice(bitmap);
            out[0] &= !1;
            let values_at = values_at(header as u32) as usize;
            let mut bit = values_at;
            for (at, word) in bitmap.iter().enumerate() {
                // The line's first run has no bit, so it counts in no word.
                let before = (bit - values_at) / width - usize::from(at > 0);
                out[header] |= (before as u64) << (8 * at);
                let mut left = *word;
                while left != 0 {
                    let slot = (line * header + at) * 64 + left.trailing_zeros() as usize;
                    out[bit / 64] |= u64::from(values[slot]) << (bit % 64);
                    bit += width;
                    left &= left - 1;
                }
            }
        }
        words
    }
}

/// Words of the largest node.
const WORDS_MAX: usize = BLOCK_LINES as usize * LINE_WORDS;

/// The words of a node.
pub(super) struct Words([u64; WORDS_MAX]);

impl Words {
    /// Those that a piece has.
    pub fn of(&self, piece: Piece) -> &[u64] {
        &self.0[..piece.lines() as usize * LINE_WORDS]
    }
}

/// The lines that an entry points to.
pub(super) fn piece(entry: u32) -> Piece {
    Piece { line: entry & LINE_MASK, order: Kind::of(entry).split }
}
