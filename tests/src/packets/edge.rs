//! The edge of the packet tables: two circuits' worth of attachments on three interfaces, and the control ports of the tagged ones.
//!
//! | attachment | port | tags | side | route towards it |
//! |---|---|---|---|---|
//! | 1 | A | none | MSEE, primary | 20.0.0.0/8 (with 2), 2603::/24 (with 2), 20.1.0.0/16 alone |
//! | 2 (control port D) | B | 100 | MSEE, secondary | 20.2.0.0/16 alone, MTU 1400 for 20.9.0.0/16 |
//! | 3 (control port E) | B | 10.200 | MSEE, of another domain | none: must not be reached |
//! | 4 | C | none | CE | 198.18.10.0/24 connected, 198.18.64.0/18 and fd00:18:64::/48 behind the CE router |
//! | 5 (control port F) | C | 5 | CE, disabled | none |
//! | 6 | C | 6 | service | 20.18.0.0/16 and 2608::/32 by next hop 12 |
//!
//! Attachment 2 takes sources only that are routed to Microsoft's side, 3 all but those that are routed to ours, 1 any (C2).
//!
//! Next hops 8 to 10 leave by attachment 1 as on Microsoft peering: 8 (20.12.0.0/16, 2604::/32) classified by DSCP and ports;
//! 11 (20.15.0.0/16, 2605::/32) takes packets from public sources only;
//! 13 to 15 (20.19.0.0/16 to 20.21.0.0/16) have BFD: see `bfd_sessions`; the routers .2 on attachments 1 to 3 speak it;
//! 9 (20.13.0.0/16) through a policer without room; 10 (20.14.0.0/16) through one that is near its limit and marks.

use anyhow::{Context as _, Result};
use erdp::dataplane::{Dataplane, Record, sessions};
use erdp_common::{
    abi::{
        ATTACHMENT_CONTROL, ATTACHMENT_ENABLED, ATTACHMENT_MSEE, ATTACHMENT_SERVICE, ATTACHMENT_SOURCES,
        ATTACHMENT_SOURCES_ROUTED, Attachment, BfdSession, GROUP_BUCKETS, GROUP_DISCARD,
        GROUP_ENCRYPTED_ONLY, GROUP_FORWARD, GROUP_GLEAN, GROUP_ZONE_FORBIDDEN, Group, L2_MAX, NEXT_HOP_MSEE,
        NEXT_HOP_PUBLIC_SOURCES, NEXT_HOP_RESOLVED, NEXT_HOP_SERVICE, NextHop, PeerKey, Policer, Port,
        QosProfile, Vlan, Word, control_slot,
    },
    bfd::{self, DEAD, UNJUDGED},
    fib::build::{Fib, Prefix, Store},
    policer::{BurstPolicy, Rates, TIME_FRACTION_BITS},
};

/// Interface indexes of the three ports and of the control ports.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// MSEE, primary link.
    pub a: u32,
    /// MSEE, secondary link.
    pub b: u32,
    /// Customer.
    pub c: u32,
    /// Control port of attachment 2.
    pub d: u32,
    /// Control port of attachment 3.
    pub e: u32,
    /// Control port of attachment 5, which is disabled.
    pub f: u32,
}

/// MAC address of the neighbour that a next hop stands for.
pub const fn neighbour_mac(next_hop: u16) -> [u8; 6] {
    [0x02, 0xee, 0, 0, 0, next_hop as u8]
}

/// MAC address of our own interface behind an attachment.
pub const fn our_mac(attachment: u16) -> [u8; 6] {
    [0x02, 0xaa, 0, 0, 0, attachment as u8]
}

/// What [`Edge::build`] leaves for further writing.
pub struct Edge {
    /// The trie, to add or remove routes in a test.
    pub fib: Fib<Box<dyn Store + Send>>,
    /// The IPv4 table.
    pub table4: erdp_common::fib::build::Table,
    /// The IPv6 table.
    pub table6: erdp_common::fib::build::Table,
}

impl Edge {
    /// Writes the edge's records.
    pub fn build(dataplane: &mut dyn Dataplane, ports: Ports) -> Result<Self> {
        let store = dataplane.take_store().context("the store is taken already")?;
        let mut fib = Fib::new(store);
        let full = |_| anyhow::anyhow!("the pool is full");
        let table4 = fib.create_table().map_err(full)?;
        let table6 = fib.create_table().map_err(full)?;
        let mut edge = Self { fib, table4, table6 };
        edge.attachments(dataplane, ports)?;
        edge.next_hops(dataplane)?;
        policers(dataplane)?;
        edge.routes()?;
        Ok(edge)
    }

    fn attachments(&mut self, dataplane: &mut dyn Dataplane, ports: Ports) -> Result<()> {
        let (root4, root6) = (self.table4.root(), self.table6.root());
        for (id, ifindex) in
            [(1, ports.a), (2, ports.b), (3, ports.b), (4, ports.c), (5, ports.c), (6, ports.c)]
        {
            let side = match id {
                1..=3 => ATTACHMENT_MSEE,
                6 => ATTACHMENT_SERVICE,
                _ => 0,
            };
            let enabled = if id == 5 { 0 } else { ATTACHMENT_ENABLED };
            let (tags, control) = match id {
                2 => ([100, 0], ports.d),
                3 => ([10, 200], ports.e),
                5 => ([5, 0], ports.f),
                _ => ([0; 2], 0),
            };
            if control != 0 {
                dataplane.write(&Record::Port(control, Port { control_of: id, ..Port::default() }))?;
                dataplane.write(&Record::TxPort(control_slot(id), control))?;
            }
            let has_control = if control == 0 { 0 } else { ATTACHMENT_CONTROL };
            let sources = match id {
                2 => ATTACHMENT_SOURCES | ATTACHMENT_SOURCES_ROUTED,
                3 => ATTACHMENT_SOURCES,
                _ => 0,
            };
            let mut link_local6 = [0; 16];
            link_local6[..2].copy_from_slice(&[0xfe, 0x80]);
            link_local6[15] = id as u8;
            let mut local6 = [0; 16];
            local6[..4].copy_from_slice(&[0xfd, 0, 0, 0x18]);
            local6[15] = id as u8;
            dataplane.write(&Record::Attachment(
                id,
                Attachment {
                    root4,
                    root6,
                    flags: side | enabled | has_control | sources,
                    local4: [198, 18, id as u8, 1],
                    local6,
                    link_local6,
                    policer: 0,
                    profile: 0,
                    tags,
                },
            ))?;
            dataplane.write(&Record::TxPort(id, ifindex))?;
        }
        dataplane.write(&Record::Port(ports.a, Port { attachment: 1, ..Port::default() }))?;
        dataplane.write(&Record::Port(ports.b, Port { vlan_block: 1, ..Port::default() }))?;
        dataplane.write(&Record::Port(ports.c, Port { attachment: 4, vlan_block: 2, ..Port::default() }))?;
        dataplane.write(&Record::Vlan(1, 100, Vlan { attachment: 2, ..Vlan::default() }))?;
        dataplane.write(&Record::Vlan(1, 10, Vlan { inner_block: 3, ..Vlan::default() }))?;
        dataplane.write(&Record::Vlan(3, 200, Vlan { attachment: 3, ..Vlan::default() }))?;
        dataplane.write(&Record::Vlan(2, 6, Vlan { attachment: 6, ..Vlan::default() }))?;
        dataplane.write(&Record::Vlan(2, 5, Vlan { attachment: 5, ..Vlan::default() }))?;
        let peer = |last| {
            let mut address = [0; 16];
            address[10..].copy_from_slice(&[0xff, 0xff, 198, 18, last, 2]);
            PeerKey { attachment: u64::from(last), address }
        };
        dataplane.write(&Record::BfdPeer(peer(1), 1))?;
        dataplane.write(&Record::BfdPeer(peer(2), 2))?;
        dataplane.write(&Record::BfdPeer(peer(3), 3))?;
        dataplane.write(&Record::Peer(peer(4), true))?;
        let mut address = [0; 16];
        address[..4].copy_from_slice(&[0xfd, 0, 0, 0x18]);
        address[14..].copy_from_slice(&[1, 1]);
        dataplane.write(&Record::BfdPeer(PeerKey { attachment: 1, address }, 5))?;
        bfd_sessions(dataplane)?;
        Ok(())
    }

    /// Next hops: 1 and 2 the MSEEs, 3 the MSEE behind two tags, 4 the CE router, 5 unresolved, 6 with a small MTU, 7 on a dead
    /// link.
    fn next_hops(&mut self, dataplane: &mut dyn Dataplane) -> Result<()> {
        let tagged = |vid: u16| [0x81, 0, (vid >> 8) as u8, vid as u8];
        for (id, attachment, mtu, tags, flags) in [
            (1, 1, 1500, vec![], NEXT_HOP_RESOLVED | NEXT_HOP_MSEE),
            (2, 2, 1500, vec![tagged(100)], NEXT_HOP_RESOLVED | NEXT_HOP_MSEE),
            (3, 3, 1500, vec![tagged(10), tagged(200)], NEXT_HOP_RESOLVED | NEXT_HOP_MSEE),
            (4, 4, 1500, vec![], NEXT_HOP_RESOLVED),
            (5, 1, 1500, vec![], NEXT_HOP_MSEE),
            (6, 2, 1400, vec![tagged(100)], NEXT_HOP_RESOLVED | NEXT_HOP_MSEE),
            (7, 2, 1500, vec![tagged(100)], NEXT_HOP_RESOLVED | NEXT_HOP_MSEE),
            (8, 1, 1500, vec![], NEXT_HOP_RESOLVED | NEXT_HOP_MSEE),
            (9, 1, 1500, vec![], NEXT_HOP_RESOLVED | NEXT_HOP_MSEE),
            (10, 1, 1500, vec![], NEXT_HOP_RESOLVED | NEXT_HOP_MSEE),
            (11, 1, 1500, vec![], NEXT_HOP_RESOLVED | NEXT_HOP_MSEE | NEXT_HOP_PUBLIC_SOURCES),
            (12, 6, 1500, vec![tagged(6)], NEXT_HOP_RESOLVED | NEXT_HOP_SERVICE),
            (13, 1, 1500, vec![], NEXT_HOP_RESOLVED | NEXT_HOP_MSEE),
            (14, 1, 1500, vec![], NEXT_HOP_RESOLVED | NEXT_HOP_MSEE),
            (15, 1, 1500, vec![], NEXT_HOP_RESOLVED | NEXT_HOP_MSEE),
        ] {
            let mut l2 = [0; L2_MAX];
            l2[..6].copy_from_slice(&neighbour_mac(id));
            l2[6..12].copy_from_slice(&our_mac(attachment));
            for (at, tag) in tags.iter().enumerate() {
                l2[12 + 4 * at..16 + 4 * at].copy_from_slice(tag);
            }
            let l2_len = 12 + 4 * tags.len() as u8;
            let link = if id == 7 { 9 } else { attachment };
            dataplane.write(&Record::NextHop(
                id,
                NextHop {
                    flags,
                    attachment,
                    link,
                    mtu,
                    l2_len,
                    l2,
                    profile: u16::from((8..11).contains(&id)),
                    policer: if id < 11 { u16::saturating_sub(id, 8) } else { 0 },
                    bfd: if id > 12 { id } else { 0 },
                    ..NextHop::default()
                },
            ))?;
        }
        for link in 1..=6 {
            dataplane.write(&Record::Link(link, true))?;
        }
        for (id, members) in [
            (1, vec![1, 2]),
            (2, vec![1]),
            (3, vec![2]),
            (4, vec![4]),
            (5, vec![5]),
            (6, vec![6]),
            (7, vec![7]),
            (8, vec![3]),
            (11, vec![7, 1]),
            (12, vec![8]),
            (13, vec![9]),
            (14, vec![10]),
            (15, vec![11]),
            (18, vec![12]),
            (19, vec![13]),
            (20, vec![13, 14]),
            (21, vec![15]),
        ] {
            dataplane.write(&Record::Group(id, forward(&members)))?;
        }
        dataplane.write(&Record::Group(9, Group { kind: GROUP_GLEAN, attachment: 4, ..Group::default() }))?;
        dataplane.write(&Record::Group(17, Group { kind: GROUP_ENCRYPTED_ONLY, ..Group::default() }))?;
        dataplane.write(&Record::Group(16, Group { kind: GROUP_ZONE_FORBIDDEN, ..Group::default() }))?;
        dataplane.write(&Record::Group(10, Group { kind: GROUP_DISCARD, ..Group::default() }))?;
        Ok(())
    }

    fn routes(&mut self) -> Result<()> {
        for (address, len, group) in [
            ([20, 0, 0, 0], 8, 1),
            ([20, 1, 0, 0], 16, 2),
            ([20, 2, 0, 0], 16, 3),
            ([20, 3, 0, 0], 16, 8),
            ([20, 5, 0, 0], 16, 5),
            ([20, 7, 0, 0], 16, 7),
            ([20, 8, 0, 0], 16, 11),
            ([20, 9, 0, 0], 16, 6),
            ([20, 10, 0, 0], 16, 10),
            ([20, 11, 0, 0], 16, 4_000),
            ([20, 12, 0, 0], 16, 12),
            ([20, 13, 0, 0], 16, 13),
            ([20, 14, 0, 0], 16, 14),
            ([20, 15, 0, 0], 16, 15),
            ([20, 16, 0, 0], 16, 16),
            ([20, 17, 0, 0], 16, 17),
            ([20, 18, 0, 0], 16, 18),
            ([20, 19, 0, 0], 16, 19),
            ([20, 20, 0, 0], 16, 20),
            ([20, 21, 0, 0], 16, 21),
            ([20, 1, 2, 128], 25, 3),
            ([20, 1, 2, 129], 32, 2),
            ([198, 18, 10, 0], 24, 9),
            ([198, 18, 10, 2], 32, 4),
            ([198, 18, 64, 0], 18, 4),
        ] {
            self.insert(Prefix::v4(address, len), group, false)?;
        }
        for (address, len, group) in [
            ("2603::", 24, 1),
            ("2603:1::", 32, 2),
            ("2604::", 32, 12),
            ("2605::", 32, 15),
            ("2606::", 32, 16),
            ("2607::", 32, 17),
            ("2608::", 32, 18),
            ("fd00:18:64::", 48, 4),
        ] {
            let address: std::net::Ipv6Addr = address.parse()?;
            self.insert(Prefix::v6(address.octets(), len), group, true)?;
        }
        Ok(())
    }

    fn insert(&mut self, prefix: Prefix, group: u32, v6: bool) -> Result<()> {
        let table = if v6 { &mut self.table6 } else { &mut self.table4 };
        self.fib.insert(table, prefix, group, 0).map_err(|full| anyhow::anyhow!("{full:?}"))
    }
}

/// Our discriminator in a BFD session of the edge.
pub const fn discriminator(session: u16) -> u32 {
    0x0bfd_0000 + session as u32
}

/// Sessions 1 to 5 were never up, so they judge nothing whatever they hear. Of the next hops with BFD, 13 is dead, 14 alive for an
/// hour, and 15 has not been up.
fn bfd_sessions(dataplane: &mut dyn Dataplane) -> Result<()> {
    let hour = 3_600_000_000 * bfd::MICROSECOND;
    let alive = bfd::deadline(dataplane.clock(), hour);
    for (id, until) in
        [(1, UNJUDGED), (2, UNJUDGED), (3, UNJUDGED), (5, UNJUDGED), (13, DEAD), (14, alive), (15, UNJUDGED)]
    {
        let template_0 = Word::new(u64::from(discriminator(id)));
        let record = BfdSession { until: Word::new(until), template_0, ..BfdSession::default() };
        let words = record.words().each_ref().map(sessions::load);
        dataplane.write(&Record::BfdSession(id, words))?;
    }
    Ok(())
}

/// Profile 1 is Microsoft peering's; policer 1 has no room for 30 s, policer 2 is near its limit and marks.
fn policers(dataplane: &mut dyn Dataplane) -> Result<()> {
    const MILLISECOND: u64 = 1_000_000 << TIME_FRACTION_BITS;
    dataplane.write(&Record::Profile(1, QosProfile::microsoft(true)))?;
    let rates = Rates { ecn: true, ..Rates::new(1_000_000_000, BurstPolicy::Peak2x) };
    let policer = rates.policer().map_err(|error| anyhow::anyhow!("{error}"))?;
    let now = dataplane.clock();
    dataplane.write(&Record::Policer(1, policer))?;
    dataplane.write(&Record::Bucket(1, [now.wrapping_add(30_000 * MILLISECOND), 0, 0, 0]))?;
    // Seconds from now it must still be near the limit: the tolerance is an hour for this one.
    let hour = 3_600_000 * MILLISECOND;
    let slow = Policer { sustained_tolerance: [hour; 3], mark_margin: hour, ..policer };
    dataplane.write(&Record::Policer(2, slow))?;
    dataplane.write(&Record::Bucket(2, [now.wrapping_add(30_000 * MILLISECOND), 0, 0, 0]))?;
    Ok(())
}

/// A group whose buckets are shared evenly.
pub fn forward(next_hops: &[u16]) -> Group {
    let mut group = Group { kind: GROUP_FORWARD, ..Group::default() };
    group.members[..next_hops.len()].copy_from_slice(next_hops);
    for bucket in 0..GROUP_BUCKETS {
        group.buckets[bucket] = (bucket % next_hops.len()) as u8;
    }
    group
}
