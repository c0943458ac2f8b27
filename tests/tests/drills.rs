//! Taking a link out of use, with FRR and BIRD as MSEEs and numbered packets, with `--full` every tenth of a millisecond: `erdp peering disable` and
//! `enable`, `erdp drill` and all that ends one, and `erdp whatif` held against what a drill then does.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use erdp_tests::{
    edge,
    failover::{
        CE, Fault, HOST,
        mixed::{PATIENCE, Stand},
        peers,
        probe::{Probe, RATE, Report, rate},
        until,
    },
    lab::{enter, plan},
    small::SmallLab,
    traffic::pacer::Pacer,
};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Bytes of a probe's IP packet: header, UDP header, 16 bytes.
const PROBE_BYTES: f64 = 44.0;
/// How often the load may be uneven because its sender waits for a CPU.
const ATTEMPTS: usize = 3;

fn show(what: &str, report: &Report) {
    let Report { sent, lost, gap_ms, at } = report;
    println!("  {what}: {sent} sent, {lost} lost, longest gap {gap_ms:.1} ms, {at:?} at the MSEEs");
}

#[test]
fn b6_a_peering_is_disabled_and_enabled_without_a_lost_packet_and_the_last_one_is_not_disabled() -> Result<()>
{
    if edge::skipped() {
        return Ok(());
    }
    let mut stand = Stand::up(|text| text)?;
    let port = stand.flow_by(0)?;
    let probe = Probe::start(&stand.place, port)?;
    let words = ["peering", "disable", "lab/private/primary", "--text", "rack 7 moves", "--drain", "2s"];
    print!("{}", stand.edge.ask(&words)?);
    stand.until("its sessions are drained", |it| {
        Ok(it.admins()?.iter().filter(|(_, admin)| admin == "draining: rack 7 moves").count() == 2)
    })?;
    stand.until("its sessions are disabled", |it| {
        Ok(it.admins()?.iter().filter(|(_, admin)| admin == "disabled: rack 7 moves").count() == 2)
    })?;
    // Soon it is its own attempts that were reset last.
    stand.until("FRR has been told why", |it| {
        let told = peers::vtysh(&it.place, "msee1", "show bgp neighbors 198.18.0.1")?;
        Ok(told.contains("Notification received (Cease/Administrative Shutdown"))
    })?;
    stand.until("and BFD that it is an operator's word", |it| {
        let bfd = peers::vtysh(&it.place, "msee1", "show bfd peers")?;
        Ok(bfd.matches("Remote diagnostics: administratively down").count() == 2)
    })?;
    let circuit = stand.circuit()?;
    ensure!(
        circuit["links"] == "one" && circuit["primary"] == serde_json::json!(["peering-disabled"]),
        "{circuit}"
    );
    let last = "the last one";
    stand.refused(
        &["peering", "disable", "lab/private/secondary", "--text", last],
        &["nothing would be left of lab/private IPv4", "peering-disabled", "--force"],
    )?;
    stand.refused(&["drill", "--fail", "secondary", "--for", "5s"], &["a peering is disabled"])?;
    stand.refused(
        &["peering", "disable", "nonsense"],
        &["no session \"nonsense\"", "lab/private/secondary"],
    )?;
    print!("{}", stand.edge.ask(&["peering", "enable", "lab/private/primary"])?);
    stand.until("both links carry traffic", Stand::is_whole)?;
    thread::sleep(Duration::from_millis(500));
    let report = probe.stop()?;
    show("disabled and enabled", &report);
    ensure!(report.lost == 0 && report.at[0] > 1_000 && report.at[1] > 1_000, "{report:?}");

    let words = ["peering", "disable", "lab/private", "--text", "power is cut", "--drain", "0", "--force"];
    print!("{}", stand.edge.ask(&words)?);
    stand.until("all is disabled", |it| {
        Ok(it.admins()?.iter().all(|(_, admin)| admin == "disabled: power is cut"))
    })?;
    // FRR 8.4 has no word of a text inside a Hard Reset (RFC 8538); BIRD 2.0 takes no such resets and shows it.
    stand.until("BIRD has been told why, in words", |it| {
        Ok(peers::birdc(&it.place, "msee2", &["show", "protocols", "all"])?.contains("power is cut"))
    })?;
    ensure!(stand.circuit()?["links"] == "none");
    stand.edge.ask(&["peering", "enable", "lab/private"])?;
    stand.until("both links carry traffic", Stand::is_whole).map(drop)
}

/// RFC 8326, and Microsoft's own sign of a drain (B7), as a live peer has them; and as it was when the word is taken back.
#[test]
fn b6_while_a_peering_is_drained_its_peer_is_told_to_use_others() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let lab = SmallLab::up()?;
    let edge = lab.edge(&edge::configuration())?;
    let told = || lab.birdc("msee1", &["show", "route", plan::CUSTOMER_IPV4, "all"]);
    let is_told = |wanted: bool| {
        until("the MSEE to be told", PATIENCE, || {
            let told = told()?;
            let is_drained = told.contains(&"65010 ".repeat(9)) && told.contains("(65535,0)");
            Ok(told.contains("BGP.as_path: 65010 ") && is_drained == wanted)
        })
        .with_context(|| told().unwrap_or_default())
    };
    is_told(false)?;
    edge.ask(&["peering", "disable", "lab/private primary", "--drain", "60s"])?;
    println!("  told after {:?}", is_told(true)?);
    let sessions = edge.show("sessions")?;
    ensure!(sessions.contains("draining: taken down by the operator"), "{sessions}");
    edge.ask(&["peering", "enable", "lab/private/primary"])?;
    println!("  and after {:?} that all is as before", is_told(false)?);
    ensure!(edge.sessions()?.iter().all(|it| it.state == "Established"), "a session has ended");
    Ok(())
}

#[test]
fn b6_a_drill_fails_a_link_measures_and_ends_with_its_time_its_command_its_need_or_the_controller()
-> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut stand = Stand::up(|text| text)?;
    it_ends_with_its_time(&mut stand)?;
    if !edge::is_full() {
        return Ok(());
    }
    it_is_refused_where_it_would_hurt(&mut stand)?;
    it_ends_when_its_command_has_gone(&mut stand)?;
    it_ends_at_once_when_the_other_link_fails(&mut stand)?;
    it_does_not_outlive_the_controller(&mut stand)
}

fn it_is_refused_where_it_would_hurt(stand: &mut Stand) -> Result<()> {
    stand.refused(&["drill", "--fail", "third", "--for", "5s"], &["not one link", "lab/primary"])?;
    stand.refused(&["drill", "--fail", "primary", "--for", "11m"], &["from 1 to 600"])?;
    stand.refused(&["drill", "--stop"], &["no drill is running"])?;
    stand.place.fail(1, Fault::Silent)?;
    stand.until("the secondary is not eligible", |it| Ok(it.circuit()?["links"] == "one"))?;
    stand.refused(
        &["drill", "--fail", "primary", "--for", "5s"],
        &["nothing would be left of lab/private", "--force"],
    )?;
    stand.place.heal(1)?;
    stand.until("both links carry traffic", Stand::is_whole).map(drop)
}

fn it_ends_with_its_time(stand: &mut Stand) -> Result<()> {
    let port = stand.flow_by(0)?;
    let probe = Probe::start(&stand.place, port)?;
    stand.start_drill(&["--fail", "primary", "--for", "3s"])?;
    stand.refused(&["drill", "--fail", "secondary", "--for", "3s"], &["a drill is running"])?;
    stand.refused(&["peering", "disable", "lab/private/secondary"], &["a drill is running"])?;
    let (good, answer) = stand.end_of_drill()?;
    stand.until("both links carry traffic", Stand::is_whole)?;
    let report = probe.stop()?;
    show("through the drill", &report);
    println!("  {answer}");
    let told = &answer["report"];
    let failed = told["failed_ms"].as_u64().unwrap_or_default();
    ensure!(good && answer["completed"] == true && (3_000..3_500).contains(&failed), "{answer}");
    ensure!(told["share"]["buckets"].as_u64() > Some(0) && told["share"]["alone"] == 0, "{answer}");
    ensure!(told["sent_before"]["pps"].as_u64() > Some(u64::from(rate()) / 2), "{answer}");
    let lost_here: Vec<&Value> = told["dropped"].as_array().into_iter().flatten().collect();
    let is_of_a_link = |row: &&&Value| row["of"] == "no-live-link" || row["of"] == "transmit-lost";
    ensure!(!lost_here.iter().any(|row| is_of_a_link(&row)), "{answer}");
    ensure!(report.lost == 0 && report.at[1] > 2 * u64::from(rate()), "{report:?}");
    Ok(())
}

fn it_ends_when_its_command_has_gone(stand: &mut Stand) -> Result<()> {
    let log = stand.start_drill(&["--fail", "primary", "--for", "300s"])?;
    stand.drills.pop().context("no drill")?.signal(Signal::SIGKILL)?;
    let took = stand.until("both links carry traffic without anybody's word", Stand::is_whole)?;
    ensure!(took < Duration::from_secs(30), "{took:?}; {}", fs::read_to_string(log)?);
    ensure!(stand.edge.process().tail(30).contains("the command that began it has gone"));
    Ok(())
}

fn it_ends_at_once_when_the_other_link_fails(stand: &mut Stand) -> Result<()> {
    let port = stand.flow_by(1)?;
    let probe = Probe::start(&stand.place, port)?;
    stand.start_drill(&["--fail", "primary", "--for", "60s"])?;
    stand.place.fail(1, Fault::Carrier)?;
    let (good, answer) = stand.end_of_drill()?;
    let end = answer["end"].as_str().unwrap_or_default();
    println!("  {end}");
    thread::sleep(Duration::from_millis(500));
    ensure!(!good && end.contains("aborted: nothing else was left of lab/private IPv4"), "{answer}");
    let report = probe.stop()?;
    show("the other link has failed in the drill", &report);
    ensure!(report.at[0] > 1_000 && report.gap_ms < 500.0, "{report:?}");
    stand.place.heal(1)?;
    stand.until("both links carry traffic", Stand::is_whole).map(drop)
}

/// A new controller knows nothing of a drill: its sessions come up, and its link is used.
fn it_does_not_outlive_the_controller(stand: &mut Stand) -> Result<()> {
    let log = stand.start_drill(&["--fail", "primary", "--for", "300s"])?;
    stand.kill()?;
    let mut drill = stand.drills.pop().context("no drill")?;
    ensure!(!drill.wait(PATIENCE)?.success(), "the command has not noticed");
    let said = fs::read_to_string(log)?;
    ensure!(said.contains("carries nothing until erdp runs again"), "{said}");
    let begin = Instant::now();
    stand.start_again()?;
    stand.until("both links carry traffic", Stand::is_whole)?;
    stand.flow_by(0)?;
    println!("  the primary carries traffic {:.1} s after the new start", begin.elapsed().as_secs_f32());
    Ok(())
}

/// The operator's order goes with whoever takes over, and outlives a crash; only the operator ends it.
#[test]
fn b6_a_disabled_peering_stays_so_when_another_process_takes_over_and_after_a_crash() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut stand = Stand::up(|text| text)?;
    let disable = ["peering", "disable", "lab/private/primary", "--text", "rack 7 moves", "--drain", "0"];
    let is_disabled = |stand: &Stand| -> Result<bool> {
        let admins = stand.admins()?;
        let out = admins.iter().filter(|(_, admin)| admin == "disabled: rack 7 moves").count();
        let up = stand.edge.sessions()?.iter().filter(|it| it.state == "Established").count();
        Ok((out, up) == (2, 2))
    };
    let stays = |stand: &Stand| -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(if edge::is_full() { 5 } else { 1 }) {
            ensure!(is_disabled(stand)?, "{:?} after {:?}", stand.admins()?, begin.elapsed());
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    };
    stand.edge.ask(&disable)?;
    stand.until("its sessions are disabled", |it| is_disabled(it))?;
    stand.take_over()?;
    stays(&stand)?;
    stand.kill()?;
    stand.start_again()?;
    stand.until("the sessions of the other link are up again", |it| {
        let admins = it.admins()?;
        ensure!(
            admins.iter().filter(|(_, admin)| admin == "disabled: rack 7 moves").count() == 2,
            "{admins:?}"
        );
        is_disabled(it)
    })?;
    stays(&stand)?;
    stand.edge.ask(&["peering", "enable", "lab/private/primary"])?;
    stand.until("the next process has put it back in service", Stand::is_whole).map(drop)
}

/// Two flows, one by each link: together more than one link may carry.
#[test]
fn what_is_predicted_for_a_failing_link_is_what_a_drill_then_does() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let small =
        |text: String| text.replace("bandwidth = \"1G\"", "bandwidth = \"5M\"\nburst = \"dual-link\"");
    let mut stand = Stand::up(small)?;
    let flows = [stand.flow_by(0)?, stand.flow_by(1)?];
    for _ in 0..ATTEMPTS {
        if drill_as_predicted(&mut stand, flows)? {
            return Ok(());
        }
    }
    bail!("the second flow was not sent evenly {ATTEMPTS} times")
}

/// Asks for the forecast and then drills; false: the second flow's sender waited for a CPU, so that the two had not the same load.
fn drill_as_predicted(stand: &mut Stand, flows: [u16; 2]) -> Result<bool> {
    let probe = Probe::timed(&stand.place, flows[0])?;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let other = pour(stand, flows[1], (&stop, &sent))?;
    thread::sleep(Duration::from_millis(300));
    print!("{}", stand.edge.ask(&["whatif", "--fail", "primary", "--over", "1s"])?);
    let begin = (sent.load(Ordering::Relaxed), Instant::now());
    let forecast = stand.edge.ask(&["whatif", "--fail", "primary", "--over", "2s", "--json"])?;
    let forecast: Value = serde_json::from_str(&forecast)?;
    let middle = (sent.load(Ordering::Relaxed), Instant::now());
    stand.start_drill(&["--fail", "primary", "--for", "4s"])?;
    let (good, answer) = stand.end_of_drill()?;
    let end = (sent.load(Ordering::Relaxed), Instant::now());
    stop.store(true, Ordering::Relaxed);
    ensure!(other.join().is_ok(), "the second flow's sender has panicked");
    probe.stop()?;
    ensure!(good, "{answer}");
    let rate = |from: (u64, Instant), to: (u64, Instant)| {
        (to.0 - from.0) as f64 / (to.1 - from.1).as_secs_f64() / f64::from(RATE)
    };
    let rates = [rate(begin, middle), rate(middle, end)];
    if rates.iter().any(|rate| (rate - 1.0).abs() > 0.03) {
        println!("  the second flow had {rates:.2?} of its rate before and during the drill: once more");
        return Ok(false);
    }
    let rows = forecast["directions"][0]["classes"].as_array().into_iter().flatten();
    let predicted = rows.filter_map(|row| row["dropped_bps"].as_f64()).sum::<f64>() / 1e6;
    let policed = answer["report"]["policed"].as_array().into_iter().flatten();
    let policed: Vec<(&str, f64)> =
        policed.filter_map(|row| Some((row["of"].as_str()?, row["failing"].as_f64()?))).collect();
    let seconds = answer["report"]["failed_ms"].as_f64().unwrap_or_default() / 1e3;
    let measured =
        policed.iter().map(|(_, packets)| packets * PROBE_BYTES * 8.0).sum::<f64>() / seconds / 1e6;
    println!("  predicted {predicted:.2} Mb/s of drops, measured {measured:.2} Mb/s: {policed:?}");
    ensure!(policed.iter().all(|(of, _)| *of == "to-microsoft default"), "{answer}");
    ensure!(predicted > 1.0 && (measured / predicted - 1.0).abs() < 0.15, "{forecast} {answer}");
    Ok(true)
}

/// The same as a probe from another port, and nobody looks for it: a second flow.
fn pour(
    stand: &Stand,
    from_port: u16,
    (stop, sent): (&Arc<AtomicBool>, &Arc<AtomicU64>),
) -> Result<JoinHandle<Result<()>>> {
    let from = SocketAddr::new(CE.0.1.parse()?, from_port);
    let to = SocketAddr::new(HOST.parse()?, 7007);
    let (stop, sent) = (Arc::clone(stop), Arc::clone(sent));
    enter::on_thread(stand.place.namespace("ce")?.name(), move || {
        // As the probe's sender: both flows have what the CPUs allow.
        let _best_effort = erdp::kernel::datagram::make_realtime();
        let socket = UdpSocket::bind(from)?;
        let (mut pacer, mut number) = (Pacer::new(RATE), 0_u32);
        while !stop.load(Ordering::Relaxed) {
            // What is lost here was to be offered, and the measured drops will lack it.
            let _lost = socket.send_to(&[0; 16], to);
            number += 1;
            sent.store(number.into(), Ordering::Relaxed);
            pacer.wait();
        }
        Ok(())
    })
}
