//! The maps as the stages see them: look-ups only, each answering `None` for a record that does not exist.

use crate::{
    abi::{
        Attachment, BfdSession, Bucket, Budget, Group, Meter, NextHop, PeerKey, Policer, Port, QosProfile,
        Vlan, Word,
    },
    bfd, budget,
    classify::Class,
    family::{Address, Family},
    fib, group, local,
    policer::{self, Payment},
    source,
};

/// Read access to everything the controller has written.
pub trait Tables {
    /// The interface with this index.
    fn port(&self, ifindex: u32) -> Option<&Port>;
    /// An identifier in a block of VLANs.
    fn vlan(&self, block: u16, vid: u16) -> Option<&Vlan>;
    /// A logical interface.
    fn attachment(&self, id: u16) -> Option<&Attachment>;
    /// A line of the forwarding trie.
    fn fib_line(&self, line: u32) -> Option<&fib::Line>;
    /// The group of the longest prefix that covers `destination` in the table whose root starts at line `root`; 0: none.
    ///
    /// Provided, so that the XDP program can walk IPv6 in a function of its own, and the benchmark can put another map under the
    /// same stages and compare.
    #[inline(always)]
    fn longest_match<F: Family>(&self, root: u32, destination: Address) -> u32
    where
        Self: Sized,
    {
        fib::longest_match::<F, Self>(root, destination, self)
    }
    /// [`budget::take`] of these tables. This and the next three are provided, so that a backend can make functions of their own of
    /// them; nothing else overrides them.
    #[inline(always)]
    fn take_budget(&self, kind: u32, attachment: u16) -> bool
    where
        Self: Sized,
    {
        budget::take(kind, attachment, self)
    }
    /// [`Family::is_public`].
    #[inline(always)]
    fn is_public<F: Family>(&self, address: Address) -> bool
    where
        Self: Sized,
    {
        F::is_public(address)
    }
    /// [`source::by_route`] of these tables.
    #[inline(always)]
    fn by_route<F: Family>(&self, root: u32, address: Address) -> u32
    where
        Self: Sized,
    {
        source::by_route::<F, Self>(root, address, self)
    }
    /// [`policer::pay`] of these tables.
    #[inline(always)]
    fn pay(&self, policer: u16, class: Class, ip_bytes: u32) -> Payment
    where
        Self: Sized,
    {
        policer::pay(policer, class, ip_bytes, self)
    }
    /// [`group::other_member`] of these tables.
    #[inline(always)]
    fn other_member(&self, hash: u32, group: u32) -> u32
    where
        Self: Sized,
    {
        group::other_member(hash, group, self)
    }
    /// [`local::peer_at`] of these tables.
    #[inline(always)]
    fn peer_at<F: Family>(&self, attachment: u16, source: Address) -> u32
    where
        Self: Sized,
    {
        local::peer_at::<F, Self>(attachment, source, self)
    }
    /// [`group::usable_number`] of these tables.
    #[inline(always)]
    fn usable(&self, next_hop: u32) -> u32
    where
        Self: Sized,
    {
        group::usable_number(next_hop as u16, self)
    }
    /// [`bfd::judge`] of these tables.
    #[inline(always)]
    fn judge_bfd(&self, session: u32) -> bool
    where
        Self: Sized,
    {
        bfd::judge(session, self)
    }
    /// What a route leads to.
    fn group(&self, id: u32) -> Option<&Group>;
    /// Whether both directions of a flow are to hash alike; the same for as long as the program is loaded.
    fn hashes_symmetrically(&self) -> bool;
    /// A neighbour.
    fn next_hop(&self, id: u16) -> Option<&NextHop>;
    /// Whether a link is alive: the one word that a failover writes.
    fn link_is_alive(&self, link: u16) -> bool;
    /// The BFD session of a configured BGP peer that may speak from this address on this attachment; 0: it has none.
    fn peer(&self, key: &PeerKey) -> Option<u32>;
    /// A BFD session.
    fn bfd_session(&self, id: u32) -> Option<&BfdSession>;
    /// What a circuit is limited to.
    fn policer(&self, id: u16) -> Option<&Policer>;
    /// The state of a policer.
    fn bucket(&self, id: u16) -> Option<&Bucket>;
    /// How a peering treats DSCP.
    fn profile(&self, id: u16) -> Option<&QosProfile>;
    /// How often a use of the slow path is allowed, by [`crate::budget::slot`].
    fn budget(&self, slot: u32) -> Option<&Budget>;
    /// Its state.
    fn budget_word(&self, slot: u32) -> Option<&Word>;
    /// This CPU's meter of a class of a policer.
    fn meter(&self, policer: u16, class: Class) -> Option<&Meter>;
    /// The same value, of which a verifier of programs knows nothing any more: by way of memory that it does not follow.
    fn forget(&self, value: u32) -> u32 {
        value
    }
    /// The time in 2^-8 ns.
    fn now(&self) -> u64;
    /// A coarse clock that costs nothing to read: it moves every few milliseconds.
    fn tick(&self) -> u64;
    /// An atomic load.
    fn load(&self, word: &Word) -> u64;
    /// The word `index` of a line of the forwarding trie, if a line has so many.
    fn fib_word(&self, line: &fib::Line, index: u32) -> Option<u64> {
        Some(self.load(line.get(index as usize)?))
    }
    /// An atomic store.
    fn store(&self, word: &Word, value: u64);
    /// An atomic compare-exchange; the answer is whether it has happened.
    fn exchange(&self, word: &Word, old: u64, new: u64) -> bool;
}
