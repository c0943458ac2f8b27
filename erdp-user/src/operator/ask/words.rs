//! An answer as lines of text that fit the page: what becomes of the packet first, then how that came about, the way back last.

use erdp::{
    control::{
        Explanation,
        explained::{AskedPacket, AskedPolicer, AskedRoute, Choice, Detail},
    },
    dataplane::question::{dscp_name, ecn_name, protocol_name},
};

use crate::operator::show::table::{Look, Note, PAGE, Tone, bits, hanging, note};

/// What is known of a packet: a line, and below it the detail if it is wanted and there. `number` is what stands in front.
pub fn answer(number: &str, answer: &Explanation, is_long: bool, look: Look) -> String {
    let of = if has_no_packet(answer) { "the frame".to_owned() } else { answer.address.to_string() };
    let mut lines = fate(&format!("{number}{of}: "), answer, look);
    if let Some(detail) = answer.detail.as_deref().filter(|_| is_long) {
        notes(detail).iter().for_each(|it| lines += &note(it, look));
    }
    if let Some(adopted) = &answer.adopted {
        lines += &hanging(
            "  ",
            &format!("by the routes of the previous controller: {adopted}"),
            Tone::Plain,
            look,
        );
    }
    if answer.no_return == Some(true) {
        let remedy = answer.no_return_remedy.as_deref().unwrap_or("see `erdp show refused`");
        let text = format!("no return route: the source is not advertised to Microsoft; {remedy} (D8)");
        lines += &hanging("  ", &text, Tone::Warn, look);
    }
    if is_long {
        lines += &way_back(answer, look);
    }
    lines
}

fn has_no_packet(answer: &Explanation) -> bool {
    answer.detail.as_ref().is_some_and(|detail| detail.packet.is_none())
}

/// What becomes of a packet. The number of next hops stands on a line of its own where it does not fit.
fn fate(front: &str, answer: &Explanation, look: Look) -> String {
    let or = |text: &Option<String>, other: &str| text.clone().unwrap_or_else(|| other.into());
    let came = or(&answer.attachment, "an unknown attachment");
    match answer.verdict.as_str() {
        "transmit" => {
            let next_hop = answer.next_hop.map_or("?".into(), |address| address.to_string());
            let (egress, interface) = (or(&answer.egress, "?"), or(&answer.interface, "?"));
            let way = format!("from {came} to {next_hop} on {egress} ({interface})");
            let others = match answer.members.len() {
                0 | 1 => return hanging(front, &way, Tone::Plain, look),
                members => format!("one of {members} equal next hops for this flow"),
            };
            let length = front.chars().count() + way.chars().count() + 2 + others.len();
            if length <= PAGE || look.wide {
                return hanging(front, &format!("{way}, {others}"), Tone::Plain, look);
            }
            hanging(front, &format!("{way},"), Tone::Plain, look) + &hanging("  ", &others, Tone::Plain, look)
        }
        "punt" => {
            let kind = or(&answer.reason, "?");
            hanging(
                front,
                &format!("from {came}, delivered to the router itself as {kind}"),
                Tone::Plain,
                look,
            )
        }
        _ => {
            let (reason, remedy) = (or(&answer.reason, "?"), or(&answer.remedy, "no remedy known"));
            hanging(front, &format!("from {came}, dropped as {reason}: {remedy}"), Tone::Bad, look)
        }
    }
}

fn way_back(answer: &Explanation, look: Look) -> String {
    const LABEL: &str = "    way back: ";
    let missing = answer.detail.as_ref().and_then(|detail| detail.no_way_back.as_ref());
    match (&answer.way_back, missing) {
        (Some(back), _) => fate(LABEL, back, look),
        (None, Some(why)) => hanging(LABEL, &format!("not known: {why}"), Tone::Warn, look),
        (None, None) => String::new(),
    }
}

fn notes(detail: &Detail) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut add = |label: &str, text: String, tone: Tone| {
        notes.push(Note { label: label.into(), text, tone });
    };
    match &detail.packet {
        Some(it) => add("packet", packet(it), Tone::Plain),
        None => add(
            "packet",
            format!("a frame of {} octets without an IP packet", detail.frame_bytes),
            Tone::Plain,
        ),
    }
    match detail.domains.as_slice() {
        [] => {}
        [domain] => add("domain", domain.clone(), Tone::Plain),
        domains => add("domains", format!("{}, preferred in this order", domains.join(", ")), Tone::Plain),
    }
    if let Some(it) = &detail.route {
        add("route", route(it), Tone::Plain);
        if !it.communities.is_empty() {
            let more = match it.more_communities {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            add("communities", it.communities.join(", ") + &more, Tone::Plain);
        }
        if let Some(text) = best(it) {
            add("best path", text, if it.draining { Tone::Warn } else { Tone::Plain });
        }
    }
    if let Some(it) = &detail.choice {
        add("next hop", choice(it), Tone::Plain);
        for (member, problem) in it.members.iter().filter_map(|it| Some((it, it.problem.as_ref()?))) {
            add("out of use", format!("{}: {problem}", member.next_hop), Tone::Warn);
        }
    }
    if let Some(class) = &detail.class {
        add("class", marking(class, detail), Tone::Plain);
    }
    for it in &detail.policers {
        let tone = if it.used_percent > 100 { Tone::Bad } else { Tone::Plain };
        add("bucket", policer(it), tone);
    }
    if let (Some(mtu), Some(it)) = (detail.mtu, &detail.packet) {
        let (fits, tone) =
            if it.size <= u32::from(mtu) { ("fits", Tone::Plain) } else { ("does not fit", Tone::Bad) };
        add("mtu", format!("{mtu} octets where it leaves: the packet of {} {fits}", it.size), tone);
    }
    notes
}

fn packet(it: &AskedPacket) -> String {
    let end = |address: std::net::IpAddr, port: Option<u16>| match (address, port) {
        (address, None) => address.to_string(),
        (address, Some(port)) => std::net::SocketAddr::new(address, port).to_string(),
    };
    let mut words = vec![
        format!(
            "{} from {} to {}",
            protocol_name(it.protocol),
            end(it.source, it.ports.map(|it| it.0)),
            end(it.destination, it.ports.map(|it| it.1))
        ),
        format!("{} octets", it.size),
        format!("dscp {}", code(it.dscp)),
    ];
    if it.ecn != 0 {
        words.push(format!("ecn {}", ecn_name(it.ecn)));
    }
    words.push(format!("ttl {}", it.ttl));
    if it.is_fragment {
        words.push("a fragment".into());
    }
    if !it.tags.is_empty() {
        let tags: Vec<String> = it.tags.iter().map(u16::to_string).collect();
        words.push(format!("VLAN {}", tags.join(" in ")));
    }
    words.join(", ")
}

/// A DSCP value with its name.
fn code(dscp: u8) -> String {
    dscp_name(dscp).map_or(dscp.to_string(), |name| format!("{dscp} ({name})"))
}

fn route(it: &AskedRoute) -> String {
    let of = it.domain.as_ref().map(|domain| format!(" of {domain}")).unwrap_or_default();
    let from = match (it.source.as_str(), &it.from) {
        ("bgp", Some(from)) => format!("by BGP from {from}"),
        ("discard", _) => "dropped on purpose".into(),
        ("zone-forbidden", _) => "what its zone forbids".into(),
        ("encrypted-only", _) => "what must not go in clear, and its service has no route".into(),
        ("shorter-route", _) => "its zone forbids it, and a shorter route takes it".into(),
        (_, Some(from)) => from.clone(),
        (_, None) => "a subnet of ours".into(),
    };
    let next_hop = it.next_hop.map(|address| format!(", next hop {address}")).unwrap_or_default();
    let path = it.as_path.as_ref().filter(|path| !path.is_empty());
    let path = path.map(|path| format!(", AS path {path}")).unwrap_or_default();
    format!("{}{of}, {from}{next_hop}{path}", it.prefix)
}

fn best(it: &AskedRoute) -> Option<String> {
    let preference = it.preference.map(|value| format!("local preference {value}"));
    let policy = it.policy.as_ref().map(|policy| format!("by policy {policy}"));
    let used = (it.paths > 1).then(|| format!("packets take {} paths", it.paths));
    let draining = it.draining.then(|| "Microsoft drains this link for maintenance (B7)".to_owned());
    let words: Vec<String> =
        [it.why.clone(), preference, policy, used, draining].into_iter().flatten().collect();
    (!words.is_empty()).then(|| words.join("; "))
}

fn choice(it: &Choice) -> String {
    let chosen = it.members.iter().find(|member| member.chosen);
    let hash = match it.symmetric {
        true => "the hash of addresses, protocol and ports, the same for both directions",
        false => "the hash of addresses, protocol and ports",
    };
    let shares: Vec<String> =
        it.members.iter().map(|member| format!("{} on {}", member.buckets, member.attachment)).collect();
    let (bucket, buckets) = (it.bucket, it.buckets);
    let who = match (chosen, it.owner) {
        (Some(chosen), Some(owner)) if chosen.next_hop != owner => {
            format!(
                "{}, because {owner} is out of use (bucket {bucket} of {buckets} by {hash})",
                chosen.next_hop
            )
        }
        (Some(chosen), _) => format!("{} has bucket {bucket} of {buckets} by {hash}", chosen.next_hop),
        (None, _) => format!("none of {} can be used", it.members.len()),
    };
    if it.members.len() > 1 { format!("{who}; buckets: {}", shares.join(", ")) } else { who }
}

fn marking(class: &str, detail: &Detail) -> String {
    let (Some(before), Some(dscp), Some(ecn)) = (&detail.packet, detail.dscp_after, detail.ecn_after) else {
        return class.to_owned();
    };
    let dscp = if dscp == before.dscp {
        format!("dscp stays {}", code(dscp))
    } else {
        format!("dscp {} is rewritten to {}", code(before.dscp), code(dscp))
    };
    let mark = if ecn == before.ecn { "" } else { ", congestion is marked (ecn ce)" };
    format!("{class}; {dscp}{mark}")
}

fn policer(it: &AskedPolicer) -> String {
    let links = if it.links == "both" { "both links".to_owned() } else { format!("the {} link", it.links) };
    let way = it.direction.replace("-microsoft", " Microsoft");
    let share =
        if it.above_share { "; the class has used up its own share and counts as default" } else { "" };
    format!(
        "{} {way}, {links}, {}: {} % of the credit is used, {} octets are left{share}",
        it.circuit,
        bits(it.rate_bps),
        it.used_percent,
        it.room_bytes
    )
}

#[cfg(test)]
mod tests {
    use erdp::control::explained::ChoiceMember;

    use super::*;

    fn transmitted() -> Explanation {
        let json = r#"{"address":"198.18.192.10","verdict":"transmit","reason":null,"remedy":null,"attachment":"eth0",
            "egress":"contoso/private primary","interface":"eth1","next_hop":"198.18.0.2","members":["198.18.0.2","198.18.0.6"]}"#;
        serde_json::from_str(json).unwrap()
    }

    fn member(next_hop: &str, attachment: &str, chosen: bool) -> ChoiceMember {
        let (next_hop, attachment) = (next_hop.parse().unwrap(), attachment.to_owned());
        ChoiceMember { next_hop, attachment, buckets: 32, chosen, problem: None }
    }

    fn detailed() -> Explanation {
        let packet = AskedPacket {
            source: "198.18.64.10".parse().unwrap(),
            destination: "198.18.192.10".parse().unwrap(),
            protocol: 6,
            ports: Some((40_000, 443)),
            dscp: 40,
            ecn: 2,
            ttl: 64,
            size: 1_500,
            is_fragment: false,
            tags: vec![5, 100],
        };
        let route = AskedRoute {
            prefix: "198.18.192.0/18".parse().unwrap(),
            domain: Some("contoso/private".into()),
            source: "bgp".into(),
            from: Some("198.18.0.2".into()),
            next_hop: Some("198.18.0.2".parse().unwrap()),
            as_path: Some("12076".into()),
            communities: vec!["12076:50002 (West Europe private)".into()],
            more_communities: 0,
            preference: Some(100),
            policy: Some("from-azure, rule 2".into()),
            why: Some("better than the path of 198.18.0.6 by: the lower address".into()),
            paths: 2,
            draining: false,
        };
        let policer = AskedPolicer {
            circuit: "contoso".into(),
            links: "both".into(),
            direction: "to-microsoft".into(),
            rate_bps: 1_000_000_000,
            credit_bytes: 125_000_000,
            room_bytes: 121_250_000,
            used_percent: 3,
            above_share: false,
        };
        let members = vec![
            member("198.18.0.2", "contoso/private primary", true),
            member("198.18.0.6", "contoso/private secondary", false),
        ];
        let detail = Detail {
            packet: Some(packet),
            frame_bytes: 1_522,
            domains: vec!["contoso/private".into(), "contoso/microsoft".into()],
            route: Some(route),
            choice: Some(Choice {
                group: 3,
                bucket: 17,
                buckets: 64,
                symmetric: false,
                owner: Some("198.18.0.2".parse().unwrap()),
                members,
            }),
            class: Some("default".into()),
            dscp_after: Some(0),
            ecn_after: Some(2),
            policers: vec![policer],
            mtu: Some(1_500),
            no_way_back: None,
        };
        let mut back = transmitted();
        (back.attachment, back.egress) = (back.egress, Some("eth0".into()));
        (back.interface, back.members) = (Some("eth0".into()), Vec::new());
        Explanation { detail: Some(Box::new(detail)), way_back: Some(Box::new(back)), ..transmitted() }
    }

    #[test]
    fn an_answer_says_who_takes_the_packet_why_and_how_it_comes_back_within_the_page() {
        let text = answer("", &detailed(), true, Look::default());
        assert_eq!(
            text,
            "\
198.18.192.10: from eth0 to 198.18.0.2 on contoso/private primary (eth1),
  one of 2 equal next hops for this flow
    packet: tcp from 198.18.64.10:40000 to 198.18.192.10:443, 1500 octets, dscp 40 (CS5), ecn ect0,
            ttl 64, VLAN 5 in 100
    domains: contoso/private, contoso/microsoft, preferred in this order
    route: 198.18.192.0/18 of contoso/private, by BGP from 198.18.0.2, next hop 198.18.0.2, AS path
           12076
    communities: 12076:50002 (West Europe private)
    best path: better than the path of 198.18.0.6 by: the lower address; local preference 100; by
               policy from-azure, rule 2; packets take 2 paths
    next hop: 198.18.0.2 has bucket 17 of 64 by the hash of addresses, protocol and ports; buckets:
              32 on contoso/private primary, 32 on contoso/private secondary
    class: default; dscp 40 (CS5) is rewritten to 0 (CS0)
    bucket: contoso to Microsoft, both links, 1.00 Gb/s: 3 % of the credit is used, 121250000 octets
            are left
    mtu: 1500 octets where it leaves: the packet of 1500 fits
    way back: from contoso/private primary to 198.18.0.2 on eth0 (eth0)
"
        );
        assert!(text.lines().all(|line| line.chars().count() <= PAGE));
    }

    #[test]
    fn without_detail_an_answer_is_the_line_it_has_always_been() {
        let look = Look::default();
        assert_eq!(
            answer(
                "",
                &Explanation { attachment: Some("e0".into()), members: Vec::new(), ..transmitted() },
                false,
                look
            ),
            "198.18.192.10: from e0 to 198.18.0.2 on contoso/private primary (eth1)\n"
        );
        assert!(answer("", &transmitted(), true, look).contains("one of 2 equal next hops for this flow"));
        let punted = Explanation { verdict: "punt".into(), reason: Some("bgp".into()), ..transmitted() };
        assert_eq!(
            answer("packet 7, ", &punted, false, look),
            "packet 7, 198.18.192.10: from eth0, delivered to the router itself as bgp\n"
        );
        let dropped = Explanation {
            verdict: "drop".into(),
            reason: Some("no-route".into()),
            remedy: Some("announce it".into()),
            no_return: Some(true),
            ..transmitted()
        };
        let text = answer("", &dropped, false, look);
        assert!(text.starts_with("198.18.192.10: from eth0, dropped as no-route: announce it\n"), "{text}");
        assert!(text.contains("no return route") && text.contains("(D8)"), "{text}");
    }

    #[test]
    fn what_is_out_of_use_too_long_or_without_a_way_back_is_said() {
        let mut it = detailed();
        let detail = it.detail.as_mut().unwrap();
        let choice = detail.choice.as_mut().unwrap();
        choice.owner = Some("198.18.0.6".parse().unwrap());
        choice.members[1].problem = Some("interface eth2 is down".into());
        detail.mtu = Some(1_400);
        detail.policers[0].used_percent = 101;
        detail.no_way_back = Some("protocol 44 is an extension header".into());
        it.way_back = None;
        let text = answer("", &it, true, Look::default());
        for words in [
            "198.18.0.2, because 198.18.0.6 is out of use",
            "out of use: 198.18.0.6: interface eth2 is down",
            "the packet of 1500 does not fit",
            "101 % of the credit",
            "way back: not known: protocol 44",
        ] {
            assert!(text.contains(words), "{text} has no {words}");
        }
        let arp = Explanation {
            detail: Some(Box::new(Detail { frame_bytes: 60, ..Detail::default() })),
            verdict: "punt".into(),
            ..transmitted()
        };
        let text = answer("", &arp, true, Look::default());
        assert!(text.starts_with("the frame: ") && text.contains("60 octets without an IP packet"), "{text}");
    }

    #[test]
    fn no_control_character_of_a_peer_reaches_the_terminal() {
        let mut it = detailed();
        it.detail.as_mut().unwrap().route.as_mut().unwrap().policy = Some("a\x1b[31mb".into());
        it.egress = Some("x\x07y".into());
        let text = answer("", &it, true, Look::default());
        assert!(!text.replace('\n', "").contains(char::is_control), "{text:?}");
    }
}
