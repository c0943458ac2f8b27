//! Frames without end, from a seed: by the grammar, and damaged.

use fastrand::Rng;

use super::{damage, grammar};
use crate::packets::{Ports, rows};

/// A frame and where it comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Interface index.
    pub ifindex: u32,
    /// The frame.
    pub frame: Vec<u8>,
}

/// The same seed and ports give the same frames.
pub struct Generator {
    rng: Rng,
    ports: Ports,
    table: Vec<Sample>,
}

impl Generator {
    /// A generator for an edge with these ports.
    pub fn new(seed: u64, ports: Ports) -> Self {
        let table =
            rows(ports).into_iter().map(|row| Sample { ifindex: row.ifindex, frame: row.frame }).collect();
        Self { rng: Rng::with_seed(seed), ports, table }
    }

    /// The next frame: three in five whole, the others damaged; a third of those stem from the packet tables.
    pub fn sample(&mut self) -> Sample {
        let mut sample =
            if self.rng.u8(..15) < 2 { self.row() } else { grammar::sample(&mut self.rng, self.ports) };
        if self.rng.u8(..5) < 2 {
            for _ in 0..self.rng.u8(1..4) {
                let donor =
                    if self.rng.bool() { self.row() } else { grammar::sample(&mut self.rng, self.ports) };
                damage::damage(&mut self.rng, &mut sample.frame, &donor.frame);
            }
        }
        sample
    }

    fn row(&mut self) -> Sample {
        // The tables are not empty; without rows the grammar would do.
        self.rng.choice(&self.table).cloned().unwrap_or_else(|| grammar::sample(&mut self.rng, self.ports))
    }
}
