//! One row for each finding, with invented machines; and this machine as it is.

use std::path::Path;

use super::{
    super::tests::{in_namespace, ip},
    interrupts::Interrupt,
    *,
};

const CONFIG: &str = r#"
asn = 65010
[[circuit]]
name = "a"
bandwidth = "1G"
s-vlan = 7
primary = { local = "tagged" }
secondary = { box = "edge-b" }
[circuit.private]
ipv4 = "198.18.0.0/29"
vlan = 100
[[attachment]]
interface = "plain"
peerings = ["a/private"]
ipv4 = "198.18.10.1/30"
"#;

fn config(text: &str) -> Config {
    Config::parse(text, Path::new("erdp.toml")).unwrap().0
}

/// A machine on which everything is well.
fn machine() -> Machine {
    let plain = Interface { is_up: true, mtu: 1500, driver: Some("ixgbe".into()), ..Interface::default() };
    let tagged = Interface { mtu: 1504, ..plain.clone() };
    Machine {
        release: "6.1.0-18-amd64".into(),
        capabilities: u64::MAX,
        has_btf: true,
        cpus: 2,
        memory: None,
        sysctls: Vec::new(),
        interfaces: [("lo".into(), Interface::default()), ("plain".into(), plain), ("tagged".into(), tagged)]
            .into(),
    }
}

pub(super) fn findings(change: impl FnOnce(&mut Machine), allow_generic: bool) -> Vec<Finding> {
    let mut machine = machine();
    change(&mut machine);
    check(Some(&config(CONFIG)), &machine, allow_generic)
}

fn tagged(machine: &mut Machine) -> &mut Interface {
    machine.interfaces.get_mut("tagged").unwrap()
}

fn plain(machine: &mut Machine) -> &mut Interface {
    machine.interfaces.get_mut("plain").unwrap()
}

fn feature(interface: &mut Interface, name: &str) {
    interface.features.insert(name.to_owned());
}

/// What is wrong, whether the router must not start, and words of the object, the reason and the remedy.
type Row = (fn(&mut Machine), Severity, [&'static str; 3]);

#[test]
fn a_missing_interface_is_no_refusal_unless_it_is_required_or_there_is_no_other() {
    let of = |text: &str, there: &[&str]| {
        let found = missing_interfaces(&config(text), there);
        found.iter().map(|it| (it.object.clone(), it.refuses())).collect::<Vec<_>>()
    };
    let missing = |name: &str, refuses| (format!("interface {name}"), refuses);
    let link = CONFIG.replace("local = \"tagged\"", "local = \"tagged\", required = true");
    let attachment = CONFIG.replace("interface = \"plain\"", "interface = \"plain\"\nrequired = true");
    let all = CONFIG.replace("asn = 65010", "asn = 65010\nrequire-interfaces = true");
    assert_eq!(of(CONFIG, &["lo", "plain", "tagged"]), []);
    for (text, refused) in
        [(CONFIG, [false, false]), (&link, [true, false]), (&attachment, [false, true]), (&all, [true, true])]
    {
        assert_eq!(of(text, &["lo", "plain"]), [missing("tagged", refused[0])], "{text}");
        assert_eq!(of(text, &["lo", "tagged"]), [missing("plain", refused[1])], "{text}");
        assert_eq!(
            of(text, &["lo", "other"]),
            [missing("tagged", true), missing("plain", true)],
            "an edge without any"
        );
    }
}

pub(super) const ROWS: &[Row] = &[
    (
        |m| m.capabilities = 0,
        Severity::Refusal,
        ["this process", "CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF", "root"],
    ),
    (
        |m| m.capabilities &= !(1 << CAP_NET_ADMIN),
        Severity::Refusal,
        ["this process", "lacks CAP_NET_ADMIN", "root"],
    ),
    (
        |m| m.capabilities = 1 << CAP_SYS_ADMIN,
        Severity::Refusal,
        ["this process", "lacks CAP_NET_BIND_SERVICE, CAP_NET_ADMIN", "root"],
    ),
    (|m| m.release = "5.14.21".into(), Severity::Refusal, ["kernel 5.14.21", "older than 5.15", "6.1"]),
    (|m| m.release = "4.19.0-26-amd64".into(), Severity::Refusal, ["kernel 4.19", "older", "boot"]),
    (|m| m.release = "5.15.0-91-generic".into(), Severity::Warning, ["kernel 5.15", "neighbours", "6.1"]),
    (
        |m| m.release = "5.19.0".into(),
        Severity::Warning,
        ["kernel 5.19.0", "older than what is tested", "6.1"],
    ),
    (|m| m.release = "weird".into(), Severity::Warning, ["kernel weird", "understood", "5.15"]),
    (|m| m.has_btf = false, Severity::Refusal, ["/sys/kernel/btf/vmlinux", "types", "CONFIG_DEBUG_INFO_BTF"]),
    (
        |m| drop(m.interfaces.remove("plain")),
        Severity::Warning,
        ["interface plain", "does not exist", "there are: tagged); `erdp run` starts without it"],
    ),
    (
        |m| plain(m).is_up = false,
        Severity::Warning,
        ["interface plain", "administratively down", "ip link set plain up"],
    ),
    (|m| plain(m).mtu = 3_499, Severity::Refusal, ["interface plain", "MTU of 3499", "--allow-generic"]),
    (
        |m| feature(plain(m), "rx-lro"),
        Severity::Refusal,
        ["interface plain", "LRO", "ethtool -K plain lro off"],
    ),
    (
        |m| feature(tagged(m), "rx-vlan-hw-parse"),
        Severity::Refusal,
        ["interface tagged", "strips VLAN tags", "rxvlan off"],
    ),
    (
        |m| feature(tagged(m), "rx-vlan-filter"),
        Severity::Refusal,
        ["interface tagged", "filters VLANs", "promisc on"],
    ),
    (
        |m| feature(plain(m), "rx-gro-hw"),
        Severity::Refusal,
        ["interface plain", "GRO_HW", "ethtool -K plain rx-gro-hw off"],
    ),
    (
        |m| plain(m).xdp_features = Some(0),
        Severity::Refusal,
        ["interface plain", "XDP in its driver (ixgbe)", "--allow-generic"],
    ),
    (
        |m| {
            plain(m).driver = Some("veth".into());
            plain(m).xdp_features = Some(netdev::BASIC | netdev::REDIRECT);
        },
        Severity::Refusal,
        ["interface plain", "takes no frames from XDP", "ethtool -K PEER gro on"],
    ),
    (
        |m| plain(m).queues = Some((1, 8)),
        Severity::Warning,
        ["interface plain", "1 receive queue(s) and could have 2", "ethtool -L plain combined 2"],
    ),
    (
        |m| plain(m).interrupts = [40, 41].map(|number| Interrupt { number, cpu: 1 }).into(),
        Severity::Warning,
        [
            "interface plain",
            "2 receive queues whose interrupts all go to CPU 1",
            "echo 0 > /proc/irq/40/smp_affinity_list; echo 1 > /proc/irq/41/smp_affinity_list",
        ],
    ),
    (
        |m| m.memory = Some(20 << 20),
        Severity::Refusal,
        ["control group", "leaves 20 MiB of memory", "MemoryMax="],
    ),
    (
        |m| {
            let (name, now) = ("ipv4/ip_forward".to_owned(), "1".to_owned());
            m.sysctls.push(sysctl::Pending { name, now, needed: "0" });
        },
        Severity::Note,
        ["sysctl net/ipv4/ip_forward", "is 1", "echo 0 > /proc/sys/net/ipv4/ip_forward"],
    ),
    (
        |m| {
            let name = "nat0".to_owned();
            let namespace = Some("nat".to_owned());
            plain(m).far_end = Some(FarEnd::Seen { name, namespace, leaves_checksums: true });
        },
        Severity::Warning,
        [
            "interface plain",
            "nat0, that leaves checksums to hardware",
            "ip netns exec nat ethtool -K nat0 tx off",
        ],
    ),
    (
        |m| plain(m).far_end = Some(FarEnd::Unseen),
        Severity::Note,
        ["interface plain", "a far end that cannot be seen from here", "ethtool -K PEER tx off"],
    ),
    (|m| tagged(m).mtu = 1503, Severity::Warning, ["interface tagged", "need 1,504", "mtu 1504"]),
];

#[test]
fn each_finding_names_object_reason_and_remedy() {
    for (change, severity, words) in ROWS {
        let found = findings(change, false);
        assert_eq!(found.len(), 1, "{words:?}: {found:?}");
        let Finding { object, reason, remedy, severity: found_severity, .. } = &found[0];
        for (text, word) in [object, reason, remedy].into_iter().zip(words) {
            assert!(text.contains(word), "`{word}` is not in `{text}`");
        }
        assert_eq!(found_severity, severity, "{words:?}");
        assert_eq!(found[0].to_string(), format!("{object}: {reason}; {remedy}"));
    }
}

#[test]
fn what_is_well_is_not_mentioned() {
    let rows: &[fn(&mut Machine)] = &[
        |_| (),
        |m| m.release = "6.1.0".into(),
        |m| m.release = "6.18-rc1".into(),
        |m| m.release = "10.0".into(),
        // CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON.
        |m| m.capabilities = 1 << CAP_NET_BIND_SERVICE | 1 << CAP_NET_ADMIN | 1 << CAP_SYS_ADMIN,
        |m| plain(m).mtu = SINGLE_BUFFER_MTU,
        |m| m.memory = Some(8 << 30),
        |m| {
            plain(m).interrupts =
                [(40, 0), (41, 1), (42, 0)].map(|(number, cpu)| Interrupt { number, cpu }).into()
        },
        |m| plain(m).interrupts = vec![Interrupt { number: 40, cpu: 1 }],
        |m| {
            m.cpus = 1;
            plain(m).interrupts = [40, 41].map(|number| Interrupt { number, cpu: 0 }).into();
        },
        // No tags are expected there, so none can be lost.
        |m| feature(plain(m), "rx-vlan-hw-parse"),
        |m| feature(plain(m), "rx-vlan-filter"),
        |m| {
            feature(tagged(m), "rx-vlan-filter");
            tagged(m).is_promiscuous = true;
        },
        |m| {
            feature(tagged(m), "rx-vlan-hw-parse");
            tagged(m).driver = Some("veth".into());
        },
    ];
    for (index, change) in rows.iter().enumerate() {
        assert_eq!(findings(*change, false), [], "row {index}");
    }
    assert_eq!(findings(|m| plain(m).mtu = 9_000, true), [], "generic XDP takes any MTU");
}

#[test]
fn an_interface_with_several_attachments_is_judged_once_by_the_longest_tags() {
    let text = format!(
        "{CONFIG}[[attachment]]\ninterface = \"tagged\"\npeerings = [\"a/private\"]\nipv4 = \"198.18.11.1/30\"\n"
    );
    let attachments = config(&text).attachments();
    let shown: Vec<_> =
        interfaces_of(&attachments).iter().map(|(name, tags)| format!("{name}{tags}")).collect();
    assert_eq!(shown, ["tagged.7.100", "plain"]);
}

#[test]
fn capabilities_are_read_from_the_status_of_the_process() {
    assert_eq!(effective_capabilities("Name:\tx\nCapPrm:\t1\nCapEff:\t000001fffeffffff\n"), 0x1ff_feff_ffff);
    assert_eq!(effective_capabilities(""), 0);
}

#[test]
fn this_machine_is_read_as_it_is() {
    let machine = Machine::read(Some(&config(&CONFIG.replace("\"plain\"", "\"lo\""))));
    assert!(version(&machine.release).is_some(), "{}", machine.release);
    let lo = &machine.interfaces["lo"];
    assert!(lo.mtu >= 65_535 || lo.mtu == 16_384, "{lo:?}");
    // The loopback interface has features that cannot be switched, and this is one.
    assert!(lo.has_feature("loopback"), "{lo:?}");
    assert!(!lo.has_feature("rx-vlan-filter"), "{lo:?}");
    assert!(!machine.interfaces.contains_key("tagged"));
}

#[test]
fn a_real_interface_is_read_in_the_namespace_of_the_thread() {
    in_namespace(|| async {
        ip("link add plain mtu 1400 type veth peer name other");
        ip("link set plain up promisc on");
        let machine = Machine::read(Some(&config(CONFIG)));
        assert_eq!(
            machine.interfaces.keys().map(String::as_str).collect::<Vec<_>>(),
            ["lo", "other", "plain"]
        );
        let plain = &machine.interfaces["plain"];
        assert_eq!((plain.mtu, plain.driver.as_deref()), (1400, Some("veth")));
        assert!(plain.is_up && plain.is_promiscuous);
        assert!(plain.has_feature("rx-vlan-hw-parse"), "{plain:?}");
        ethtool("plain rxvlan off");
        assert!(!Interface::read("plain").has_feature("rx-vlan-hw-parse"));
        ip("link set plain down");
        assert!(!Interface::read("plain").is_up);
    });
}

fn ethtool(arguments: &str) {
    let status = std::process::Command::new("ethtool").arg("-K").args(arguments.split(' ')).status();
    assert!(status.expect("ethtool").success(), "ethtool -K {arguments}");
}
