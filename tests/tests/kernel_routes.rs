//! The kernel as a source of routes: FRR on the edge speaks with the customer's routers and installs what it learns; ERDP forwards by it
//! in XDP and tells the MSEE. Both run the files of `deploy/frr` as they are.
//!
//! Then what else can happen to a kernel's routes: several next hops with weights, nexthop objects, replacing, dropping, gateways that
//! are none of ours, an interface that goes, and a burst that nobody listens to.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    net::{IpAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    edge,
    lab::{
        beside::Beside,
        enter,
        netns::Namespace,
        plan,
        straight::{AZURE, CUSTOMER, ip},
    },
    traffic::{counts, echo::echo, raw},
};
use nix::{libc, sys::signal::Signal};
use serde::Deserialize;
use serde_json::Value;

/// What `erdp show routes --json` says of a prefix.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Route {
    prefix: String,
    next_hops: Vec<IpAddr>,
    via: Vec<String>,
    source: String,
    shares: Vec<u8>,
}

fn routes(lab: &Beside) -> Result<BTreeMap<String, Route>> {
    let rows: Vec<Route> = serde_json::from_str(&lab.edge.show("routes")?)?;
    Ok(rows.into_iter().map(|row| (row.prefix.clone(), row)).collect())
}

/// Next hops with their shares, by address.
fn hops(lab: &Beside, prefix: &str) -> Result<Vec<String>> {
    let found = routes(lab)?.remove(prefix);
    let hops =
        found.map(|it| it.next_hops.into_iter().zip(it.shares).collect::<Vec<_>>()).unwrap_or_default();
    let mut hops: Vec<String> = hops.iter().map(|(to, share)| format!("{to}*{share}")).collect();
    hops.sort();
    Ok(hops)
}

fn kernel(lab: &Beside) -> Result<Value> {
    let mut counters: Value = serde_json::from_str(&lab.edge.show("counters")?)?;
    Ok(counters["kernel_routes"]["kernel"].take())
}

/// Packets that came in at each router's end of the edge's links.
fn received(lab: &Beside) -> Result<[u64; 2]> {
    let count =
        |namespace: &Namespace| Ok::<_, anyhow::Error>(counts::interface(namespace, "edge0")?.rx_packets);
    Ok([count(&lab.routers[0])?, count(&lab.routers[1])?])
}

/// One datagram of each of so many flows from Azure; the answer is how many have come to each router.
fn flows(lab: &Beside, to: &str, many: u16) -> Result<[u64; 2]> {
    let (from, to) = (AZURE[0][usize::from(to.contains(':'))], ip(to)?);
    let before = received(lab)?;
    enter::run(lab.msee.name(), move || {
        for _ in 0..many {
            UdpSocket::bind((from, 0))?.send_to(b"erdp", (to, 9_000)).context("cannot send")?;
        }
        Ok(())
    })?;
    thread::sleep(Duration::from_millis(200));
    let after = received(lab)?;
    Ok([after[0] - before[0], after[1] - before[1]])
}

#[test]
fn what_frr_learns_is_forwarded_by_and_told_to_microsoft_and_follows_the_kernel() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut lab = Beside::begin()?;
    example_works(&mut lab)?;
    weights_and_objects(&mut lab)?;
    discards_and_refusals(&mut lab)?;
    an_interface_goes(&mut lab)?;
    a_burst_that_nobody_hears(&mut lab)?;
    lab.until("the counters add up", |it| Ok(it.edge.counters()?.unexplained() == 0))?;
    Ok(())
}

/// What `erdp ask` says of flows of many kinds happens to them: all packets of a flow leave to the router that it names.
fn ask_says_what_happens(lab: &Beside) -> Result<()> {
    const EACH: u64 = 30;
    let mut random = fastrand::Rng::with_seed(18);
    let mut by_router = [0; 2];
    for _ in 0..24 {
        let family = random.usize(..2);
        let (from, to) = (AZURE[0][family], CUSTOMER[family]);
        let (port, dscp, size) = (random.u16(20_000..60_000), random.u8(..64), random.u16(100..1_400));
        let numbers = [port.to_string(), dscp.to_string(), size.to_string()];
        let [port_text, dscp_text, size_text] = &numbers;
        let printed = lab.edge.ask(&[
            "ask",
            "--interface",
            "msee1",
            "--from",
            from,
            "--to",
            to,
            "--protocol",
            "udp",
            "--from-port",
            port_text,
            "--to-port",
            "9000",
            "--dscp",
            dscp_text,
            "--size",
            size_text,
            "--json",
        ])?;
        let answer: Value = serde_json::from_str(&printed).with_context(|| printed.clone())?;
        let expected = ["ce0", "ce1"].iter().position(|it| answer["interface"] == **it);
        let expected = expected.with_context(|| format!("no router in {printed}"))?;
        let detail = &answer["detail"];
        ensure!(
            (&detail["packet"]["size"], &detail["packet"]["dscp"]) == (&size.into(), &dscp.into())
                && detail["route"]["prefix"].is_string()
                && answer["way_back"]["verdict"] == "transmit",
            "{printed}"
        );
        let before = received(lab)?;
        let payload = vec![0; usize::from(size) - if family == 0 { 28 } else { 48 }];
        enter::run(lab.msee.name(), move || {
            let socket = UdpSocket::bind((from, port))?;
            let (level, option) = if family == 0 {
                (libc::IPPROTO_IP, libc::IP_TOS)
            } else {
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
            };
            raw::set_option(&socket, level, option, i32::from(dscp) << 2)?;
            for _ in 0..EACH {
                socket.send_to(&payload, (to, 9_000)).context("cannot send")?;
            }
            Ok(())
        })?;
        let deadline = Instant::now() + Duration::from_secs(2);
        while received(lab)?[expected] < before[expected] + EACH {
            ensure!(Instant::now() < deadline, "they did not come to ce{expected}: {printed}");
            thread::sleep(Duration::from_millis(2));
        }
        let other = received(lab)?[1 - expected] - before[1 - expected];
        ensure!(other < EACH, "{other} packets came to the other router: {printed}");
        by_router[expected] += 1;
    }
    println!("  as `erdp ask` said: {by_router:?} flows to ce0 and ce1");
    ensure!(by_router.iter().all(|count| *count > 0), "one router only: {by_router:?}");
    Ok(())
}

/// The files of `deploy/frr`: sessions, multipath, announcements, both ways, both families.
fn example_works(lab: &mut Beside) -> Result<()> {
    lab.until("the daemon answers", |it| Ok(it.edge.answers()))?;
    lab.until("the customer's prefixes over both routers, by the kernel", |it| {
        let routes = routes(it)?;
        let is_there = |prefix: &str| {
            routes
                .get(prefix)
                .is_some_and(|it| it.source == "kernel" && it.via == ["ce0", "ce1"] && it.shares == [1, 1])
        };
        Ok(is_there(plan::CUSTOMER_IPV4) && is_there(plan::CUSTOMER_IPV6))
    })?;
    let told =
        [plan::CUSTOMER_IPV4, plan::CUSTOMER_IPV6, "198.18.66.0/24", "198.18.64.0/20", "fd00:0:0:66::/64"];
    lab.until("the MSEE has all of it", |it| {
        let known = it.at_microsoft()?;
        Ok(told.iter().all(|prefix| known.contains(prefix)))
    })?;
    for family in 0..2 {
        let (host, azure) = (ip(CUSTOMER[family])?, ip(AZURE[0][family])?);
        for router in 0..2 {
            echo(&lab.routers[router], Some(host), azure, 1).ok();
        }
        let many = flows(lab, CUSTOMER[family], 400)?;
        println!("  400 flows to {host}: {} by ce0, {} by ce1", many[0], many[1]);
        ensure!(many.iter().all(|count| (120..=300).contains(count)), "400 flows: {many:?}");
        let requests = echo(&lab.msee, Some(azure), host, 3)?;
        println!("  {azure} to {host} and back: 3 replies to {requests} requests");
    }
    println!("{}", lab.edge.table("routes")?);
    ask_says_what_happens(lab)
}

/// Weights of a route's own next hops and of nexthop objects, on one wire and on two.
fn weights_and_objects(lab: &mut Beside) -> Result<()> {
    let expect = |lab: &mut Beside, what: &str, prefix: &str, expected: &[&str]| {
        lab.until(what, |it| Ok(hops(it, prefix)? == expected))
    };
    let net = "198.18.68.0/24";
    let weighted = "nexthop via 198.18.10.2 dev ce0 weight 10 nexthop via 198.18.11.2 dev ce1 weight 30";
    lab.middle.ip(&format!("route add {net} proto bird {weighted}"))?;
    expect(lab, "two next hops, 1 to 3", net, &["198.18.10.2*1", "198.18.11.2*3"])?;
    let many = flows(lab, "198.18.68.10", 800)?;
    println!("  800 flows, 1 to 3: {} by ce0, {} by ce1", many[0], many[1]);
    ensure!(many[0] + many[1] >= 800 && (2..=4).contains(&(many[1] / many[0].max(1))), "{many:?}");
    lab.middle.ip(&format!("route replace {net} proto bird via 198.18.11.2"))?;
    expect(lab, "replaced by one", net, &["198.18.11.2*1"])?;
    lab.middle.ip(&format!("route append {net} proto bird via 198.18.10.2"))?;
    lab.middle.ip(&format!("route del {net} proto bird via 198.18.11.2"))?;
    expect(lab, "the appended one when the first has gone", net, &["198.18.10.2*1"])?;
    lab.middle.ip(&format!("route del {net} proto bird"))?;
    expect(lab, "deleted", net, &[])?;
    lab.until("the MSEE is told so", |it| Ok(!it.at_microsoft()?.contains(net)))?;
    // Objects, as zebra has them for its own routes. None is changed here: FRR 8.4 takes those of others that change for its own, and
    // writes them again as it knew them. `kernel/routes/live_tests.rs` changes them without FRR.
    for words in [
        "nexthop add id 2001 via 198.18.10.2 dev ce0",
        "nexthop add id 2002 via 198.18.10.3 dev ce0",
        "nexthop add id 2003 group 2001,5/2002,10",
        "route add 198.18.69.0/24 proto bird nhid 2003",
    ] {
        lab.middle.ip(words)?;
    }
    let net = "198.18.69.0/24";
    expect(lab, "a group on one wire", net, &["198.18.10.2*1", "198.18.10.3*2"])?;
    lab.middle.ip("nexthop del id 2003")?;
    expect(lab, "the object has gone, and its route", net, &[])
}

/// What is dropped on purpose, and what leads where ERDP does not.
fn discards_and_refusals(lab: &mut Beside) -> Result<()> {
    let inside = ip("198.18.70.1")?;
    let answer = lab.edge.explain("msee1", &[inside])?.remove(0);
    ensure!(answer.verdict == "drop", "what FRR has as blackhole: {answer:?}");
    println!("  {inside}, in FRR's blackhole: dropped as {}", answer.reason.unwrap_or_default());
    let rows = [
        ("198.18.72.0/24", "via 198.18.99.2", "not that of an attachment", "mgmt0"),
        ("198.18.73.0/24", "dev ce0", "no gateway", "ce0"),
        ("198.18.74.0/24", "via 198.18.50.9 dev ce0 onlink", "no subnet", "198.18.50.9"),
        ("0.0.0.0/0", "via 198.18.10.2", "(D5)", ""),
    ];
    for (prefix, leads, _, _) in rows {
        lab.middle.ip(&format!("route add {prefix} proto bird {leads}"))?;
    }
    lab.middle.ip("route add throw 198.18.75.0/24 proto bird")?;
    // Not of a protocol that is asked for: nobody's business.
    lab.middle.ip("route add 198.18.76.0/24 proto 4 via 198.18.10.2")?;
    lab.until("each is refused with its reason", |it| {
        let refused = it.edge.ask(&["show", "routes", "--refused", "--json"])?;
        let refused: Vec<Value> = serde_json::from_str(&refused)?;
        let is_said = |prefix: &str, words: [&str; 2]| {
            let mut of_it = refused.iter().filter(|row| row["prefix"] == prefix);
            of_it.any(|row| {
                words.iter().all(|word| row["reason"].as_str().is_some_and(|it| it.contains(word)))
            })
        };
        ensure!(refused.iter().all(|row| row["prefix"] != "198.18.76.0/24"), "{refused:?}");
        Ok(rows.iter().all(|(prefix, _, why, by)| is_said(prefix, [why, by]))
            && is_said("198.18.75.0/24", ["throw", ""]))
    })?;
    println!("{}", lab.edge.ask(&["show", "routes", "--refused"])?);
    let known = routes(lab)?;
    for prefix in rows.iter().map(|row| row.0).chain(["198.18.75.0/24", "198.18.76.0/24"]) {
        ensure!(!known.contains_key(prefix), "{prefix} is used");
        lab.middle.ip(&format!("route del {prefix}"))?;
    }
    lab.until("nothing of it is refused any more", |it| Ok(!it.edge.table("refused")?.contains("198.18.7")))
}

/// The kernel says nothing about IPv4 routes that go with their interface.
fn an_interface_goes(lab: &mut Beside) -> Result<()> {
    lab.middle.ip("route add 198.18.77.0/24 proto bird via 198.18.11.2")?;
    lab.until("a route over ce1", |it| Ok(routes(it)?.contains_key("198.18.77.0/24")))?;
    lab.middle.ip("link set ce1 down")?;
    lab.until("without ce1 there is one router, and that route is gone", |it| {
        let routes = routes(it)?;
        let of = |prefix: &str| routes.get(prefix).map(|route| route.via.clone());
        Ok(of("198.18.77.0/24").is_none() && of(plan::CUSTOMER_IPV4) == Some(vec!["ce0".into()]))
    })?;
    lab.middle.ip("link set ce1 up")?;
    // The kernel takes IPv6 addresses away with the interface; ERDP adds its own at the start only.
    lab.middle.address("ce1", "fd00:0:0:b::1/64")?;
    lab.until("both again", |it| {
        Ok(routes(it)?.get(plan::CUSTOMER_IPV4).is_some_and(|it| it.via == ["ce0", "ce1"]))
    })
}

/// The daemon stands still while the kernel's routes change more often than its socket's buffer holds.
fn a_burst_that_nobody_hears(lab: &mut Beside) -> Result<()> {
    const MANY: u32 = 30_000;
    let prefix = |number: u32| format!("198.19.{}.{}/32", number >> 8, number & 255);
    let mut text = String::new();
    for number in 0..MANY {
        writeln!(text, "route add {} via 198.18.10.2 dev ce0 proto bird", prefix(number))?;
    }
    for number in 0..MANY {
        match number % 3 {
            0 => writeln!(text, "route del {} proto bird", prefix(number))?,
            1 => writeln!(text, "route replace {} via 198.18.11.2 dev ce1 proto bird", prefix(number))?,
            _ => {}
        }
    }
    let file = lab.folder().join("burst");
    fs::write(&file, text)?;
    let before = kernel(lab)?["overruns"].as_u64().context("overruns are counted")?;
    lab.edge.process().signal(Signal::SIGSTOP)?;
    let burst = lab.middle.ip(&format!("-batch {}", file.display()));
    lab.edge.process().signal(Signal::SIGCONT)?;
    burst?;
    let printed = lab.middle.ip("route show proto bird")?;
    let mut expected: Vec<(String, String)> = Vec::new();
    for line in printed.lines().filter(|line| line.starts_with("198.19.")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        expected.push((format!("{}/32", words[0]), words[2].to_owned()));
    }
    expected.sort();
    ensure!(expected.len() == 20_000, "{} routes in the kernel", expected.len());
    lab.until("after a burst that nobody heard ERDP has what the kernel has", |it| {
        let found = routes(it)?.into_values().filter(|route| route.prefix.starts_with("198.19."));
        let first = |route: &Route| route.next_hops.first().map(ToString::to_string).unwrap_or_default();
        let mut found: Vec<(String, String)> =
            found.map(|route| (route.prefix.clone(), first(&route))).collect();
        found.sort();
        Ok(found == expected)
    })?;
    let counts = kernel(lab)?;
    println!("  {counts}");
    ensure!(counts["overruns"].as_u64() > Some(before), "nothing was lost: the burst was too small");
    // And the packet path too.
    let asked: Vec<IpAddr> = (0..MANY)
        .step_by(97)
        .map(|number| ip(prefix(number).trim_end_matches("/32")))
        .collect::<Result<_>>()?;
    let answers = lab.edge.explain("msee1", &asked)?;
    for (number, answer) in (0..MANY).step_by(97).zip(answers) {
        let expected = match number % 3 {
            0 => None,
            1 => Some("ce1"),
            _ => Some("ce0"),
        };
        ensure!(answer.interface.as_deref() == expected, "{number}: {answer:?}");
    }
    Ok(())
}
