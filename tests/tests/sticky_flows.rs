//! Resilient hashing: when a member of a next-hop group fails only its flows move, and when it returns only they come back, each to where
//! it was. Asked of the loaded program, with two to eight members; and counted with live peers, whose routes go with a link that is
//! silent for long and come back with it, so that the group is another one meanwhile.

use std::{
    net::{IpAddr, Ipv4Addr},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use erdp::dataplane::{
    Dataplane as _, Record,
    aya::{AyaDataplane, Buffers, LoadOptions},
    question::Question,
};
use erdp_common::{
    abi::{GROUP_MEMBERS, NEXT_HOP_MSEE, NEXT_HOP_RESOLVED, NextHop, VERDICT_TRANSMIT},
    fib::build::Prefix,
};
use erdp_tests::{
    edge,
    failover::{
        Fault, LINKS, flows,
        peers::Timers,
        probe::{Probe, Report},
        stand::{Msees, Plan, Router, Stand},
        until,
    },
    packets::{Edge, Ports, forward, in_network_namespace, is_root, veth_ports},
};

/// Flows that are asked about each time.
const FLOWS: usize = 12_000;
/// The group, and the first of its next hops; the edge of the packet tables uses lower numbers.
const GROUP: u32 = 40;
const FIRST: u16 = 40;

#[test]
fn only_the_failed_members_flows_move_and_only_they_come_back() -> Result<()> {
    if !is_root() {
        println!("SKIP: loading an XDP program needs root");
        return Ok(());
    }
    in_network_namespace(|| {
        let ports = veth_ports()?;
        let mut dataplane = AyaDataplane::load(LoadOptions { fib_blocks: 2048, ..LoadOptions::default() })?;
        let mut edge = Edge::build(&mut dataplane, ports)?;
        let prefix = Prefix::v4([20, 40, 0, 0], 16);
        edge.fib
            .insert(&mut edge.table4, prefix, GROUP, 0)
            .map_err(|full| anyhow::anyhow!("the pool is full: {full:?}"))?;
        let flows = flows()?;
        for members in 2..=GROUP_MEMBERS as u16 {
            let ids: Vec<u16> = (FIRST..FIRST + members).collect();
            build(&mut dataplane, &ids)?;
            let before = ways(&dataplane, ports, &flows)?;
            every_member_has_a_share(&before, &ids)?;
            for failed in &ids {
                one_fails(&mut dataplane, ports, &flows, &before, &ids, *failed)
                    .with_context(|| format!("{members} members, {failed} fails"))?;
            }
            println!("{members} members: {FLOWS} flows, each member has failed and come back");
        }
        Ok(())
    })
}

/// Each member is the neighbour of a link of its own, all on port A.
fn build(dataplane: &mut AyaDataplane, ids: &[u16]) -> Result<()> {
    for id in ids {
        let flags = NEXT_HOP_RESOLVED | NEXT_HOP_MSEE;
        let next_hop =
            NextHop { flags, attachment: 1, link: *id, mtu: 1500, l2_len: 12, ..NextHop::default() };
        dataplane.write(&Record::NextHop(*id, next_hop))?;
        dataplane.write(&Record::Link(*id, true))?;
    }
    Ok(dataplane.write(&Record::Group(GROUP, forward(ids)))?)
}

fn one_fails(
    dataplane: &mut AyaDataplane,
    ports: Ports,
    flows: &[Vec<u8>],
    before: &[u16],
    ids: &[u16],
    failed: u16,
) -> Result<()> {
    dataplane.write(&Record::Link(failed, false))?;
    let during = ways(dataplane, ports, flows)?;
    let mut taken_over = vec![0; ids.len()];
    for (flow, (was, is)) in before.iter().zip(&during).enumerate() {
        if *was == failed {
            ensure!(*is != failed, "flow {flow} stays on the failed member");
            taken_over[usize::from(*is - FIRST)] += 1;
        } else {
            ensure!(was == is, "flow {flow} of the living member {was} has moved to {is}");
        }
    }
    let moved: usize = taken_over.iter().sum();
    let living = ids.len() - 1;
    for id in ids.iter().filter(|id| **id != failed) {
        let share = taken_over[usize::from(*id - FIRST)];
        ensure!(
            share * living * 2 > moved,
            "{id} takes over {share} of {moved} flows, {living} members live"
        );
    }
    dataplane.write(&Record::Link(failed, true))?;
    let after = ways(dataplane, ports, flows)?;
    let elsewhere = before.iter().zip(&after).filter(|(was, is)| was != is).count();
    ensure!(elsewhere == 0, "{elsewhere} flows are not where they were after it has come back");
    Ok(())
}

/// None has less than half of its even share: else the other checks would be about nothing.
fn every_member_has_a_share(ways: &[u16], ids: &[u16]) -> Result<()> {
    for id in ids {
        let flows = ways.iter().filter(|way| *way == id).count();
        ensure!(flows * ids.len() * 2 > FLOWS, "member {id} of {} has {flows} of {FLOWS} flows", ids.len());
    }
    Ok(())
}

/// The next hop of each flow, by the loaded program's own answer.
fn ways(dataplane: &AyaDataplane, ports: Ports, flows: &[Vec<u8>]) -> Result<Vec<u16>> {
    let mut buffers = Buffers::default();
    flows
        .iter()
        .map(|frame| {
            let (trace, _) = dataplane.ask_with(ports.c, frame, &mut buffers)?;
            ensure!(trace.verdict == VERDICT_TRANSMIT, "not transmitted: {trace:?}");
            ensure!(trace.group == GROUP, "another route: {trace:?}");
            Ok(trace.next_hop)
        })
        .collect()
}

/// Flows from the customer into 20.40.0.0/16: all differ in ports, most in addresses.
fn flows() -> Result<Vec<Vec<u8>>> {
    let mut random = fastrand::Rng::with_seed(2_992);
    (0..FLOWS)
        .map(|flow| {
            let question = Question {
                from: IpAddr::V4(Ipv4Addr::new(198, 18, 64, random.u8(1..255))),
                to: IpAddr::V4(Ipv4Addr::new(20, 40, random.u8(..), random.u8(1..255))),
                ports: (1_024 + flow as u16, random.u16(1..)),
                hop_limit: 64,
                tags: [None, None],
            };
            Ok(question.frame()?)
        })
        .collect()
}

/// Every day one link; in full both and the first again, which is the one whose session came first, so that an order of coming is seen if
/// it matters.
#[test]
fn after_a_withdrawal_and_a_return_every_flow_is_where_it_was() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let timers = Timers { interval_ms: 100, multiplier: 4 };
    let (router, msees) = (Router::Erdp, Msees::FrrAndBird);
    let mut stand = Stand::up(Plan { router, msees, timers, routes: 20, extra: "", has_customer: false })?;
    stand.wait()?;
    let before = flows::ways(&stand.place)?;
    let links: &[usize] = if edge::is_full() { &[0, 1, 0] } else { &[0] };
    for &link in links {
        let mine = before.iter().filter(|way| **way == link).count();
        ensure!(mine * 3 > flows::FLOWS, "link {link} has {mine} of {} flows", flows::FLOWS);
        withdrawn(&mut stand, link, &before).with_context(|| format!("link {link}:\n{}", stand.state()))?;
        println!(
            "  link {link}: its {mine} flows of {} have moved and come back, no other has",
            flows::FLOWS
        );
    }
    Ok(())
}

/// A link is silent until its routes are gone, and whole again; a flow of the other one loses nothing.
fn withdrawn(stand: &mut Stand, link: usize, before: &[usize]) -> Result<()> {
    let routes_of = |it: &Stand| -> Result<u64> {
        let all = it.edge()?.sessions()?;
        Ok(all.iter().filter(|it| it.peer == LINKS[link].ipv4.1).map(|it| it.received).sum())
    };
    let other = before.iter().position(|way| *way != link).context("the other link has no flow")?;
    let probe = Probe::start(&stand.place, 20_000 + other as u16)?;
    stand.place.fail(link, Fault::Silent)?;
    until("its routes to go", Duration::from_secs(20), || Ok(routes_of(stand)? == 0))?;
    thread::sleep(Duration::from_millis(500));
    let Report { lost, at, .. } = probe.stop()?;
    ensure!(lost == 0 && at[link] == 0, "the other link's flow: {lost} lost, {at:?}");
    let during = flows::ways(&stand.place)?;
    ensure!(during.iter().all(|way| *way != link), "flows are on a link that is silent");
    stand.place.heal(link)?;
    stand.wait()?;
    let after = flows::ways(&stand.place)?;
    let strayed = before.iter().zip(&after).filter(|(was, is)| was != is).count();
    ensure!(strayed == 0, "{strayed} flows are not where they were");
    Ok(())
}
