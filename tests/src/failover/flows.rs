//! Which way each of many flows goes: one datagram each from a source port of its own, from the customer to the VNet, and the MSEE at which
//! it has arrived. A datagram that has arrived nowhere is sent again.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    CE, HOST, Place,
    probe::{PORT, bound, word_of},
};
use crate::lab::enter;

/// Flows that are asked about, by their source ports.
pub const FLOWS: usize = 12_000;
const FIRST_PORT: u16 = 20_000;
/// Times that a datagram is sent.
const TRIES: usize = 5;
/// Datagrams between two pauses.
const BURST: usize = 64;

/// Flows that have arrived, each with its MSEE.
type Arrived = Vec<(usize, usize)>;

/// The MSEE of each flow, 0 being the primary.
///
/// # Errors
/// When a socket fails, or a flow arrives nowhere.
pub fn ways(place: &Place) -> Result<Vec<usize>> {
    let mut ways: Vec<Option<usize>> = vec![None; FLOWS];
    for _ in 0..TRIES {
        let missing: Vec<usize> = (0..FLOWS).filter(|flow| ways[*flow].is_none()).collect();
        if missing.is_empty() {
            break;
        }
        for (flow, msee) in send(place, missing)? {
            let way = ways.get_mut(flow).context("a datagram of nobody's")?;
            ensure!(way.is_none_or(|before| before == msee), "flow {flow} has come to both MSEEs");
            *way = Some(msee);
        }
    }
    let lost = ways.iter().filter(|way| way.is_none()).count();
    ensure!(lost == 0, "{lost} of {FLOWS} flows arrive nowhere");
    Ok(ways.into_iter().flatten().collect())
}

/// Sends a datagram of each of these flows; which have arrived, and where.
fn send(place: &Place, flows: Vec<usize>) -> Result<Arrived> {
    let to = SocketAddr::new(HOST.parse()?, PORT);
    let stop = Arc::new(AtomicBool::new(false));
    let mut receivers: Vec<JoinHandle<Result<Arrived>>> = Vec::new();
    for (msee, name) in ["msee1", "msee2"].into_iter().enumerate() {
        let namespace = place.namespace(name)?.name().to_owned();
        let socket = enter::run(&namespace, move || bound(to))?;
        let stopped = Arc::clone(&stop);
        receivers.push(enter::on_thread(&namespace, move || receive(&socket, msee, &stopped))?);
    }
    let namespace = place.namespace("ce")?.name().to_owned();
    enter::run(&namespace, move || {
        for (count, flow) in flows.into_iter().enumerate() {
            let from = SocketAddr::new(CE.0.1.parse()?, FIRST_PORT + flow as u16);
            let socket = UdpSocket::bind(from).with_context(|| format!("cannot open {from}"))?;
            // One that does not leave is sent again.
            let _lost = socket.send_to(&(flow as u64).to_be_bytes(), to);
            if count % BURST == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    })?;
    thread::sleep(Duration::from_millis(200));
    stop.store(true, Ordering::Relaxed);
    let mut arrived = Arrived::new();
    for receiver in receivers {
        let Ok(part) = receiver.join() else { bail!("a receiver has panicked") };
        arrived.extend(part?);
    }
    Ok(arrived)
}

fn receive(socket: &UdpSocket, msee: usize, stop: &AtomicBool) -> Result<Arrived> {
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let (mut arrived, mut datagram) = (Arrived::new(), [0; 8]);
    loop {
        match socket.recv(&mut datagram) {
            Ok(8) => arrived.push((word_of(&datagram, 0) as usize, msee)),
            _ if stop.load(Ordering::Relaxed) => return Ok(arrived),
            _ => {}
        }
    }
}
