//! What a circuit's policer promises, seen by the end hosts of a live edge: a circuit of 50 Mbit/s passes 50 Mbit/s of IP and the credit of a
//! burst, in each direction and of each family, whatever is offered; what it drops is what its counters and Azure's own metrics say.
//!
//! `peak-2x` (A2): the sustained rate R, at most 2R, for as long as the credit lasts. UDP is offered at 2R, so what passes in a time T is
//! R x (T + credit), to the packet but for the ends of the stream and of the credit: 3 % is allowed. TCP (iperf3, CUBIC) that keeps itself
//! to 80 % of R loses nothing; greedy TCP never has more than R after the credit. How much less depends on the round trip: here there is
//! none to speak of and no queue, so it loses whole windows and waits 200 ms each time (`cargo xtask bench policer` has round trips).

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    edge,
    lab::{
        netns::Namespace,
        process::Process,
        straight::{AZURE, CUSTOMER, FAMILIES, Straight, configuration, ip},
    },
    scrape::{self, ADDRESS},
    traffic::stream::{Pace, Stream},
};
use serde_json::Value;

const RATE: f64 = 50e6;
const CREDIT_S: f64 = 0.1;
/// 1,000 bytes of data and 28 or 48 of headers, 12,000 times a second: about 2R.
const PACE: Pace = Pace { per_second: 12_000, bytes: 1_000 };
const OFFERED_FOR: Duration = Duration::from_millis(1_500);
const OFF_AT_MOST: f64 = 0.03;
const ATTEMPTS: usize = 4;
/// 80 % of the rate, as iperf3 takes it, and what has to arrive of it.
const PACED: &str = "40M";
const PACED_AT_LEAST: f64 = 37e6;
/// A few windows of ten packets a second.
const GREEDY_AT_LEAST: f64 = 0.5e6;
/// IP and UDP headers, by family.
const HEADERS: [u64; 2] = [28, 48];
const DIRECTIONS: [&str; 2] = ["to-microsoft", "from-microsoft"];
/// Azure's names, in that order: "in" is into Azure.
const QOS_DROP: [&str; 2] = ["QosDropBitsInPerSecond", "QosDropBitsOutPerSecond"];

/// The lab with a circuit of 50 Mbit/s.
fn up() -> Result<Straight> {
    let text = configuration(30).replace("\"10G\"", "\"50M\"\ncredit-ms = 100");
    let text = format!("metrics = \"{ADDRESS}\"\n{text}");
    let mut lab = Straight::begin(&text, 30, |_, _| Ok(()))?;
    // Packets as on a wire: otherwise one of TCP's is cut up into dozens right behind each other.
    for host in [&lab.ce, &lab.msee] {
        host.exec("ethtool", &["-K", "edge0", "tso", "off", "gso", "off"])?;
    }
    lab.until("four sessions Established", Straight::is_established)?;
    lab.until("ways there and back", |it| {
        let explain = |interface, to: [&str; 2]| it.edge.explain(interface, &[ip(to[0])?, ip(to[1])?]);
        let answers = [explain("ce0", AZURE[0])?, explain("msee1", CUSTOMER)?].concat();
        let knows = |namespace: &Namespace, to: [&str; 2]| {
            to.iter().all(|to| namespace.ip(&format!("route get {to}")).is_ok())
        };
        Ok(answers.iter().all(|it| it.verdict == "transmit")
            && knows(&it.ce, AZURE[0])
            && knows(&it.msee, CUSTOMER))
    })?;
    Ok(lab)
}

fn page(lab: &Straight) -> Result<String> {
    Ok(scrape::get(&lab.middle, "/metrics")?.1)
}

/// Packets and bytes that the circuit's policer has dropped in a direction.
fn dropped(page: &str, direction: &str) -> [u64; 2] {
    let labels = [&format!("direction=\"{direction}\"") as &str, "passage=\"dropped\""];
    ["erdp_circuit_packets_total", "erdp_circuit_bytes_total"]
        .map(|name| scrape::values(page, name, &labels).iter().sum::<f64>() as u64)
}

/// Offers twice the rate until what arrives is what the policer promises; never is it more. A sender that has waited for a CPU offers a
/// burst above 2R afterwards, which is dropped: that is one of [`ATTEMPTS`].
fn offer(lab: &Straight, direction: usize, family: usize) -> Result<()> {
    for _ in 0..ATTEMPTS {
        if attempt(lab, direction, family)? >= 1.0 - OFF_AT_MOST {
            return Ok(());
        }
    }
    anyhow::bail!("{} {}: less than is promised {ATTEMPTS} times", FAMILIES[family], DIRECTIONS[direction])
}

/// Holds what arrives against the policer's counters; the answer is its share of the promise.
fn attempt(lab: &Straight, direction: usize, family: usize) -> Result<f64> {
    let what = format!("UDP {} {}", FAMILIES[family], DIRECTIONS[direction]);
    let mut ends = [(&lab.ce, CUSTOMER[family]), (&lab.msee, AZURE[0][family])];
    if direction == 1 {
        ends.reverse();
    }
    let [from, to] = ends;
    let end =
        |(namespace, address)| Ok::<_, anyhow::Error>((namespace, SocketAddr::new(ip(address)?, 7_007)));
    let before = page(lab)?;
    let stream = Stream::start(end(from)?, end(to)?, PACE, 0)?;
    thread::sleep(OFFERED_FOR);
    let (sent, received) = stream.stop()?;
    let after = page(lab)?;
    let counted = [0, 1]
        .map(|at| dropped(&after, DIRECTIONS[direction])[at] - dropped(&before, DIRECTIONS[direction])[at]);
    let bytes = PACE.bytes as u64 + HEADERS[family];
    let time = sent as f64 / f64::from(PACE.per_second);
    let (passed, promised) = ((8 * received * bytes) as f64, RATE * (time + CREDIT_S));
    println!(
        "  {what}: {sent} sent, {received} received in {time:.2} s: {:.2} Mbit/s and the credit, {:.1} % of the promise; {counted:?} dropped",
        RATE / 1e6,
        100.0 * passed / promised
    );
    ensure!(sent as f64 * bytes as f64 * 8.0 > 1.8 * RATE * time, "{what}: too little was offered: {sent}");
    ensure!(
        passed <= promised * (1.0 + OFF_AT_MOST),
        "{what}: {passed} bits passed, {promised} are promised"
    );
    ensure!(
        counted[0] == sent - received,
        "{what}: {} are missing, {} are counted",
        sent - received,
        counted[0]
    );
    ensure!(
        counted[1] == counted[0] * bytes,
        "{what}: {} bytes are counted for {} packets",
        counted[1],
        counted[0]
    );
    Ok(passed / promised)
}

#[test]
fn a2_g_a_policed_circuit_passes_its_rate_and_credit_and_azures_metrics_say_what_was_dropped() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let lab = up()?;
    // Rates are made of counts that are taken every five seconds; the first is taken when the edge starts.
    let began = Instant::now();
    // Three times as much one way as the other, so that one direction's drops are not taken for the other's.
    for (direction, family) in [(0, 0), (0, 1), (0, 0), (1, 1)] {
        offer(&lab, direction, family)?;
    }
    let quiet = Instant::now();
    while quiet.elapsed() < Duration::from_millis(5_500) {
        thread::sleep(Duration::from_millis(100));
    }
    let page = page(&lab)?;
    let uptime = scrape::value(&page, "erdp_uptime_seconds", &[])?;
    for (direction, metric) in DIRECTIONS.iter().zip(QOS_DROP) {
        let [_, bytes] = dropped(&page, direction);
        let (rate, bits) = (scrape::value(&page, metric, &["circuit=\"lab\""])?, (8 * bytes) as f64);
        // From the first taking to the last, of which neither is known better than to five seconds.
        let (longest, shortest) = (uptime + 1.0, began.elapsed().as_secs_f64() - 5.5);
        println!("  {metric}: {rate:.0}; {bits:.0} bits were dropped in {shortest:.1} to {longest:.1} s");
        ensure!(bits > 0.5 * RATE, "{metric}: hardly anything was dropped");
        ensure!(
            (bits / longest..=bits / shortest).contains(&rate),
            "{metric}: {rate} bits a second for {bits} bits"
        );
    }
    ensure!(lab.edge.counters()?.unexplained() == 0, "conservation");
    Ok(())
}

/// What iperf3 carries in two seconds after one that does not count, in bits of IP a second; `more`: further options.
fn tcp(lab: &Straight, direction: usize, family: usize, more: &[&str]) -> Result<f64> {
    let mut ends = [(&lab.ce, CUSTOMER[family]), (&lab.msee, AZURE[0][family])];
    if direction == 1 {
        ends.reverse();
    }
    let [from, to] = ends;
    let mut server = to.0.command("iperf3")?;
    server.args(["--server", "--one-off", "--bind", to.1]);
    let mut server = Process::start("iperf3-server", server, lab.folder())?;
    thread::sleep(Duration::from_millis(300));
    server.must_run()?;
    let mut arguments = vec!["--client", to.1, "--bind", from.1, "--json", "--omit", "1", "--time", "2"];
    arguments.extend(["--connect-timeout", "5000"]);
    arguments.extend(more);
    let printed = from.0.exec("iperf3", &arguments)?;
    let json: Value = serde_json::from_str(&printed).context("iperf3's JSON")?;
    let goodput = json["end"]["sum_received"]["bits_per_second"].as_f64().context("no rate")?;
    // IP, TCP and its timestamps: what is not payload of 1,500 bytes.
    let headers = [52.0, 72.0][family];
    Ok(goodput * 1_500.0 / (1_500.0 - headers))
}

#[test]
fn a2_tcp_below_the_rate_loses_nothing_to_the_policer_and_greedy_tcp_gets_no_more_than_the_rate() -> Result<()>
{
    if edge::skipped() {
        return Ok(());
    }
    let lab = up()?;
    for (direction, family) in [(0, 0), (1, 1)] {
        let what = format!("TCP {} {}", FAMILIES[family], DIRECTIONS[direction]);
        let before = dropped(&page(&lab)?, DIRECTIONS[direction])[0];
        let paced = tcp(&lab, direction, family, &["--fq-rate", PACED])?;
        let lost = dropped(&page(&lab)?, DIRECTIONS[direction])[0] - before;
        println!("  {what}: paced {:.1} Mbit/s of IP, {lost} dropped", paced / 1e6);
        ensure!(paced >= PACED_AT_LEAST, "{what}: {paced} bit/s of {PACED}");
        ensure!(lost == 0, "{what}: the policer has dropped {lost} packets below its rate");
        let greedy = tcp(&lab, direction, family, &[])?;
        println!("  {what}: greedy {:.1} Mbit/s of IP", greedy / 1e6);
        ensure!(greedy <= RATE * (1.0 + OFF_AT_MOST), "{what}: {greedy} bit/s is more than the circuit has");
        ensure!(greedy >= GREEDY_AT_LEAST, "{what}: {greedy} bit/s: hardly anything");
    }
    Ok(())
}
