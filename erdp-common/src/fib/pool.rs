//! The pool of lines: who has which, and when a line may mean something else.
//!
//! Nodes take 1, 2, 4, 8 or 16 consecutive lines. Free lines are kept as a buddy system inside blocks of 16 lines: a piece is split
//! to serve a smaller one and joined again with its neighbour when both are free, so that a block whose nodes are all gone is
//! whole again, and small nodes are put into pieces that are broken already before another is broken. What cannot be helped: a
//! large node may find no piece although as many lines are free in smaller ones, each kept apart by a small node. It is then
//! refused as by a full pool, smaller ones are not, and the next change of the small node's neighbours mends it. Most nodes of a
//! table have one or two lines, where there is nothing to break.
//!
//! # Grace
//! A look-up in flight may read a node that is no longer linked. Retired lines are reused after [`GRACE_NS`], which is longer
//! than any XDP program runs by three orders of magnitude, or, when lines are short, as soon as the store has seen every look-up
//! end that had begun before ([`Store::wait_for_readers`]).

use std::{boxed::Box, collections::VecDeque, vec::Vec};

use super::{BLOCK_LINES, LINE_WORDS};

/// Nanoseconds between the unlinking of a node and the reuse of its lines. An XDP program runs within one NAPI poll
/// (milliseconds at the very worst); this is proven long enough by three orders of magnitude.
pub const GRACE_NS: u64 = 1_000_000_000;

/// Lines of a block, as a power of two.
const ORDERS: usize = BLOCK_LINES.ilog2() as usize + 1;

/// Where lines live: the mapped BPF array, or plain memory.
pub trait Store {
    /// Lines in the pool.
    fn capacity(&self) -> u32;
    /// Reads a word; `line < capacity`, `at < 8`.
    fn word(&self, line: u32, at: usize) -> u64;
    /// Publishes a word by a single aligned store.
    fn publish(&mut self, line: u32, at: usize, word: u64);
    /// Compares the first `lines` lines from line `from` on with what was published, and puts right what differs; the answer is how
    /// many words did. A store that nobody else can write has nothing to compare.
    fn repair(&mut self, _from: u32, _lines: u32) -> u32 {
        0
    }
    /// Waits until every look-up that has begun before is over. `false`: it cannot be told, so only time can.
    fn wait_for_readers(&mut self) -> bool;
}

impl<S: Store + ?Sized> Store for Box<S> {
    fn capacity(&self) -> u32 {
        (**self).capacity()
    }
    fn word(&self, line: u32, at: usize) -> u64 {
        (**self).word(line, at)
    }
    fn publish(&mut self, line: u32, at: usize, word: u64) {
        (**self).publish(line, at, word);
    }
    fn repair(&mut self, from: u32, lines: u32) -> u32 {
        (**self).repair(from, lines)
    }
    fn wait_for_readers(&mut self) -> bool {
        (**self).wait_for_readers()
    }
}

/// `2^order` consecutive lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub line: u32,
    pub order: u8,
}

impl Piece {
    pub fn lines(self) -> u32 {
        1 << self.order
    }
}

/// The store and the account of its lines.
#[derive(Debug)]
pub(super) struct Pool<S> {
    pub store: S,
    /// First line that has never been taken; a multiple of a block.
    next: u32,
    /// Lines that nodes and roots have.
    used: u32,
    /// Free pieces by order. An entry whose piece has been joined since is stale: `free_order` says so.
    free: [Vec<u32>; ORDERS],
    /// By line: order + 1 of the free piece that begins there; 0: none does.
    free_order: Vec<u8>,
    retired: VecDeque<(u64, Piece)>,
}

impl<S: Store> Pool<S> {
    /// Everything is free. What a store still holds is overwritten as lines are taken into use.
    pub fn new(store: S) -> Self {
        let (free, free_order, retired) = (Default::default(), Vec::new(), VecDeque::new());
        Self { store, next: 0, used: 0, free, free_order, retired }
    }

    /// Lines that have ever been taken: no entry leads beyond.
    pub fn taken(&self) -> u32 {
        self.next
    }

    /// Lines in use.
    pub fn used(&self) -> u32 {
        self.used
    }

    /// Consecutive lines that have never been used: for a root.
    pub fn take_root(&mut self, lines: u32) -> Option<u32> {
        let line = self.next;
        if lines > self.store.capacity().saturating_sub(line) {
            return None;
        }
        self.extend(lines);
        self.used += lines;
        Some(line)
    }

    /// A piece that no look-up can see; when none is free, what has been retired is waited for.
    pub fn take(&mut self, order: u8) -> Option<Piece> {
        let mut found = self.find(order);
        if found.is_none() && !self.retired.is_empty() && self.store.wait_for_readers() {
            self.reclaim(u64::MAX);
            found = self.find(order);
        }
        let piece = found?;
        self.used += piece.lines();
        Some(piece)
    }

    /// Whether a piece is to be had without waiting.
    pub fn has_free(&mut self, order: u8) -> bool {
        let found = self.find(order);
        found.into_iter().for_each(|piece| self.free(piece));
        found.is_some()
    }

    /// Gives back a piece that has never been linked.
    pub fn give_back(&mut self, piece: Piece) {
        self.used -= piece.lines();
        self.free(piece);
    }

    /// A piece is no longer linked.
    pub fn retire(&mut self, piece: Piece, now_ns: u64) {
        self.used -= piece.lines();
        self.retired.push_back((now_ns, piece));
    }

    /// What was retired a grace period ago is free.
    pub fn reclaim(&mut self, now_ns: u64) {
        while let Some((since, piece)) = self.retired.front().copied()
            && now_ns.saturating_sub(since) >= GRACE_NS
        {
            self.retired.pop_front();
            self.free(piece);
        }
    }

    /// Writes a piece before it is linked.
    pub fn write(&mut self, piece: Piece, words: &[u64]) {
        for (at, word) in words.iter().enumerate() {
            self.store.publish(piece.line + (at / LINE_WORDS) as u32, at % LINE_WORDS, *word);
        }
    }

    fn find(&mut self, order: u8) -> Option<Piece> {
        for from in usize::from(order)..ORDERS {
            while let Some(line) = self.free[from].pop() {
                if self.free_order[line as usize] == from as u8 + 1 {
                    return Some(self.split(Piece { line, order: from as u8 }, order));
                }
            }
        }
        let line = self.next;
        if BLOCK_LINES > self.store.capacity().saturating_sub(line) {
            return None;
        }
        self.extend(BLOCK_LINES);
        Some(self.split(Piece { line, order: ORDERS as u8 - 1 }, order))
    }

    /// Cuts a free piece down; the upper halves stay free.
    fn split(&mut self, mut piece: Piece, order: u8) -> Piece {
        self.free_order[piece.line as usize] = 0;
        while piece.order > order {
            piece.order -= 1;
            self.note(Piece { line: piece.line + piece.lines(), order: piece.order });
        }
        piece
    }

    /// Joins a piece with its neighbours as long as they are free.
    fn free(&mut self, mut piece: Piece) {
        while usize::from(piece.order) < ORDERS - 1 {
            let neighbour = piece.line ^ piece.lines();
            if self.free_order[neighbour as usize] != piece.order + 1 {
                break;
            }
            self.free_order[neighbour as usize] = 0;
            piece = Piece { line: piece.line.min(neighbour), order: piece.order + 1 };
        }
        self.note(piece);
    }

    fn note(&mut self, piece: Piece) {
        self.free_order[piece.line as usize] = piece.order + 1;
        self.free[usize::from(piece.order)].push(piece.line);
    }

    fn extend(&mut self, lines: u32) {
        self.next += lines;
        self.free_order.resize(self.next as usize, 0);
    }
}
