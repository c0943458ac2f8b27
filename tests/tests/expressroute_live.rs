//! ExpressRoute's rules against live peers: what an MSEE counts (D1), a customer beyond its limit (D2), default routes (D5), a route filter
//! (D6) and an MSEE that is drained (B7).
//!
//! ```text
//!  ce (BIRD) --- edge (erdp) === msee1 (FRR), primary
//!                            \== msee2 (BIRD), secondary
//! ```
//! Both MSEEs have the VNet's host. What is asserted is what the peers say of themselves: their tables, their counters of sessions that were
//! dropped, their own reasons; and in each test the peer is seen to enforce the rule where it is broken on purpose.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    edge::{self, Edge},
    failover::until,
    lab::{
        self, bird,
        cleanup::{self, Guard},
        frr,
        netns::{self, Namespace},
        plan,
        process::Process,
    },
    traffic::probe::Probe,
};
use ipnet::IpNet;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(40);
const CUSTOMER_HOST: &str = "198.18.64.10";
const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];
/// What the edge may advertise of each family in these tests.
const LIMIT: usize = 20;

/// The three routers: namespace, AS, the edge's interface, the edge's addresses and its own with their lengths.
struct Side {
    name: &'static str,
    asn: u32,
    edge: &'static str,
    ours: [&'static str; 2],
    theirs: [&'static str; 2],
    lengths: [u8; 2],
    host: &'static str,
}

const CE: Side = Side {
    name: "ce",
    asn: plan::CE_ASN,
    edge: "ce0",
    ours: [plan::CE.ipv4.1, plan::CE.ipv6.1],
    theirs: [plan::CE.ipv4.0, plan::CE.ipv6.0],
    lengths: [plan::CE.ipv4.2, plan::CE.ipv6.2],
    host: CUSTOMER_HOST,
};
const MSEE1: Side = Side {
    name: "msee1",
    asn: plan::MSEE_ASN,
    edge: "msee1",
    ours: [plan::PRIMARY.ipv4.0, plan::PRIMARY.ipv6.0],
    theirs: [plan::PRIMARY.ipv4.1, plan::PRIMARY.ipv6.1],
    lengths: [plan::PRIMARY.ipv4.2, plan::PRIMARY.ipv6.2],
    host: plan::AZURE_IPV4,
};
const MSEE2: Side = Side {
    name: "msee2",
    asn: plan::MSEE_ASN,
    edge: "msee2",
    ours: [plan::SECONDARY.ipv4.0, plan::SECONDARY.ipv6.0],
    theirs: [plan::SECONDARY.ipv4.1, plan::SECONDARY.ipv6.1],
    lengths: [plan::SECONDARY.ipv4.2, plan::SECONDARY.ipv6.2],
    host: plan::AZURE_IPV4,
};

/// A prefix that a BIRD announces, with communities of 12076.
type Route = (String, Vec<u16>);

fn routes(prefixes: &[&str]) -> Vec<Route> {
    prefixes.iter().map(|prefix| ((*prefix).to_owned(), Vec::new())).collect()
}

/// `count` prefixes of each family that no other test route covers.
fn many(count: usize) -> Vec<Route> {
    let nets = (0..count).flat_map(|at| [format!("10.{at}.0.0/24"), format!("fd01:0:{at:x}::/64")]);
    nets.map(|net| (net, Vec::new())).collect()
}

/// BIRD's configuration: `repeats` times its own AS in front, as an MSEE that is drained.
fn bird_text(side: &Side, announced: &[Route], repeats: usize) -> String {
    let mut text =
        format!("log stderr all;\nrouter id {};\nprotocol device {{ scan time 5; }}\n", side.theirs[0]);
    let own = format!("bgp_path.prepend({}); ", side.asn).repeat(repeats);
    text += &format!("filter announce {{ if source !~ [ RTS_STATIC ] then reject; {own}accept; }}\n");
    for (at, family) in FAMILIES.into_iter().enumerate() {
        text += &format!("protocol static own{at} {{ {family};\n");
        for (prefix, communities) in announced.iter().filter(|(prefix, _)| prefix.contains(':') == (at == 1))
        {
            let set: String =
                communities.iter().map(|it| format!("bgp_community.add((12076,{it})); ")).collect();
            text += &format!("  route {prefix} blackhole {{ {set}}};\n");
        }
        text += &format!(
            "}}\nprotocol bgp edge{at} {{ local {} as {}; neighbor {} as {}; direct; hold time 30; connect retry time 1; \
             connect delay time 1; error wait time 1, 1; error forget time 1; \
             {family} {{ import all; export filter announce; next hop self; }}; }}\n",
            side.theirs[at],
            side.asn,
            side.ours[at],
            plan::EDGE_ASN
        );
    }
    text
}

/// FRR's, as the primary MSEE: it drops a session by which more than `most` prefixes come.
fn frr_text(announced: &[&str], most: usize) -> String {
    let mut text = format!(
        "router bgp {}\n bgp router-id {}\n no bgp ebgp-requires-policy\n no bgp network import-check\n no bgp default ipv4-unicast\n",
        MSEE1.asn, MSEE1.theirs[0]
    );
    for us in MSEE1.ours {
        text += &format!(
            " neighbor {us} remote-as {}\n neighbor {us} timers 10 30\n neighbor {us} timers connect 1\n \
             neighbor {us} advertisement-interval 0\n",
            plan::EDGE_ASN
        );
    }
    for (at, family) in FAMILIES.into_iter().enumerate() {
        let us = MSEE1.ours[at];
        text += &format!(
            " address-family {family} unicast\n  neighbor {us} activate\n  neighbor {us} maximum-prefix {most}\n"
        );
        for prefix in announced.iter().filter(|prefix| prefix.contains(':') == (at == 1)) {
            text += &format!("  network {prefix}\n");
        }
        text += " exit-address-family\n";
    }
    text + "exit\n"
}

/// The edge's configuration: keys of the peering and of the customer's peers, and which peering it is.
fn edge_text(kind: &str, of_peering: &str, of_peers: &str) -> String {
    format!(
        "asn = {}\n[[circuit]]\nname = \"lab\"\nbandwidth = \"1G\"\nsku = \"premium\"\nprimary = {{ local = \"msee1\" }}\n\
         secondary = {{ local = \"msee2\" }}\n[circuit.{kind}]\nipv4 = \"{}\"\nipv6 = \"{}\"\nhold = 30\n{of_peering}\n\
         [[attachment]]\ninterface = \"ce0\"\npeerings = [\"lab/{kind}\"]\nipv4 = \"{}/30\"\nipv6 = \"{}/64\"\n\
         peers = [{{ address = \"{}\", asn = 65020{of_peers} }}, {{ address = \"{}\", asn = 65020{of_peers} }}]\n",
        plan::EDGE_ASN,
        plan::PRIVATE_IPV4,
        plan::PRIVATE_IPV6,
        CE.ours[0],
        CE.ours[1],
        CE.theirs[0],
        CE.theirs[1],
    )
}

/// The lab. Fields in the order of the end.
struct Stand {
    edge: Edge,
    _routers: Vec<Process>,
    namespaces: Vec<Namespace>,
    folder: PathBuf,
    _guard: Guard,
}

/// What each announces.
struct Announced<'a> {
    ce: &'a [Route],
    msee1: &'a [&'a str],
    msee2: &'a [Route],
}

impl Stand {
    fn up(configuration: &str, announced: &Announced<'_>) -> Result<Stand> {
        cleanup::on_signals()?;
        let name = lab::new_name();
        let (folder, guard) = cleanup::owned_folder(&name)?;
        let middle = Namespace::add(&format!("{name}-edge"))?;
        let (mut routers, mut namespaces) = (Vec::new(), Vec::new());
        for (side, routes) in [(&CE, announced.ce), (&MSEE1, &[][..]), (&MSEE2, announced.msee2)] {
            let far = Namespace::add(&format!("{name}-{}", side.name))?;
            netns::connect((&middle, side.edge), (&far, "edge0"))?;
            for (address, length) in side.theirs.iter().zip(side.lengths) {
                far.address("edge0", &format!("{address}/{length}"))?;
            }
            far.address("lo", &format!("{}/32", side.host))?;
            if side.name == MSEE1.name {
                let file = folder.join("frr.conf");
                fs::write(&file, frr_text(announced.msee1, LIMIT))?;
                routers.extend(frr::start_beside(&far, &folder, &file)?);
            } else {
                routers.push(start_bird(&far, &folder, side, routes)?);
            }
            namespaces.push(far);
        }
        let edge = Edge::start_with(&middle, &folder, configuration)?;
        namespaces.push(middle);
        let mut stand = Stand { edge, _routers: routers, namespaces, folder, _guard: guard };
        stand.until("six sessions Established", |it| {
            let sessions = it.edge.sessions()?;
            Ok(sessions.len() == 6 && sessions.iter().all(|session| session.state == "Established"))
        })?;
        Ok(stand)
    }

    fn until(&mut self, what: &str, done: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let took = until(what, PATIENCE, || {
            self.edge.must_run()?;
            Ok(self.edge.answers() && done(self)?)
        });
        let took = took.with_context(|| {
            let tables = ["sessions", "limits", "refused", "links"].map(|topic| self.edge.table(topic));
            let texts = tables.map(|table| table.unwrap_or_else(|error| format!("{error:#}")));
            format!("{}\n{}", texts.join("\n"), self.edge.process().tail(20))
        })?;
        println!("  {what}: after {:.2} s", took.as_secs_f32());
        Ok(())
    }

    fn namespace(&self, short: &str) -> Result<&Namespace> {
        let found = self.namespaces.iter().find(|it| it.name().ends_with(&format!("-{short}")));
        found.with_context(|| format!("no namespace {short}"))
    }

    /// Another configuration of the edge, while it runs.
    fn apply(&self, text: &str) -> Result<()> {
        let file = self.folder.join("next.toml");
        fs::write(&file, text)?;
        self.edge.ask(&["config", "apply", &file.to_string_lossy()]).map(drop)
    }

    /// A BIRD announces something else.
    fn announce(&self, side: &Side, routes: &[Route], repeats: usize) -> Result<()> {
        fs::write(self.folder.join(side.name).join("bird.conf"), bird_text(side, routes, repeats))?;
        let said = bird::ask_in(&self.folder, side.name, &["configure"])?;
        ensure!(said.contains("Reconfigur"), "{said}");
        Ok(())
    }

    /// FRR's shell.
    fn vtysh(&self, words: &[&str]) -> Result<String> {
        frr::ask_in(&self.folder.join("frr"), words)
    }

    /// What the primary MSEE has of a family from the edge, and how often that session has come and gone.
    fn at_frr(&self, family: usize) -> Result<(BTreeSet<IpNet>, u64, u64)> {
        let name = FAMILIES[family];
        let table: Value = serde_json::from_str(&self.vtysh(&[&format!("show bgp {name} unicast json")])?)?;
        let rows = table["routes"].as_object().context("FRR's table")?;
        let is_ours = |paths: &Value| {
            let path = |it: &Value| it["path"].as_str().is_some_and(|path| path.contains("65010"));
            paths.as_array().is_some_and(|all| all.iter().any(path))
        };
        let ours =
            rows.iter().filter(|(_, paths)| is_ours(paths)).filter_map(|(prefix, _)| prefix.parse().ok());
        let us = MSEE1.ours[family];
        let neighbour: Value =
            serde_json::from_str(&self.vtysh(&[&format!("show bgp neighbors {us} json")])?)?;
        let count = |key: &str| neighbour[us][key].as_u64().unwrap_or(0);
        Ok((ours.collect(), count("connectionsEstablished"), count("connectionsDropped")))
    }

    /// What a BIRD has of a family from the edge.
    fn at_bird(&self, side: &Side, family: usize) -> Result<BTreeSet<IpNet>> {
        let said =
            bird::ask_in(&self.folder, side.name, &["show", "route", "protocol", &format!("edge{family}")])?;
        Ok(said.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect())
    }

    /// Rows of `show refused` of a rule: prefixes.
    fn refused(&self, rule: &str) -> Result<BTreeSet<String>> {
        let rows: Vec<Value> = serde_json::from_str(&self.edge.show("refused")?)?;
        let of_rule = rows.iter().filter(|row| row["rule"] == rule);
        Ok(of_rule.filter_map(|row| row["prefix"].as_str().map(str::to_owned)).collect())
    }
}

fn start_bird(namespace: &Namespace, parent: &Path, side: &Side, routes: &[Route]) -> Result<Process> {
    let folder = parent.join(side.name);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("bird.conf"), bird_text(side, routes, 0))?;
    let mut command = namespace.command("bird")?;
    for (option, file) in [("-c", "bird.conf"), ("-s", "bird.ctl"), ("-P", "bird.pid")] {
        command.arg(option).arg(folder.join(file));
    }
    command.arg("-f");
    Process::start(&format!("bird-{}", side.name), command, parent)
}

const VNETS: [&str; 2] = [plan::VNET_IPV4, plan::VNET_IPV6];

#[test]
fn d1_an_msee_that_counts_never_drops_us_and_both_have_the_same_set_of_the_customers_prefixes() -> Result<()>
{
    if edge::skipped() {
        return Ok(());
    }
    let configuration = edge_text("private", &format!("advertise-at-most = {LIMIT}"), "");
    let (msee2, few) = (routes(&VNETS), many(10));
    let mut stand = Stand::up(&configuration, &Announced { ce: &few, msee1: &VNETS, msee2: &msee2 })?;
    let both_have = |it: &Stand, count: usize| -> Result<bool> {
        for family in 0..2 {
            let ((at_frr, ..), at_bird) = (it.at_frr(family)?, it.at_bird(&MSEE2, family)?);
            ensure!(
                at_frr.len() <= LIMIT && at_bird.len() <= LIMIT,
                "more than {LIMIT}: {at_frr:?} {at_bird:?}"
            );
            if at_frr != at_bird || at_frr.len() != count {
                return Ok(false);
            }
        }
        Ok(true)
    };
    stand.until("ten prefixes at both MSEEs", |it| both_have(it, 10))?;
    // Up and down over the limit, in one go each time: what passes through is never above it, or FRR would drop the session.
    for (count, told) in [(30, LIMIT), (15, 15), (60, LIMIT), (LIMIT, LIMIT), (LIMIT + 1, LIMIT)] {
        stand.announce(&CE, &many(count), 0)?;
        stand.until(&format!("of {count} prefixes {told}, the same at both"), |it| both_have(it, told))?;
        let limits: Vec<Value> = serde_json::from_str(&stand.edge.show("limits")?)?;
        for row in &limits {
            ensure!(row["told"] == told && row["held"] == count - told, "{row}");
        }
        ensure!(limits.len() == 2, "{limits:?}");
    }
    for (family, name) in FAMILIES.into_iter().enumerate() {
        let (_, established, dropped) = stand.at_frr(family)?;
        ensure!((established, dropped) == (1, 0), "FRR's {} session: {established}, {dropped}", name);
    }
    // It does count: one prefix less, and the session goes.
    let router = format!("router bgp {}", MSEE1.asn);
    let less = format!("neighbor {} maximum-prefix {}", MSEE1.ours[0], LIMIT - 1);
    stand.vtysh(&["configure terminal", &router, "address-family ipv4 unicast", &less])?;
    stand.until("FRR drops what is above its own limit", |it| Ok(it.at_frr(0)?.2 > 0))
}

#[test]
fn d2_a_customer_above_its_limit_is_ended_by_cease_1_and_comes_back_when_it_is_below() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let configuration = edge_text("private", "", ", max-prefixes = 15, max-prefixes-wait = 2");
    let (msee2, few) = (routes(&VNETS), many(10));
    let mut stand = Stand::up(&configuration, &Announced { ce: &few, msee1: &VNETS, msee2: &msee2 })?;
    let counts = |it: &Stand| -> Result<Vec<usize>> {
        let counts = [0, 1].map(|family| Ok([it.at_frr(family)?.0.len(), it.at_bird(&MSEE2, family)?.len()]));
        Ok(counts.into_iter().collect::<Result<Vec<_>>>()?.concat())
    };
    let at_msees =
        |it: &Stand, count: usize| -> Result<bool> { Ok(counts(it)?.iter().all(|found| *found == count)) };
    stand.until("the customer's prefixes at both MSEEs", |it| at_msees(it, 10))?;
    stand.announce(&CE, &many(16), 0)?;
    stand.until("the customer's router is told why", |it| {
        let said = |at| bird::ask_in(&it.folder, "ce", &["show", "protocols", "all", &format!("edge{at}")]);
        Ok([said(0)?, said(1)?].iter().all(|said| said.contains("Maximum number of prefixes reached")))
    })?;
    stand.until("none of its prefixes is left in Azure", |it| at_msees(it, 0))?;
    // Ended again each time as long as it is above: never more than the limit comes in, and that only until the message that exceeds it.
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        let found = counts(&stand)?;
        ensure!(found.iter().all(|count| *count <= 15), "the MSEEs have {found:?} prefixes of a limit of 15");
        thread::sleep(Duration::from_millis(100));
    }
    stand.until("again none of its prefixes is left in Azure", |it| at_msees(it, 0))?;
    stand.announce(&CE, &many(15), 0)?;
    stand.until("below the limit it is back by itself, with all of them", |it| at_msees(it, 15))?;
    let sessions = stand.edge.sessions()?;
    let of_msees = sessions.iter().filter(|it| it.asn == plan::MSEE_ASN);
    ensure!(
        of_msees.clone().count() == 4 && of_msees.clone().all(|it| it.state == "Established"),
        "{sessions:?}"
    );
    ensure!(
        (0..2).all(|family| stand.at_frr(family).is_ok_and(|it| it.2 == 0)),
        "an MSEE's session has gone"
    );
    Ok(())
}

#[test]
fn d5_a_customers_default_route_reaches_an_msee_with_forced_tunnel_only() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let plain = edge_text("private", "", "");
    let announced = routes(&["0.0.0.0/0", "::/0", plan::CUSTOMER_IPV4, plan::CUSTOMER_IPV6]);
    let msee2 = routes(&VNETS);
    let mut stand = Stand::up(&plain, &Announced { ce: &announced, msee1: &VNETS, msee2: &msee2 })?;
    let defaults = ["0.0.0.0/0".parse()?, "::/0".parse()?];
    let have = |it: &Stand, count: usize| -> Result<bool> {
        let tables = [0, 1].map(|family| Ok([it.at_frr(family)?.0, it.at_bird(&MSEE2, family)?]));
        let tables = tables.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(tables.iter().flatten().all(|table| table.len() == count))
    };
    let have_default = |it: &Stand| -> Result<bool> {
        let has = |family: usize| -> Result<bool> {
            let tables = [it.at_frr(family)?.0, it.at_bird(&MSEE2, family)?];
            Ok(tables.iter().any(|table| table.contains(&defaults[family])))
        };
        Ok(has(0)? || has(1)?)
    };
    stand.until("the customer's own prefix at both MSEEs", |it| have(it, 1))?;
    ensure!(!have_default(&stand)?, "a default route is advertised without forced-tunnel");
    let refused = stand.refused("D5")?;
    ensure!(refused == ["0.0.0.0/0".to_owned(), "::/0".to_owned()].into(), "refused by D5: {refused:?}");
    stand.apply(&edge_text("private", "forced-tunnel = true", ""))?;
    stand.until("with forced-tunnel the default route too", |it| Ok(have(it, 2)? && have_default(it)?))?;
    ensure!(stand.refused("D5")?.is_empty(), "refused by D5: {:?}", stand.refused("D5")?);
    stand.apply(&plain)?;
    stand.until("without it the default route is withdrawn", |it| Ok(have(it, 1)? && !have_default(it)?))
}

#[test]
fn d6_on_microsoft_peering_a_route_filter_chooses_and_its_absence_in_azure_is_a_finding() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let filtered = edge_text("microsoft", "route-filter = [\"12076:5010\"]", "");
    // A public prefix of the customer's, and one that Microsoft takes from nobody (D4).
    let announced = routes(&["198.19.64.0/24", "2a01:1000::/32", "10.64.0.0/16", "fd64::/32"]);
    let mut stand = Stand::up(&filtered, &Announced { ce: &announced, msee1: &[], msee2: &[] })?;
    let findings = |it: &Stand| -> Result<Vec<String>> {
        let rows: Vec<Value> = serde_json::from_str(&it.edge.show("sessions")?)?;
        let of_msees = rows.iter().filter(|row| row["asn"] == plan::MSEE_ASN);
        Ok(of_msees.map(|row| row["finding"].as_str().unwrap_or_default().to_owned()).collect())
    };
    let found = findings(&stand)?;
    let asks = |text: &String| text.contains("route filter") && text.contains("D6");
    ensure!(
        found.len() == 4 && found.iter().all(asks),
        "no filter in Azure, nothing is announced: {found:?}"
    );
    stand.until("public prefixes of the customer at both MSEEs, and no others", |it| {
        let tables = [it.at_frr(0)?.0, it.at_bird(&MSEE2, 0)?, it.at_frr(1)?.0, it.at_bird(&MSEE2, 1)?];
        let wanted = ["198.19.64.0/24", "198.19.64.0/24", "2a01:1000::/32", "2a01:1000::/32"];
        Ok(tables.iter().zip(wanted).all(|(table, net)| net.parse().is_ok_and(|net| *table == [net].into())))
    })?;
    let refused = stand.refused("D4")?;
    ensure!(
        ["10.64.0.0/16", "fd64::/32"].iter().all(|net| refused.contains(*net)),
        "refused by D4: {refused:?}"
    );

    // Exchange, SharePoint, and nothing: the filter has the first.
    let services = |community: u16, first: u8| -> [Route; 2] {
        let communities = if community == 0 { Vec::new() } else { vec![community] };
        [(format!("198.19.{first}.0/24"), communities.clone()), (format!("2603:{first:x}::/32"), communities)]
    };
    let all = [services(5_010, 192), services(5_020, 193), services(0, 194)].concat();
    stand.announce(&MSEE2, &all, 0)?;
    let learned = |it: &Stand, count: usize| -> Result<bool> {
        Ok(it.at_bird(&CE, 0)?.len() == count && it.at_bird(&CE, 1)?.len() == count)
    };
    stand.until("the customer has the filter's routes of both families", |it| learned(it, 1))?;
    ensure!(stand.at_bird(&CE, 0)? == ["198.19.192.0/24".parse()?].into(), "{:?}", stand.at_bird(&CE, 0)?);
    let others: BTreeSet<String> =
        [&all[2..4], &all[4..6]].concat().into_iter().map(|(prefix, _)| prefix).collect();
    stand.until("the other routes are refused by D6", |it| Ok(it.refused("D6")? == others))?;
    stand.until("only the primary MSEE has no filter any more", |it| {
        Ok(findings(it)?.iter().filter(|text| asks(text)).count() == 2)
    })?;

    stand.apply(&edge_text("microsoft", "route-filter = [\"12076:5010\", \"12076:5020\"]", ""))?;
    stand.until("a community more, a route more", |it| learned(it, 2))?;
    stand.apply(&edge_text("microsoft", "", ""))?;
    stand.until("without a filter of our own, all that Microsoft announces", |it| learned(it, 3))
}

#[test]
fn b7_an_msee_that_is_drained_loses_its_traffic_and_no_packet_and_its_link_is_shown_draining() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let (ce, msee2) = (routes(&[plan::CUSTOMER_IPV4, plan::CUSTOMER_IPV6]), routes(&VNETS));
    let mut stand =
        Stand::up(&edge_text("private", "", ""), &Announced { ce: &ce, msee1: &VNETS, msee2: &msee2 })?;
    let azure = [plan::AZURE_IPV4.parse()?, plan::AZURE_IPV6.parse()?];
    let lead_to = |it: &Stand, sides: &[&Side]| -> Result<bool> {
        let answers = it.edge.explain("ce0", &azure)?;
        Ok(answers.iter().enumerate().all(|(family, answer)| {
            let found: BTreeSet<String> = answer.members.iter().map(ToString::to_string).collect();
            answer.verdict == "transmit"
                && found == sides.iter().map(|side| side.theirs[family].to_owned()).collect()
        }))
    };
    stand.until("both links in use", |it| lead_to(it, &[&MSEE1, &MSEE2]))?;
    let probes = probes(&stand)?;
    thread::sleep(Duration::from_millis(500));
    stand.announce(&MSEE2, &msee2, 8)?;
    stand.until("the drained MSEE has no traffic", |it| lead_to(it, &[&MSEE1]))?;
    let sent = |it: &Stand| -> Result<u64> {
        let counters = it.edge.counters()?;
        let of_link = counters.attachments.iter().filter(|it| it.name.contains("secondary"));
        Ok(of_link.map(|it| it.tx.packets).sum())
    };
    let before = sent(&stand)?;
    thread::sleep(Duration::from_secs(2));
    let after = sent(&stand)?;
    // Keepalives, acknowledgements and neighbour discovery of two sessions, beside 4,000 packets that could have come.
    ensure!(after - before < 50, "{} packets went to the drained MSEE", after - before);

    let links: Vec<Value> = serde_json::from_str(&stand.edge.show("links")?)?;
    let secondary = links.iter().find(|row| row["link"] == "lab secondary").context("no secondary link")?;
    let text = secondary.to_string();
    ensure!(text.contains("drain") && !text.contains("no-neighbour"), "the link of a drained MSEE: {text}");
    let rows: Vec<Value> = serde_json::from_str(&stand.edge.show("sessions")?)?;
    let drained: Vec<&Value> = rows.iter().filter(|row| row["draining"].as_u64().unwrap_or(0) > 0).collect();
    ensure!(
        drained.len() == 2 && drained.iter().all(|row| row["finding"].to_string().contains("B7")),
        "{drained:?}"
    );

    stand.announce(&MSEE2, &msee2, 0)?;
    stand.until("the maintenance is over: both links again", |it| lead_to(it, &[&MSEE1, &MSEE2]))?;
    thread::sleep(Duration::from_millis(500));
    for report in probes.into_iter().map(Probe::stop) {
        let report = report?;
        println!("  {report:?}");
        ensure!(report.lost == 0 && report.sent > 1_000, "{report:?}");
    }
    Ok(())
}

/// Datagrams of two flows from the customer's host to the VNet's, at either MSEE.
fn probes(stand: &Stand) -> Result<Vec<Probe>> {
    let mut words = String::new();
    write!(words, "route replace {} via {} src {CUSTOMER_HOST}", plan::VNET_IPV4, CE.ours[0])?;
    stand.namespace("ce")?.ip(&words)?;
    let far = [stand.namespace("msee1")?.name(), stand.namespace("msee2")?.name()];
    let to = plan::AZURE_IPV4.parse::<Ipv4Addr>()?;
    let host = CUSTOMER_HOST.parse::<Ipv4Addr>()?;
    let flow = |number: u16| {
        let ends = (SocketAddr::from((host, 41_000 + number)), SocketAddr::from((to, 7_100 + number)));
        Probe::between((stand.namespace("ce")?.name(), ends.0), (&far, ends.1), 1_000)
    };
    (0..2).map(flow).collect()
}
