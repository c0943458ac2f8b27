//! Floods of what the slow path has to do with, at the highest rate that one CPU makes: BGP, a BFD-sized heartbeat and what is forwarded
//! survive.
//!
//! Who floods has CPU 0 for itself and the softirqs that its frames cause; what is measured runs on CPU 1: so the CPU has room, and what
//! the flood takes away is taken by ERDP's own decisions (a budget that is not for one kind, a queue, a lock). The flood comes from the
//! customer, on the attachment on which the customer's BGP is.
//! - BGP with a hold time of 4 s has to stay Established on both attachments and in both families for longer than that.
//! - Heartbeats (echo requests as long as BFD's packets) go to the edge's kernel on both attachments; the longest time without a reply
//!   stays below 3 x 50 ms. Under a flood of echo requests the flooded attachment's share that budget with it, so there only the other's is
//!   judged.
//! - A paced stream is forwarded from Azure to the customer: what arrives of it under the flood is held against what arrives before.
//!
//! `cargo xtask test` has the flood of expired packets; with `--full` all of them.

use std::{
    env,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    edge::{self, Counters, Session},
    lab::{
        enter,
        netns::Namespace,
        plan,
        straight::{AZURE, CUSTOMER, Straight, ip},
    },
    packets::Build,
    traffic::{
        heartbeat::{Beats, Heartbeat},
        raw::{BATCH, Sender},
        stream::{Pace, Stream, stay_on},
    },
};
use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Type};

const HOLD_S: u32 = 4;
/// Longer than the hold time: a session that nothing got through for would have ended.
const FLOOD: Duration = Duration::from_secs(6);
const UNLOADED: Duration = Duration::from_secs(2);
const PACE: Pace = Pace { per_second: 20_000, bytes: 1_000 };
const GOODPUT: f64 = 0.9;
/// Different frames of one flood.
const VARIANTS: u16 = 1_024;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;

/// MAC addresses of who floods and of the edge.
struct Macs {
    own: [u8; 6],
    edge: [u8; 6],
}

/// A flood: its name, where most of it must end (counters of `erdp show counters`), and its frames
/// behind the MAC addresses. All of them are right in themselves, or the kernel would have less to do with them.
struct Flood {
    name: &'static str,
    ends: &'static [&'static str],
    frame: fn(u16, &Macs) -> Result<Vec<u8>>,
}

const FLOODS: [Flood; 6] = [
    Flood { name: "hop limit 1", ends: &["ttl-expired"], frame: expired },
    Flood { name: "echo requests to us", ends: &["punt-budget"], frame: echo },
    Flood { name: "ARP requests for us", ends: &["punt-budget"], frame: arp },
    Flood { name: "neighbour solicitations for us", ends: &["punt-budget"], frame: solicitation },
    Flood { name: "an unknown tag", ends: &["unknown-attachment"], frame: unknown_tag },
    Flood { name: "hosts that do not exist", ends: &["neighbour-unresolved"], frame: nobody },
];

fn v6(text: &str) -> Result<[u8; 16]> {
    Ok(text.parse::<Ipv6Addr>()?.octets())
}

fn v4(text: &str) -> Result<[u8; 4]> {
    Ok(text.parse::<Ipv4Addr>()?.octets())
}

fn expired(number: u16, _: &Macs) -> Result<Vec<u8>> {
    let udp = Build::udp(number, 33_434, b"expires");
    if number.is_multiple_of(2) {
        let packet =
            Build::ipv4(v4(CUSTOMER[0])?, v4(AZURE[0][0])?, 17, &udp, |header| header.time_to_live = 1);
        return Ok(Build::ethernet(&[], IPV4, &packet));
    }
    Ok(Build::ethernet(&[], IPV6, &Build::ipv6(v6(CUSTOMER[1])?, v6(AZURE[0][1])?, 17, 1, &udp)))
}

fn echo(number: u16, _: &Macs) -> Result<Vec<u8>> {
    let kind = Icmpv4Type::EchoRequest(IcmpEchoHeader { id: number, seq: 1 });
    let message = Icmpv4Header::with_checksum(kind, &[]).to_bytes();
    Ok(Build::ethernet(
        &[],
        IPV4,
        &Build::ipv4(v4(plan::CE.ipv4.0)?, v4(plan::CE.ipv4.1)?, 1, &message, |_| {}),
    ))
}

fn arp(_: u16, macs: &Macs) -> Result<Vec<u8>> {
    let mut arp = Build::arp(1, v4(plan::CE.ipv4.0)?, v4(plan::CE.ipv4.1)?);
    arp[8..14].copy_from_slice(&macs.own); // not a lie about who is asking: that would be another attack
    Ok(Build::ethernet(&[], ARP, &arp))
}

fn solicitation(_: u16, macs: &Macs) -> Result<Vec<u8>> {
    let (from, target) = (v6(plan::CE.ipv6.0)?, v6(plan::CE.ipv6.1)?);
    let body = [&target[..], &[1, 1], &macs.own].concat();
    let kind = Icmpv6Type::Unknown { type_u8: 135, code_u8: 0, bytes5to8: [0; 4] };
    let message = [&kind.to_header(from, target, &body)?.to_bytes()[..], &body].concat();
    Ok(Build::ethernet(&[], IPV6, &Build::ipv6(from, target, 58, 255, &message)))
}

fn unknown_tag(number: u16, _: &Macs) -> Result<Vec<u8>> {
    let packet = Build::ipv4(v4(CUSTOMER[0])?, v4(AZURE[0][0])?, 17, &Build::udp(1, 2, b"lost"), |_| {});
    Ok(Build::ethernet(&[(0x8100, 1 + number)], IPV4, &packet))
}

/// On the customer's own wire, as a scan of its subnet would.
fn nobody(number: u16, _: &Macs) -> Result<Vec<u8>> {
    let mut to = v6(plan::CE.ipv6.1)?;
    to[12..14].copy_from_slice(&[0xde, 0xad]);
    to[14..].copy_from_slice(&number.to_be_bytes());
    Ok(Build::ethernet(&[], IPV6, &Build::ipv6(v6(CUSTOMER[1])?, to, 17, 64, &Build::udp(1, 2, b"who"))))
}

#[test]
fn bgp_heartbeats_and_goodput_survive_floods_of_the_slow_path() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    if thread::available_parallelism()?.get() < 2 {
        println!("SKIP: one CPU cannot flood and leave room");
        return Ok(());
    }
    let mut lab = Straight::up(HOLD_S)?;
    let unloaded = goodput(&lab, UNLOADED, |_| Ok(()))?;
    println!("  without a flood: {}", unloaded.line());
    ensure!(unloaded.share > 0.99, "the machine does not forward {} packets/s", PACE.per_second);
    let full = env::var_os("ERDP_TEST_FULL").is_some();
    for flood in &FLOODS[..if full { FLOODS.len() } else { 1 }] {
        under(&mut lab, flood, &unloaded).with_context(|| format!("under a flood of {}", flood.name))?;
    }
    lab.until("the counters add up", |it| Ok(it.edge.counters()?.unexplained() == 0))
}

/// What was forwarded of the stream.
struct Goodput {
    per_second: f64,
    share: f64,
}

impl Goodput {
    fn line(&self) -> String {
        format!(
            "{:.0} packets/s of {} bytes forwarded, {:.2} % of those sent",
            self.per_second,
            PACE.bytes,
            self.share * 100.0
        )
    }
}

/// Forwards the stream for so long while `meanwhile` runs.
fn goodput(
    lab: &Straight,
    long: Duration,
    meanwhile: impl FnOnce(&Straight) -> Result<()>,
) -> Result<Goodput> {
    let from = (&lab.msee, SocketAddr::new(ip(AZURE[0][0])?, 7_010));
    let to = (&lab.ce, SocketAddr::new(ip(CUSTOMER[0])?, 7_011));
    let stream = Stream::start(from, to, PACE, 1)?;
    // The first packets wait for neighbours.
    thread::sleep(Duration::from_millis(300));
    let (before, begin) = (stream.counts(), Instant::now());
    meanwhile(lab)?;
    thread::sleep(long.saturating_sub(begin.elapsed()));
    let (after, took) = (stream.counts(), begin.elapsed());
    stream.stop()?;
    let (sent, received) = ((after.0 - before.0) as f64, (after.1 - before.1) as f64);
    Ok(Goodput { per_second: received / took.as_secs_f64(), share: received / sent })
}

fn under(lab: &mut Straight, flood: &Flood, unloaded: &Goodput) -> Result<()> {
    let sessions = lab.edge.sessions()?;
    let before = lab.edge.counters()?;
    let (mut sent, mut beats) = (0.0, [Beats::default(); 2]);
    let loaded = goodput(lab, FLOOD, |lab| {
        let far = Heartbeat::start(&lab.msee, ip(plan::PRIMARY.ipv4.0)?, 1)?;
        let near = Heartbeat::start(&lab.ce, ip(plan::CE.ipv4.1)?, 1)?;
        sent = flood_for(&lab.ce, flood, lab.middle.mac("ce0")?)?;
        beats = [far.stop()?, near.stop()?];
        Ok(())
    })?;
    let after = lab.edge.counters()?;
    let ended = |name: &str, counters: &Counters| counters.dropped.get(name).map_or(0, |it| it.packets);
    let dropped: u64 = flood.ends.iter().map(|name| ended(name, &after) - ended(name, &before)).sum();
    let arrived = after.rx.packets - before.rx.packets;
    println!(
        "  {}: {:.2} M frames/s for {} s",
        flood.name,
        sent / FLOOD.as_secs_f64() / 1e6,
        FLOOD.as_secs()
    );
    println!(
        "    {:.2} M arrived, {:.2} M ended as {:?}",
        arrived as f64 / 1e6,
        dropped as f64 / 1e6,
        flood.ends
    );
    println!("    {}, {:.1} % of unloaded", loaded.line(), loaded.per_second / unloaded.per_second * 100.0);
    for (name, beats) in ["the other attachment", "the flooded attachment"].iter().zip(&beats) {
        let Beats { sent, received, longest_gap } = beats;
        println!(
            "    heartbeat on {name}: {received} of {sent} replies, longest gap {} ms",
            longest_gap.as_millis()
        );
    }
    ensure!(
        dropped as f64 > 0.5 * sent,
        "the flood did not end as {:?}:\n{}",
        flood.ends,
        lab.edge.table("counters")?
    );
    survived(lab, &sessions)?;
    ensure!(!beats[0].has_failed(), "three beats in a row were missed on the other attachment");
    let shares_its_budget = flood.name.starts_with("echo");
    ensure!(
        shares_its_budget || !beats[1].has_failed(),
        "three beats in a row were missed on the flooded attachment"
    );
    ensure!(
        loaded.per_second >= GOODPUT * unloaded.per_second,
        "the goodput fell below {GOODPUT} of what it was"
    );
    Ok(())
}

/// No session has been down since these were all up.
fn survived(lab: &mut Straight, before: &[Session]) -> Result<()> {
    lab.edge.must_run()?;
    let sessions = lab.edge.sessions()?;
    // Not by the last error, which may be from before the flood: calls of both sides may have crossed.
    let is_unharmed = |it: &&Session| {
        let was = before.iter().find(|other| other.peer == it.peer);
        it.state == "Established" && was.is_some_and(|was| was.sessions == it.sessions)
    };
    let unharmed = sessions.iter().filter(is_unharmed).count();
    println!(
        "    BGP, hold time {HOLD_S} s: {unharmed} of {} sessions Established without a break",
        sessions.len()
    );
    ensure!(sessions.len() == 4 && unharmed == 4, "{sessions:?}");
    Ok(())
}

/// Sends a flood's frames from the customer's interface, as fast as CPU 0 can; the answer is how many were sent.
fn flood_for(from: &Namespace, flood: &Flood, to: [u8; 6]) -> Result<f64> {
    let macs = Macs { own: from.mac("edge0")?, edge: to };
    let frames: Vec<Vec<u8>> = (0..VARIANTS)
        .map(|number| {
            let mut frame = (flood.frame)(number, &macs)?;
            frame[..6].copy_from_slice(&macs.edge);
            frame[6..12].copy_from_slice(&macs.own);
            frame.resize(frame.len().max(60), 0);
            Ok(frame)
        })
        .collect::<Result<_>>()?;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (ends, count) = (Arc::clone(&stop), Arc::clone(&sent));
    let flooding = enter::on_thread(from.name(), move || {
        stay_on(0)?;
        let sender = Sender::open("edge0")?;
        while !ends.load(Ordering::Relaxed) {
            for batch in frames.chunks(BATCH) {
                count.fetch_add(sender.send(batch)? as u64, Ordering::Relaxed);
            }
        }
        Ok(())
    })?;
    thread::sleep(FLOOD);
    stop.store(true, Ordering::Relaxed);
    flooding.join().map_err(|_| anyhow::anyhow!("the flood's thread panicked"))??;
    Ok(sent.load(Ordering::Relaxed) as f64)
}
