//! Tables: what each message means, and what a history of messages, dumps and losses leaves.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;

use super::{
    Change, Elsewhere, Fact, Frame, Hop, How, Kind, Leads, NextHop, Request, Route, Tracker, Watch, frames,
};

const PORT: u32 = 77;
const STATIC: u8 = 4;
const BGP: u8 = 186;
const OTHER: u8 = 99;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn hop(gateway: &str) -> Hop {
    let gateway: IpAddr = gateway.parse().unwrap();
    Hop { ifindex: 3, gateway: Some(gateway), weight: 1, dead: false, encapsulated: false }
}

fn via(metric: u32, gateways: &[&str]) -> Route {
    let hops = gateways.iter().map(|gateway| hop(gateway)).collect();
    Route { metric, tos: 0, protocol: STATIC, kind: Kind::Unicast, hops, object: None }
}

fn by_object(id: u32) -> Route {
    Route { hops: [].into(), object: Some(id), ..via(0, &[]) }
}

/// A tracker with its clock, and the kernel's side of dumps.
struct Stand {
    tracker: Tracker,
    now: Duration,
    answers: u32,
}

impl Stand {
    fn new() -> Self {
        let watch = Watch { table: 254, protocols: vec![STATIC, BGP] };
        Self { tracker: Tracker::new(vec![watch]), now: Duration::ZERO, answers: 0 }
    }

    /// After an empty first dump.
    fn begun() -> Self {
        let mut stand = Self::new();
        stand.dump(&[], &[]);
        assert_eq!(stand.changes(), []);
        stand
    }

    fn handle(&mut self, answers: Option<u32>, fact: Fact) {
        self.tracker.handle(Frame { answers, interrupted: false, fact }, self.now);
    }

    fn tell(&mut self, fact: Fact) {
        self.handle(None, fact);
    }

    fn add(&mut self, prefix: &str, route: &Route, how: How) {
        self.tell(Fact::Route(254, net(prefix), route.clone(), how));
    }

    fn delete(&mut self, prefix: &str, route: &Route) {
        self.tell(Fact::RouteGone(254, net(prefix), route.clone()));
    }

    fn wait(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    fn asked(&mut self) -> Option<Request> {
        let (request, sequence) = self.tracker.poll_request(self.now)?;
        self.answers = sequence;
        Some(request)
    }

    /// The whole dump that the tracker asks for.
    fn dump(&mut self, next_hops: &[(u32, NextHop)], routes: &[(&str, Route)]) {
        for part in [Request::NextHops, Request::Ipv4, Request::Ipv6] {
            assert_eq!(self.asked(), Some(part));
            for (id, next_hop) in next_hops.iter().filter(|_| part == Request::NextHops) {
                self.handle(Some(self.answers), Fact::NextHop(*id, next_hop.clone()));
            }
            let is_of = |prefix: &str| net(prefix).addr().is_ipv4() == (part == Request::Ipv4);
            for (prefix, route) in
                routes.iter().filter(|(prefix, _)| part != Request::NextHops && is_of(prefix))
            {
                let fact = Fact::Route(254, net(prefix), route.clone(), How::Prepend);
                self.handle(Some(self.answers), fact);
            }
            self.handle(Some(self.answers), Fact::Done(true));
        }
    }

    fn changes(&mut self) -> Vec<Change> {
        self.tracker.take_changes()
    }

    /// What is said of one prefix: gateways, or a word; none where nothing has changed.
    fn now_of(&mut self, prefix: &str) -> Option<Vec<String>> {
        let changes = self.changes();
        let change = changes.iter().find(|change| change.prefix == net(prefix))?;
        Some(match change.selected.as_ref().map(|selected| &selected.leads) {
            None => vec![],
            Some(Leads::Hops(hops)) => {
                hops.iter().map(|hop| format!("{}*{}", hop.gateway.unwrap(), hop.weight)).collect()
            }
            Some(Leads::Discard) => vec!["discard".into()],
            Some(Leads::Elsewhere(Elsewhere::Throw)) => vec!["throw".into()],
            Some(Leads::Elsewhere(Elsewhere::Tos)) => vec!["tos".into()],
        })
    }
}

const P4: &str = "198.18.64.0/24";
const P6: &str = "fd00:64::/48";

/// What is done, and what is used afterwards.
type Step = (fn(&mut Stand), &'static [&'static str]);

#[test]
fn ipv4_routes_of_one_metric_are_a_list_of_which_the_first_is_used() {
    let rows: [&[Step]; 7] = [
        // Replace takes the place of the first, and nothing says that it has gone.
        &[
            (|it| it.add(P4, &via(0, &["198.18.0.2"]), How::Alone), &["198.18.0.2*1"]),
            (|it| it.add(P4, &via(0, &["198.18.0.3"]), How::Replace), &["198.18.0.3*1"]),
            (|it| it.delete(P4, &via(0, &["198.18.0.3"])), &[]),
        ],
        // Append goes behind, and is used when the first has gone.
        &[
            (|it| it.add(P4, &via(0, &["198.18.0.2"]), How::Alone), &["198.18.0.2*1"]),
            (|it| it.add(P4, &via(0, &["198.18.0.3"]), How::Append), &["198.18.0.2*1"]),
            (|it| it.add(P4, &via(0, &["198.18.0.4"]), How::Replace), &["198.18.0.4*1"]),
            (|it| it.delete(P4, &via(0, &["198.18.0.4"])), &["198.18.0.3*1"]),
            (|it| it.delete(P4, &via(0, &["198.18.0.3"])), &[]),
        ],
        // Prepend goes before.
        &[
            (|it| it.add(P4, &via(0, &["198.18.0.2"]), How::Alone), &["198.18.0.2*1"]),
            (|it| it.add(P4, &via(0, &["198.18.0.3"]), How::Prepend), &["198.18.0.3*1"]),
            (|it| it.delete(P4, &via(0, &["198.18.0.3"])), &["198.18.0.2*1"]),
        ],
        // The lowest metric is used, and replacing is a matter of one metric.
        &[
            (|it| it.add(P4, &via(20, &["198.18.0.2"]), How::Alone), &["198.18.0.2*1"]),
            (|it| it.add(P4, &via(10, &["198.18.0.3"]), How::Alone), &["198.18.0.3*1"]),
            (|it| it.add(P4, &via(20, &["198.18.0.4"]), How::Replace), &["198.18.0.3*1"]),
            (|it| it.delete(P4, &via(10, &["198.18.0.3"])), &["198.18.0.4*1"]),
        ],
        // A route of a protocol that nobody wants takes the place of one that was wanted.
        &[
            (|it| it.add(P4, &via(0, &["198.18.0.2"]), How::Alone), &["198.18.0.2*1"]),
            (|it| it.add(P4, &Route { protocol: OTHER, ..via(0, &["198.18.0.2"]) }, How::Replace), &[]),
        ],
        // Several next hops are one route, and go together.
        &[
            (
                |it| it.add(P4, &via(0, &["198.18.0.2", "198.18.0.3"]), How::Alone),
                &["198.18.0.2*1", "198.18.0.3*1"],
            ),
            (|it| it.delete(P4, &via(0, &["198.18.0.2", "198.18.0.3"])), &[]),
        ],
        // Dropping on purpose, looking elsewhere, one type of service.
        &[
            (|it| it.add(P4, &Route { kind: Kind::Discard, ..via(0, &[]) }, How::Alone), &["discard"]),
            (|it| it.add(P4, &Route { kind: Kind::Throw, ..via(0, &[]) }, How::Replace), &["throw"]),
            (|it| it.delete(P4, &Route { kind: Kind::Throw, ..via(0, &[]) }), &[]),
            (|it| it.add(P4, &Route { tos: 8, ..via(0, &["198.18.0.2"]) }, How::Alone), &["tos"]),
            (|it| it.add(P4, &via(5, &["198.18.0.3"]), How::Alone), &["198.18.0.3*1"]),
        ],
    ];
    run(P4, &rows);
}

#[test]
fn ipv6_gateways_of_one_metric_are_one_route_and_a_loss_may_name_a_part_of_them() {
    let rows: [&[Step]; 4] = [
        // An appended gateway comes as the whole route; one that goes comes alone.
        &[
            (|it| it.add(P6, &via(1024, &["fd00::2"]), How::Alone), &["fd00::2*1"]),
            (|it| it.add(P6, &via(1024, &["fd00::2", "fd00::3"]), How::Append), &["fd00::2*1", "fd00::3*1"]),
            (|it| it.delete(P6, &via(1024, &["fd00::2"])), &["fd00::3*1"]),
            (|it| it.delete(P6, &via(1024, &["fd00::3"])), &[]),
        ],
        // All at once.
        &[
            (|it| it.add(P6, &via(1024, &["fd00::2", "fd00::3"]), How::Alone), &["fd00::2*1", "fd00::3*1"]),
            (|it| it.delete(P6, &via(1024, &["fd00::3", "fd00::2"])), &[]),
        ],
        // Replaced as a whole.
        &[
            (|it| it.add(P6, &via(1024, &["fd00::2", "fd00::3"]), How::Alone), &["fd00::2*1", "fd00::3*1"]),
            (|it| it.add(P6, &via(1024, &["fd00::4"]), How::Replace), &["fd00::4*1"]),
            (|it| it.add(P6, &Route { kind: Kind::Discard, ..via(1024, &[]) }, How::Replace), &["discard"]),
            (|it| it.delete(P6, &Route { kind: Kind::Discard, ..via(1024, &[]) }), &[]),
        ],
        // Another metric is another route.
        &[
            (|it| it.add(P6, &via(20, &["fd00::2"]), How::Alone), &["fd00::2*1"]),
            (|it| it.add(P6, &via(10, &["fd00::3"]), How::Alone), &["fd00::3*1"]),
            (|it| it.delete(P6, &via(10, &["fd00::3"])), &["fd00::2*1"]),
        ],
    ];
    run(P6, &rows);
}

fn run(prefix: &str, rows: &[&[Step]]) {
    for (row, steps) in rows.iter().enumerate() {
        let mut stand = Stand::begun();
        let mut last: Vec<String> = Vec::new();
        for (at, (act, expected)) in steps.iter().enumerate() {
            act(&mut stand);
            last = stand.now_of(prefix).unwrap_or(last);
            assert_eq!(last, *expected, "row {row}, step {at}");
        }
        stand.wait(1_000);
        assert_eq!(stand.asked(), None, "row {row}: nothing was doubtful");
    }
}

#[test]
fn routes_follow_their_nexthop_object_its_group_and_its_end() {
    let mut stand = Stand::begun();
    stand.tell(Fact::NextHop(7, NextHop::Single(hop("198.18.0.2"))));
    stand.tell(Fact::NextHop(8, NextHop::Single(hop("198.18.0.3"))));
    stand.tell(Fact::NextHop(9, NextHop::Group(vec![(7, 1), (8, 300)])));
    stand.add(P4, &by_object(9), How::Alone);
    stand.add("198.18.65.0/24", &by_object(7), How::Alone);
    assert_eq!(stand.now_of(P4).unwrap(), ["198.18.0.2*1", "198.18.0.3*300"]);
    // The object becomes another thing: no word about the routes.
    stand.tell(Fact::NextHop(7, NextHop::Single(hop("198.18.0.4"))));
    assert_eq!(stand.changes().len(), 2, "both routes, one by the group");
    // With nexthop_compat_mode the kernel says "replace" of each of its routes, wherever in the list it is.
    let first = Route { protocol: BGP, ..via(0, &["198.18.0.5"]) };
    stand.add(P4, &first, How::Prepend);
    stand.add(P4, &by_object(9), How::Replace);
    assert_eq!(stand.now_of(P4).unwrap(), ["198.18.0.5*1"]);
    stand.delete(P4, &first);
    assert_eq!(stand.now_of(P4).unwrap().len(), 2);
    // A group loses a member.
    stand.tell(Fact::NextHop(9, NextHop::Group(vec![(8, 300)])));
    assert_eq!(stand.now_of(P4).unwrap(), ["198.18.0.3*300"]);
    stand.tell(Fact::NextHop(8, NextHop::Discard));
    assert_eq!(stand.now_of(P4).unwrap(), ["discard"]);
    // The kernel removes routes with their object, and says nothing.
    stand.tell(Fact::NextHopGone(9));
    assert_eq!(stand.now_of(P4).unwrap(), [] as [&str; 0]);
    stand.tell(Fact::NextHop(9, NextHop::Single(hop("198.18.0.9"))));
    assert_eq!(stand.changes(), [], "the routes of the object before are gone for good");
    assert_eq!(stand.tracker.counts().routes, 1);
    // A route whose object nobody has told of: it is no route, and everything is read again.
    stand.wait(1_000);
    assert_eq!(stand.asked(), None);
    stand.add(P4, &by_object(50), How::Alone);
    assert_eq!(stand.now_of(P4).unwrap(), [] as [&str; 0]);
    assert_eq!(stand.asked(), Some(Request::NextHops));
}

#[test]
fn a_hop_without_carrier_is_not_used_and_a_route_without_any_makes_room_for_the_next() {
    let dead = |gateway| Hop { dead: true, ..hop(gateway) };
    let mut stand = Stand::begun();
    let half = Route { hops: [dead("198.18.0.2"), hop("198.18.0.3")].into(), ..via(0, &[]) };
    stand.add(P4, &half, How::Alone);
    stand.add(P4, &via(10, &["198.18.0.4"]), How::Alone);
    assert_eq!(stand.now_of(P4).unwrap(), ["198.18.0.3*1"]);
    let gone = Route { hops: [dead("198.18.0.2"), dead("198.18.0.3")].into(), ..via(0, &[]) };
    stand.add(P4, &gone, How::Replace);
    assert_eq!(stand.now_of(P4).unwrap(), ["198.18.0.4*1"]);
    // The kernel names it by what it is, dead or not.
    stand.delete(P4, &via(0, &["198.18.0.2", "198.18.0.3"]));
    stand.wait(1_000);
    assert_eq!(stand.asked(), None);
}

#[test]
fn nothing_is_said_before_the_first_dump_is_complete_and_then_everything() {
    let mut stand = Stand::new();
    stand.add("198.18.70.0/24", &via(0, &["198.18.0.2"]), How::Alone);
    assert_eq!(stand.changes(), []);
    assert_eq!(stand.tracker.take_completion(), None);
    stand.dump(
        &[],
        &[
            ("198.18.70.0/24", via(0, &["198.18.0.2"])),
            (P4, via(0, &["198.18.0.3"])),
            (P6, via(0, &["fd00::2"])),
        ],
    );
    assert_eq!(stand.changes().len(), 3);
    let counts = stand.tracker.take_completion().unwrap();
    assert_eq!((counts.routes, counts.dumps, counts.repaired), (3, 1, 0));
}

#[test]
fn what_was_lost_by_an_overrun_is_found_by_the_dump_that_follows() {
    let mut stand = Stand::begun();
    stand.add(P4, &via(0, &["198.18.0.2"]), How::Alone);
    stand.add("198.18.65.0/24", &via(0, &["198.18.0.2"]), How::Alone);
    assert_eq!(stand.changes().len(), 2);
    stand.tracker.handle_overrun();
    assert_eq!(stand.asked(), None, "not at once after the one before");
    stand.wait(100);
    // Lost: one has gone, one leads elsewhere, one has come.
    let now = [("198.18.65.0/24", via(0, &["198.18.0.9"])), ("198.18.66.0/24", via(0, &["198.18.0.2"]))];
    stand.dump(&[], &now);
    let changed: Vec<String> = stand.changes().iter().map(|change| change.prefix.to_string()).collect();
    assert_eq!(changed, [P4, "198.18.65.0/24", "198.18.66.0/24"]);
    let counts = stand.tracker.counts();
    assert_eq!((counts.overruns, counts.dumps, counts.repaired, counts.routes), (1, 2, 3, 2));
    stand.wait(1_000);
    assert_eq!(stand.asked(), None);
}

#[test]
fn what_changes_while_everything_is_dumped_is_neither_lost_nor_brought_back() {
    let mut stand = Stand::begun();
    let old = via(0, &["198.18.0.2"]);
    stand.add(P4, &old, How::Alone);
    stand.add("198.18.65.0/24", &old, How::Alone);
    stand.changes();
    stand.wait(200);
    stand.tell(Fact::Lost);
    assert_eq!(stand.asked(), Some(Request::NextHops));
    stand.handle(Some(stand.answers), Fact::Done(true));
    assert_eq!(stand.asked(), Some(Request::Ipv4));
    let answers = stand.answers;
    let dumped = |prefix: &str, route: &Route| Fact::Route(254, net(prefix), route.clone(), How::Alone);
    // Heard before the first answer it is older than the dump: that it has gone since was lost.
    stand.add("198.18.50.0/24", &old, How::Alone);
    stand.handle(Some(answers), dumped(P4, &old));
    // Dumped, then gone; not dumped yet and gone; not dumped yet and come, and dumped after that.
    stand.delete(P4, &old);
    stand.delete("198.18.65.0/24", &old);
    stand.add("198.18.66.0/24", &old, How::Alone);
    stand.handle(Some(answers), dumped("198.18.66.0/24", &old));
    // Come where the dump has been already.
    stand.add("198.18.60.0/24", &old, How::Alone);
    stand.handle(Some(answers), Fact::Done(true));
    assert_eq!(stand.asked(), Some(Request::Ipv6));
    stand.handle(Some(stand.answers), Fact::Done(true));
    let there: Vec<String> = stand
        .changes()
        .iter()
        .filter(|change| change.selected.is_some())
        .map(|change| change.prefix.to_string())
        .collect();
    assert_eq!(there, ["198.18.60.0/24", "198.18.66.0/24"]);
    assert_eq!((stand.tracker.counts().routes, stand.tracker.counts().repaired), (2, 1));
}

#[test]
fn a_dump_that_was_disturbed_or_refused_is_made_again() {
    let mut stand = Stand::begun();
    stand.wait(60_000);
    assert_eq!(stand.asked(), Some(Request::NextHops), "everything is compared every minute");
    // A kernel without nexthop objects refuses the first part, and goes on.
    stand.handle(Some(stand.answers), Fact::Done(false));
    assert_eq!(stand.asked(), Some(Request::Ipv4));
    stand.handle(Some(stand.answers), Fact::Done(false));
    assert_eq!(stand.asked(), None, "refused: later");
    stand.wait(100);
    for part in [Request::NextHops, Request::Ipv4, Request::Ipv6] {
        assert_eq!(stand.asked(), Some(part));
        let frame = Frame {
            answers: Some(stand.answers),
            interrupted: part == Request::Ipv4,
            fact: Fact::Done(true),
        };
        stand.tracker.handle(frame, stand.now);
    }
    stand.wait(100);
    assert_eq!(stand.asked(), Some(Request::NextHops), "the kernel said that it was interrupted");
    // An answer to an earlier request is nobody's.
    stand.handle(Some(stand.answers - 1), Fact::Route(254, net(P4), via(0, &["198.18.0.2"]), How::Alone));
    assert_eq!(stand.tracker.counts().routes, 0);
}

#[test]
fn a_process_that_was_stopped_during_a_dump_makes_the_next_one_within_a_minute() {
    for stopped in [Duration::from_secs(1), Duration::from_secs(3_600), Duration::from_secs(86_400)] {
        let mut stand = Stand::new();
        assert_eq!(stand.asked(), Some(Request::NextHops));
        stand.now += stopped;
        for part in [Request::Ipv4, Request::Ipv6] {
            stand.handle(Some(stand.answers), Fact::Done(true));
            assert_eq!(stand.asked(), Some(part));
        }
        stand.handle(Some(stand.answers), Fact::Done(true));
        stand.tell(Fact::Lost);
        stand.wait(60_000);
        assert_eq!(stand.asked(), Some(Request::NextHops), "after {stopped:?}");
    }
}

#[test]
fn a_carrier_that_goes_or_comes_is_followed_by_a_dump_and_one_that_is_told_again_is_not() {
    // Of the first message nobody knows whether it is a change: the carrier may have gone since the dump.
    for is_up in [true, false] {
        let mut stand = Stand::begun();
        stand.wait(1_000);
        for (is_up, is_followed) in [(is_up, true), (is_up, false), (!is_up, true)] {
            stand.tell(Fact::Link(3, is_up));
            if is_followed {
                stand.dump(&[], &[]);
                stand.wait(1_000);
            }
            assert_eq!(stand.asked(), None, "{is_up}");
        }
    }
}

#[test]
fn a_deletion_of_what_nobody_knows_of_is_doubtful() {
    let mut stand = Stand::begun();
    stand.wait(1_000);
    stand.delete(P4, &via(0, &["198.18.0.2"]));
    assert_eq!(stand.asked(), Some(Request::NextHops));
    // Of another table it is nobody's business.
    let mut stand = Stand::begun();
    stand.wait(1_000);
    stand.tell(Fact::RouteGone(100, net(P4), via(0, &["198.18.0.2"])));
    stand.tell(Fact::Route(100, net(P4), via(0, &["198.18.0.2"]), How::Alone));
    assert_eq!((stand.asked(), stand.changes()), (None, vec![]));
}

/// Attributes of a netlink message.
fn attributes(list: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, value) in list {
        bytes.extend(((4 + value.len()) as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(*value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn message(kind: u16, flags: u16, from: u32, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let mut bytes = Vec::new();
    bytes.extend(((16 + body.len()) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(5u32.to_ne_bytes());
    bytes.extend(from.to_ne_bytes());
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `struct rtmsg`: family, lengths, type of service, table, protocol, scope, type, flags.
fn rtmsg(family: u8, length: u8, kind: u8) -> [u8; 12] {
    [family, length, 0, 0, 254, BGP, 0, kind, 0, 0, 0, 0]
}

#[test]
fn messages_of_routes_and_nexthop_objects_are_read_as_the_kernel_writes_them() {
    let three = 3u32.to_ne_bytes();
    let two = [198, 18, 0, 2];
    let six = "fd00::2".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let one = |weight: u8, flags: u8, host: u8| {
        let gateway = attributes(&[(5, &[198, 18, 0, host])]);
        [&((8 + gateway.len()) as u16).to_ne_bytes()[..], &[flags, weight - 1], &three, &gateway].concat()
    };
    let several = [one(1, 0, 2), one(3, 16, 3)].concat();
    let group: Vec<u8> = [(7u32, 0u8, 0u8), (8, 43, 1)]
        .iter()
        .flat_map(|(id, low, high)| [&id.to_ne_bytes()[..], &[*low, *high, 0, 0]].concat())
        .collect();
    let priority = 20u32.to_ne_bytes();
    let route = |hops: Vec<Hop>| Route { protocol: BGP, hops: hops.into(), ..via(20, &[]) };
    let rows: [(Vec<u8>, Fact); 9] = [
        (
            message(
                24,
                0x600,
                0,
                &[
                    &rtmsg(2, 24, 1),
                    &attributes(&[(1, &[198, 18, 64, 0]), (6, &priority), (5, &two), (4, &three)]),
                ],
            ),
            Fact::Route(254, net(P4), route(vec![hop("198.18.0.2")]), How::Alone),
        ),
        (
            message(
                24,
                0x100,
                0,
                &[&rtmsg(2, 24, 1), &attributes(&[(1, &[198, 18, 64, 0]), (6, &priority), (9, &several)])],
            ),
            Fact::Route(
                254,
                net(P4),
                route(vec![hop("198.18.0.2"), Hop { weight: 3, dead: true, ..hop("198.18.0.3") }]),
                How::Replace,
            ),
        ),
        (
            message(25, 0, 0, &[&rtmsg(2, 24, 6), &attributes(&[(1, &[198, 18, 64, 0]), (6, &priority)])]),
            Fact::RouteGone(254, net(P4), Route { kind: Kind::Discard, ..route(vec![]) }),
        ),
        // Whatever an object expands to is left out.
        (
            message(
                24,
                0xC00,
                0,
                &[
                    &rtmsg(10, 48, 1),
                    &attributes(&[
                        (1, &net(P6).addr().to_string().parse::<std::net::Ipv6Addr>().unwrap().octets()),
                        (6, &priority),
                        (30, &7u32.to_ne_bytes()),
                        (5, &six),
                        (4, &three),
                    ]),
                ],
            ),
            Fact::Route(254, net(P6), Route { object: Some(7), ..route(vec![]) }, How::Append),
        ),
        (
            message(
                104,
                0,
                0,
                &[
                    &[2, 0, 11, 0, 0, 0, 0, 0],
                    &attributes(&[(1, &7u32.to_ne_bytes()), (5, &three), (6, &two)]),
                ],
            ),
            Fact::NextHop(7, NextHop::Single(hop("198.18.0.2"))),
        ),
        (
            message(
                104,
                0,
                0,
                &[
                    &[0, 0, 11, 0, 0, 0, 0, 0],
                    &attributes(&[(1, &9u32.to_ne_bytes()), (2, &group), (3, &[0, 0])]),
                ],
            ),
            Fact::NextHop(9, NextHop::Group(vec![(7, 1), (8, 300)])),
        ),
        (
            message(
                104,
                0,
                0,
                &[&[2, 0, 11, 0, 0, 0, 0, 0], &attributes(&[(1, &4u32.to_ne_bytes()), (4, &[])])],
            ),
            Fact::NextHop(4, NextHop::Discard),
        ),
        (
            message(105, 0, 0, &[&[2, 0, 11, 0, 0, 0, 0, 0], &attributes(&[(1, &7u32.to_ne_bytes())])]),
            Fact::NextHopGone(7),
        ),
        (message(16, 0, 0, &[&[0; 4], &three, &0x1_0001u32.to_ne_bytes(), &[0; 4]]), Fact::Link(3, true)),
    ];
    for (bytes, fact) in rows {
        let found: Vec<Fact> = frames(&bytes, PORT).into_iter().map(|frame| frame.fact).collect();
        assert_eq!(found, [fact]);
    }
    let answer = message(3, 0x12, PORT, &[&[0; 4]]);
    assert_eq!(
        frames(&answer, PORT),
        [Frame { answers: Some(5), interrupted: true, fact: Fact::Done(true) }]
    );
    let refused = message(2, 0, PORT, &[&(-95i32).to_ne_bytes()]);
    assert_eq!(frames(&refused, PORT)[0].fact, Fact::Done(false));
}

#[test]
fn what_is_not_for_forwarding_is_no_route_and_cut_messages_are_left_out() {
    let body = attributes(&[(1, &[198, 18, 64, 0]), (4, &3u32.to_ne_bytes())]);
    let mut cloned = rtmsg(2, 24, 1);
    cloned[9] = 2;
    let mut from_source = rtmsg(10, 48, 1);
    from_source[2] = 64;
    for head in [rtmsg(2, 32, 2), rtmsg(2, 24, 5), rtmsg(7, 24, 1), cloned, from_source] {
        assert_eq!(frames(&message(24, 0, 0, &[&head, &body]), PORT), [], "{head:?}");
    }
    let whole = message(24, 0x600, 0, &[&rtmsg(2, 24, 1), &body]);
    for length in 0..whole.len() {
        assert_eq!(frames(&whole[..length], PORT), [], "{length} bytes");
    }
    let next_hop = message(
        104,
        0,
        0,
        &[&[2, 0, 11, 0, 0, 0, 0, 0], &attributes(&[(1, &7u32.to_ne_bytes()), (5, &3u32.to_ne_bytes())])],
    );
    for (at, value) in (16..next_hop.len()).flat_map(|at| (0..=255).map(move |value| (at, value))) {
        let mut damaged = next_hop.clone();
        damaged[at] = value;
        assert!(frames(&damaged, PORT).len() <= 1);
    }
    assert_eq!(frames(&[whole.clone(), whole].concat(), PORT).len(), 2);
}
