//! A full circuit on tagged ports: BGP of both families on both peerings of both links, then random packets on all inputs, counted by tag
//! where they come out.
//!
//! Each packet carries where it was put in and where it is to go. Who sees it leave the edge knows from the tags where that is, and
//! from the policy by heart (not from any table) whether it may: the peering's other end only, never back, to whose its destination is,
//! towards Microsoft peering from public sources only (D4), from an MSEE by its own sources only (C2). ICMP errors and echo replies go back to where their cause came from. At
//! the end every packet is accounted for, twice: by ERDP's counters (received + originated + from the kernel = transmitted + punted +
//! dropped), and against the wires (received = put in; transmitted = seen leaving + lost).
//!
//! `ERDP_TEST_FULL=1` (`cargo xtask test --full`) makes it a million packets; `ERDP_TEST_SEED` chooses others.

use std::{
    collections::BTreeMap,
    env,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp::rib::bogons::is_bogon;
use erdp_tests::{
    edge,
    lab::full_circuit::{FullCircuit, Peering, SIDES, Side, WIRES},
    packets::Build,
};
use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Type, SlicedPacket, TransportSlice};
use fastrand::Rng;

const SLICE: u32 = 50_000;
const FULL: u32 = 1_000_000;
const SEED: u64 = 0x4552_4450;
/// Packets between two pauses, so that the far ends keep up.
const BURST: u32 = 64;
const PAUSE: Duration = Duration::from_micros(400);
/// Behind what a packet says about itself: the number of its input.
const MARK: &[u8; 8] = b"ERDPedge";

/// Beside the hosts of all sides: what nobody has announced, what is nobody's, and what is the edge's own or a neighbour's.
const OTHERS: [&str; 15] = [
    "8.8.8.8",
    "10.9.9.9",
    "192.168.1.1",
    "100.64.0.9",
    "127.0.0.1",
    "224.0.0.5",
    "255.255.255.255",
    "198.18.0.1",
    "198.18.2.2",
    "2001:4860::8888",
    "fd00:0:0:99::1",
    "ff02::5",
    "fd00:0:0:10::1",
    "fd00:0:0:2::2",
    "2a00::1",
];

/// An input: a wire and the tags that a frame is put on it with.
const INPUTS: [(usize, &[(u16, u16)]); 11] = [
    (0, &[(0x8100, 7), (0x8100, 100)]),
    (0, &[(0x8100, 7), (0x8100, 200)]),
    (1, &[(0x88a8, 7), (0x8100, 100)]),
    (1, &[(0x8100, 7), (0x8100, 200)]),
    (2, &[(0x8100, 300)]),
    (2, &[(0x8100, 400)]),
    // From here on nobody's: no tag, one of two, others', too many.
    (0, &[]),
    (1, &[(0x8100, 7)]),
    (0, &[(0x8100, 100), (0x8100, 7)]),
    (2, &[(0x8100, 7), (0x8100, 100)]),
    (1, &[(0x88a8, 7), (0x8100, 100), (0x8100, 1)]),
];

/// Every address that is used, hosts of the sides first.
fn addresses() -> Vec<IpAddr> {
    let hosts =
        SIDES.iter().flat_map(|side| side.announced).filter_map(|net| net.parse::<ipnet::IpNet>().ok());
    let hosts = hosts.map(|net| match net.network() {
        IpAddr::V4(first) => IpAddr::from((u32::from(first) + 77).to_be_bytes()),
        IpAddr::V6(first) => IpAddr::from((u128::from(first) + 0x77).to_be_bytes()),
    });
    hosts.chain(OTHERS.iter().filter_map(|text| text.parse().ok())).collect()
}

/// A random packet: its input and the frame.
fn packet(rng: &mut Rng, addresses: &[IpAddr], macs: &[[u8; 6]]) -> (usize, Vec<u8>) {
    // One in eight is on nobody's tags.
    let known = SIDES.len();
    let input = if rng.u8(..8) == 0 { rng.usize(known..INPUTS.len()) } else { rng.usize(..known) };
    let to = addresses[rng.usize(..addresses.len())];
    let alike: Vec<IpAddr> = addresses.iter().copied().filter(|it| it.is_ipv4() == to.is_ipv4()).collect();
    let from = alike[rng.usize(..alike.len())];
    // The input stands before the mark: what is cut short has lost the mark first.
    let mut data = vec![input as u8];
    data.extend_from_slice(MARK);
    data.resize(rng.usize(9..1_400), 0);
    let hop_limit = [0, 1, 2, 64, 64, 64, 64, 255][rng.usize(..8)];
    let (protocol, segment) = match rng.u8(..8) {
        0 => echo(from, to, &data),
        1 => (6, [&Build::tcp(rng.u16(1_024..), 443)[..], &data].concat()),
        2 => (50, data), // ESP, as far as anybody can see
        _ => (17, Build::udp(rng.u16(1_024..), rng.u16(1_024..), &data)),
    };
    let odd = rng.u8(..32);
    let mut ip = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            Build::ipv4(from.octets(), to.octets(), protocol, &segment, |header| {
                header.time_to_live = hop_limit;
                header.dont_fragment = rng.bool();
                header.more_fragments = odd == 0;
            })
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            Build::ipv6(from.octets(), to.octets(), protocol, hop_limit, &segment)
        }
        _ => Vec::new(),
    };
    match odd {
        1 => ip.truncate(rng.usize(..40)),
        2 => ip[2] = 0xff, // a length that lies; of IPv6, a flow label
        3 => ip[0] ^= 0x20,
        _ => {}
    }
    let (wire, tags) = INPUTS[input];
    let mut frame = Build::ethernet(tags, if to.is_ipv4() { 0x0800 } else { 0x86dd }, &ip);
    frame[..6].copy_from_slice(&macs[wire]);
    frame.resize(frame.len().max(60), 0);
    (wire, frame)
}

/// An echo request that any kernel would answer, and its protocol number.
fn echo(from: IpAddr, to: IpAddr, data: &[u8]) -> (u8, Vec<u8>) {
    let about = IcmpEchoHeader { id: 1, seq: 1 };
    let (protocol, header) = match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = Icmpv6Type::EchoRequest(about).to_header(from.octets(), to.octets(), data);
            (58, header.map(|header| header.to_bytes().to_vec()).unwrap_or_default())
        }
        _ => (1, Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(about), data).to_bytes().to_vec()),
    };
    (protocol, [&header[..], data].concat())
}

/// What has been seen: how often each thing, and the first few that policy forbids.
#[derive(Default)]
struct Seen {
    ends: BTreeMap<String, u64>,
    forbidden: Vec<String>,
}

/// A frame that leaves towards a side; `None`: it is none of ours.
fn look(side: usize, frame: &[u8]) -> Option<Result<String>> {
    let at = frame.windows(MARK.len()).position(|window| window == MARK)?;
    let input = usize::from(*frame.get(at.checked_sub(1)?)?);
    Some(judge(side, frame, input))
}

fn judge(out: usize, frame: &[u8], input: usize) -> Result<String> {
    let (came, went) = (SIDES.get(input).context("it came in on nobody's tags")?, &SIDES[out]);
    let packet = SlicedPacket::from_ethernet(frame).context("not a packet")?;
    let (from, to): (IpAddr, IpAddr) = match packet.net.context("no IP")? {
        etherparse::NetSlice::Ipv4(ip) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into())
        }
        etherparse::NetSlice::Ipv6(ip) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into())
        }
        etherparse::NetSlice::Arp(_) => anyhow::bail!("ARP with a mark"),
    };
    let of_ours = match packet.transport {
        Some(TransportSlice::Icmpv4(icmp)) => match icmp.icmp_type() {
            Icmpv4Type::TimeExceeded(_) | Icmpv4Type::DestinationUnreachable(_) => Some("ICMP error"),
            Icmpv4Type::EchoReply(_) => Some("echo reply"),
            _ => None,
        },
        Some(TransportSlice::Icmpv6(icmp)) => match icmp.icmp_type() {
            Icmpv6Type::TimeExceeded(_)
            | Icmpv6Type::DestinationUnreachable(_)
            | Icmpv6Type::PacketTooBig { .. } => Some("ICMP error"),
            Icmpv6Type::EchoReply(_) => Some("echo reply"),
            _ => None,
        },
        _ => None,
    };
    if let Some(what) = of_ours {
        ensure!(out == input, "an {what} about a packet of {} has gone to {}", came.name, went.name);
        ensure!(
            went.ours.iter().any(|ours| ours.parse() == Ok(from)),
            "an {what} from {from}, which is not ours"
        );
        return Ok(format!("{what} to {}", went.name));
    }
    ensure!(may_reach(came, went), "a packet of {} has gone to {}", came.name, went.name);
    ensure!(went.has(to), "a packet to {to} has gone to {}, whose it is not", went.name);
    ensure!(may_send(came, from), "{} has sent from {from}", came.name);
    let is_bare = went.is_msee && went.peering == Peering::Microsoft && is_bogon(from.into());
    ensure!(!is_bare, "a packet from {from} has gone to Microsoft peering");
    Ok(format!("{} to {}", came.name, went.name))
}

/// The policy (C1, C2 without hairpin): the other end of the same peering.
fn may_reach(came: &Side, went: &Side) -> bool {
    came.peering == went.peering && came.is_msee != went.is_msee
}

/// What an MSEE sends from (C2): nothing of the customer's, and on private peering what is announced there or on the wires.
fn may_send(came: &Side, from: IpAddr) -> bool {
    let of_peering = |is_msee: bool| {
        SIDES.iter().filter(move |side| side.peering == came.peering && side.is_msee == is_msee)
    };
    let on_wires = |side: &Side| side.ours.iter().any(|ours| ours.parse() == Ok(from));
    !came.is_msee
        || !of_peering(false).any(|side| side.has(from))
            && (came.peering == Peering::Microsoft
                || of_peering(true).any(|side| side.has(from) || on_wires(side)))
}

#[test]
fn random_packets_on_all_inputs_of_a_full_circuit_leave_only_where_policy_allows() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let seed =
        env::var("ERDP_TEST_SEED").ok().map_or(Ok(SEED), |text| text.parse()).context("ERDP_TEST_SEED")?;
    let packets = if env::var_os("ERDP_TEST_FULL").is_some() { FULL } else { SLICE };
    let seen = Arc::new(Mutex::new(Seen::default()));
    let notes = Arc::clone(&seen);
    let mut lab = FullCircuit::up(Arc::new(move |side, frame: &[u8]| {
        let Some(judged) = look(side, frame) else { return false };
        // A panic while the lock was held leaves counts that are still true.
        let mut seen = notes.lock().unwrap_or_else(PoisonError::into_inner);
        match judged {
            Ok(end) => *seen.ends.entry(end).or_default() += 1,
            Err(error) => seen.forbidden.push(format!("{error:#}")),
        }
        true
    }))?;
    println!("{}", lab.edge.table("sessions")?);
    let before = Balance::of(&lab)?;
    flood(&lab, packets, seed)?;
    lab.until("every packet is accounted for", |it| Ok(Balance::of(it)?.since(&before).is_even(packets)))?;
    report(&lab, &before, packets)?;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    for (end, count) in &seen.ends {
        println!("  {count:>8} {end}");
    }
    ensure!(
        seen.forbidden.is_empty(),
        "{} packets left where policy forbids: {:?}",
        seen.forbidden.len(),
        seen.forbidden.first()
    );
    for (came, went) in SIDES.iter().flat_map(|came| SIDES.iter().map(move |went| (came, went))) {
        let end = format!("{} to {}", came.name, went.name);
        ensure!(seen.ends.contains_key(&end) == may_reach(came, went), "{end}: nothing has come");
    }
    ensure!(lab.is_established()?, "a session has not survived");
    Ok(())
}

fn flood(lab: &FullCircuit, packets: u32, seed: u64) -> Result<()> {
    let macs: Vec<[u8; 6]> = WIRES.iter().map(|wire| lab.middle.mac(wire)).collect::<Result<_>>()?;
    let (mut rng, addresses, begin) = (Rng::with_seed(seed), addresses(), Instant::now());
    for number in 1..=packets {
        let (wire, frame) = packet(&mut rng, &addresses, &macs);
        lab.inject(wire, &frame).with_context(|| format!("packet {number} of seed {seed}"))?;
        if number % BURST == 0 {
            thread::sleep(PAUSE);
        }
    }
    println!("  {packets} random packets of seed {seed} in {:.1} s", begin.elapsed().as_secs_f32());
    Ok(())
}

/// What the wires have seen and what the counters say of it.
#[derive(Clone, Copy)]
struct Balance {
    /// Received less what the far ends have sent by themselves: what was put in.
    put_in: i128,
    /// Transmitted less what was lost and what was seen leaving.
    missing: i128,
    /// By ERDP's own counters.
    unexplained: i128,
}

impl Balance {
    /// Reads until nothing has passed meanwhile: what is on its way is in one of the counts only.
    fn of(lab: &FullCircuit) -> Result<Self> {
        let wires = || {
            (0..SIDES.len()).map(|side| lab.seen(side)).fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1))
        };
        loop {
            let before = wires();
            let counters = lab.edge.counters()?;
            thread::sleep(Duration::from_millis(50));
            if wires() != before || lab.edge.counters()? != counters {
                continue;
            }
            let (left, came) = before;
            let number = i128::from;
            return Ok(Self {
                put_in: number(counters.rx.packets) - number(came),
                missing: number(counters.tx.packets) - number(counters.transmit_lost.packets) - number(left),
                unexplained: counters.unexplained(),
            });
        }
    }

    fn since(self, before: &Self) -> Self {
        Self { put_in: self.put_in - before.put_in, missing: self.missing - before.missing, ..self }
    }

    fn is_even(self, packets: u32) -> bool {
        self.put_in == i128::from(packets) && self.missing == 0 && self.unexplained == 0
    }
}

fn report(lab: &FullCircuit, before: &Balance, packets: u32) -> Result<()> {
    let counters = lab.edge.counters()?;
    let balance = Balance::of(lab)?.since(before);
    println!("{}", lab.edge.table("counters")?);
    println!(
        "  put in {packets}, received {} beside BGP's and the like; {} transmitted and not seen leaving nor lost; {} lost; {} unexplained",
        balance.put_in, balance.missing, counters.transmit_lost.packets, balance.unexplained
    );
    ensure!(lab.strangers() == 0, "{} frames have left with tags that nobody has", lab.strangers());
    Ok(())
}
