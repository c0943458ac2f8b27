//! `/metrics`, `/healthz` and `/readyz` of a running router, as a monitoring system reads them.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp::metrics::{Kind, Metric};
use erdp_tests::{
    edge,
    lab::{enter, netns::Namespace},
    small::SmallLab,
};

const ADDRESS: &str = "127.0.0.1:9179";

/// What a Prometheus server of today asks for.
const PROMETHEUS: &str =
    "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

/// Status and body of a GET from inside a namespace.
fn get(namespace: &Namespace, path: &str) -> Result<(u16, String)> {
    let (status, _, body) = get_as(namespace, path, PROMETHEUS)?;
    Ok((status, body))
}

/// Status, head and body of a GET that accepts this.
fn get_as(namespace: &Namespace, path: &str, accept: &str) -> Result<(u16, String, String)> {
    let accept = if accept.is_empty() { String::new() } else { format!("Accept: {accept}\r\n") };
    let request = format!("GET {path} HTTP/1.1\r\nHost: edge\r\n{accept}Connection: close\r\n\r\n");
    enter::run(namespace.name(), move || {
        let mut stream = TcpStream::connect(ADDRESS)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").context("no end of the head")?;
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).context("no status")?;
        Ok((status, head.to_ascii_lowercase(), body.to_owned()))
    })
}

/// The value of a sample whose name and labels contain all these words.
fn value(page: &str, name: &str, labels: &[&str]) -> Result<f64> {
    let of_it = |line: &&str| {
        let (sample, _) = line.rsplit_once(' ').unwrap_or_default();
        sample.split('{').next() == Some(name) && labels.iter().all(|label| sample.contains(label))
    };
    let found: Vec<&str> = page.lines().filter(of_it).collect();
    ensure!(found.len() == 1, "{name} {labels:?} is there {} times: {found:?}", found.len());
    Ok(found[0].rsplit_once(' ').context("no value")?.1.parse()?)
}

/// Families and kinds on the page.
fn families(page: &str) -> BTreeSet<(&str, &str)> {
    page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect()
}

#[test]
fn a_running_router_has_every_metric_with_azures_names_beside_ours() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let lab = SmallLab::up()?;
    let configuration = format!("metrics = \"{ADDRESS}\"\n{}", edge::configuration());
    let edge = lab.edge(&configuration)?;
    let near = lab.namespace("edge")?;
    let probe = lab.probe(1_000, 40_000)?;
    thread::sleep(Duration::from_secs(12));
    let (status, page) = get(near, "/metrics")?;
    let report = probe.stop()?;
    ensure!(status == 200 && page.ends_with("# EOF\n"), "{status}: {page}");
    it_is_text_unless_openmetrics_is_asked_for(near, &page)?;

    let expected = Metric::ALL
        .iter()
        .map(|it| (it.name(), if it.kind() == Kind::Counter { "counter" } else { "gauge" }));
    ensure!(families(&page) == expected.collect(), "another set of metrics: {:?}", families(&page));

    for peer in ["Primary-IPv4", "Secondary-IPv4", "Primary-IPv6", "Secondary-IPv6"] {
        let of_it =
            [&format!("Peer=\"{peer}\"") as &str, "PeeringType=\"AzurePrivatePeering\"", "circuit=\"lab\""];
        ensure!(value(&page, "ArpAvailability", &of_it)? == 100.0, "{peer}: ARP");
        ensure!(value(&page, "BgpAvailability", &of_it)? == 100.0, "{peer}: BGP");
    }
    // 1,000 datagrams of 14 + 20 + 8 + 8 bytes a second into Azure, by either link.
    let bits = |role| value(&page, "BitsInPerSecond", &[&format!("DeviceRole=\"{role}\"") as &str]);
    let rate = bits("Primary")? + bits("Secondary")?;
    println!("BitsInPerSecond: {rate:.0}, sent 400,000 and sessions; {report:?}");
    ensure!((200_000.0..500_000.0).contains(&rate), "{rate} bits a second");
    ensure!(value(&page, "LineProtocol", &["Link=\"primary\""])? == 1.0, "the link is up");
    ensure!(value(&page, "AdminState", &["Link=\"secondary\""])? == 1.0, "the circuit is enabled");
    ensure!(value(&page, "QosDropBitsInPerSecond", &["circuit=\"lab\""])? == 0.0, "nothing is policed");
    let conform = ["direction=\"to-microsoft\"", "class=\"default\"", "passage=\"conform\""];
    ensure!(value(&page, "erdp_circuit_packets_total", &conform)? > 5_000.0, "the policer's count");
    ensure!(value(&page, "erdp_routes", &["domain=\"lab/private\""])? == 2.0, "two prefixes");
    ensure!(value(&page, "erdp_unexplained_packets", &[])? == 0.0, "conservation");
    drop(edge);
    Ok(())
}

/// RFC 9110 section 12.5.1, against the running router: the same series in both formats.
fn it_is_text_unless_openmetrics_is_asked_for(near: &Namespace, openmetrics: &str) -> Result<()> {
    let series = |page: &str| -> BTreeSet<String> {
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        samples.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
    };
    for accept in
        ["", "text/plain", "text/plain;version=0.0.4", "application/openmetrics-text;q=0.1,text/plain"]
    {
        let (status, head, page) = get_as(near, "/metrics", accept)?;
        let is_text = head.contains("content-type: text/plain; version=0.0.4; charset=utf-8");
        ensure!(status == 200 && is_text && !page.contains("# EOF"), "{accept}: {head}\n{page}");
        ensure!(page.contains("# TYPE erdp_dropped_packets_total counter\n"), "{accept}: {page}");
        ensure!(series(&page) == series(openmetrics), "other series for {accept:?}");
    }
    Ok(())
}

#[test]
fn health_and_readiness_are_told_apart() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let lab = SmallLab::up()?;
    let configuration = format!("metrics = \"{ADDRESS}\"\n{}", edge::configuration());
    let _edge = lab.edge(&configuration)?;
    let near = lab.namespace("edge")?;
    ensure!(get(near, "/healthz")?.0 == 200 && get(near, "/readyz")?.0 == 200, "with all sessions up");
    ensure!(get(near, "/")?.0 == 404, "another page");

    for msee in ["msee1", "msee2"] {
        lab.birdc(msee, &["disable", "edge4"])?;
        lab.birdc(msee, &["disable", "edge6"])?;
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    let (status, said) = loop {
        let (status, said) = get(near, "/readyz")?;
        if status != 200 || Instant::now() > deadline {
            break (status, said);
        }
        thread::sleep(Duration::from_millis(100));
    };
    println!("{status}: {said}");
    ensure!(status == 503 && said.contains("circuit lab: no session with an MSEE"), "{status}: {said}");
    ensure!(get(near, "/healthz")?.0 == 200, "healthy all the same");
    let (_, page) = get(near, "/metrics")?;
    ensure!(value(&page, "BgpAvailability", &["Peer=\"Primary-IPv4\""])? == 0.0, "the session is down");
    ensure!(value(&page, "LineProtocol", &["Link=\"primary\""])? == 1.0, "the link is not");
    Ok(())
}

#[test]
fn a_taken_metrics_address_stops_the_start_with_its_name_and_the_remedy() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let lab = SmallLab::up()?;
    let near = lab.namespace("edge")?;
    let _taken = enter::run(near.name(), || Ok(std::net::TcpListener::bind(ADDRESS)?))?;
    let configuration = format!("metrics = \"{ADDRESS}\"\n{}", edge::configuration());
    let mut edge = edge::Edge::start_with(near, lab.folder(), &configuration)?;
    let status = edge.process().wait(Duration::from_secs(10))?;
    let said = edge.process().tail(3);
    println!("{status}: {said}");
    ensure!(status.code() == Some(3), "{status}");
    ensure!(said.contains(ADDRESS) && said.contains("free address"), "{said}");
    Ok(())
}
