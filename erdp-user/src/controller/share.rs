//! How much of what peers say is taken in one turn of the loop. What is due by the clock, and an operator's question, wait for no more
//! than that, however much a peer announces.

use crate::bgp::PeerEvent;

/// Messages, which is some fifty milliseconds of work. Only a peer that says a lot fills it; then each node of the trie is drawn as often
/// as there are batches that touch it, and most touch most.
const UPDATES_MAX: usize = 4_096;
/// The prefixes in them. A table with few attributes has a thousand in each message: the number of messages alone bounds nothing.
const PREFIXES_MAX: usize = 32_768;

/// What peers have said in this turn.
#[derive(Debug, Default)]
pub struct Share {
    updates: usize,
    prefixes: usize,
}

impl Share {
    /// Counts what is taken.
    pub fn add(&mut self, event: &PeerEvent) {
        self.updates += 1;
        if let PeerEvent::Update { update, .. } = event {
            self.prefixes += update.announced.len() + update.withdrawn.len();
        }
    }

    /// Whether the rest is for the next turn.
    pub fn is_whole(&self) -> bool {
        self.updates >= UPDATES_MAX || self.prefixes >= PREFIXES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::{PeerId, Update};

    /// How many messages with so many prefixes each are taken in a turn.
    fn taken(prefixes: usize) -> usize {
        let prefix = "10.0.0.0/24".parse().expect("a prefix");
        let update = Update { withdrawn: vec![prefix; prefixes], ..Update::default() };
        let mut share = Share::default();
        let mut count = 0;
        while !share.is_whole() {
            share.add(&PeerEvent::Update { peer: PeerId(0), update: update.clone() });
            count += 1;
        }
        count
    }

    #[test]
    fn a_turn_takes_so_many_messages_and_fewer_where_they_are_full_of_prefixes() {
        assert_eq!(taken(0), UPDATES_MAX);
        assert_eq!(taken(4), UPDATES_MAX);
        assert_eq!(taken(1_000), PREFIXES_MAX.div_ceil(1_000));
    }
}
