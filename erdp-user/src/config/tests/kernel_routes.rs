//! The table `kernel-routes` of an attachment: what it means, and what is refused.

use super::*;

fn with(keys: &str) -> String {
    edited("peers = ", &format!("kernel-routes = {keys}\npeers = "))
}

fn kernel_routes(keys: &str) -> KernelRoutes {
    let config = accepted(&with(keys));
    let attachments = config.attachments();
    assert!(attachments.iter().filter(|it| it.side.is_msee()).all(|it| it.kernel_routes.is_none()));
    attachments.last().unwrap().kernel_routes.clone().unwrap()
}

#[test]
fn an_empty_table_takes_what_routing_daemons_install_in_main_below_bgp() {
    assert_eq!(accepted(MINIMAL).attachments[0].kernel_routes, None);
    let found = kernel_routes("{}");
    assert_eq!((found.table, found.local_pref, found.speakers.as_slice()), (254, 95, &[][..]));
    for (protocol, is_taken) in
        [(11, true), (12, true), (186, true), (188, true), (196, true), (2, false), (4, false)]
    {
        assert_eq!(found.protocols.contains(&protocol), is_taken, "{protocol}");
    }
    let all = "{ table = 100, protocols = [\"static\", \"bird\", 77], local-pref = 110, speakers = [\"198.18.10.2\"] }";
    let text = with(all).replace("peers = [{ address = \"198.18.10.2\", asn = 65020 }]", "");
    let found = accepted(&text).attachments[0].kernel_routes.clone().unwrap();
    let expected = KernelRoutes {
        table: 100,
        protocols: vec![4, 12, 77],
        local_pref: 110,
        speakers: vec!["198.18.10.2".parse().unwrap()],
    };
    assert_eq!(found, expected);
}

#[test]
fn what_cannot_be_is_refused_with_key_and_remedy() {
    let rows = [
        ("{ table = \"local\" }", "kernel-routes.table", "main"),
        ("{ table = 255 }", "kernel-routes.table", "main"),
        ("{ table = 0 }", "kernel-routes.table", "number"),
        ("{ table = 4294967296 }", "kernel-routes.table", "number"),
        ("{ protocols = [] }", "kernel-routes.protocols", "leave it out"),
        ("{ protocols = [\"ospf3\"] }", "kernel-routes.protocols", "ospf"),
        ("{ protocols = [\"kernel\"] }", "kernel-routes.protocols", "static"),
        ("{ protocols = [2] }", "kernel-routes.protocols", "rt_protos"),
        ("{ protocols = [256] }", "kernel-routes.protocols", "rt_protos"),
        ("{ local-pref = -1 }", "kernel-routes.local-pref", "preferred"),
        ("{ speakers = [\"198.18.10.2\"] }", "kernel-routes.speakers", "either"),
        ("{ speakers = [\"198.18.10.1\"] }", "kernel-routes.speakers", "peer's address"),
        ("{ speakers = [\"198.18.99.1\"] }", "kernel-routes.speakers", "correct"),
        ("{ speakers = [\"r1\"] }", "kernel-routes.speakers", "address"),
    ];
    for (keys, key, remedy) in rows {
        let refusal = refusal(&with(keys));
        assert_eq!(refusal.key, format!("attachment.ce0.{key}"), "{keys}");
        assert!(refusal.remedy.contains(remedy), "{keys}: {}", refusal.remedy);
    }
}

#[test]
fn a_change_of_it_wants_a_restart() {
    let (before, after) = (accepted(&with("{}")), accepted(&with("{ local-pref = 110 }")));
    assert!(!Plan::between(&before, &after).refused.is_empty());
    assert!(Plan::between(&before, &before).is_empty());
}
