//! What is about a packet on the wire, rule by rule, each on the host's stages and in the loaded program: bytes behind the packet, tags that
//! name no VLAN, listener discovery, sources that are never forwarded, classes by port on private peering.
//!
//! The packets are rows of the packet tables, which hold them byte by byte (`packet_tables.rs`); here is what a row cannot say: that
//! nothing leaves which was not charged, and that a flood of queries takes no more than neighbour discovery has.

use anyhow::{Context as _, Result, ensure};
use erdp::dataplane::{Dataplane, Record, aya::AyaDataplane, aya::LoadOptions, memory::MemoryDataplane};
use erdp_common::{
    abi::{Budget, QosProfile},
    classify::{Class, classify},
    family::{Address, Datagram},
    packet::Packet as _,
    pipeline::Verdict,
    policer::{BurstPolicy, Rates},
    reason::{DropReason, PuntKind},
};
use erdp_tests::packets::{
    Build, Edge, Expect, Ports, Row, Tagging, in_network_namespace, is_root, subjects, veth_ports,
};

const HOST_PORTS: Ports = Ports { a: 11, b: 12, c: 13, d: 14, e: 15, f: 16 };
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// What becomes of each row of a subject, on the host and, as root, in the kernel: whether it is what the row says, and the frame that is
/// taken for it where it goes to the kernel untagged.
fn holds(subject: &str, only: impl Fn(&Row) -> bool + Sync) -> Result<()> {
    let judge = |dataplane: &dyn Dataplane, ports: Ports| -> Result<usize> {
        let (_, rows) =
            subjects(ports).into_iter().find(|(name, _)| *name == subject).context("no such subject")?;
        let rows: Vec<Row> = rows.into_iter().filter(&only).collect();
        for row in &rows {
            let answer = dataplane.ask(row.ifindex, &row.frame).with_context(|| row.name)?;
            let is_right = match &row.expect {
                Expect::Drop(reason) => answer.drop_reason() == Some(*reason),
                Expect::Punt(kind) => answer.punt_kind() == Some(*kind) && answer.frame == row.taken,
                Expect::PuntVia(kind, _) => answer.punt_kind() == Some(*kind),
                _ => answer.verdict() == "transmit",
            };
            ensure!(is_right, "{}: expected {:?}, got {answer:?}", row.name, row.expect);
        }
        Ok(rows.len())
    };
    let mut host = MemoryDataplane::new(2_048);
    let _edge = Edge::build(&mut host, HOST_PORTS)?;
    ensure!(judge(&host, HOST_PORTS)? > 0, "no row of {subject}");
    if !is_root() {
        println!("SKIP: loading an XDP program needs root");
        return Ok(());
    }
    in_network_namespace(|| {
        let ports = veth_ports()?;
        let mut kernel = AyaDataplane::load(LoadOptions { fib_blocks: 2_048, ..LoadOptions::default() })?;
        let _edge = Edge::build(&mut kernel, ports)?;
        judge(&kernel, ports).map(drop)
    })
}

#[test]
fn rfc3810_5_listener_queries_of_this_link_reach_the_kernel_and_nothing_else_of_mld_does() -> Result<()> {
    holds("Multicast listener discovery", |_| true)
}

#[test]
fn ieee_802_1q_a_tag_with_the_null_vid_is_as_no_tag() -> Result<()> {
    holds("Tags that carry a priority only", |_| true)
}

#[test]
fn a1_bytes_behind_a_packet_are_cut_before_it_is_judged() -> Result<()> {
    holds("Bytes behind the packet", |_| true)
}

#[test]
fn rfc3927_7_and_rfc4291_2_5_sources_of_one_wire_or_one_host_are_not_forwarded() -> Result<()> {
    holds("Dropped", |row| {
        matches!(row.expect, Expect::Drop(DropReason::MartianSource | DropReason::NotUnicast))
    })
}

/// The edge with one policer on all that comes in, which counts more than the packet's bytes.
fn policed() -> Result<(MemoryDataplane, Edge)> {
    let mut host = MemoryDataplane::new(2_048);
    host.set_clock(1 << 40);
    let edge = Edge::build(&mut host, HOST_PORTS)?;
    let rates = Rates { overhead: 38, ..Rates::new(1_000_000_000, BurstPolicy::DualLink) };
    host.write(&Record::Policer(3, rates.policer().map_err(|error| anyhow::anyhow!("{error}"))?))?;
    host.write(&Record::Bucket(3, [1 << 40, 0, 0, 0]))?;
    host.with_tables(|tables| tables.attachments.iter_mut().for_each(|it| it.policer = 3));
    Ok((host, edge))
}

#[test]
fn a1_what_leaves_is_what_was_charged_whatever_is_behind_the_packet() -> Result<()> {
    const SHORTEST: usize = 46;
    let (customer6, azure6): ([u8; 16], [u8; 16]) = (
        "fd00:18:64::7".parse::<std::net::Ipv6Addr>()?.octets(),
        "2603:1::9".parse::<std::net::Ipv6Addr>()?.octets(),
    );
    let entrances: [(u32, Tagging<'_>, bool); 4] = [
        (HOST_PORTS.c, &[], false),
        (HOST_PORTS.a, &[], true),
        (HOST_PORTS.b, &[(0x8100, 100)], true),
        (HOST_PORTS.b, &[(0x88a8, 10), (0x8100, 200)], true),
    ];
    for (ifindex, tags, to_customer) in entrances {
        for (is_ipv6, payload) in [(false, 4), (false, 40), (true, 4), (true, 400)] {
            let udp = Build::udp(1, 2, &vec![7; payload]);
            let (kind, packet) = if is_ipv6 {
                let (from, to) = if to_customer { (azure6, customer6) } else { (customer6, azure6) };
                (IPV6, Build::ipv6(from, to, 17, 64, &udp))
            } else {
                let (azure, customer) = ([20, 1, 0, 9], [198, 18, 64, 7]);
                let (from, to) = if to_customer { (azure, customer) } else { (customer, azure) };
                (IPV4, Build::ipv4(from, to, 17, &udp, |_| {}))
            };
            let plain = Build::ethernet(tags, kind, &packet);
            let mut charges = Vec::new();
            for octets in [plain.len(), 60, 61, 64, 1_514, 2_900] {
                let (host, _edge) = policed()?;
                let mut frame = plain.clone();
                frame.resize(octets.max(plain.len()), 0x5a);
                let ran = host.run(ifindex, &frame);
                let what = format!("{} tags, {} bytes in {} octets", tags.len(), packet.len(), frame.len());
                let Verdict::Transmit(attachment) = ran.verdict else {
                    anyhow::bail!("{what}: {:?}", ran.verdict);
                };
                let header = if attachment == 2 { 18 } else { 14 };
                let [conform, ..] = host.policed(3, Class::Default);
                ensure!(conform.bytes == packet.len() as u64, "{what}: charged {conform:?}");
                let left = ran.frame.len() - header;
                ensure!(
                    left == packet.len() || left <= SHORTEST && frame.len() > plain.len(),
                    "{what}: {left} bytes have left"
                );
                charges.push(host.bucket(3));
            }
            ensure!(charges.iter().all(|bucket| *bucket == charges[0]), "charged differently: {charges:?}");
        }
    }
    Ok(())
}

#[test]
fn rfc4890_4_4_1_a_flood_of_queries_has_the_budget_of_neighbour_discovery() -> Result<()> {
    let mut host = MemoryDataplane::new(2_048);
    host.set_clock(1 << 40);
    let _edge = Edge::build(&mut host, HOST_PORTS)?;
    host.write(&Record::Budget(PuntKind::NeighbourDiscovery as u32, 1, Budget::new(10, 5)))?;
    let rows = subjects(HOST_PORTS).into_iter().flat_map(|(_, rows)| rows);
    let query = rows
        .into_iter()
        .find(|row| row.name.starts_with("query to all nodes"))
        .context("the tables have a query")?;
    let reached = (0..100)
        .filter(|_| {
            host.run(query.ifindex, &query.frame).verdict == Verdict::Punt(PuntKind::NeighbourDiscovery)
        })
        .count();
    ensure!(reached == 5, "{reached} of 100 queries went to the kernel with a budget of 5");
    ensure!(
        host.counters()?.dropped[DropReason::PuntBudget.label()].packets == 95,
        "the others are not counted"
    );
    Ok(())
}

#[test]
fn f_on_private_peering_unmarked_teams_traffic_is_classified_by_port_and_stays_unmarked() {
    let profile = QosProfile::private_by_ports();
    let udp = |from: u16, to: u16, code: u8| Datagram {
        source: Address::v4([198, 18, 64, 7]),
        destination: Address::v4([20, 1, 0, 9]),
        len: 100,
        hop_limit: 64,
        traffic_class: code << 2,
        protocol: 17,
        is_fragment: false,
        has_transport: true,
        transport: u32::from(from) << 16 | u32::from(to),
    };
    for (port, class) in [
        (49_999, Class::Default),
        (50_000, Class::Voice),
        (50_019, Class::Voice),
        (50_020, Class::Interactive),
        (50_059, Class::Interactive),
        (50_060, Class::Default),
    ] {
        for (datagram, to_microsoft) in [(udp(port, 3_478, 0), true), (udp(3_478, port, 0), false)] {
            let marking = classify(&datagram, to_microsoft, &profile);
            assert_eq!(
                (marking.class, marking.dscp),
                (class, 0),
                "{port}, towards Microsoft: {to_microsoft}"
            );
        }
    }
    // What has a code keeps it and its class, whatever its port.
    let marked = classify(&udp(50_000, 3_478, 34), true, &profile);
    assert_eq!((marked.class, marked.dscp), (Class::Interactive, 34));
    let marked = classify(&udp(50_000, 3_478, 48), true, &profile);
    assert_eq!((marked.class, marked.dscp), (Class::Default, 48));
}
