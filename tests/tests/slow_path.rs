//! The slow path in the kernel: what a flood may use of it, and the ICMP errors that dropped packets are answered with.

use anyhow::{Context as _, Result, ensure};
use erdp::dataplane::{
    Dataplane as _, Record,
    aya::{AyaDataplane, Buffers, LoadOptions},
};
use erdp_common::{
    abi::Budget,
    budget,
    policer::TIME_FRACTION_BITS,
    reason::{DropReason, PuntKind},
};
use erdp_tests::packets::{Build, Edge, Expect, Ports, in_network_namespace, is_root, rows, veth_ports};
use etherparse::{Icmpv4Type, Icmpv6Type, SlicedPacket, TransportSlice, icmpv4 as v4, icmpv6 as v6};

const SECOND: u64 = 1_000_000_000 << TIME_FRACTION_BITS;
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

/// The loaded program with the edge of the packet tables, in a time of its own.
fn with_edge(run: impl FnOnce(&mut AyaDataplane, Ports) -> Result<()> + Send) -> Result<()> {
    if !is_root() {
        println!("SKIP: loading an XDP program needs root");
        return Ok(());
    }
    in_network_namespace(|| {
        let ports = veth_ports()?;
        let options = LoadOptions { fib_blocks: 2048, virtual_clock: true, ..LoadOptions::default() };
        let mut dataplane = AyaDataplane::load(options)?;
        dataplane.set_clock(100 * SECOND)?;
        let _edge = Edge::build(&mut dataplane, ports)?;
        run(&mut dataplane, ports)
    })
}

/// How many of `frames` copies of a frame have this end.
fn count(dataplane: &AyaDataplane, ifindex: u32, frame: &[u8], frames: u32, action: u32) -> Result<u32> {
    let mut buffers = Buffers::default();
    let mut found = 0;
    for _ in 0..frames {
        found += u32::from(dataplane.run(ifindex, frame, &mut buffers)?.0 == action);
    }
    Ok(found)
}

fn echo(from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let segment = [8, 0, 0, 0, 0, 1, 0, 1];
    Build::ethernet(&[], 0x0800, &Build::ipv4(from, to, 1, &segment, |_| {}))
}

#[test]
fn a_flood_of_echo_requests_takes_nothing_from_bgp_nor_from_another_attachment() -> Result<()> {
    with_edge(|dataplane, ports| {
        let bgp = rows(ports)
            .into_iter()
            .find(|row| row.expect == Expect::Punt(PuntKind::Bgp) && row.ifindex == ports.a);
        let bgp = bgp.context("the tables have BGP on this port")?;
        for attachment in [1, 4] {
            let kind = PuntKind::Echo as u32;
            dataplane.write(&Record::Budget(kind, attachment, Budget::new(10, 5)))?;
            dataplane.write(&Record::Budget(
                PuntKind::Bgp as u32,
                attachment,
                budget::default_of(PuntKind::Bgp as u32),
            ))?;
        }
        let flood = echo([20, 1, 0, 9], [198, 18, 1, 1]);
        ensure!(
            count(dataplane, ports.a, &flood, 1_000, XDP_PASS)? == 5,
            "more than the burst went to the kernel"
        );
        ensure!(count(dataplane, ports.a, &bgp.frame, 1_000, XDP_PASS)? == 1_000, "the flood took from BGP");
        let other = echo([198, 18, 64, 7], [198, 18, 4, 1]);
        ensure!(
            count(dataplane, ports.c, &other, 5, XDP_PASS)? == 5,
            "the flood took from another attachment"
        );
        dataplane.set_clock(101 * SECOND)?;
        let later = count(dataplane, ports.a, &flood, 1_000, XDP_PASS)?;
        ensure!(
            (5..=15).contains(&later),
            "{later} echo requests a second after the flood of a budget of 10"
        );
        let dropped = dataplane.counters()?.dropped[DropReason::PuntBudget.label()];
        ensure!(dropped.packets == u64::from(995 + 1_000 - later), "{dropped:?}");
        Ok(())
    })
}

#[test]
fn dropped_packets_are_answered_on_the_attachment_they_came_from() -> Result<()> {
    with_edge(|dataplane, ports| {
        let (mut answered, mut buffers) = (0, Buffers::default());
        for row in rows(ports) {
            use DropReason::{EncryptedOnly, NoRoute, TooBig, TtlExpired, UnnattedSource, ZoneForbidden};
            let Expect::Drop(
                reason @ (TtlExpired | TooBig | NoRoute | ZoneForbidden | EncryptedOnly | UnnattedSource),
            ) = row.expect
            else {
                continue;
            };
            let by_policy = matches!(reason, ZoneForbidden | EncryptedOnly | UnnattedSource);
            let (action, frame) = dataplane.run(row.ifindex, &row.frame, &mut buffers)?;
            if action == XDP_DROP {
                continue; // no layer 4 header to be seen, or an error itself
            }
            ensure!(action == XDP_REDIRECT, "{}: action {action}", row.name);
            ensure!(
                frame[..6] == row.frame[6..12] && frame[6..12] == row.frame[..6],
                "{}: MAC addresses",
                row.name
            );
            let packet = SlicedPacket::from_ethernet(frame).with_context(|| row.name)?;
            let right = match &packet.transport {
                Some(TransportSlice::Icmpv4(icmp)) => match icmp.icmp_type() {
                    Icmpv4Type::TimeExceeded(_) => reason == TtlExpired,
                    Icmpv4Type::DestinationUnreachable(header) => {
                        reason != TtlExpired
                            && (header == v4::DestUnreachableHeader::FilterProhibited) == by_policy
                    }
                    _ => false,
                },
                Some(TransportSlice::Icmpv6(icmp)) => match icmp.icmp_type() {
                    Icmpv6Type::TimeExceeded(_) => reason == TtlExpired,
                    Icmpv6Type::PacketTooBig { mtu } => reason == TooBig && mtu > 0,
                    Icmpv6Type::DestinationUnreachable(code) => {
                        let told = (code == v6::DestUnreachableCode::Prohibited, by_policy);
                        told == (true, true) || told == (false, false) && reason == NoRoute
                    }
                    _ => false,
                },
                _ => false,
            };
            ensure!(right, "{}: answered with {packet:?}", row.name);
            answered += 1;
        }
        ensure!(answered >= 18, "only {answered} rows are answered");
        let counters = dataplane.counters()?;
        ensure!(counters.originated.packets == answered, "{:?} for {answered}", counters.originated);
        ensure!(counters.unexplained() == 0, "{} frames unexplained", counters.unexplained());
        Ok(())
    })
}

#[test]
fn a_flood_of_expired_packets_is_answered_at_the_budgets_rate_and_no_faster() -> Result<()> {
    with_edge(|dataplane, ports| {
        let row = rows(ports).into_iter().find(|row| row.name == "TTL 1");
        let row = row.context("the tables have an expired packet")?;
        for attachment in 1..=4 {
            dataplane.write(&Record::Budget(budget::ANSWER, attachment, Budget::new(100, 10)))?;
        }
        let mut sent = 0;
        for millisecond in 0..1_000 {
            dataplane.set_clock(200 * SECOND + millisecond * SECOND / 1_000)?;
            sent += count(dataplane, row.ifindex, &row.frame, 3, XDP_REDIRECT)?;
        }
        ensure!((108..=111).contains(&sent), "{sent} answers in a second of 100 with a burst of 10");
        Ok(())
    })
}
