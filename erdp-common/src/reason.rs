//! Why a frame was dropped or handed to the kernel: the append-only lists that counters, metrics and explanations use.
//!
//! Numbers are part of the ABI (counter slots): append, never renumber. Every reason has a name, a sentence and a remedy,
//! and a row in the packet tables (`tests/`) that reaches it.

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal, $label:literal, $remedy:literal;)* }) => {
        $(#[$doc])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant = $number,)* }

        impl $name {
            /// Every value, in number order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in counters, metrics and JSON.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// What an operator does about it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)* }
            }

            /// The value of a counter slot or trace byte.
            pub fn from_number(number: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| *value as u8 == number)
            }
        }
    };
}

reasons! {
    /// Why a frame was dropped. Append only.
    DropReason {
        /// The frame ends before a header that it announces.
        Truncated = 0, "truncated", "the sender or the NIC cuts frames: capture on the port and look at the lengths";
        /// The ethertype is neither IPv4, IPv6 nor ARP (C3: no layer 2 extension).
        NotIp = 1, "not-ip", "only IP crosses ExpressRoute: turn off the layer 2 protocol on the neighbour";
        /// More than two VLAN tags.
        TooManyTags = 2, "too-many-tags", "ExpressRoute uses at most an S-tag and a C-tag: check the provider's cross-connect";
        /// No attachment is configured for this interface and these tags.
        UnknownAttachment = 3, "unknown-attachment", "compare the VLAN tags on the wire with `vlan` and `s-vlan` in the configuration";
        /// The circuit or attachment is administratively disabled (A8).
        Disabled = 4, "disabled", "the circuit is not enabled: check its provisioning state and `admin` in the configuration";
        /// IP version or header length field is wrong.
        BadHeader = 5, "bad-header", "a broken or hostile sender: find it by its source MAC address";
        /// The IP length field goes beyond the frame or is below the header's.
        BadLength = 6, "bad-length", "a broken or hostile sender, or a port that cuts frames: compare MTUs";
        /// The source address can never be one of a packet that is forwarded (RFC 1812 section 5.3.7, RFC 3927 section 7, RFC 4291
        /// sections 2.5 and 2.7).
        MartianSource = 7, "martian-source", "spoofed or misconfigured source: find it by its source MAC address";
        /// Destination is multicast, broadcast, loopback or link-local and not for this router, or the frame was sent to a group of
        /// stations (RFC 1812 section 5.3.4).
        NotUnicast = 8, "not-unicast", "multicast and broadcast do not cross ExpressRoute: keep them inside the site";
        /// For this router, but neither ARP, ND, BGP of a configured peer nor an echo.
        LocalNotAllowed = 9, "local-not-allowed", "the router offers only BGP to configured peers and echo: add the peer or stop the sender";
        /// No route in the routing domain.
        NoRoute = 10, "no-route", "look at `erdp show routes`: is the session up, and does the peer announce a covering prefix?";
        /// The longest match is a discard route.
        DiscardRoute = 11, "discard-route", "the destination is inside an aggregate without a more specific route";
        /// All next hops of the group are on dead links.
        NoLiveLink = 12, "no-live-link", "all links towards this prefix are down: `erdp show links`";
        /// The neighbour's MAC address is not known (yet); resolution has been asked for.
        NeighbourUnresolved = 13, "neighbour-unresolved", "passes when ARP/ND answers; if it stays, the neighbour is off or on another VLAN";
        /// TTL or hop limit would reach zero.
        TtlExpired = 14, "ttl-expired", "a traceroute, or a routing loop behind one of the neighbours";
        /// The packet is larger than the next hop's MTU.
        TooBig = 15, "too-big", "lower the sender's MTU or MSS to the circuit's 1500 bytes of IP";
        /// It would leave on the side it came from, and `hairpin` is `deny` (C2).
        Hairpin = 16, "hairpin", "set `hairpin = \"allow\"` on the circuit if sites or VNets are meant to meet here";
        /// ARP that asks for somebody else.
        ArpNotForUs = 17, "arp-not-for-us", "normal on shared segments; otherwise the neighbour has a wrong subnet mask";
        /// Neighbour discovery or multicast listener discovery that is not for this router, or a router advertisement or redirect.
        NdNotForUs = 18, "nd-not-for-us", "normal on shared segments; switch router advertisements off on the neighbour";
        /// No room in front of the packet for the tags to push.
        NoHeadroom = 19, "no-headroom", "the driver gives XDP too little headroom: see `erdp check`";
        /// A map refers to a record that does not exist.
        BrokenReference = 20, "broken-reference", "a fault of ERDP itself: restart `erdp` and report it with `erdp show counters`";
        /// The circuit's bucket has no room for a packet of this class (A1, A2).
        Policed = 21, "policed", "the circuit is full: `erdp show policers` tells the class; buy bandwidth, or mark what matters";
        /// The attachment's budget for this kind of packet to the router itself is used up.
        PuntBudget = 22, "punt-budget", "a flood towards the router itself on this attachment: find its source MAC address; other kinds and attachments are not affected";
        /// Towards Microsoft peering with a source that is not public (D4).
        UnnattedSource = 23, "unnatted-source", "Microsoft peering carries public addresses only: NAT the sender to one of yours, or route it over private peering";
        /// The route exists, but the zone matrix keeps the two ends apart (C5).
        ZoneForbidden = 24, "zone-forbidden", "allow the peering in the zone's [[zone-rule]], or take it off the attachment's `peerings` if nobody should try";
        /// Inside a prefix that only a service may carry, and the service has no route (B9).
        EncryptedOnly = 25, "encrypted-only", "the tunnel behind the service has no route for it: look at its session, or take the prefix out of `encrypted-only`";
        /// BFD whose TTL or hop limit is not 255: it has not come from this wire (RFC 5881 section 5).
        BfdHopLimit = 26, "bfd-hop-limit", "somebody farther away than the neighbour sends BFD in its name: find where it comes from";
        /// BFD that the checks of RFC 5880 section 6.8.6 discard, or that has IP options or authentication.
        BfdMalformed = 27, "bfd-malformed", "a broken sender, or one that authenticates BFD: switch that off on the neighbour";
        /// BFD for another session than the one that we have with this peer.
        BfdSession = 28, "bfd-session", "passes when the neighbour has noticed that its session is over; if it stays, two routers have its address";
        /// From an MSEE with a source that is ours, another circuit's or nobody's, or an echo request from another attachment's host (C2).
        ForeignSource = 29, "foreign-source", "a spoofed source, or an MSEE that sends from prefixes it does not announce: compare with `erdp show routes`, or set `source-check = \"off\"` on the peering";
        /// ARP or neighbour discovery of somebody else who has our address: a duplicate, or the neighbour has our end of the link (E2).
        AddressConflict = 30, "address-conflict", "somebody else has our address: `erdp show sessions` says who; on a link to an MSEE we take the first usable address, Microsoft the second";
    }
}

reasons! {
    /// What is handed to the kernel of the edge itself. Append only.
    PuntKind {
        /// ARP for one of our addresses, or a gratuitous one.
        Arp = 0, "arp", "";
        /// IPv6 neighbour solicitation or advertisement for us, or a query for the groups that we listen to.
        NeighbourDiscovery = 1, "nd", "";
        /// TCP port 179 of a configured peer.
        Bgp = 2, "bgp", "";
        /// ICMP or ICMPv6 echo request or reply to one of our addresses.
        Echo = 3, "echo", "";
        /// BFD of a configured peer.
        Bfd = 4, "bfd", "";
    }
}

#[cfg(test)]
mod tests {
    use super::{DropReason, PuntKind};
    use crate::abi::counter;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_are_dense_and_labels_unique() {
        for (at, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, at);
            assert!((*reason as u32) < counter::PUNT, "{} would run into the punt counters", reason.label());
            assert_eq!(DropReason::from_number(*reason as u8), Some(*reason));
            assert!(!reason.remedy().is_empty(), "{} has no remedy", reason.label());
        }
        let labels: BTreeSet<_> = DropReason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), DropReason::ALL.len());
        assert!(PuntKind::ALL.len() <= (counter::TRANSMIT_LOST - counter::PUNT) as usize);
    }
}
