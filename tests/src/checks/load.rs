//! Traffic through the XDP path, and every packet of it accounted for.
//!
//! Two independent witnesses stand beside erdp's own counters: the neighbours' kernels count what they have put on the links to
//! the edge, and the edge's kernel counts what it has forwarded itself, which must be nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    edge::{Counters, Edge},
    lab::{Ground, Lab, plan},
    traffic::{
        counts::{self, forwarded, xdp_mode},
        iperf::{self, Load, Outcome},
    },
};

/// How long counters may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(10);
/// UDP in megabits a second: what two busy cores carry in both hosts with hardly any loss.
const UDP: u32 = 50;
/// The same on emulated processors.
const UDP_EMULATED: u32 = 4;
/// The share of UDP datagrams, in percent, that the end hosts may lose: they do when their process waits for a core longer than
/// a socket's buffer lasts. What the edge has lost is counted to the packet and said beside it.
const MOST_LOST_PERCENT: u64 = 10;

/// Every interface of the edge has XDP attached in the driver.
///
/// # Errors
/// Names the interface.
pub fn native(lab: &Lab) -> Result<String> {
    let edge = lab.namespace("edge")?;
    for interface in [plan::PRIMARY.near.1, plan::SECONDARY.near.1, plan::CE.far.1] {
        let mode = xdp_mode(edge, interface)?;
        ensure!(mode == "native", "interface {interface} of the edge: XDP is {mode}, not native");
    }
    Ok("XDP is attached in native driver mode on msee1, msee2 and ce0".to_owned())
}

/// The same of an emulated machine, whose cards lose frames besides: it shows that traffic passes, and no more.
const fn most_lost_percent(ground: Ground) -> u64 {
    match ground {
        Ground::Veth => MOST_LOST_PERCENT,
        Ground::Cards => 3 * MOST_LOST_PERCENT,
    }
}

/// Packets that may be lost before XDP sees them: none in a veth; an emulated card has a ring that overflows when its processor is
/// not given time, and a card's own loss is no loss of erdp's.
const fn most_unseen(ground: Ground, sent: u64) -> u64 {
    match ground {
        Ground::Veth => 0,
        Ground::Cards => sent * most_lost_percent(ground) / 100,
    }
}

/// What all witnesses say at one moment of rest.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// erdp's own counters.
    pub counters: Counters,
    /// What the neighbours have sent to the edge: CE, primary, secondary.
    pub sent_to_edge: [u64; 3],
    /// What the edge's kernel has forwarded: IPv4, IPv6.
    pub forwarded: (u64, u64),
}

impl Snapshot {
    /// Takes one; not atomic, so only meaningful when nothing moves (see [`at_rest`]).
    ///
    /// # Errors
    /// When a witness cannot be asked.
    pub fn take(lab: &Lab, edge: &Edge) -> Result<Snapshot> {
        let ends = [plan::CE.near, plan::PRIMARY.far, plan::SECONDARY.far];
        let mut sent_to_edge = [0; 3];
        for (count, end) in sent_to_edge.iter_mut().zip(ends) {
            *count = counts::interface(lab.namespace(end.0)?, &lab.wire_of(end))?.tx_packets;
        }
        Ok(Snapshot {
            counters: edge.counters()?,
            sent_to_edge,
            forwarded: forwarded(lab.namespace("edge")?)?,
        })
    }

    fn sent(&self) -> u64 {
        self.sent_to_edge.iter().sum()
    }
}

/// A snapshot between two equal sets of the neighbours' counts, with nothing unexplained.
///
/// # Errors
/// The sum, when packets stay unexplained.
pub fn at_rest(lab: &Lab, edge: &Edge) -> Result<Snapshot> {
    super::until(lab.ground().patience(PATIENCE), || {
        let before = Snapshot::take(lab, edge)?;
        let snapshot = Snapshot::take(lab, edge)?;
        ensure!(before.sent_to_edge == snapshot.sent_to_edge, "the neighbours keep on sending");
        ensure!(before.counters == snapshot.counters, "the counters keep on moving");
        let unexplained = snapshot.counters.unexplained();
        ensure!(unexplained == 0, "{unexplained} packets unexplained: {:?}", snapshot.counters);
        Ok(snapshot)
    })
}

/// The conservation sum of the whole life of the edge: of counters that no packet has moved while they were read. On a slow machine a
/// neighbour's next word often comes before all witnesses are asked, so the others are left out here.
///
/// # Errors
/// When a packet is unexplained.
pub fn conservation(lab: &Lab, edge: &Edge) -> Result<String> {
    let counters = super::until(lab.ground().patience(PATIENCE), || {
        let (before, counters) = (edge.counters()?, edge.counters()?);
        ensure!(before == counters, "the counters keep on moving");
        let unexplained = counters.unexplained();
        ensure!(unexplained == 0, "{unexplained} packets unexplained: {counters:?}");
        Ok(counters)
    })?;
    ensure!(counters.rx.packets > 0, "nothing was received, so nothing is shown");
    let punted: u64 = counters.punted.values().map(|tally| tally.packets).sum();
    let dropped = dropped(&counters);
    Ok(format!(
        "rx {} + originated {} + from the kernel {} = tx {} + punted {punted} + dropped {dropped}; 0 unexplained (of tx, lost after the redirect: {})",
        counters.rx.packets,
        counters.originated.packets,
        counters.from_kernel.packets,
        counters.tx.packets,
        counters.transmit_lost.packets
    ))
}

fn dropped(counters: &Counters) -> u64 {
    counters.dropped.values().map(|tally| tally.packets).sum()
}

/// What the circuit's policer promises of one load, whose IP bytes never come near its rate when it is UDP: of UDP it drops nothing, and what
/// arrives is what was sent but for the hosts' own loss; TCP may have the rate and what a burst's credit adds in that time (A2, `peak-2x`), and
/// carries no less than UDP has just carried between the same hosts in smaller packets.
///
/// # Errors
/// When more or less passed.
fn promised(
    outcome: &Outcome,
    rate: &Rate,
    seconds: u32,
    policed: u64,
    most_lost_percent: u64,
) -> Result<()> {
    match outcome.load {
        Load::Udp(offered) => {
            let least = f64::from(offered) * (100 - most_lost_percent) as f64 / 100.0;
            ensure!(outcome.megabits >= least, "less than {least} Mbit/s arrived: {outcome}");
            ensure!(policed == 0, "the policer has dropped {policed} packets far below its rate: {outcome}");
        }
        Load::Tcp => {
            let most = rate.megabits * (1.0 + rate.credit_s / f64::from(seconds).max(rate.credit_s)) * 1.02;
            ensure!(outcome.megabits <= most, "more than the circuit's {most:.0} Mbit/s: {outcome}");
            let least = f64::from(rate.udp);
            ensure!(outcome.megabits >= least, "less than {least} Mbit/s, which UDP carries: {outcome}");
        }
    }
    Ok(())
}

/// What the circuit is limited to, and what is offered by UDP.
struct Rate {
    megabits: f64,
    credit_s: f64,
    udp: u32,
}

impl Rate {
    fn of(edge: &Edge, udp: u32) -> Result<Rate> {
        let rows: Value = serde_json::from_str(&edge.show("policers")?)?;
        let bits = rows[0]["rate_bps"].as_f64().context("the circuit has no rate")?;
        let shown = edge.ask(&["config", "show", "--defaults"])?;
        let credit = shown.lines().find_map(|line| line.split_once(".credit-ms = ")?.1.parse::<f64>().ok());
        Ok(Rate { megabits: bits / 1e6, credit_s: credit.context("the circuit has no credit")? / 1e3, udp })
    }
}

/// iperf3 TCP and UDP over both families; then the witnesses are compared. One sentence for each finding.
///
/// # Errors
/// When traffic does not pass or the witnesses disagree.
pub fn iperf(lab: &Lab, edge: &Edge, seconds: u32) -> Result<Vec<String>> {
    let before = at_rest(lab, edge).context("before the traffic")?;
    let mut found = Vec::new();
    let (mut datagrams, mut lost) = (0, 0);
    let udp = if lab.ground() == Ground::Veth { UDP } else { UDP_EMULATED };
    let rate = Rate::of(edge, udp)?;
    let policed =
        || Ok::<_, anyhow::Error>(edge.counters()?.dropped.get("policed").map_or(0, |it| it.packets));
    for (load, ipv6) in
        [(Load::Tcp, false), (Load::Udp(udp), false), (Load::Tcp, true), (Load::Udp(udp), true)]
    {
        let policed_before = policed()?;
        let outcome = iperf::run(lab, load, ipv6, seconds)?;
        let most_lost = most_lost_percent(lab.ground());
        promised(&outcome, &rate, seconds, policed()? - policed_before, most_lost)?;
        if matches!(load, Load::Udp(_)) {
            let most = outcome.datagrams * most_lost_percent(lab.ground()) / 100;
            ensure!(outcome.datagrams > 0 && outcome.lost <= most, "too much was lost: {outcome}");
            datagrams += outcome.datagrams;
            lost += outcome.lost;
        }
        found.push(outcome.to_string());
    }
    let (after, unseen) = super::until(lab.ground().patience(PATIENCE), || {
        let after = at_rest(lab, edge).context("after the traffic")?;
        let counted = after.counters.rx.packets - before.counters.rx.packets;
        let sent = after.sent() - before.sent();
        let unseen = sent.checked_sub(counted).filter(|unseen| *unseen <= most_unseen(lab.ground(), sent));
        let unseen = unseen.with_context(|| {
            format!(
                "the neighbours' kernels sent {sent} packets to the edge, the XDP program received {counted}"
            )
        })?;
        Ok((after, unseen))
    })?;
    let counted = after.counters.rx.packets - before.counters.rx.packets;
    let passed_on = after.counters.tx.packets - before.counters.tx.packets;
    // A datagram that the sender's own queue has lost never came to the edge.
    let least = datagrams - lost;
    ensure!(passed_on >= least, "XDP passed on {passed_on} packets, of iperf3's UDP alone {least} arrived");
    let dropped = dropped(&after.counters) - dropped(&before.counters);
    let lost_after = after.counters.transmit_lost.packets - before.counters.transmit_lost.packets;
    found.push(format!(
        "XDP counters rose by {counted} received, {unseen} less than what the neighbours' kernels sent; {passed_on} passed on (iperf3's UDP: \
         {datagrams}), {dropped} dropped with a reason, {lost_after} lost after the redirect"
    ));
    ensure!(
        after.forwarded == before.forwarded && after.forwarded == (0, 0),
        "the edge's kernel has forwarded packets: {:?}, before {:?}",
        after.forwarded,
        before.forwarded
    );
    found.push("the edge's kernel forwarded nothing: IpForwDatagrams 0, Ip6OutForwDatagrams 0".to_owned());
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a2_more_or_less_than_the_policer_promises_is_found_out() {
        let rate = Rate { megabits: 1_000.0, credit_s: 1.0, udp: 50 };
        let judge = |load, megabits, policed| {
            let outcome = Outcome { load, ipv6: false, megabits, datagrams: 0, lost: 0 };
            promised(&outcome, &rate, 2, policed, 10).is_ok()
        };
        assert!(judge(Load::Udp(50), 49.9, 0) && judge(Load::Tcp, 900.0, 7) && judge(Load::Tcp, 1_500.0, 0));
        assert!(!judge(Load::Udp(50), 44.0, 0), "UDP has lost an eighth");
        assert!(!judge(Load::Udp(50), 49.9, 1), "the policer drops far below its rate");
        assert!(!judge(Load::Tcp, 1_600.0, 0), "two seconds are 1.5 times the rate with a second's credit");
        assert!(!judge(Load::Tcp, 0.6, 0), "hardly anything");
    }
}
