//! An edge with two circuits of two links each, and two routers of the customer's: which circuit carries traffic, how flows are shared, and
//! what takes over when something fails (B1, B11), counted by flows of real traffic.
//! The stand is `erdp_tests::circuits`.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    circuits::{BOTH_LINKS_COST, CONFIGURATION, ONE, ONE_LINK_COSTS, OTHER, Stand, TWO},
    edge,
    lab::plan,
};
use serde_json::Value;

#[test]
fn b11_the_second_circuit_carries_what_the_first_cannot_and_the_customers_routers_have_their_shares()
-> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut stand = Stand::up()?;
    stand.shares("the first circuit, both links alike", "ce1", &ONE)?;
    stand.shares("weights 1 and 3", "m1", &[("ce1", 0.25), ("ce2", 0.75)])?;

    // One of two links, where two are the least: the circuit ranks last, though its other link works.
    stand.while_flowing(
        "below its minimum of links: the second circuit",
        &[("m2", false)],
        ["m3", "m4"],
        ONE_LINK_COSTS,
    )?;
    stand.shares("the second circuit, both links alike", "ce1", &TWO)?;
    if !edge::is_full() {
        return Ok(());
    }
    stand.while_flowing("both links again: the first circuit", &[("m2", true)], ["m1", "m2"], 0)?;
    stand.shares("as before", "ce1", &ONE)?;
    let both = |is_up| [("m1", is_up), ("m2", is_up)];
    stand.while_flowing("the first circuit has failed whole", &both(false), ["m3", "m4"], BOTH_LINKS_COST)?;
    stand.shares("the second circuit alone", "ce2", &TWO)?;
    stand.while_flowing("the first circuit is back", &both(true), ["m1", "m2"], 0)?;

    // The higher preference has all, the lower stands by.
    let preferred =
        CONFIGURATION.replace("\"198.18.1.2\", asn = 65020", "\"198.18.1.2\", asn = 65020, local-pref = 200");
    stand.apply(&preferred)?;
    stand.shares("preference 200 and 100", "m1", &[("ce1", 1.0)])?;
    stand.carrier("ce1", false)?;
    stand.until("the preferred router is gone", |it| {
        Ok(it.edge.sessions()?.iter().any(|it| it.peer == "198.18.1.2" && it.state != "Established"))
    })?;
    stand.shares("the one that stood by", "m1", &[("ce2", 1.0)])?;
    stand.carrier("ce1", true)?;
    stand.until("the preferred router is back", |it| {
        Ok(it.edge.sessions()?.iter().any(|it| it.peer == "198.18.1.2" && it.received > 0))
    })?;
    stand.shares("preference 200 and 100 again", "m1", &[("ce1", 1.0)])?;
    let unexplained = stand.edge.counters()?.unexplained();
    ensure!(unexplained == 0, "{unexplained} packets unexplained");
    Ok(())
}

/// Live, while datagrams flow: the near circuit gets the region's prefix and shares the rest, and what a policy holds back is withdrawn there.
#[test]
fn b11_a_policy_moves_exactly_its_prefixes_to_the_near_circuit_and_back_without_a_loss() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut stand = Stand::up()?;
    let all = ["m1", "m2", "m3", "m4"];
    let compared = CONFIGURATION
        .replace("minimum-links = 2\n", "")
        .replace("peerings = [", "between-circuits = \"preference\"\npeerings = [");
    let policies = format!(
        "[[policy]]\nname = \"near\"\n[[policy.rule]]\nprefixes = [\"{}\"]\nlocal-pref = 200\nadd-communities = [\"65010:7\"]\n[[policy]]\nname = \"far\"\n\
         [[policy.rule]]\nprefixes = [\"{}\"]\nrefuse = \"it answers over the near circuit\"\n",
        plan::VNET_IPV4,
        plan::CUSTOMER_IPV4
    );
    let near =
        compared.replacen("ipv4 = \"198.18.0.8/29\"", "ipv4 = \"198.18.0.8/29\"\npolicy-in = \"near\"", 1);
    let near = near.replacen("ipv4 = \"198.18.0.0/29\"", "ipv4 = \"198.18.0.0/29\"\npolicy-out = \"far\"", 1)
        + &policies;
    let probe = stand.probe()?;
    stand.apply(&compared)?;
    stand.until("equal circuits share", |it| it.host_leads_to(plan::AZURE_IPV4, &all))?;
    stand.apply(&near)?;
    stand.until("the region goes over the near circuit", |it| it.leads_to(["m3", "m4"]))?;
    ensure!(stand.host_leads_to(OTHER.1, &all)?, "another prefix has moved, too");
    stand.until("the far circuit's MSEEs have no route to the customer", |it| {
        let known = |short| -> Result<bool> {
            Ok(it.birdc(short, &["show", "route", plan::CUSTOMER_IPV4])?.contains("198.18.64.0"))
        };
        Ok(!known("m1")? && !known("m2")? && known("m3")? && known("m4")?)
    })?;
    let refused = stand.edge.show("refused")?;
    ensure!(refused.contains("it answers over the near circuit (policy far)"), "{refused}");
    let received = stand.edge.ask(&["show", "received", "198.18.0.10", "--json"])?;
    ensure!(received.contains("near, rule 1"), "{received}");
    let tagged = stand.edge.ask(&["show", "routes", "--community", "65010:7", "--json"])?;
    let tagged: Vec<Value> = serde_json::from_str(&tagged)?;
    let is_it = |row: &Value| row["prefix"] == plan::VNET_IPV4 && row["domain"] == "two/private";
    ensure!(
        tagged.len() == 1 && is_it(&tagged[0]),
        "routes are not looked for as they are shown: {tagged:?}"
    );
    thread::sleep(Duration::from_millis(500));
    let there = probe.stop()?;
    stand.shares("the near circuit, both links alike", "ce1", &TWO)?;
    let probe = stand.probe()?;
    stand.apply(CONFIGURATION)?;
    stand.until("as listed again", |it| {
        Ok(it.leads_to(["m1", "m2"])? && it.host_leads_to(OTHER.1, &["m1", "m2"])?)
    })?;
    thread::sleep(Duration::from_millis(500));
    for report in [there, probe.stop()?] {
        println!("  meanwhile: {report:?}");
        ensure!(report.lost == 0 && report.sent > 100, "{report:?}");
    }
    Ok(())
}

/// How many a drill of a whole circuit may cost: the tables are exchanged while its links carry nothing (200 ms).
const DRILL_COSTS: u64 = 200;
/// The same for a session that is reset: its routes are withdrawn when it ends (20 ms).
const RESET_COSTS: u64 = 20;
/// Datagrams that an MSEE of the disabled circuit sends all the same.
const SENT: u64 = 200;

/// Live: 200 of 200 of the customer's packets leave by the other circuit, none of Microsoft's come in, and nobody has its routes.
#[test]
fn a8_a_disabled_circuit_carries_nothing_in_either_direction_and_the_other_one_takes_over() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut stand = Stand::up()?;
    let disabled = CONFIGURATION.replacen("name = \"one\"", "name = \"one\"\nadmin = \"disabled\"", 1);
    let probe = stand.probe()?;
    stand.apply(&disabled)?;
    it_is_nobodys(&stand)?;
    thread::sleep(Duration::from_millis(500));
    let report = probe.stop()?;
    println!("  while it is disabled: {report:?}");
    ensure!(report.lost == 0 && report.sent > 100, "{report:?}");
    it_carries_nothing(&mut stand)?;

    let probe = stand.probe()?;
    stand.apply(CONFIGURATION)?;
    stand.until("enabled again, it carries the traffic", |it| it.leads_to(["m1", "m2"]))?;
    let report = probe.stop()?;
    println!("  while it is enabled: {report:?}");
    ensure!(report.lost == 0, "{report:?}");
    stand.shares("the first circuit again", "ce1", &ONE)?;

    // At the start, by the other key.
    let unprovisioned =
        CONFIGURATION.replacen("name = \"one\"", "name = \"one\"\nprovisioning = \"not-provisioned\"", 1);
    stand.start_anew(&unprovisioned)?;
    stand.until("the second circuit's sessions", |it| it.leads_to(["m3", "m4"]))?;
    it_is_nobodys(&stand)?;
    it_carries_nothing(&mut stand)
}

/// From the moment at which the command has answered.
fn it_is_nobodys(stand: &Stand) -> Result<()> {
    ensure!(stand.leads_to(["m3", "m4"])?, "the customer's packets do not take the other circuit");
    let rows = |topic| -> Result<Vec<Value>> { Ok(serde_json::from_str(&stand.edge.show(topic)?)?) };
    let of_it: Vec<Value> =
        rows("routes")?.into_iter().filter(|row| row["domain"] == "one/private").collect();
    ensure!(of_it.is_empty(), "{of_it:?}");
    for row in rows("sessions")? {
        let of_it = row["attachment"].as_str().is_some_and(|name| name.starts_with("one/"));
        let is_down = row["state"] != "Established"
            && row["admin"].as_str().is_some_and(|it| it.starts_with("disabled: "));
        ensure!(of_it == is_down, "{row}");
    }
    let links = rows("links")?;
    let of_it = links.iter().filter(|row| row["link"].as_str().is_some_and(|name| name.starts_with("one ")));
    ensure!(of_it.clone().count() == 2);
    for row in of_it {
        ensure!(row["eligible"] == false && row["why_not"] == serde_json::json!(["disabled"]), "{row}");
    }
    Ok(())
}

fn it_carries_nothing(stand: &mut Stand) -> Result<()> {
    stand.until("its MSEEs have no route to the customer, those of the other one have", |it| {
        let known = |short| -> Result<bool> {
            Ok(it.birdc(short, &["show", "route", plan::CUSTOMER_IPV4])?.contains("198.18.64.0"))
        };
        Ok(!known("m1")? && !known("m2")? && known("m3")? && known("m4")?)
    })?;
    stand.shares("the second circuit", "ce1", &TWO)?;
    let before = sent_and_disabled(stand)?;
    stand.send_from_msee("m1", SENT)?;
    let after = sent_and_disabled(stand)?;
    println!("  {SENT} from its MSEE: {before:?}, then {after:?}");
    ensure!(after.0 == before.0, "something of its MSEE's has come through");
    ensure!(after.1 - before.1 >= SENT, "not each of them is dropped as `disabled`");
    Ok(())
}

/// Packets sent towards the customer, and those dropped as `disabled`.
fn sent_and_disabled(stand: &Stand) -> Result<(u64, u64)> {
    let counters = stand.edge.counters()?;
    let sent: BTreeMap<&str, u64> =
        counters.attachments.iter().map(|it| (it.name.as_str(), it.tx.packets)).collect();
    let sent = sent.get("ce1").context("no ce1")? + sent.get("ce2").context("no ce2")?;
    Ok((sent, counters.dropped.get("disabled").map_or(0, |it| it.packets)))
}

/// Live: circuit two carries everything, so circuit one may be taken out of use, whole or in part, and nothing is lost.
#[test]
fn b6_a_circuit_may_be_taken_out_of_use_where_another_one_carries_everything() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut stand = Stand::up()?;
    for name in ["one/private", "one"] {
        let probe = stand.probe()?;
        stand.edge.ask(&["peering", "disable", name, "--drain", "1s"])?;
        stand.until("the other circuit carries the traffic", |it| it.leads_to(["m3", "m4"]))?;
        stand.until("its sessions are disabled", |it| {
            Ok(it.admins()?.iter().filter(|admin| admin.starts_with("disabled: ")).count() == 2)
        })?;
        for last in ["two", "two/private", "two/private/primary"] {
            let said = stand.edge.ask(&["peering", "disable", last]).err().map(|error| format!("{error:#}"));
            let is_last = last != "two/private/primary";
            let is_refused =
                said.as_ref().is_some_and(|it| it.contains("nothing would be left of two/private IPv4"));
            ensure!(is_refused == is_last, "{last}: {said:?}");
        }
        stand.edge.ask(&["peering", "enable", "two"])?;
        stand.edge.ask(&["peering", "enable", name])?;
        stand.until("in service again", |it| it.leads_to(["m1", "m2"]))?;
        let report = probe.stop()?;
        println!("  {name} disabled and enabled: {report:?}");
        ensure!(report.lost == 0, "{report:?}");
        stand.until("all is in use", |it| Ok(it.admins()?.iter().all(|admin| admin == "enabled")))?;
    }
    a_whole_circuit_is_drilled(&mut stand)?;
    sessions_are_reset(&mut stand)
}

fn a_whole_circuit_is_drilled(stand: &mut Stand) -> Result<()> {
    let probe = stand.probe()?;
    let answer = stand.edge.ask(&["drill", "--fail", "one", "--for", "3s", "--json"])?;
    let answer: Value = serde_json::from_str(&answer)?;
    stand.until("the circuit carries the traffic again", |it| it.leads_to(["m1", "m2"]))?;
    let report = probe.stop()?;
    println!("  drilled: {report:?}\n  {answer}");
    ensure!(answer["completed"] == true && answer["link"] == "both links", "{answer}");
    ensure!(report.lost <= DRILL_COSTS, "{report:?}");
    Ok(())
}

/// RFC 4486 section 3, subcode 4.
fn sessions_are_reset(stand: &mut Stand) -> Result<()> {
    let said = stand.edge.ask(&["peering", "reset", "one/private"]).err().map(|error| format!("{error:#}"));
    ensure!(said.as_ref().is_some_and(|it| it.contains("both links of one")), "{said:?}");
    let began = |stand: &Stand, peer: &str| -> Result<u64> {
        let rows: Vec<Value> = serde_json::from_str(&stand.edge.show("sessions")?)?;
        let row = rows.iter().find(|row| row["peer"] == peer).context("no such peer")?;
        Ok(if row["state"] == "Established" { row["sessions"].as_u64().unwrap_or_default() } else { 0 })
    };
    let peer = "198.18.0.2";
    let before = began(stand, peer)?;
    let probe = stand.probe()?;
    let said = stand.edge.ask(&["peering", "reset", "one/private/primary", "--text", "try again"])?;
    ensure!(said.contains("one/private primary: reset") || said.contains("reset"), "{said}");
    stand.until("the peer has been told why", |it| {
        Ok(it.birdc("m1", &["show", "protocols", "all"])?.contains("Administrative reset"))
    })?;
    stand.until("the session is back by itself", |it| Ok(began(it, peer)? == before + 1))?;
    stand.until("both links carry traffic", |it| it.leads_to(["m1", "m2"]))?;
    let report = probe.stop()?;
    println!("  reset: {report:?}");
    ensure!(report.lost <= RESET_COSTS, "{report:?}");
    Ok(())
}
