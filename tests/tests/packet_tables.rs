//! Every row of the packet tables on the host's pipeline and in the kernel's loaded program (BPF_PROG_TEST_RUN).

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use erdp::dataplane::{
    Answer, Dataplane,
    aya::{AyaDataplane, LoadOptions},
    memory::MemoryDataplane,
};
use erdp_common::reason::DropReason;
use erdp_tests::packets::{
    Edge, Expect, Ports, Row, in_network_namespace, ipv4_of, is_root, neighbour_mac, rows, veth_ports,
};

const HOST_PORTS: Ports = Ports { a: 11, b: 12, c: 13, d: 14, e: 15, f: 16 };

#[test]
fn every_row_holds_on_the_host() -> Result<()> {
    let mut dataplane = MemoryDataplane::new(2048);
    let _edge = Edge::build(&mut dataplane, HOST_PORTS)?;
    check_all(&dataplane, HOST_PORTS)
}

/// The program is verified once for both: in an emulated virtual machine that is most of the time.
#[test]
fn every_row_holds_in_the_kernel_with_the_bytes_of_the_host_and_nothing_of_it_is_counted() -> Result<()> {
    if !is_root() {
        println!("SKIP: loading an XDP program needs root");
        return Ok(());
    }
    in_network_namespace(|| {
        let ports = veth_ports()?;
        let mut kernel = AyaDataplane::load(LoadOptions { fib_blocks: 2048, ..LoadOptions::default() })?;
        let _edge = Edge::build(&mut kernel, ports)?;
        check_all(&kernel, ports)?;
        let mut host = MemoryDataplane::new(2048);
        let _host_edge = Edge::build(&mut host, ports)?;
        for row in rows(ports) {
            let (host, kernel) = (host.ask(row.ifindex, &row.frame)?, kernel.ask(row.ifindex, &row.frame)?);
            ensure!(
                host.trace == kernel.trace,
                "{}: host {:?}, kernel {:?}",
                row.name,
                host.trace,
                kernel.trace
            );
            ensure!(host.frame == kernel.frame, "{}: the frames differ", row.name);
        }
        ensure!(kernel.counters()?.rx.packets == 0, "questions were counted: {:?}", kernel.counters()?);
        Ok(())
    })
}

#[test]
fn every_drop_reason_is_reached_by_a_row() {
    let reached: BTreeSet<_> = rows(HOST_PORTS)
        .into_iter()
        .filter_map(|row| if let Expect::Drop(reason) = row.expect { Some(reason) } else { None })
        .collect();
    // No driver here gives so little headroom that two tags do not fit; a question uses no budget (`tests/slow_path.rs` does).
    let unreachable = BTreeSet::from([DropReason::NoHeadroom, DropReason::PuntBudget]);
    let missing: Vec<_> = DropReason::ALL
        .iter()
        .filter(|reason| !reached.contains(reason) && !unreachable.contains(reason))
        .collect();
    assert!(missing.is_empty(), "no row reaches {missing:?}");
}

fn check_all(dataplane: &dyn Dataplane, ports: Ports) -> Result<()> {
    for row in rows(ports) {
        let answer = dataplane.ask(row.ifindex, &row.frame).with_context(|| row.name)?;
        check(&row, &answer).with_context(|| format!("{}: {:?}", row.name, answer.trace))?;
    }
    Ok(())
}

fn check(row: &Row, answer: &Answer) -> Result<()> {
    match &row.expect {
        Expect::Drop(reason) => {
            ensure!(
                answer.drop_reason() == Some(*reason),
                "expected drop {}, got {:?}",
                reason.label(),
                answer.drop_reason()
            );
        }
        Expect::Punt(kind) => {
            ensure!(
                answer.punt_kind() == Some(*kind),
                "expected punt {}, got {:?}",
                kind.label(),
                answer.punt_kind()
            );
            ensure!(answer.frame == row.taken, "a punted frame was changed");
        }
        Expect::PuntVia(kind, tags) => {
            ensure!(answer.punt_kind() == Some(*kind), "expected punt {}, got {answer:?}", kind.label());
            ensure!(answer.frame == without_tags(&row.taken, *tags), "not the frame without its tags");
        }
        Expect::FromKernel(tags) => {
            ensure!(answer.verdict() == "transmit" && answer.trace.next_hop == 0, "expected it to leave");
            ensure!(vids(&answer.frame, tags.len()) == *tags, "the tags are not {tags:?}");
            ensure!(without_tags(&answer.frame, tags.len()) == row.taken, "more was changed than the tags");
        }
        Expect::Transmit(next_hop, tags) => {
            ensure!(
                answer.verdict() == "transmit" && answer.trace.next_hop == *next_hop,
                "expected next hop {next_hop}"
            );
            check_frame(row, answer, tags)?;
        }
        Expect::Marked(next_hop, traffic_class) => {
            ensure!(answer.trace.next_hop == *next_hop, "expected next hop {next_hop}");
            let ip = &answer.frame[14..];
            let left = if ip[0] >> 4 == 6 { ip[0] << 4 | ip[1] >> 4 } else { ip[1] };
            ensure!(left == *traffic_class, "left with {left:#04x}, expected {traffic_class:#04x}");
            ensure!(
                ip[0] >> 4 == 6 || ipv4_of(&answer.frame, 14).context("no IPv4 header")?.1,
                "wrong header checksum"
            );
        }
        Expect::TransmitAny(next_hops) => {
            ensure!(next_hops.contains(&answer.trace.next_hop), "expected one of {next_hops:?}");
        }
    }
    Ok(())
}

/// A frame less so many tags.
fn without_tags(frame: &[u8], tags: usize) -> Vec<u8> {
    [&frame[..12], &frame[12 + 4 * tags..]].concat()
}

/// The identifiers of its tags, all of which have the ethertype 0x8100 and priority 0.
fn vids(frame: &[u8], tags: usize) -> Vec<u16> {
    let tags = frame[12..12 + 4 * tags].chunks(4);
    tags.filter(|tag| tag[..2] == [0x81, 0]).map(|tag| u16::from_be_bytes([tag[2], tag[3]])).collect()
}

/// The frame that leaves: next hop's MAC, tags, TTL less one with a right checksum, everything else as it came.
fn check_frame(row: &Row, answer: &Answer, tags: &[u16]) -> Result<()> {
    ensure!(answer.frame[..6] == neighbour_mac(answer.trace.next_hop), "wrong destination MAC");
    for (at, vid) in tags.iter().enumerate() {
        let tag = &answer.frame[12 + 4 * at..16 + 4 * at];
        ensure!(
            tag[..2] == [0x81, 0x00] && tag[2..] == vid.to_be_bytes(),
            "tag {at} is {tag:?}, expected {vid}"
        );
    }
    let ip_at = 14 + 4 * tags.len();
    let (came, left) = (&row.taken[row.ip_at..], &answer.frame[ip_at..]);
    ensure!(answer.frame[ip_at - 2..ip_at] == row.taken[row.ip_at - 2..row.ip_at], "wrong ethertype");
    ensure!(came.len() == left.len(), "length changed from {} to {}", came.len(), left.len());
    let changed: Vec<usize> = (0..came.len()).filter(|at| came[*at] != left[*at]).collect();
    if came[0] >> 4 == 6 {
        ensure!(changed == [7] && left[7] == came[7] - 1, "changed bytes {changed:?}");
    } else {
        ensure!(changed.iter().all(|at| [8, 10, 11].contains(at)), "changed bytes {changed:?}");
        let (header, right) = ipv4_of(&answer.frame, ip_at).context("no IPv4 header")?;
        ensure!(right, "wrong header checksum");
        ensure!(header.time_to_live == came[8] - 1, "TTL is {}", header.time_to_live);
    }
    Ok(())
}
