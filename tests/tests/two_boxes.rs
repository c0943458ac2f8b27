//! A circuit with one link on each of two boxes (requirement B1a): two `erdp` with an internal session between them, real MSEEs (BIRD) and
//! a customer's router at one of the boxes only.
//!
//! ```text
//!  ce (BIRD) --- boxa === msee1 (BIRD)
//!                  | iBGP
//!                boxb === msee2 (BIRD)
//! ```
//! Packets cross both boxes where the box that has them has no link of its own that works, and each box says of the pair what it knows.

use std::{
    fs,
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use erdp_tests::{
    edge::{self, Edge, Session},
    lab::{
        self,
        bird::{self, Neighbour, Router},
        cleanup,
        netns::{self, Namespace},
        plan,
        process::Process,
    },
    small::CUSTOMER_HOST,
    traffic::echo::echo,
};
use serde_json::Value;

/// Sessions are back so soon after the carrier, an attempt that fails before the neighbour answers included.
const BACK: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(40);
/// The wire between the boxes: the interface on both, and the ends' addresses.
const WIRE: (&str, [&str; 2], [&str; 2]) =
    ("box0", ["198.18.250.1", "198.18.250.2"], ["fd00:0:0:fa::1", "fd00:0:0:fa::2"]);

/// The configuration of one box; the other one has the other link. `private` is more of its peering.
fn configuration(own: usize, private: &str) -> String {
    let other = 1 - own;
    let links = [&plan::PRIMARY, &plan::SECONDARY];
    let place = |at: usize| match at == own {
        true => format!("{{ local = \"{}\" }}", links[at].near.1),
        false => "{ box = \"other\" }".to_owned(),
    };
    let (wire, ipv4, ipv6) = WIRE;
    let mut text = format!(
        "asn = {asn}\n[[circuit]]\nname = \"lab\"\nbandwidth = \"1G\"\nprimary = {}\nsecondary = {}\n\
         [circuit.private]\nipv4 = \"{}\"\nipv6 = \"{}\"\n{private}\
         [[attachment]]\ninterface = \"{wire}\"\nbox = \"other\"\npeerings = [\"lab/private\"]\nipv4 = \"{}/30\"\nipv6 = \"{}/126\"\n\
         peers = [{{ address = \"{}\", asn = {asn} }}, {{ address = \"{}\", asn = {asn} }}]\n",
        place(0),
        place(1),
        plan::PRIVATE_IPV4,
        plan::PRIVATE_IPV6,
        ipv4[own],
        ipv6[own],
        ipv4[other],
        ipv6[other],
        asn = plan::EDGE_ASN,
    );
    if own == 0 {
        text += &format!(
            "[[attachment]]\ninterface = \"{}\"\npeerings = [\"lab/private\"]\nipv4 = \"{}/{}\"\nipv6 = \"{}/{}\"\n\
             peers = [{{ address = \"{}\", asn = {asn} }}, {{ address = \"{}\", asn = {asn} }}]\n",
            plan::CE.far.1,
            plan::CE.ipv4.1,
            plan::CE.ipv4.2,
            plan::CE.ipv6.1,
            plan::CE.ipv6.2,
            plan::CE.ipv4.0,
            plan::CE.ipv6.0,
            asn = plan::CE_ASN,
        );
    }
    text
}

/// Two boxes and their neighbours. Fields in the order of the end.
struct Boxes {
    edges: Vec<Edge>,
    _routers: Vec<Process>,
    namespaces: Vec<Namespace>,
    folder: std::path::PathBuf,
    _guard: cleanup::Guard,
}

impl Boxes {
    /// Box B with more keys in its peering.
    fn up(private: &str) -> Result<Boxes> {
        cleanup::on_signals()?;
        let name = lab::new_name();
        let (folder, guard) = cleanup::owned_folder(&name)?;
        let namespaces = ["boxa", "boxb", "ce", "msee1", "msee2"]
            .map(|short| Namespace::add(&format!("{name}-{short}")))
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let mut boxes = Boxes { edges: Vec::new(), _routers: Vec::new(), namespaces, folder, _guard: guard };
        netns::connect((boxes.namespace("boxa")?, WIRE.0), (boxes.namespace("boxb")?, WIRE.0))?;
        let far = [
            ("boxa", "ce", &plan::CE, plan::CE_ASN, CUSTOMER_HOST, true),
            ("boxa", "msee1", &plan::PRIMARY, plan::MSEE_ASN, plan::AZURE_IPV4, false),
            ("boxb", "msee2", &plan::SECONDARY, plan::MSEE_ASN, plan::AZURE_IPV4, false),
        ];
        for (near, short, link, asn, host, is_near) in far {
            let router = boxes.wire(near, short, link, host, is_near, asn)?;
            let process = bird::start_in(boxes.namespace(short)?, &boxes.folder, &router)?;
            boxes._routers.push(process);
        }
        for (at, short) in ["boxa", "boxb"].into_iter().enumerate() {
            let folder = boxes.folder.join(short);
            fs::create_dir_all(&folder)?;
            let configuration = configuration(at, if at == 1 { private } else { "" });
            boxes.edges.push(Edge::start_with(boxes.namespace(short)?, &folder, &configuration)?);
        }
        Ok(boxes)
    }

    /// Lays a wire to a router and says what runs there.
    fn wire(
        &self,
        near: &str,
        short: &'static str,
        link: &plan::Link,
        host: &str,
        is_near: bool,
        asn: u32,
    ) -> Result<Router> {
        let (edge, far) = (self.namespace(near)?, self.namespace(short)?);
        let (edge_if, far_if) = if is_near { (link.far.1, link.near.1) } else { (link.near.1, link.far.1) };
        netns::connect((edge, edge_if), (far, far_if))?;
        let own = |pair: (&'static str, &'static str, u8)| (if is_near { pair.0 } else { pair.1 }, pair.2);
        for (address, length) in [own(link.ipv4), own(link.ipv6)] {
            far.address(far_if, &format!("{address}/{length}"))?;
        }
        far.address("lo", &format!("{host}/32"))?;
        // Of both families: a session without routes is no whole one.
        let announced = if is_near {
            [plan::CUSTOMER_IPV4, plan::CUSTOMER_IPV6]
        } else {
            [plan::VNET_IPV4, plan::VNET_IPV6]
        };
        let announced = announced.map(|prefix| prefix.parse().context("not a prefix"));
        Ok(Router {
            namespace: short,
            asn,
            id: own(link.ipv4).0,
            neighbours: Neighbour::both("edge", link, is_near, plan::EDGE_ASN).into(),
            announced: announced.into_iter().collect::<Result<_>>()?,
            transit: false,
        })
    }

    fn namespace(&self, short: &str) -> Result<&Namespace> {
        let found = self.namespaces.iter().find(|it| it.name().ends_with(&format!("-{short}")));
        found.with_context(|| format!("there is no namespace {short}"))
    }

    /// Waits until something holds, while both run.
    fn until(&mut self, what: &str, done: impl Fn(&Boxes) -> Result<bool>) -> Result<Duration> {
        let begin = Instant::now();
        loop {
            for edge in &mut self.edges {
                edge.must_run()?;
            }
            if done(self).unwrap_or(false) {
                return Ok(begin.elapsed());
            }
            if begin.elapsed() > PATIENCE {
                let sessions: Vec<String> =
                    self.edges.iter().map(|edge| edge.table("sessions").unwrap_or_default()).collect();
                let links: Vec<String> =
                    self.edges.iter().map(|edge| edge.show("circuits").unwrap_or_default()).collect();
                let ends: Vec<String> = self.edges.iter_mut().map(|edge| edge.process().tail(15)).collect();
                bail!(
                    "waited in vain: {what}\n{}\n{}\n{}",
                    sessions.join("\n"),
                    links.join("\n"),
                    ends.join("\n")
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The interface by which a box sends what comes in there.
    fn way(&self, at: usize, interface: &str, to: &str) -> Result<Option<String>> {
        let answer = self.edges[at].explain(interface, &[to.parse::<IpAddr>()?])?.remove(0);
        Ok(answer.interface.filter(|_| answer.verdict == "transmit"))
    }

    /// Whether a box takes the SLA for valid, and why.
    fn pair(&self, at: usize) -> Result<(bool, String)> {
        let circuits: Value = serde_json::from_str(&self.edges[at].show("circuits")?)?;
        let circuit = &circuits[0];
        Ok((
            circuit["sla_valid"].as_bool().context("sla_valid")?,
            circuit["why"].as_str().context("why")?.to_owned(),
        ))
    }
}

#[test]
fn b1a_two_boxes_with_one_link_each_carry_each_others_traffic_and_judge_the_pair() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut boxes = Boxes::up("")?;
    let (ce, own, wire) = (plan::CE.far.1, plan::PRIMARY.near.1, WIRE.0);
    let is_way = |at: usize, from: &'static str, to: &'static str, by: &'static str| {
        move |boxes: &Boxes| Ok(boxes.way(at, from, to)?.as_deref() == Some(by))
    };
    let took = boxes
        .until("the customer's traffic leaves by box A's own link", is_way(0, ce, plan::AZURE_IPV4, own))?;
    println!("the own link is used after {took:?}");
    boxes.until(
        "box B sends what comes from its MSEE to box A",
        is_way(1, plan::SECONDARY.near.1, CUSTOMER_HOST, wire),
    )?;
    // Both MSEEs know the customer, by one AS of ours each, and neither knows the other's VNet.
    for msee in ["msee1", "msee2"] {
        boxes.until(&format!("{msee} knows the customer"), |boxes| {
            let routes = bird::ask_in(&boxes.folder, msee, &["show", "route", "for", CUSTOMER_HOST, "all"])?;
            Ok(routes.contains(&format!("BGP.as_path: {} {}\n", plan::EDGE_ASN, plan::CE_ASN)))
        })?;
        let routes = bird::ask_in(&boxes.folder, msee, &["show", "route", "for", plan::AZURE_IPV4])?;
        ensure!(!routes.contains(&format!("AS{}", plan::EDGE_ASN)), "transit: {routes}");
    }
    for at in [0, 1] {
        boxes.until("both links are whole", |boxes| Ok(boxes.pair(at)?.0))?;
        ensure!(boxes.pair(at)?.1.contains("each on a box of its own"), "{:?}", boxes.pair(at)?);
    }
    let (customer, azure) = (CUSTOMER_HOST.parse()?, plan::AZURE_IPV4.parse()?);
    boxes.namespace("ce")?.ip(&format!(
        "route replace {} via {} src {CUSTOMER_HOST}",
        plan::VNET_IPV4,
        plan::CE.ipv4.1
    ))?;
    echo(boxes.namespace("ce")?, Some(customer), azure, 3)?;

    // Box A's MSEE ends its sessions: the customer's packets go by way of box B, and back.
    bird::ask_in(&boxes.folder, "msee1", &["disable", "\"edge*\""])?;
    let took =
        boxes.until("the customer's traffic leaves by box B", is_way(0, ce, plan::AZURE_IPV4, wire))?;
    println!("box B is used after {took:?}");
    echo(boxes.namespace("ce")?, Some(customer), azure, 3)?;
    let (is_valid, why) = boxes.pair(0)?;
    ensure!(!is_valid && why.contains("one link"), "box A: {why}");
    boxes.until("box B knows that box A has no link", |boxes| Ok(!boxes.pair(1)?.0))?;
    let counters = boxes.edges[1].counters()?;
    let passed =
        |name: &str| counters.attachments.iter().find(|it| it.name == name).map_or(0, |it| it.rx.packets);
    ensure!(passed(wire) >= 3, "{:?}", counters.attachments);
    for edge in &boxes.edges {
        ensure!(edge.counters()?.unexplained() == 0, "packets are unaccounted for");
    }

    bird::ask_in(&boxes.folder, "msee1", &["enable", "\"edge*\""])?;
    let took = boxes.until("box A uses its own link again", is_way(0, ce, plan::AZURE_IPV4, own))?;
    println!("the own link is used again after {took:?}");
    boxes.until("both links are whole again", |boxes| Ok(boxes.pair(0)?.0 && boxes.pair(1)?.0))?;
    a_lost_carrier_is_not_waited_for(&mut boxes)
}

/// Box B's own routes are never its best ones, and box A is told of them all the same.
#[test]
fn b1a_a_box_that_prefers_the_others_link_has_its_own_counted_and_at_hand() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut boxes = Boxes::up("local-pref = 50\n")?;
    for at in [0, 1] {
        boxes.until("both links are whole", |boxes| Ok(boxes.pair(at)?.0))?;
    }
    let (ce, wire) = (plan::CE.far.1, WIRE.0);
    boxes.namespace("msee1")?.ip(&format!("link set {} down", plan::PRIMARY.far.1))?;
    let took = boxes.until("the customer's traffic leaves by box B", |boxes| {
        Ok(boxes.way(0, ce, plan::AZURE_IPV4)?.as_deref() == Some(wire))
    })?;
    println!("the preferred link is lost: the other is used after {took:?}");
    for at in [0, 1] {
        boxes.until("one link is left", |boxes| Ok(boxes.pair(at)?.1.contains("one link")))?;
    }
    Ok(())
}

/// Without BFD: the carrier of box A's link goes, and comes back.
fn a_lost_carrier_is_not_waited_for(boxes: &mut Boxes) -> Result<()> {
    let (ce, own, wire, far) = (plan::CE.far.1, plan::PRIMARY.near.1, WIRE.0, plan::PRIMARY.far.1);
    let is_way = |by: &'static str| {
        move |boxes: &Boxes| Ok(boxes.way(0, ce, plan::AZURE_IPV4)?.as_deref() == Some(by))
    };
    let of_msee = |boxes: &Boxes| -> Result<Vec<Session>> {
        let mut sessions = boxes.edges[0].sessions()?;
        sessions.retain(|it| it.asn == plan::MSEE_ASN);
        Ok(sessions)
    };
    boxes.namespace("msee1")?.ip(&format!("link set {far} down"))?;
    let took = boxes.until("the customer's traffic leaves by box B", is_way(wire))?;
    println!("the carrier is lost: box B is used after {took:?}");
    let took = boxes.until("the sessions end for that reason", |boxes| {
        let sessions = of_msee(boxes)?;
        let is_it = |it: &Session| it.last_error.as_ref().is_some_and(|error| error.contains("no carrier"));
        Ok(sessions.len() == 2
            && sessions.iter().all(|it| it.state == "Idle" && it.received == 0 && is_it(it)))
    })?;
    println!("its sessions end after {took:?} more");
    boxes.until("box B knows that box A has no link", |boxes| Ok(!boxes.pair(1)?.0))?;
    // Long enough for attempts to have waits between them, if there were any.
    thread::sleep(Duration::from_secs(2));
    let msee = boxes.namespace("msee1")?;
    msee.ip(&format!("link set {far} up"))?;
    // Its IPv6 address went with the link.
    let (_, address, length) = plan::PRIMARY.ipv6;
    msee.address(far, &format!("{address}/{length}"))?;
    let took = boxes.until("the sessions are back", |boxes| {
        Ok(of_msee(boxes)?.iter().all(|it| it.state == "Established" && it.received > 0))
    })?;
    println!("the carrier is back: the sessions are after {took:?}");
    boxes.until("box A uses its own link again", is_way(own))?;
    boxes.until("both links are whole again", |boxes| Ok(boxes.pair(0)?.0 && boxes.pair(1)?.0))?;
    // The first attempt may come before the neighbour answers; the next one is not put off by it.
    ensure!(took < BACK, "the sessions were back only after {took:?}");
    Ok(())
}
