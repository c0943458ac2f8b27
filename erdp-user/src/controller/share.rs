//! How much of what peers say is taken in one turn of the loop. What is due by the clock, and an operator's question, wait for no more
//! than that, however much a peer announces.

use crate::bgp::PeerEvent;

/// Messages, which is some fifty milliseconds of work. Only a peer that says a lot fills it; then each node of the trie is drawn as often
/// as there are batches that touch it, and most touch most.
const UPDATES_MAX: usize = 4_096;
/// The prefixes in them. A table with few attributes has a thousand in each message: the number of messages alone bounds nothing.
const PREFIXES_MAX: usize = 32_768;
/// The memory of their attributes: tens of milliseconds of hashing and copying, however few prefixes have them.
const ATTRIBUTE_BYTES_MAX: usize = 4 << 20;

/// What peers have said in this turn.
#[derive(Debug, Default)]
pub struct Share {
    updates: usize,
    prefixes: usize,
    attribute_bytes: usize,
}

impl Share {
    /// Counts what is taken.
    pub fn add(&mut self, event: &PeerEvent) {
        self.updates += 1;
        if let PeerEvent::Update { update, .. } = event {
            self.prefixes += update.announced.len() + update.withdrawn.len();
            self.attribute_bytes += update.attributes.as_ref().map_or(0, |it| it.held_bytes());
        }
    }

    /// Whether the rest is for the next turn.
    pub fn is_whole(&self) -> bool {
        self.updates >= UPDATES_MAX
            || self.prefixes >= PREFIXES_MAX
            || self.attribute_bytes >= ATTRIBUTE_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::{Community, PathAttributes, PeerId, Update};

    /// How many messages with so many prefixes each are taken in a turn.
    fn taken(prefixes: usize) -> usize {
        let prefix = "10.0.0.0/24".parse().expect("a prefix");
        taken_of(&Update { withdrawn: vec![prefix; prefixes], ..Update::default() })
    }

    fn taken_of(update: &Update) -> usize {
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

    #[test]
    fn a_turn_takes_fewer_messages_where_their_attributes_are_large() {
        let small = PathAttributes::originated([198, 18, 0, 1].into());
        let large = PathAttributes { communities: (0..14_000).map(Community).collect(), ..small.clone() };
        let with = |attributes: PathAttributes| Update {
            announced: vec!["10.0.0.0/24".parse().expect("a prefix")],
            attributes: Some(attributes.into()),
            ..Update::default()
        };
        assert_eq!(taken_of(&with(small)), UPDATES_MAX);
        let count = taken_of(&with(large));
        assert!((50..100).contains(&count), "{count} messages of 56,000 octets");
    }
}
