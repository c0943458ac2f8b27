//! Every prefix asked of the LOADED program, one BPF_PROG_TEST_RUN each, against what the peers announced.
//!
//! The right answer is computed here from the announcements alone, by a slow search that shares no code with the forwarding
//! table: the longest announced prefix names the links, the links name the neighbours. Three more questions have known answers:
//! space that nobody announced is not routed, the customer's networks lie behind its router from both MSEEs, and one MSEE's
//! prefixes are not reachable from the other (no transit).

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::IpNet;

use crate::{
    edge::{Edge, Explanation},
    lab::{
        Lab, plan,
        prefixes::{Links, address_of},
    },
};

/// How long the table may lag behind the sessions.
const PATIENCE: Duration = Duration::from_secs(20);
/// Addresses that nobody announces (RFC 5737, RFC 3849, RFC 6598).
const UNANNOUNCED: &[&str] =
    &["192.0.2.1", "198.51.100.77", "203.0.113.200", "100.64.1.1", "2001:db8::1", "2001:db8:ffff::9"];

/// A question and where the answer may lead: interface and neighbour, all of them equally good. None: nowhere.
type Question = (IpAddr, BTreeSet<(&'static str, IpAddr)>);

/// Asks everything.
///
/// # Errors
/// The first wrong answers, when they stay wrong.
pub fn check(lab: &Lab, edge: &Edge) -> Result<String> {
    let towards_azure = msee_questions(lab)?;
    let customer = ce_questions(lab)?;
    let transit = transit_questions(lab);
    super::until(lab.ground().patience(PATIENCE), || {
        let used = ask(edge, plan::CE.far.1, &towards_azure)?;
        for msee in [plan::PRIMARY, plan::SECONDARY] {
            ask(edge, msee.near.1, &customer)?;
            ask(edge, msee.near.1, &transit)?;
        }
        Ok(format!(
            "{} prefixes towards Azure, {} towards the customer (from each MSEE), {} that must not be routed: the loaded program \
             answers all rightly; both links used: {used}",
            towards_azure.len() - UNANNOUNCED.len(),
            customer.len(),
            transit.len() + UNANNOUNCED.len()
        ))
    })
}

fn neighbours(links: Links, is_ipv4: bool) -> Result<BTreeSet<(&'static str, IpAddr)>> {
    let mut neighbours = BTreeSet::new();
    for (used, link) in [(links.primary, plan::PRIMARY), (links.secondary, plan::SECONDARY)] {
        if used {
            let address = if is_ipv4 { link.ipv4.1 } else { link.ipv6.1 };
            neighbours.insert((link.near.1, address.parse()?));
        }
    }
    Ok(neighbours)
}

fn msee_questions(lab: &Lab) -> Result<Vec<Question>> {
    let announced = lab.announced();
    let right = announced.right_links();
    let mut questions = Vec::new();
    for prefix in announced.msee.keys() {
        let address = address_of(*prefix, |address| right(address).map(|found| found.0));
        let (_, links) = right(address).with_context(|| format!("{address} of {prefix} has no prefix"))?;
        questions.push((address, neighbours(links, address.is_ipv4())?));
    }
    for vnet in [plan::AZURE_IPV4, plan::AZURE_IPV6] {
        let address: IpAddr = vnet.parse()?;
        questions.push((address, neighbours(Links::BOTH, address.is_ipv4())?));
    }
    for address in UNANNOUNCED {
        questions.push((address.parse()?, BTreeSet::new()));
    }
    Ok(questions)
}

fn ce_questions(lab: &Lab) -> Result<Vec<Question>> {
    let neighbour = |is_ipv4| -> Result<(&'static str, IpAddr)> {
        Ok((plan::CE.far.1, if is_ipv4 { plan::CE.ipv4.0 } else { plan::CE.ipv6.0 }.parse()?))
    };
    let question =
        |prefix: &IpNet| Ok((prefix.network(), BTreeSet::from([neighbour(prefix.addr().is_ipv4())?])));
    lab.ce_announces()?.iter().map(question).collect()
}

/// Some of what only the other MSEE, and what both announce: from an MSEE none of it leads anywhere.
fn transit_questions(lab: &Lab) -> Vec<Question> {
    let step = lab.announced().msee.len() / 200;
    lab.announced()
        .msee
        .keys()
        .step_by(step.max(1))
        .map(|prefix| (prefix.network(), BTreeSet::new()))
        .collect()
}

/// Asks all and judges all; returns how many packets each interface would get.
fn ask(edge: &Edge, interface: &str, questions: &[Question]) -> Result<String> {
    let addresses: Vec<_> = questions.iter().map(|(address, _)| *address).collect();
    let answers = edge.explain(interface, &addresses)?;
    let answers: HashMap<IpAddr, &Explanation> =
        answers.iter().map(|answer| (answer.address, answer)).collect();
    let mut wrong = Vec::new();
    let mut used: HashMap<&str, usize> = HashMap::new();
    for (address, right) in questions {
        let answer = answers.get(address).with_context(|| format!("no answer for {address}"))?;
        match fault(answer, right) {
            Some(fault) => wrong.push(format!("from {interface} to {address}: {fault}")),
            None if right.len() > 1 => {
                *used.entry(answer.interface.as_deref().unwrap_or("-")).or_default() += 1
            }
            None => {}
        }
    }
    if !wrong.is_empty() {
        let first: Vec<_> = wrong.iter().take(5).map(String::as_str).collect();
        bail!("{} of {} answers are wrong: {}", wrong.len(), questions.len(), first.join("; "));
    }
    let mut used: Vec<_> = used.into_iter().collect();
    used.sort_unstable();
    let shared: usize = used.iter().map(|(_, count)| count).sum();
    // Two links, chosen by hash: a third for the lesser is far below any chance at these numbers.
    let even = used.len() == 2 && used.iter().all(|(_, count)| count * 3 >= shared);
    ensure!(shared < 100 || even, "packets are not spread over both links: {used:?}");
    Ok(used.iter().map(|(interface, count)| format!("{interface} {count}")).collect::<Vec<_>>().join(", "))
}

/// What is wrong with `answer`, if anything.
fn fault(answer: &Explanation, right: &BTreeSet<(&'static str, IpAddr)>) -> Option<String> {
    let reason = answer.reason.as_deref().unwrap_or("no reason given");
    if right.is_empty() {
        let dropped = answer.verdict == "drop" && answer.reason.is_some();
        return (!dropped)
            .then(|| format!("should be dropped with a reason, is {} ({reason})", answer.verdict));
    }
    if answer.verdict != "transmit" {
        return Some(format!("should be transmitted to {right:?}, is {} ({reason})", answer.verdict));
    }
    let chosen = right.iter().any(|(interface, neighbour)| {
        answer.interface.as_deref() == Some(*interface) && answer.next_hop == Some(*neighbour)
    });
    let members: BTreeSet<_> = answer.members.iter().copied().collect();
    let all: BTreeSet<_> = right.iter().map(|(_, neighbour)| *neighbour).collect();
    (!chosen || members != all).then(|| {
        format!("goes to {:?} by {:?} of {members:?}, should be {right:?}", answer.next_hop, answer.interface)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(verdict: &str, interface: &str, hop: &str, members: &[&str]) -> Explanation {
        Explanation {
            address: "192.0.2.1".parse().expect("an address"),
            verdict: verdict.into(),
            reason: Some("no-route".into()),
            interface: Some(interface.into()),
            next_hop: hop.parse().ok(),
            members: members.iter().filter_map(|text| text.parse().ok()).collect(),
            adopted: None,
        }
    }

    #[test]
    fn only_the_right_link_neighbour_and_members_pass() {
        let both = neighbours(Links::BOTH, true).expect("the plan's addresses parse");
        let one =
            neighbours(Links { primary: true, secondary: false }, true).expect("the plan's addresses parse");
        let all = ["198.18.0.2", "198.18.0.6"];
        let rows = [
            (answer("transmit", "msee1", "198.18.0.2", &all), &both, true),
            (answer("transmit", "msee2", "198.18.0.6", &all), &both, true),
            (answer("transmit", "msee1", "198.18.0.6", &all), &both, false),
            (answer("transmit", "msee1", "198.18.0.2", &all[..1]), &both, false),
            (answer("transmit", "msee1", "198.18.0.2", &all), &one, false),
            (answer("transmit", "msee1", "198.18.0.2", &all[..1]), &one, true),
            (answer("transmit", "msee2", "198.18.0.6", &all[1..]), &one, false),
            (answer("drop", "-", "-", &[]), &one, false),
            (answer("drop", "-", "-", &[]), &BTreeSet::new(), true),
            (answer("transmit", "msee2", "198.18.0.6", &[]), &BTreeSet::new(), false),
        ];
        for (answer, right, passes) in rows {
            assert_eq!(fault(&answer, right).is_none(), passes, "{answer:?}");
        }
    }
}
