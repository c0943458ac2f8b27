//! Which hops are taken through which attachment, and why others are not.

use std::{path::Path, sync::Arc};

use super::*;
use crate::{
    compile::{attachment_facts, other_speakers, watches},
    config::Config,
    dataplane::Record,
    kernel::routes::Selected,
};

const CONFIG: &str = r#"
asn = 65010
[[circuit]]
name = "lab"
bandwidth = "1G"
primary = { local = "msee1" }
secondary = { box = "edge-b" }
[circuit.private]
ipv4 = "198.18.0.0/29"
[[attachment]]
interface = "ce0"
peerings = ["lab/private"]
ipv4 = "198.18.10.1/29"
ipv6 = "fd00:10::1/64"
kernel-routes = { speakers = ["198.18.10.2"] }
[[attachment]]
interface = "ce1"
peerings = ["lab/private"]
ipv4 = "198.18.11.1/29"
kernel-routes = {}
[[attachment]]
interface = "ce2"
peerings = ["lab/private"]
ipv4 = "198.18.12.1/29"
kernel-routes = { table = 100 }
[[attachment]]
interface = "ce3"
peerings = ["lab/private"]
ipv4 = "198.18.13.1/29"
"#;

/// Interfaces are numbered as the attachments are: msee1 is 1, ce0 is 2.
fn stand() -> (Config, Topology) {
    let (config, _) = Config::parse(CONFIG, Path::new("erdp.toml")).unwrap();
    let facts =
        config.attachments().into_iter().map(|it| attachment_facts(&config, &it, u32::from(it.id.number())));
    let topology = Topology::new(facts.collect());
    (config, topology)
}

fn hop(ifindex: u32, gateway: &str, weight: u32) -> Hop {
    let gateway = Some(gateway).filter(|text| !text.is_empty()).map(|text| text.parse().unwrap());
    Hop { ifindex, gateway, weight, dead: false, encapsulated: false }
}

fn change(prefix: &str, leads: Leads) -> Change {
    let selected = Some(Selected { metric: 20, protocol: 186, leads });
    Change { watch: 0, prefix: prefix.parse().unwrap(), selected }
}

#[test]
fn attachments_with_the_same_table_and_protocols_share_a_watch() {
    let (config, _) = stand();
    let (watches, takers) = watches(&config);
    assert_eq!(watches.iter().map(|watch| watch.table).collect::<Vec<_>>(), [254, 100]);
    assert_eq!(takers, [vec![AttachmentId::at(1), AttachmentId::at(2)], vec![AttachmentId::at(3)]]);
    assert!(matches!(other_speakers(&config)[..], [Record::Peer(_, true)]));
}

#[test]
fn hops_are_taken_through_their_attachment_with_their_shares_and_the_others_are_refused_with_a_reason() {
    let (config, topology) = stand();
    let takers = &watches(&config).1[0];
    let leads = |hops: &[Hop]| Leads::Hops(Arc::from(hops));
    let tunnel = Hop { encapsulated: true, ..hop(2, "198.18.10.2", 1) };
    type Row = (&'static str, Vec<Hop>, [&'static [(&'static str, u8)]; 2], &'static [NotTaken]);
    let rows: [Row; 16] = [
        ("20.0.0.0/8", vec![hop(2, "198.18.10.2", 1)], [&[("198.18.10.2", 1)], &[]], &[]),
        (
            "20.0.0.0/8",
            vec![hop(2, "198.18.10.2", 100), hop(3, "198.18.11.2", 200), hop(2, "198.18.10.3", 100)],
            [&[("198.18.10.2", 1), ("198.18.10.3", 1)], &[("198.18.11.2", 2)]],
            &[],
        ),
        (
            "20.0.0.0/8",
            vec![hop(2, "198.18.10.2", 1), hop(9, "192.0.2.1", 1)],
            [&[("198.18.10.2", 1)], &[]],
            &[NotTaken::NoAttachment],
        ),
        // Of an attachment that takes another table's, or none, or faces Microsoft.
        ("20.0.0.0/8", vec![hop(4, "198.18.12.2", 1)], [&[], &[]], &[NotTaken::NoAttachment]),
        ("20.0.0.0/8", vec![hop(5, "198.18.13.2", 1)], [&[], &[]], &[NotTaken::NoAttachment]),
        ("20.0.0.0/8", vec![hop(1, "198.18.0.2", 1)], [&[], &[]], &[NotTaken::NoAttachment]),
        ("20.0.0.0/8", vec![hop(2, "", 1)], [&[], &[]], &[NotTaken::NoGateway]),
        ("20.0.0.0/8", vec![hop(2, "198.18.99.2", 1)], [&[], &[]], &[NotTaken::OtherSubnet]),
        ("20.0.0.0/8", vec![hop(2, "198.18.10.1", 1)], [&[], &[]], &[NotTaken::OwnAddress]),
        ("20.0.0.0/8", vec![hop(2, "fe80::2", 1)], [&[], &[]], &[NotTaken::OtherFamily]),
        // RFC 4271 sections 6.3 and 5.1.3: an address that no neighbour has.
        ("20.0.0.0/8", vec![hop(2, "198.18.10.7", 1)], [&[], &[]], &[NotTaken::NoHost(NoHost::Broadcast)]),
        ("20.0.0.0/8", vec![hop(2, "198.18.10.0", 1)], [&[], &[]], &[NotTaken::NoHost(NoHost::Network)]),
        ("2600::/12", vec![hop(2, "fd00:10::", 1)], [&[], &[]], &[NotTaken::NoHost(NoHost::Anycast)]),
        ("2600::/12", vec![hop(2, "ff02::1", 1)], [&[], &[]], &[NotTaken::NoHost(NoHost::NotUnicast)]),
        ("20.0.0.0/8", vec![tunnel], [&[], &[]], &[NotTaken::Encapsulated]),
        ("2600::/12", vec![hop(2, "fe80::2", 1)], [&[("fe80::2", 1)], &[]], &[]),
    ];
    for (prefix, hops, expected, reasons) in rows {
        let (paths, refused) =
            taken(prefix.parse().unwrap(), &change(prefix, leads(&hops)), takers, &topology);
        let found: Vec<Vec<(String, u8)>> = paths
            .iter()
            .map(|path| {
                path.iter().flat_map(|it| &it.hops).map(|(to, share)| (to.to_string(), share.get())).collect()
            })
            .collect();
        let expected = expected
            .map(|hops| hops.iter().map(|(to, share)| ((*to).to_owned(), *share)).collect::<Vec<_>>());
        assert_eq!(found, expected, "{hops:?}");
        assert_eq!(refused.iter().map(|row| row.2).collect::<Vec<_>>(), reasons, "{hops:?}");
    }
}

#[test]
fn what_drops_holds_for_all_takers_and_what_leads_elsewhere_for_none() {
    let (config, topology) = stand();
    let takers = &watches(&config).1[0];
    let prefix = "20.0.0.0/8".parse().unwrap();
    let ask = |leads| taken(prefix, &change("20.0.0.0/8", leads), takers, &topology);
    let drops = Some(KernelPath { metric: 20, hops: vec![] });
    assert_eq!(ask(Leads::Discard), (vec![drops.clone(), drops], vec![]));
    let throw = ask(Leads::Elsewhere(Elsewhere::Throw));
    assert_eq!(throw, (vec![None, None], vec![(None, None, NotTaken::Throw)]));
    let tos = ask(Leads::Elsewhere(Elsewhere::Tos));
    assert_eq!(tos, (vec![None, None], vec![(None, None, NotTaken::Tos)]));
    let gone = Change { watch: 0, prefix, selected: None };
    assert_eq!(taken(prefix, &gone, takers, &topology), (vec![None, None], vec![]));
}
