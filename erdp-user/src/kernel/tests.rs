//! Against the real kernel, each test in a network namespace of its own on a thread of its own.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::{control_port::Shape, sysctl::Sysctls, *};

/// Runs the test, or says SKIP without root.
pub(in crate::kernel) fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIP: a network namespace needs root");
        return;
    }
    thread::scope(|scope| {
        let run = || {
            // SAFETY: affects this thread only.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "{}", io::Error::last_os_error());
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(test());
        };
        scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

pub(in crate::kernel) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("iproute2");
    assert!(status.success(), "ip {arguments}");
}

/// A network namespace without a name: it lasts as long as a process in it, which dies with the test's thread, whatever ends that.
struct Far(std::process::Child);

impl Far {
    fn new() -> Self {
        let hold = ["--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"];
        let far = Self(Command::new("setpriv").args(hold).spawn().expect("util-linux"));
        let own = std::fs::read_link("/proc/thread-self/ns/net").expect("our namespace");
        let its = format!("/proc/{}/ns/net", far.0.id());
        let deadline = Instant::now() + Duration::from_secs(5);
        while std::fs::read_link(&its).is_ok_and(|its| its == own) {
            assert!(Instant::now() < deadline, "no namespace");
            thread::sleep(Duration::from_millis(2));
        }
        far
    }

    /// `ip` in there.
    fn ip(&self, arguments: &str) {
        let net = format!("--net=/proc/{}/ns/net", self.0.id());
        let status = Command::new("nsenter")
            .args([&net, "ip"])
            .args(arguments.split(' '))
            .status()
            .expect("util-linux");
        assert!(status.success(), "ip {arguments}");
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn index(name: &str) -> u32 {
    interface_index(name).unwrap_or_default()
}

/// The next event that `wanted` accepts, within 3 s.
async fn next(
    events: &mut mpsc::Receiver<KernelEvent>,
    wanted: impl Fn(&KernelEvent) -> bool,
) -> KernelEvent {
    next_within(Duration::from_secs(3), events, wanted).await
}

async fn next_within(
    patience: Duration,
    events: &mut mpsc::Receiver<KernelEvent>,
    wanted: impl Fn(&KernelEvent) -> bool,
) -> KernelEvent {
    let find = async {
        loop {
            let event = events.recv().await.expect("the listener lives");
            if wanted(&event) {
                return event;
            }
        }
    };
    timeout(patience, find).await.expect("the event in time")
}

#[test]
fn a_lost_carrier_is_an_event() {
    in_namespace(|| async {
        ip("link add one type veth peer name two");
        ip("link set one up");
        ip("link set two up");
        let (kernel, mut events) = Kernel::open().expect("netlink");
        let one = index("one");
        let alive = |event: &KernelEvent, alive| matches!(event, KernelEvent::Link(link) if link.ifindex == one && link.is_alive() == alive);
        let facts = kernel.dump().await.expect("a dump");
        assert!(facts.iter().any(|event| alive(event, true)), "{facts:?}");
        ip("link set two down");
        next(&mut events, |event| alive(event, false)).await;
        ip("link del one");
        next(&mut events, |event| *event == KernelEvent::LinkGone { ifindex: one }).await;
    });
}

#[test]
fn addresses_are_added_once_and_removed() {
    in_namespace(|| async {
        ip("link add one type veth peer name two");
        let (kernel, mut events) = Kernel::open().expect("netlink");
        let one = index("one");
        for (address, len) in [("198.18.0.1", 30), ("fd00:18::1", 126)] {
            let address: IpAddr = address.parse().expect("an address");
            assert!(kernel.ensure_address(one, address, len).await.expect("added"));
            assert!(
                !kernel.ensure_address(one, address, len).await.expect("there"),
                "a second time it is there"
            );
            let fact = KernelEvent::Address { ifindex: one, address, prefix_len: len };
            assert!(kernel.dump().await.expect("a dump").contains(&fact));
            let is_marked =
                async || kernel.marked_addresses().await.expect("a list").contains(&(one, address));
            assert!(is_marked().await);
            kernel.remove_address(one, address, len).await.expect("removed");
            ip(&format!("addr add {address}/{len} dev one"));
            assert!(!is_marked().await, "somebody else's");
            kernel.mark_address(one, address, len).await.expect("marked");
            assert!(is_marked().await);
            kernel.remove_address(one, address, len).await.expect("removed");
            kernel.remove_address(one, address, len).await.expect("gone is fine");
            assert!(!kernel.dump().await.expect("a dump").contains(&fact));
        }
        ip("link set one up");
        next(&mut events, |event| matches!(event, KernelEvent::Link(link) if link.admin_up)).await;
    });
}

#[test]
fn a_watched_neighbour_is_resolved_without_traffic() {
    in_namespace(|| async {
        ip("link add one type veth peer name two");
        // The neighbour lives in this very namespace: both ends answer ARP for their own address only.
        for (name, address) in [("one", "198.18.0.1/30"), ("two", "198.18.0.2/30")] {
            ip(&format!("addr add {address} dev {name}"));
            ip(&format!("link set {name} up"));
        }
        let _sysctls = Sysctls::set(&["one", "two"]).expect("root");
        let far = Far::new();
        ip(&format!("link set two netns {}", far.0.id()));
        for command in ["addr add 198.18.0.2/30 dev two", "link set two up"] {
            far.ip(command);
        }
        let (kernel, mut events) = Kernel::open().expect("netlink");
        let one = index("one");
        let two: IpAddr = "198.18.0.2".parse().expect("an address");
        kernel.watch_neighbour(one, two).await.expect("watched");
        let resolved = |event: &KernelEvent| matches!(event, KernelEvent::Neighbour { address, mac: Some(_), .. } if *address == two);
        next(&mut events, resolved).await;
        kernel.forget_neighbour(one, two).await.expect("forgotten");
        next(
            &mut events,
            |event| matches!(event, KernelEvent::Neighbour { address, mac: None, .. } if *address == two),
        )
        .await;
        kernel.forget_neighbour(one, two).await.expect("gone is fine");
    });
}

/// A router is replaced and nothing says so: no gratuitous ARP, no loss of carrier. With the kernel's own timers it takes 17 s.
#[test]
fn a_neighbour_whose_mac_address_changes_silently_is_followed_within_three_seconds_and_a_bit() {
    in_namespace(|| async {
        ip("link add one type veth peer name two");
        let far = Far::new();
        ip(&format!("link set two netns {}", far.0.id()));
        for (near, there) in [
            ("addr add 198.18.0.1/30 dev one", "addr add 198.18.0.2/30 dev two"),
            ("addr add fd00::1/126 dev one nodad", "addr add fd00::2/126 dev two nodad"),
            ("link set one up", "link set two up"),
        ] {
            ip(near);
            far.ip(there);
        }
        let sysctls = Sysctls::set(&["one"]).expect("root");
        let (kernel, mut events) = Kernel::open().expect("netlink");
        let one = index("one");
        for text in ["198.18.0.2", "fd00::2"] {
            let two: IpAddr = text.parse().expect("an address");
            kernel.watch_neighbour(one, two).await.expect("watched");
            let found = |event: &KernelEvent| matches!(event, KernelEvent::Neighbour { address, mac: Some(_), .. } if *address == two);
            next(&mut events, found).await;
            let mut slowest = Duration::ZERO;
            for number in 1..=3 {
                // At no particular moment of the kernel's timers.
                tokio::time::sleep(Duration::from_millis(700 * number)).await;
                let new = [2, 0, 0, 0, text.len() as u8, number as u8];
                let mac = new.map(|octet| format!("{octet:02x}")).join(":");
                let begin = Instant::now();
                far.ip(&format!("link set two address {mac}"));
                let is_it = |event: &KernelEvent| matches!(event, KernelEvent::Neighbour { address, mac: Some(mac), .. } if *address == two && *mac == new);
                let found = next_within(Duration::from_secs(30), &mut events, is_it);
                // As the controller does.
                let asking = async {
                    loop {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        kernel.watch_neighbour(one, two).await.expect("watched");
                    }
                };
                tokio::select! { _ = found => {}, () = asking => {} }
                slowest = slowest.max(begin.elapsed());
            }
            println!("  {text}: followed after {slowest:?} at most");
            assert!(slowest < Duration::from_millis(3_500), "{text}: after {slowest:?}");
        }
        drop(sysctls);
    });
}

#[test]
fn sysctls_are_set_and_put_back() {
    in_namespace(|| async {
        ip("link add one type veth peer name two");
        let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/{name}")).expect("readable");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("writable");
        let sysctls = Sysctls::set(&["one"]).expect("root");
        assert_eq!(read("ipv4/ip_forward").trim(), "0");
        assert_eq!(read("ipv4/conf/one/arp_ignore").trim(), "1");
        let of_neighbours = ["ipv4/neigh/one/base_reachable_time_ms", "ipv6/neigh/one/retrans_time_ms"];
        assert_eq!(of_neighbours.map(|name| read(name).trim().to_owned()), ["500", "240"]);
        assert!(sysctls.changed().any(|(name, before)| (name, before) == ("ipv4/ip_forward", "1")));
        drop(sysctls);
        assert_eq!(read("ipv4/ip_forward").trim(), "1");
        assert_eq!(read("ipv4/conf/one/arp_ignore").trim(), "0");
        assert_eq!(of_neighbours.map(|name| read(name).trim().to_owned()), ["30000", "1000"]);
        let error = Sysctls::set(&["missing"]).expect_err("no such interface").to_string();
        assert!(error.contains("missing"), "{error}");
    });
}

#[test]
fn the_listener_may_have_more_unread_events_than_the_ordinary_limit() {
    in_namespace(|| async {
        let (mut listening, _, _) = new_multicast_connection(&[MulticastGroup::Link]).expect("netlink");
        let socket = listening.socket_mut().socket_mut();
        force_receive_buffer(socket, RECEIVE_BUFFER).expect("root may");
        // The kernel doubles the value for its own bookkeeping (socket(7)).
        assert_eq!(socket.get_rx_buf_sz().expect("a size"), 2 * RECEIVE_BUFFER);
    });
}

/// What `ip` prints of an interface.
fn shown(name: &str) -> String {
    let output = Command::new("ip").args(["-details", "link", "show", name]).output().expect("iproute2");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_control_port_is_made_follows_its_interface_and_goes() {
    in_namespace(|| async {
        let (kernel, _events) = Kernel::open().expect("netlink");
        let shape = Shape::of([2, 0xaa, 0, 0, 0, 1], 1504, 2);
        let port = kernel.add_control_port("erdp-7", "lab/private primary", shape).await.expect("made");
        assert_eq!((port.ifindex, port.outer), (index("erdp-7"), index("erdp-7x")));
        kernel.start_control_port(&port).await.expect("started");
        for word in ["02:aa:00:00:00:01", "mtu 1500", "state UP", "erdp control port of lab/private primary"]
        {
            assert!(shown("erdp-7").contains(word), "{word}: {}", shown("erdp-7"));
        }
        let features = preflight::Interface::read("erdp-7");
        assert!(
            features.has_feature("rx-gro") && !features.has_feature("tx-checksum-ip-generic"),
            "{features:?}"
        );
        let shape = Shape::of([2, 0xaa, 0, 0, 0, 2], 1400, 1);
        kernel.shape_control_port(&port, shape).await.expect("followed");
        let kernels = shown("erdp-7");
        assert!(kernels.contains("02:aa:00:00:00:02") && kernels.contains("mtu 1400"), "{kernels}");
        assert!(shown("erdp-7x").contains("mtu 1400"), "{}", shown("erdp-7x"));
        kernel.remove_control_port(&port).await.expect("removed");
        kernel.remove_control_port(&port).await.expect("gone is fine");
        assert_eq!(index("erdp-7x"), 0);
    });
}

#[test]
fn a_control_port_that_was_left_behind_is_removed_and_a_strangers_interface_is_refused() {
    in_namespace(|| async {
        let (kernel, _events) = Kernel::open().expect("netlink");
        let shape = Shape::of([2, 0xaa, 0, 0, 0, 1], 1500, 1);
        for name in ["erdp-7", "erdp-9"] {
            kernel.add_control_port(name, "an attachment", shape).await.expect("made");
        }
        // What is not wanted any more goes too: the configuration has changed.
        let wanted = ["erdp-7".to_owned()];
        kernel.clear_control_ports(&wanted).await.expect("cleared");
        assert_eq!((index("erdp-7"), index("erdp-9x")), (0, 0));
        for taken in ["erdp-7", "erdp-7x"] {
            ip(&format!("link add {taken} type veth peer name theirs"));
            let error = kernel.clear_control_ports(&wanted).await.expect_err("in the way").to_string();
            assert!(error.contains(&format!("`ip link delete {taken}`")), "{error}");
            assert_ne!(index(taken), 0, "a stranger's interface is left alone");
            ip(&format!("link del {taken}"));
        }
    });
}
