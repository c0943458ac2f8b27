//! The kernel as a source: its rank beside BGP, its next hops and weights, what it drops, what policy says of it.

use super::*;
use crate::types::AttachmentId;

/// The configuration of these tests with `ce0` and `ce1` taking kernel routes.
fn kernel_config(keys: [&str; 2]) -> RibConfig {
    let ce0 = format!("interface = \"ce0\"\nkernel-routes = {}\n", keys[0]);
    let ce1 = format!("interface = \"ce1\"\nkernel-routes = {}\n", keys[1]);
    let text = CONFIG.replacen("interface = \"ce0\"\n", &ce0, 1).replacen("interface = \"ce1\"\n", &ce1, 1);
    RibConfig::new(&Config::parse(&text, Path::new("erdp.toml")).unwrap().0)
}

pub(super) fn kernel_rib() -> Rib {
    rib_of(kernel_config(["{}", "{}"]))
}

/// The attachments `ce0` and `ce1`.
pub(super) fn kernel_attachments(rib: &Rib) -> [AttachmentId; 2] {
    let ids: Vec<AttachmentId> =
        rib.config().kernel.iter().filter_map(|source| source.source.attachment()).collect();
    ids.try_into().unwrap()
}

pub(super) fn path(metric: u32, hops: &[(&str, u8)]) -> Option<KernelPath> {
    let hop = |(address, share): &(&str, u8)| (address.parse().unwrap(), NonZero::new(*share).unwrap());
    Some(KernelPath { metric, hops: hops.iter().map(hop).collect() })
}

/// What is handed out: domain, prefix, next hops with their shares, whether it drops.
fn handed(rib: &mut Rib) -> Vec<(DomainId, String, Vec<String>, bool)> {
    let hop = |path: &FibPath| format!("{}*{}", path.next_hop, path.share);
    let row = |change: &FibChange| {
        (change.domain, change.prefix.to_string(), change.paths.iter().map(hop).collect(), change.discard)
    };
    rib.take_fib_changes().iter().map(row).collect()
}

#[test]
fn a_route_of_the_kernel_is_used_and_told_to_microsoft_as_incomplete_and_goes() {
    let mut rib = kernel_rib();
    let [ce0, _] = kernel_attachments(&rib);
    rib.kernel_route(ce0, net("20.0.0.0/8"), path(20, &[("198.18.10.9", 3), ("198.18.10.8", 1)]));
    let hops = vec!["198.18.10.8*1".to_owned(), "198.18.10.9*3".to_owned()];
    let expected = [
        (A_PRIVATE, "20.0.0.0/8".to_owned(), hops.clone(), false),
        (B_PRIVATE, "20.0.0.0/8".to_owned(), hops, false),
    ];
    assert_eq!(handed(&mut rib), expected);
    let updates = rib.take_outgoing(A1);
    let first = updates[0].attributes.as_ref().unwrap();
    assert_eq!(
        (&first.as_path, first.origin, first.med),
        (&AsPath::sequence([65010]), Origin::Incomplete, None)
    );
    for (peer, expected) in [(A2, 1), (B1, 1), (MS1, 0), (CE0, 0), (CE1, 0)] {
        assert_eq!(told(&mut rib, peer).len(), expected, "{peer:?}");
    }
    // The same again is no change, other weights are one.
    rib.kernel_route(ce0, net("20.0.0.0/8"), path(20, &[("198.18.10.8", 1), ("198.18.10.9", 3)]));
    assert_eq!(handed(&mut rib), []);
    rib.kernel_route(ce0, net("20.0.0.0/8"), path(20, &[("198.18.10.8", 1), ("198.18.10.9", 2)]));
    assert_eq!(handed(&mut rib).len(), 2);
    rib.kernel_route(ce0, net("20.0.0.0/8"), None);
    assert_eq!(handed(&mut rib)[0].2, [] as [String; 0]);
    assert_eq!(told(&mut rib, A1), ["-20.0.0.0/8"]);
}

#[test]
fn bgp_wins_over_the_kernel_unless_local_pref_says_otherwise() {
    for (keys, wins) in [("{}", "198.18.10.2*1"), ("{ local-pref = 101 }", "198.18.10.9*1")] {
        let mut rib = rib_of(kernel_config([keys, keys]));
        let [ce0, _] = kernel_attachments(&rib);
        rib.kernel_route(ce0, net("20.0.0.0/8"), path(0, &[("198.18.10.9", 1)]));
        announce(&mut rib, CE0, "20.0.0.0/8");
        assert_eq!(handed(&mut rib)[0].2, [wins], "{keys}");
        // Whoever stays takes over.
        rib.kernel_route(ce0, net("20.0.0.0/8"), None);
        rib.take_fib_changes();
        assert_eq!(rib.routes(A_PRIVATE).count(), 1);
        rib.kernel_route(ce0, net("20.0.0.0/8"), path(0, &[("198.18.10.9", 1)]));
        rib.peer_down(CE0);
        rib.take_fib_changes();
        assert_eq!(rib.routes(A_PRIVATE).next().unwrap().paths[0].next_hop.to_string(), "198.18.10.9");
    }
}

#[test]
fn one_route_of_the_kernel_over_two_attachments_shares_the_traffic_and_a_lower_metric_takes_it() {
    let mut rib = kernel_rib();
    let [ce0, ce1] = kernel_attachments(&rib);
    rib.kernel_route(ce0, net("20.0.0.0/8"), path(20, &[("198.18.10.9", 1)]));
    rib.kernel_route(ce1, net("20.0.0.0/8"), path(20, &[("198.18.11.2", 2)]));
    let of = |rib: &mut Rib| {
        let rows = handed(rib);
        rows.into_iter().find(|row| row.0 == A_PRIVATE).map(|row| row.2)
    };
    assert_eq!(of(&mut rib).unwrap(), ["198.18.10.9*1", "198.18.11.2*2"]);
    rib.kernel_route(ce1, net("20.0.0.0/8"), path(10, &[("198.18.11.2", 2)]));
    assert_eq!(of(&mut rib).unwrap(), ["198.18.11.2*2"]);
}

#[test]
fn what_the_kernel_drops_on_purpose_is_dropped_here_and_told_and_a_real_path_takes_its_place() {
    let mut rib = kernel_rib();
    let [ce0, ce1] = kernel_attachments(&rib);
    rib.kernel_route(ce0, net("20.0.0.0/8"), path(0, &[]));
    let dropped = (A_PRIVATE, "20.0.0.0/8".to_owned(), vec![], true);
    assert_eq!(handed(&mut rib)[0], dropped);
    assert_eq!(told(&mut rib, A1), ["+20.0.0.0/8"]);
    // Half of an equal pair that drops does not take half of the traffic.
    rib.kernel_route(ce1, net("20.0.0.0/8"), path(0, &[("198.18.11.2", 1)]));
    assert_eq!(handed(&mut rib)[0].2, ["198.18.11.2*1"]);
    rib.kernel_route(ce1, net("20.0.0.0/8"), None);
    assert_eq!(handed(&mut rib)[0], dropped);
    announce(&mut rib, CE0, "20.0.0.0/8");
    assert_eq!(handed(&mut rib)[0].2, ["198.18.10.2*1"]);
    withdraw(&mut rib, CE0, "20.0.0.0/8");
    assert_eq!(handed(&mut rib)[0], dropped);
    rib.kernel_route(ce0, net("20.0.0.0/8"), None);
    assert_eq!(handed(&mut rib)[0], (A_PRIVATE, "20.0.0.0/8".to_owned(), vec![], false));
}

#[test]
fn the_rules_about_prefixes_hold_for_the_kernel_too_and_say_so() {
    let mut rib = kernel_rib();
    let [ce0, ce1] = kernel_attachments(&rib);
    let source = PathSource::Kernel(ce0);
    rib.kernel_route(ce0, net("0.0.0.0/0"), path(0, &[("198.18.10.9", 1)]));
    rib.kernel_route(ce0, net("198.18.10.0/25"), path(0, &[("198.18.10.9", 1)]));
    rib.kernel_route(ce1, net("10.0.0.0/8"), path(0, &[("198.18.11.2", 1)]));
    let rows: Vec<_> = rib.refused().iter().map(|row| (row.source, row.domain, row.refusal.rule())).collect();
    let expected = [
        (source, A_PRIVATE, "D5"),
        (source, A_PRIVATE, "D4"),
        (source, B_PRIVATE, "D4"),
        (PathSource::Kernel(ce1), A_MICROSOFT, "D4"),
    ];
    assert_eq!(rows, expected);
    assert_eq!((rib.kernel_counts(ce0), rib.kernel_counts(ce1)), ((2, 2), (1, 1)));
    let verdicts = rib.explain(A_PRIVATE, net("0.0.0.0/0"));
    assert_eq!((verdicts[0].0, verdicts[0].2), (source, Verdict::Refused(Refusal::DefaultFromCustomer)));
    // Where a default route is welcome it is used.
    let used: Vec<_> = handed(&mut rib).into_iter().map(|row| (row.0, row.1)).collect();
    assert_eq!(used, [(A_PRIVATE, "10.0.0.0/8".to_owned()), (B_PRIVATE, "0.0.0.0/0".to_owned())]);
}

#[test]
fn another_configuration_judges_the_kernels_routes_anew() {
    let mut rib = kernel_rib();
    let [ce0, _] = kernel_attachments(&rib);
    rib.kernel_route(ce0, net("0.0.0.0/0"), path(0, &[("198.18.10.9", 1)]));
    rib.take_fib_changes();
    assert_eq!(rib.refused().len(), 1);
    let mut config = kernel_config(["{}", "{}"]);
    config.domains[usize::from(A_PRIVATE.0)].forced_tunnel = true;
    rib.reconfigure(config);
    assert_eq!(rib.refused(), []);
    assert_eq!(handed(&mut rib)[0].2, ["198.18.10.9*1"]);
    // Attachments that take none any more have none.
    rib.reconfigure(topology());
    assert!(handed(&mut rib).iter().all(|row| row.2.is_empty()));
    assert_eq!(rib.routes(A_PRIVATE).count(), 0);
}
