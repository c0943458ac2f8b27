//! A table that one peer announces arrives at another as RFC 4271 wants it passed on to an external peer: our AS in front, ourselves as
//! next hop, without MED, everything else as it was. An MSEE announces to the customer's routers and they to the MSEE: from one side to
//! the other is the only way there is (D9).
//!
//! Tables are the real ones where `ERDP_DATA` names them; `ERDP_TEST_FULL=1` (`cargo xtask test --full`) takes them whole, and
//! from the customer as many prefixes as Microsoft takes (D1).

use std::{
    collections::{HashMap, HashSet},
    env,
    net::{IpAddr, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use erdp::bgp::{
    Aggregator, AsPath, Asn, LargeCommunity, Partial, PathAttributes, RawAttribute, Update,
    wire::{self, Message},
};
use erdp_tests::{
    bench::{
        bgp::{
            receiver::Receiver,
            sender::{self, Sender},
            stage::{self, Stage},
            stream::{self, Group, Samples},
        },
        routes::{Routes, Version},
    },
    edge,
};
use ipnet::IpNet;

const OURS: u32 = 65_010;
const CUSTOMER: u32 = 65_020;
/// For how long nothing may come before all has.
const PATIENCE: Duration = Duration::from_secs(30);
/// Well within a hold time: to read a full table takes longer than that.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Partial: somebody on the way did not know the attribute (RFC 4271 section 5).
const PARTIAL: u8 = 0x20;

const CONFIGURATION: &str = r#"
asn = 65010
[[circuit]]
name = "x"
bandwidth = "10G"
sku = "premium"
primary = { local = "up0" }
secondary = { local = "up1" }
[circuit.private]
ipv4 = "198.18.0.0/29"
ipv6 = "fd00:18::/125"
passive = true
pass-attributes = [99]
[[attachment]]
interface = "ce0"
peerings = ["x/private"]
ipv4 = "198.18.10.1/24"
ipv6 = "fd00:10::1/64"
peers = [
    { address = "198.18.10.10", asn = 65020, passive = true },
    { address = "fd00:10::a", asn = 65020, passive = true },
]
"#;

/// What a peer has been told.
type Told = HashMap<IpNet, Arc<PathAttributes>>;

/// A peer of the edge that remembers.
struct Peer {
    sender: Sender,
    told: Arc<Mutex<Told>>,
}

/// Who announces, and where it stands.
#[derive(Clone, Copy)]
struct Place {
    version: Version,
    asn: u32,
    from: IpAddr,
    to: IpAddr,
}

fn places(version: Version) -> Result<[Place; 2]> {
    let (edge, host, us) = match version {
        Version::V4 => ("198.18.0.1", "198.18.10.10", "198.18.10.1"),
        Version::V6 => ("fd00:18::1", "fd00:10::a", "fd00:10::1"),
    };
    let msee = Place { version, asn: stream::SENDER, from: stage::next_hop(0, version), to: edge.parse()? };
    Ok([msee, Place { version, asn: CUSTOMER, from: host.parse()?, to: us.parse()? }])
}

impl Peer {
    fn connect(stage: &Stage, place: Place) -> Result<Peer> {
        let told = Arc::new(Mutex::new(Told::new()));
        let remembered = told.clone();
        let id = [198, 18, 0, if place.asn == CUSTOMER { 10 } else { 2 }];
        let open = wire::Open { asn: Asn(place.asn), ..stream::open(place.version, id) };
        let read = move |reader| remember(reader, place.version, &remembered);
        let sender = Sender::connect_and(&stage.sender, place.from, place.to, &open, read)?;
        Ok(Peer { sender, told })
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for that many, as long as something comes or goes, and keeps this session and another one.
    fn until_told(&mut self, prefixes: usize, other: Option<&mut Peer>) -> Result<()> {
        let mut senders = [Some(&mut self.sender), other.map(|peer| &mut peer.sender)];
        let told = || self.told.lock().unwrap_or_else(PoisonError::into_inner).len();
        let (mut before, mut since, mut kept) = (told(), Instant::now(), Instant::now());
        while before != prefixes {
            thread::sleep(Duration::from_millis(20));
            if kept.elapsed() > KEEPALIVE {
                senders.iter_mut().flatten().try_for_each(|sender| sender.keepalive())?;
                kept = Instant::now();
            }
            let now = told();
            if now != before {
                (before, since) = (now, Instant::now());
            }
            ensure!(since.elapsed() < PATIENCE, "{now} of {prefixes} prefixes, and no more comes");
        }
        Ok(())
    }
}

fn remember(mut reader: TcpStream, version: Version, told: &Mutex<Told>) {
    let context = stream::context(version);
    loop {
        let message = match sender::receive(&mut reader, &context) {
            Ok(message) => message,
            // Closed at the end of the test; anything else is why prefixes are missing.
            Err(error) => return println!("  a reader's end: {error:#}"),
        };
        let Message::Update(decoded) = message else { continue };
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        for Update { withdrawn, announced, attributes, .. } in decoded.updates {
            withdrawn.iter().for_each(|prefix| drop(told.remove(prefix)));
            if let Some(attributes) = attributes {
                told.extend(announced.into_iter().map(|prefix| (prefix, attributes.clone())));
            }
        }
    }
}

/// The part of a table that the MSEE announces and the part that the customer does, by attributes.
fn groups(version: Version, samples: &Samples, places: &[Place; 2], full: bool) -> Result<[Vec<Group>; 2]> {
    let (most, of_customer) = match (version, full) {
        (Version::V4, true) => (None, 10_000),
        (Version::V6, true) => (None, 100),
        (Version::V4, false) => (Some(4_000), 500),
        (Version::V6, false) => (Some(2_000), 50),
    };
    let all = match most {
        None => Routes::full(version)?,
        Some(most) if env::var_os("ERDP_DATA").is_some() => Routes::full(version)?.sample(most + of_customer),
        Some(most) => Routes::generated(version, most + of_customer),
    };
    let customers = all.sample(of_customer);
    let of_customers: HashSet<IpNet> = customers.prefixes.iter().copied().collect();
    let others = all.prefixes.iter().copied().filter(|prefix| !of_customers.contains(prefix)).collect();
    let msees = Routes { version, source: all.source, prefixes: others };
    let origins = stream::origins(version)?;
    let of = |routes: &Routes, place: &Place| -> Vec<Group> {
        let plain = stream::groups(routes, &origins, samples, place.from).into_iter().enumerate();
        plain.map(|(at, (attributes, prefixes))| (garnished(at, attributes, place.asn), prefixes)).collect()
    };
    Ok([of(&msees, &places[0]), of(&customers, &places[1])])
}

/// As this peer would announce it, with rarer attributes here and there.
fn garnished(at: usize, plain: PathAttributes, asn: u32) -> PathAttributes {
    let beyond = plain.as_path.asns().skip(1).map(|asn| asn.0);
    let mut attributes =
        PathAttributes { as_path: AsPath::sequence([asn].into_iter().chain(beyond)), ..plain };
    match at % 8 {
        1 => {
            attributes.large_communities =
                [LargeCommunity(65_536, at as u32, 7), LargeCommunity(1, 2, 3)].into()
        }
        2 => attributes.extended_communities = [0x0002_fde8_0000_0000 | at as u64].into(),
        3 => {
            attributes.atomic_aggregate = true;
            attributes.aggregator = Some(Aggregator { asn: Asn(8_075), router_id: [192, 0, 2, 1].into() });
            attributes.partial = Partial::AGGREGATOR;
        }
        4 => {
            let value = (at as u32).to_be_bytes().to_vec();
            attributes.unknown_transitive = [RawAttribute { flags: 0xc0, code: 99, value }].into();
        }
        5 => attributes.partial = Partial::COMMUNITIES,
        6 => {
            attributes.extended_communities = [0x0002_fde8_0000_0000 | at as u64].into();
            attributes.large_communities = [LargeCommunity(1, 2, 3)].into();
            attributes.partial = Partial::EXTENDED_COMMUNITIES.with(Partial::LARGE_COMMUNITIES);
        }
        _ => {}
    }
    attributes.settle_partial();
    attributes
}

/// What the other side is to be told of it.
fn passed_on(announced: &PathAttributes, next_hop: IpAddr) -> PathAttributes {
    let mut told = announced.clone();
    told.as_path = AsPath::sequence([OURS].into_iter().chain(announced.as_path.asns().map(|asn| asn.0)));
    (told.next_hop, told.med, told.local_pref) = (next_hop, None, None);
    told.unknown_transitive.iter_mut().for_each(|raw| raw.flags |= PARTIAL);
    told
}

fn compare(what: &str, announced: &[Group], peer: &Peer, next_hop: IpAddr) -> Result<()> {
    let told = peer.told();
    let mut compared = 0;
    for (attributes, prefixes) in announced {
        let expected = passed_on(attributes, next_hop);
        for prefix in prefixes {
            let got = told.get(prefix).map(|got| &**got);
            ensure!(got == Some(&expected), "{what}, {prefix}:\n{got:?} is not\n{expected:?}");
            compared += 1;
        }
    }
    ensure!(compared == told.len(), "{what}: {} prefixes nobody announced", told.len() - compared);
    println!("{what}: {compared} prefixes, {} sets of attributes, equal", announced.len());
    Ok(())
}

#[test]
fn d9_a_table_of_one_side_arrives_at_the_other_with_nothing_changed_that_must_not_be() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let full = env::var_os("ERDP_TEST_FULL").is_some();
    let samples = Samples::load()?;
    let stage = Stage::new()?;
    stage.sender.address("cust0", "fd00:10::a/64")?;
    let mut edge = Receiver::erdp_with(&stage.receiver, &stage.folder, CONFIGURATION)?;
    for version in [Version::V4, Version::V6] {
        let places = places(version)?;
        let announced = groups(version, &samples, &places, full)?;
        let [mut msee, mut customer] = [Peer::connect(&stage, places[0])?, Peer::connect(&stage, places[1])?];
        let count = |groups: &[Group]| groups.iter().map(|(_, prefixes)| prefixes.len()).sum::<usize>();
        for (peer, groups) in [&mut msee, &mut customer].into_iter().zip(&announced) {
            peer.sender.send(&stream::announce_groups(groups.clone(), version)?.bytes)?;
        }
        customer.until_told(count(&announced[0]), Some(&mut msee))?;
        msee.until_told(count(&announced[1]), Some(&mut customer))?;
        compare(&format!("{version:?} to the customer"), &announced[0], &customer, places[1].to)?;
        compare(&format!("{version:?} to the MSEE"), &announced[1], &msee, places[0].to)?;
        // Who is gone takes its routes along.
        drop(msee);
        customer.until_told(0, None)?;
        edge.must_run()?;
    }
    Ok(())
}
