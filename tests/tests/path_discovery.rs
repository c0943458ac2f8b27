//! What hosts learn about the way through ERDP from its ICMP errors, with the kernel's forwarding off: traceroute by UDP, TCP and ICMP,
//! path MTU discovery (RFC 1191, RFC 8201) with real sockets and a TCP transfer that needs it, and the errors' budget.
//!
//! The wire towards the MSEE gets a smaller MTU at the edge's end only, so that neither host can know of it from its own interface
//! or from the other's MSS: only ERDP's error tells.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::{
    edge,
    lab::{
        enter,
        netns::Namespace,
        plan,
        straight::{AZURE, CUSTOMER, FAMILIES, Straight, ip},
    },
    traffic::raw::forbid_fragments,
};
use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};

const SMALL_MTU: u16 = 1_400;
const TRANSFER: usize = 4 << 20;
/// The default budget of ICMP errors: in the long run, and at once.
const PER_SECOND: f64 = 1_000.0;
const BURST: u32 = 100;

#[test]
fn traceroute_path_mtu_discovery_and_the_errors_budget_work_with_the_kernels_forwarding_off() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let mut lab = Straight::up(60)?;
    for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        let value = lab.middle.exec("sysctl", &["-n", key])?;
        ensure!(value.trim() == "0", "{key} is {value} at the edge");
        println!("  {key} = {} at the edge", value.trim());
    }
    (0..2).try_for_each(|family| traceroutes(&lab, family))?;
    (0..2).try_for_each(|family| budget(&lab, family))?;
    lab.middle.ip(&format!("link set msee1 mtu {SMALL_MTU}"))?;
    (0..2).try_for_each(|family| learns(&mut lab, family))?;
    (0..2).try_for_each(|family| transfers(&lab, family))?;
    lab.until("the counters add up", |it| Ok(it.edge.counters()?.unexplained() == 0))?;
    println!("{}", lab.edge.table("counters")?);
    ensure!(lab.is_established()?, "a session has not survived");
    Ok(())
}

/// Two hops from the customer to Azure, and back: the edge, with its address on the side that asks, and the host.
fn traceroutes(lab: &Straight, family: usize) -> Result<()> {
    let ours = [[plan::CE.ipv4.1, plan::CE.ipv6.1], [plan::PRIMARY.ipv4.0, plan::PRIMARY.ipv6.0]];
    let ways = [(&lab.ce, CUSTOMER, AZURE[0], ours[0]), (&lab.msee, AZURE[0], CUSTOMER, ours[1])];
    for (from, source, to, ours) in ways {
        for (name, method) in [("UDP", "--udp"), ("TCP", "--tcp"), ("ICMP", "--icmp")] {
            let version = ["-4", "-6"][family];
            // One at a time and unhurried: what is looked at is who answers, not how fast.
            let (source, to) = (source[family], to[family]);
            let common = ["-n", "-q", "2", "-N", "1", "-w", "2", "-m", "5", "-s", source, to];
            let printed = from.exec("traceroute", &[&[version, method][..], &common].concat())?;
            let hops: Vec<&str> =
                printed.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
            println!("  traceroute by {name} from {source} to {to}: {}", hops.join(" -> "));
            ensure!(hops == [ours[family], to], "by {name}, expected {} and {to}:\n{printed}", ours[family]);
        }
    }
    Ok(())
}

/// A burst of packets whose hop limit runs out at the edge is answered up to the budget, and after a pause again.
fn budget(lab: &Straight, family: usize) -> Result<()> {
    const MANY: u32 = 20_000;
    thread::sleep(Duration::from_millis(300));
    let (answers, took) = expire(&lab.ce, family, MANY)?;
    let most = f64::from(BURST) + 2.0 + PER_SECOND * took.as_secs_f64();
    println!(
        "  {}: {MANY} expired packets in {} ms: {answers} errors, at most {most:.0}",
        FAMILIES[family],
        took.as_millis()
    );
    ensure!(answers >= BURST, "fewer errors than the burst of {BURST}");
    ensure!(f64::from(answers) <= most, "more errors than the budget gives");
    // At 1,000 a second the burst of 100 is there again after a tenth of a second.
    thread::sleep(Duration::from_millis(200));
    let (again, _) = expire(&lab.ce, family, BURST)?;
    println!("  {}: a fifth of a second later {BURST} expired packets: {again} errors", FAMILIES[family]);
    ensure!(again == BURST, "the budget has not recovered");
    Ok(())
}

/// Sends so many datagrams with a hop limit of 1; the answer is how many "time exceeded" have come, and how long sending took.
fn expire(from: &Namespace, family: usize, packets: u32) -> Result<(u32, Duration)> {
    let (source, to) = (ip(CUSTOMER[family])?, ip(AZURE[0][family])?);
    enter::run(from.name(), move || {
        let (domain, protocol, exceeded) = match to {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 11),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 3),
        };
        let listener = Socket::new(domain, Type::RAW, Some(protocol)).context("cannot open a raw socket")?;
        listener.set_recv_buffer_size(4 << 20)?;
        listener.set_read_timeout(Some(Duration::from_millis(200)))?;
        let sender = Socket::new(domain, Type::DGRAM, None)?;
        match to {
            IpAddr::V4(_) => sender.set_ttl_v4(1)?,
            IpAddr::V6(_) => sender.set_unicast_hops_v6(1)?,
        }
        sender.bind(&SocketAddr::new(source, 0).into())?;
        let begin = Instant::now();
        for _ in 0..packets {
            sender.send_to(b"expires", &SocketAddr::new(to, 33_434).into())?;
        }
        let took = begin.elapsed();
        // A raw socket of IPv4 has the IP header in front (20 bytes: an error of ours has no options), one of IPv6 has not.
        let (mut listener, at) = (listener, if to.is_ipv4() { 20 } else { 0 });
        let (mut answers, mut packet) = (0, [0; 2_048]);
        loop {
            match listener.read(&mut packet) {
                Ok(len) => answers += u32::from(len > at && packet[at] == exceeded),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => return Err(error).context("cannot hear errors"),
            }
        }
        Ok((answers, took))
    })
}

/// A datagram that is too big is not delivered; the kernel learns the path's MTU from the error and refuses the next one; one
/// that fits arrives.
fn learns(lab: &mut Straight, family: usize) -> Result<()> {
    const PORT: u16 = 7_008;
    let (source, to) = (ip(CUSTOMER[family])?, ip(AZURE[0][family])?);
    let headers = [28, 48][family];
    let receiver = enter::run(lab.msee.name(), move || Ok(UdpSocket::bind(SocketAddr::new(to, PORT))?))?;
    receiver.set_read_timeout(Some(Duration::from_secs(2)))?;
    // The edge learns of its new MTU from the kernel, and the sender of the path's from the first one that is too big.
    lab.until("the sender knows the path's MTU", |it| {
        let sent = send(&it.ce, source, SocketAddr::new(to, PORT), 1_500 - headers)?;
        let route = it.ce.ip(&format!("route get {to}"))?;
        Ok(!sent && route.contains(&format!("mtu {SMALL_MTU}")))
    })?;
    let fits = usize::from(SMALL_MTU) - headers;
    ensure!(!send(&lab.ce, source, SocketAddr::new(to, PORT), fits + 1)?, "one byte more than fits was sent");
    ensure!(send(&lab.ce, source, SocketAddr::new(to, PORT), fits)?, "what fits was refused");
    let mut datagram = [0; 2_048];
    // Those that were sent before the edge knew are here too.
    while receiver.recv_from(&mut datagram).context("what fits has not arrived")?.0 != fits {}
    println!("  {}: {fits} bytes of UDP data arrive, {} are refused", FAMILIES[family], fits + 1);
    Ok(())
}

/// Sends a datagram that nobody may cut up; `false`: the kernel says that the path's MTU is smaller.
fn send(from: &Namespace, source: IpAddr, to: SocketAddr, len: usize) -> Result<bool> {
    enter::run(from.name(), move || {
        let socket = UdpSocket::bind(SocketAddr::new(source, 0))?;
        forbid_fragments(&socket, to.is_ipv4())?;
        let sent = socket.send_to(&vec![0x5a; len], to);
        // The error is on its way for as long as the wires need: nothing.
        thread::sleep(Duration::from_millis(20));
        match sent {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot send to {to}")),
        }
    })
}

/// TCP to a host whose path nobody has learned yet: its first full segments are too big, and everything arrives.
fn transfers(lab: &Straight, family: usize) -> Result<()> {
    const PORT: u16 = 7_009;
    let (source, to) = (ip(CUSTOMER[family])?, ip(AZURE[1][family])?);
    let too_big = || -> Result<u64> {
        Ok(lab.edge.counters()?.dropped.get("too-big").map_or(0, |tally| tally.packets))
    };
    ensure!(!lab.ce.ip(&format!("route get {to}"))?.contains("mtu"), "the path to {to} is known already");
    let before = too_big()?;
    let listener = enter::run(lab.msee.name(), move || Ok(TcpListener::bind(SocketAddr::new(to, PORT))?))?;
    let server = thread::spawn(move || -> Result<usize> {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut received = Vec::with_capacity(TRANSFER);
        stream.read_to_end(&mut received).context("the transfer has stopped")?;
        ensure!(received.iter().all(|byte| *byte == 0x5a), "other bytes than were sent");
        Ok(received.len())
    });
    let begin = Instant::now();
    enter::run(lab.ce.name(), move || {
        let socket = Socket::new(Domain::for_address(SocketAddr::new(to, PORT)), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        socket.connect_timeout(&SocketAddr::new(to, PORT).into(), Duration::from_secs(5))?;
        let mut stream = TcpStream::from(socket);
        stream.write_all(&vec![0x5a; TRANSFER]).context("cannot send")
    })?;
    let received = server.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
    let (route, dropped) = (lab.ce.ip(&format!("route get {to}"))?, too_big()? - before);
    println!(
        "  {}: {received} bytes of TCP in {} ms, {dropped} segments were too big",
        FAMILIES[family],
        begin.elapsed().as_millis()
    );
    ensure!(received == TRANSFER && dropped > 0, "{received} of {TRANSFER} bytes, {dropped} too big");
    ensure!(route.contains(&format!("mtu {SMALL_MTU}")), "the path's MTU was not learned: {route}");
    Ok(())
}
