//! Attachments to the other edge box (requirement B1a).

use super::*;

/// The minimal file with the secondary link on another box, and an attachment that leads there.
fn shared(from: &str, to: &str) -> String {
    let attachment = "[[attachment]]\ninterface = \"ib0\"\nbox = \"edge-b\"\npeerings = [\"contoso/private\"]\n\
                      ipv4 = \"198.18.11.1/30\"\npeers = [{ address = \"198.18.11.2\", asn = 65010 }]\n";
    let text = edited("{ local = \"msee2\" }", "{ box = \"edge-b\" }") + attachment;
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1)
}

#[test]
fn b1a_an_attachment_to_the_other_box_has_a_side_of_its_own_and_an_internal_session() {
    let config = accepted(&shared("", ""));
    assert!(!config.circuits[0].is_on_one_box());
    let attachments = config.attachments();
    let attachment = attachments.last().unwrap();
    assert_eq!((attachment.side, config.box_of(attachment).map(String::as_str)), (Side::Box, Some("edge-b")));
    let peers = config.peers();
    let peer = peers.last().unwrap();
    assert!(peer.side == Side::Box && peer.session.is_internal() && peers[0].side.is_msee());
    let rib = crate::rib::RibConfig::new(&config);
    let microsoft: Vec<Option<Asn>> = rib.peers.iter().map(|peer| peer.microsoft).collect();
    assert_eq!(microsoft, [None, None, Some(MICROSOFT_ASN)]);
}

#[test]
fn b1a_what_an_attachment_to_the_other_box_cannot_be_is_refused_with_the_reason() {
    let second = "[circuit.private]\nvlan = 5\nipv4 = \"198.18.0.0/29\"\n[circuit.microsoft]\nvlan = 6\nipv4 = \"198.18.1.0/29\"";
    let two = shared("[circuit.private]\nipv4 = \"198.18.0.0/29\"", second).replace(
        "\"edge-b\"\npeerings = [\"contoso/private\"]",
        "\"edge-b\"\npeerings = [\"contoso/private\", \"contoso/microsoft\"]",
    );
    let rows: [(String, &str, &[&str]); 9] = [
        (shared("asn = 65010 }", "asn = 65020 }"), "attachment.ib0.peers.asn", &["not our own AS", "65010"]),
        (
            shared("asn = 65010 }", "asn = 65010, role = \"peer\" }"),
            "attachment.ib0.peers.role",
            &["other ASes"],
        ),
        (
            shared("asn = 65010 }", "asn = 65010, prepend = 2 }"),
            "attachment.ib0.peers.prepend",
            &["other ASes"],
        ),
        (
            shared("asn = 65010 }", "asn = 65010, local-pref = 2 }"),
            "attachment.ib0.peers.local-pref",
            &["other ASes"],
        ),
        (shared("\nbox = \"edge-b\"", "\nbox = \"edge-c\""), "attachment.ib0.box", &["no link", "edge-c"]),
        (
            shared("\nbox = \"edge-b\"", "\nbox = \"edge-b\"\nservice = \"vpn\""),
            "attachment.ib0.box",
            &["or to the other"],
        ),
        (shared("\nbox = \"edge-b\"", ""), "attachment.ib0.peers.asn", &["our own AS", "box = NAME"]),
        (
            shared("\nbox = \"edge-b\"", "\nbox = \"edge-b\"\nkernel-routes = {}"),
            "attachment.ib0.kernel-routes",
            &["remove it, or box"],
        ),
        (two, "attachment.ib0.peerings", &["one peering", "another vlan"]),
    ];
    for (text, key, words) in rows {
        let refusal = refusal(&text);
        assert_eq!(refusal.key, key, "{refusal:?}");
        for word in words {
            assert!(refusal.to_string().contains(word), "{refusal}");
        }
    }
}
