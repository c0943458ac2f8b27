//! Against the real kernel: whatever is done to its routes, what was heard is what a dump then finds, overruns or not.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::sync::mpsc;

use super::{Change, Counts, Leads, Listener, RECEIVE_BUFFER, RouteEvent, Watch};
use crate::kernel::tests::{in_namespace, ip};

/// Routes of the tests: those that are looked at most, and others that take their places.
const BIRD: u8 = 12;
const STATIC: u8 = 4;
const PATIENCE: Duration = Duration::from_secs(20);

/// Interfaces `one` and `two` with neighbours' subnets, and `three`, whose carrier makes a dump.
fn links() {
    for (name, host) in [("one", 1), ("two", 2), ("three", 3)] {
        ip(&format!("link add {name} type veth peer name {name}x"));
        ip(&format!("link set {name} up"));
        ip(&format!("link set {name}x up"));
        ip(&format!("address add 198.18.{host}.1/24 dev {name}"));
        ip(&format!("address add fd00:{host}::1/64 dev {name} nodad"));
    }
}

/// Runs lines of `ip`; those that the kernel refuses are passed over.
fn batch(lines: &[String]) {
    let mut child = Command::new("ip")
        .args(["-force", "-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("iproute2");
    let mut text = lines.join("\n");
    text.push('\n');
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("ip reads");
    child.wait().expect("ip ends");
}

/// What a listener has said so far.
struct Heard {
    events: mpsc::Receiver<RouteEvent>,
    routes: BTreeMap<String, Leads>,
    counts: Counts,
    _listener: Listener,
}

impl Heard {
    async fn open(buffer: usize) -> Self {
        let watch = |protocol| Watch { table: 254, protocols: vec![protocol] };
        let (listener, events) = Listener::open(vec![watch(BIRD), watch(STATIC)], buffer).expect("a socket");
        let mut heard =
            Self { events, routes: BTreeMap::new(), counts: Counts::default(), _listener: listener };
        heard.until(|it| it.counts.dumps == 1).await;
        heard
    }

    fn take(&mut self, change: Change) {
        let name = format!("{}{}", change.prefix, ["", " static"][change.watch]);
        match change.selected {
            Some(selected) => self.routes.insert(name, selected.leads),
            None => self.routes.remove(&name),
        };
    }

    async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let hear = async {
            while !done(self) {
                match self.events.recv().await.expect("the listener lives") {
                    RouteEvent::Changes(changes) => changes.into_iter().for_each(|change| self.take(change)),
                    RouteEvent::Complete(counts) => self.counts = counts,
                }
            }
        };
        if tokio::time::timeout(PATIENCE, hear).await.is_err() {
            panic!("waited in vain; {:?}, {} routes", self.counts, self.routes.len());
        }
    }

    /// What is heard now is all that there was to hear.
    async fn all(&mut self, marks: &mut u32) {
        *marks += 1;
        let mark = format!("198.19.255.{marks}/32");
        ip(&format!("route add {mark} dev one proto bird"));
        self.until(|it| it.routes.contains_key(&mark)).await;
    }

    /// Dumps; the answer is how many prefixes were others than was heard.
    async fn compare(&mut self) -> u64 {
        let Counts { dumps, repaired, .. } = self.counts;
        // A carrier that nothing depends on.
        ip("link set threex down");
        self.until(|it| it.counts.dumps > dumps).await;
        ip("link set threex up");
        self.until(|it| it.counts.dumps > dumps + 1).await;
        self.counts.repaired - repaired
    }
}

/// A random line about routes or objects; many are refused by the kernel, as they should be.
fn line(random: &mut impl FnMut(usize) -> usize) -> String {
    let is_ipv4 = random(2) == 0;
    let (flag, prefix) = match is_ipv4 {
        true => ("", format!("198.19.{}.0/24", random(3))),
        false => ("-6 ", format!("fd01:{}::/48", random(3))),
    };
    let gateway = |random: &mut dyn FnMut(usize) -> usize| {
        let (name, host) = [("one", 1), ("two", 2)][random(2)];
        match is_ipv4 {
            true => format!("via 198.18.{host}.{} dev {name}", 2 + random(3)),
            false => format!("via fd00:{host}::{} dev {name}", 2 + random(3)),
        }
    };
    let verb = ["add", "append", "prepend", "replace", "replace", "change", "del", "del"][random(8)];
    let metric = ["", " metric 10", " metric 20"][random(3)];
    let protocol = ["bird", "bird", "static"][random(3)];
    let base = if is_ipv4 { 1 } else { 11 };
    let id = base + random(4);
    match random(12) {
        0 => format!("{flag}nexthop replace id {id} {} proto bird", gateway(random)),
        1 => {
            format!("{flag}nexthop replace id {} group {}/{},{}", base + 8, base, base + 1, base + random(3))
        }
        2 => format!("nexthop del id {}", [id, base + 8][random(2)]),
        3 => format!("{flag}route {verb} {prefix} nhid {id} proto {protocol}{metric}"),
        4 => format!("{flag}route {verb} {prefix} nhid {} proto {protocol}{metric}", base + 8),
        5 => format!("{flag}route {verb} blackhole {prefix} proto {protocol}{metric}"),
        6 => format!("{flag}route {verb} {prefix} dev one proto {protocol}{metric}"),
        7 | 8 => format!(
            "{flag}route {verb} {prefix} proto {protocol}{metric} nexthop {} weight {} nexthop {}",
            gateway(random),
            1 + random(3),
            gateway(random)
        ),
        _ => format!("{flag}route {verb} {prefix} {} proto {protocol}{metric}", gateway(random)),
    }
}

#[test]
fn whatever_is_done_to_routes_and_objects_what_was_heard_is_what_a_dump_finds() {
    // With the mode the kernel tells of routes whose object changes; without it we have to know.
    for mode in ["1", "0"] {
        in_namespace(|| async {
            links();
            if std::fs::write("/proc/sys/net/ipv4/nexthop_compat_mode", mode).is_err() {
                println!("no nexthop_compat_mode here: only the mode that there is");
            }
            let mut heard = Heard::open(RECEIVE_BUFFER).await;
            let mut marks = 0;
            for seed in 0..15u64 {
                let lines = lines(seed);
                batch(&lines);
                heard.all(&mut marks).await;
                let before = heard.routes.clone();
                let repaired = heard.compare().await;
                assert_eq!(
                    before,
                    heard.routes,
                    "mode {mode}, seed {seed}: used otherwise\n{}",
                    lines.join("\n")
                );
                assert_eq!(repaired, 0, "mode {mode}, seed {seed}: known otherwise\n{}", lines.join("\n"));
                assert_eq!(heard.counts.overruns, 0);
            }
            let kinds: BTreeSet<&str> = heard.routes.values().map(kind).collect();
            println!("  mode {mode}: {:?}, used at the end: {kinds:?}", heard.counts);
        });
    }
}

/// The same lines for the same seed, by xorshift64.
fn lines(seed: u64) -> Vec<String> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    (0..60).map(|_| line(&mut random)).collect()
}

fn kind(leads: &Leads) -> &'static str {
    match leads {
        Leads::Hops(_) => "hops",
        Leads::Discard => "discard",
        Leads::Elsewhere(_) => "elsewhere",
    }
}

#[test]
fn after_an_overrun_what_is_known_equals_what_the_kernel_has() {
    in_namespace(|| async {
        links();
        let mut heard = Heard::open(4_096).await;
        let prefix = |number: u32| format!("198.19.{}.{}/32", number >> 8, number & 255);
        let add = |number: u32| format!("route add {} via 198.18.1.2 dev one proto bird", prefix(number));
        batch(&(0..20_000).map(add).collect::<Vec<_>>());
        // Everything of this falls into the time in which nobody reads.
        let change = |number: u32| match number % 3 {
            0 => format!("route del {} proto bird", prefix(number)),
            1 => format!("route replace {} via 198.18.2.2 dev two proto bird", prefix(number)),
            _ => format!("route append {} via 198.18.2.3 dev two proto bird", prefix(number)),
        };
        batch(&(0..20_000).map(change).collect::<Vec<_>>());
        let expected = kernel_routes();
        assert_eq!(expected.len(), 20_000 - 20_000_usize.div_ceil(3));
        heard.until(|it| it.counts.overruns > 0 && it.counts.dumps > 1 && used(it) == expected).await;
        println!("  {:?}", heard.counts);
    });
}

/// Prefix and gateway of what is used.
fn used(heard: &Heard) -> BTreeMap<String, String> {
    let gateway = |leads: &Leads| match leads {
        Leads::Hops(hops) => {
            hops.first().and_then(|hop| hop.gateway).map(|it| it.to_string()).unwrap_or_default()
        }
        Leads::Discard | Leads::Elsewhere(_) => String::new(),
    };
    heard.routes.iter().map(|(prefix, leads)| (prefix.clone(), gateway(leads))).collect()
}

/// The same by `ip route`: the first of several of one metric is used.
fn kernel_routes() -> BTreeMap<String, String> {
    let output = Command::new("ip").args(["route", "show", "proto", "bird"]).output().expect("iproute2");
    let mut routes = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut words = line.split_whitespace();
        let (prefix, gateway) = (words.next().unwrap_or_default(), words.nth(1).unwrap_or_default());
        routes.entry(format!("{prefix}/32")).or_insert_with(|| gateway.to_owned());
    }
    routes
}

#[test]
fn routes_that_go_with_interface_carrier_address_or_object_are_missed_though_the_kernel_says_nothing() {
    in_namespace(|| async {
        links();
        let mut heard = Heard::open(RECEIVE_BUFFER).await;
        let rows = [
            ("198.19.1.0/24", "via 198.18.1.2 dev one", "link set one down"),
            ("198.19.2.0/24", "via 198.18.2.2 dev two", "link set twox down"),
            (
                "198.19.3.0/24",
                "via 198.18.3.2 dev three src 198.18.9.9",
                "address del 198.18.9.9/32 dev three",
            ),
            ("198.19.4.0/24", "nhid 44", "nexthop del id 44"),
            ("fd01:4::/48", "nhid 46", "link del three"),
        ];
        ip("address add 198.18.9.9/32 dev three");
        ip("nexthop add id 44 via 198.18.3.2 dev three");
        ip("-6 nexthop add id 46 via fd00:3::2 dev three");
        for (prefix, leads, _) in rows {
            let family = if prefix.contains(':') { "-6 " } else { "" };
            ip(&format!("{family}route add {prefix} {leads} proto bird"));
        }
        heard.until(|it| it.routes.len() == rows.len()).await;
        for (prefix, _, loss) in rows {
            ip(loss);
            heard.until(|it| !it.routes.contains_key(prefix)).await;
        }
        assert_eq!(heard.routes, BTreeMap::new());
    });
}
