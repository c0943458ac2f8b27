//! The tables of the MSEEs: whether the addresses in them are those of the configuration, and, where the running router was asked, whether each
//! route, session and MAC address of one side is on the other.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

use super::{
    super::{
        answers::{Arp, FailoverTest, Neighbour, Peering, Route, Rows, Table},
        ours::{LinkEnds, Live, Ours, Session},
        view::{End, Place, View, place_of},
    },
    NONE, Report, is_behind_a_provider, link_place,
};
use crate::{
    config::{LinkRole, PeeringKind},
    types::mac_text,
};

/// A link whose tables are compared.
struct On<'a> {
    circuit: &'a str,
    kind: PeeringKind,
    role: LinkRole,
    place: String,
    ours: &'a Ours,
    /// Azure's peering, if a file has it.
    peering: Option<&'a Peering>,
}

impl On<'_> {
    /// The addresses of one family. Where Azure has another subnet, which is a difference of its own, its tables have nothing in common with ours.
    fn ends(&self, is_ipv4: bool) -> Option<LinkEnds> {
        let family = if is_ipv4 { "ipv4" } else { "ipv6" };
        let ends = self.ours.ends(self.circuit, self.kind, self.role, family)?;
        let subnets = self.peering.into_iter().flat_map(Peering::subnets);
        let azures = subnets.filter(|(role, it)| *role == self.role && it.addr().is_ipv4() == is_ipv4);
        azures.map(|(_, subnet)| subnet).all(|subnet| subnet == ends.subnet).then_some(ends)
    }

    /// Our AS; `None` where the peering has another one in Azure, which is a difference of its own.
    fn asn(&self) -> Option<String> {
        let here = self.ours.text("asn")?;
        let azure = self.peering.and_then(|it| it.asn);
        azure.is_none_or(|asn| asn.to_string() == here).then_some(here)
    }

    /// The running router's session of one family.
    fn session(&self, is_ipv4: bool) -> Option<(&Session, LinkEnds)> {
        let ends = self.ends(is_ipv4)?;
        Some((self.ours.live.as_ref()?.sessions.get(&ends.theirs)?, ends))
    }
}

/// The name here of a circuit of Azure's.
type Here<'a> = dyn Fn(&str) -> Option<&'a str> + 'a;

/// All tables. `matched` are the circuits' names in Azure and here.
pub(super) fn compare<'a>(
    view: &'a View,
    matched: &'a [(&'a str, &'a str)],
    ours: &'a Ours,
    report: &mut Report,
) {
    let here = |azure: &str| -> Option<&'a str> {
        let by_view =
            matched.iter().find(|(name, _)| name.eq_ignore_ascii_case(azure)).map(|(_, here)| *here);
        by_view
            .or_else(|| ours.circuits().iter().map(String::as_str).find(|it| it.eq_ignore_ascii_case(azure)))
    };
    for it in &view.others.tables {
        let place = place(it, view, &here, ours);
        let Some(circuit) = place.as_ref().and_then(|place| here(&place.circuit)) else {
            let what = it.rows.what();
            let text =
                format!("it is not known of which link this {what} is: name it as CIRCUIT/PEERING/LINK=FILE");
            report.note(&it.file, text);
            continue;
        };
        if let Some(Place { kind: Some(kind), role: Some(role), .. }) = place {
            let azures = view.circuits.iter().find(|it| here(&it.name) == Some(circuit));
            let peering = azures.and_then(|it| it.peering(kind));
            let place = link_place(circuit, kind, role);
            table(it, &On { circuit, kind, role, place, ours, peering }, report);
        }
    }
    if view.others.tables.is_empty() {
        report
            .notes
            .push("no file is a route or ARP table, so routes and MAC addresses are not compared".into());
    } else if ours.live.is_none() {
        report.notes.push(
            "the running router was not asked (--live), so its routes and MAC addresses are not compared"
                .into(),
        );
    }
    bytes(view, report);
    for test in &view.others.tests {
        failover(test, view, &here, ours, report);
    }
}

fn table(table: &Table, on: &On<'_>, report: &mut Report) {
    if !on.ours.has(on.circuit, on.kind) || is_behind_a_provider(on.circuit, on.kind, on.ours) {
        return;
    }
    match &table.rows {
        Rows::Routes(rows) => routes(rows, on, report),
        Rows::Neighbours(rows) => neighbours(rows, on, report),
        Rows::Arp(rows) => arp(rows, on, report),
    }
}

/// The link of a table: as named, or by its addresses in the subnets that the link has in Azure's answers or here.
fn place(table: &Table, view: &View, here: &Here<'_>, ours: &Ours) -> Option<Place> {
    if let Some(place) = table.place.as_ref().filter(|place| place.kind.is_some() && place.role.is_some()) {
        return Some(place.clone());
    }
    let azures = view.ends().into_iter().filter_map(|end| Some(End { circuit: here(end.circuit)?, ..end }));
    place_of(&table.rows.addresses(), &azures.chain(ours.all_ends()).collect::<Vec<_>>())
}

/// The routes of an MSEE: those from us, by their next hop, and those of Azure's.
fn routes(rows: &[Route], on: &On<'_>, report: &mut Report) {
    for is_ipv4 in [true, false] {
        let rows: Vec<&Route> = rows.iter().filter(|it| it.network.addr().is_ipv4() == is_ipv4).collect();
        let Some(ends) = on.ends(is_ipv4).filter(|_| !rows.is_empty()) else { continue };
        let is_from_us = |it: &&&Route| it.next_hop == Some(ends.ours);
        let from_us: Vec<&Route> = rows.iter().filter(is_from_us).copied().collect();
        next_hops(&rows, ends, on, report);
        first_asn(&from_us, on, report);
        match on.session(is_ipv4) {
            Some((session, _)) => routes_of(session, &rows, &from_us, on, report),
            None if from_us.is_empty() => {
                report.note(&on.place, format!("no route of Azure's table leads to {}", ends.ours));
            }
            None => {}
        }
    }
}

/// On the link there is one router of ours, and the routes from it lead to its address.
fn next_hops(rows: &[&Route], ends: LinkEnds, on: &On<'_>, report: &mut Report) {
    let others: BTreeSet<IpAddr> = rows
        .iter()
        .filter_map(|it| it.next_hop)
        .filter(|hop| ends.subnet.contains(hop) && *hop != ends.ours && *hop != ends.theirs)
        .collect();
    for other in others {
        report.add(&on.place, "next hop of routes", other.to_string(), ends.ours.to_string());
    }
}

fn first_asn(from_us: &[&Route], on: &On<'_>, report: &mut Report) {
    let Some(here) = on.asn() else { return };
    let first: BTreeSet<u32> = from_us.iter().filter_map(|it| it.path.first().copied()).collect();
    for asn in first.into_iter().filter(|asn| asn.to_string() != here) {
        report.add(&on.place, "first AS of routes", asn.to_string(), here.clone());
    }
}

/// What the running router advertises and receives on the link.
fn routes_of(session: &Session, rows: &[&Route], from_us: &[&Route], on: &On<'_>, report: &mut Report) {
    let azure: BTreeSet<IpNet> = from_us.iter().map(|it| it.network).collect();
    for prefix in session.advertised.symmetric_difference(&azure) {
        let (there, here) =
            if azure.contains(prefix) { ("from here", "not advertised") } else { (NONE, "advertised") };
        report.add(&on.place, &format!("route {prefix}"), there, here);
    }
    // On Microsoft peering the table has what the route filter keeps from us.
    if on.kind == PeeringKind::Microsoft {
        return;
    }
    let own: Vec<IpAddr> = LinkRole::ALL
        .into_iter()
        .flat_map(|role| on.ours.both_ends(on.circuit, on.kind, role))
        .map(|it| it.ours)
        .collect();
    let asn = on.ours.text("asn").and_then(|it| it.parse().ok());
    let is_ours = |it: &Route| {
        it.next_hop.is_some_and(|hop| own.contains(&hop)) || asn.is_some_and(|asn| it.path.contains(&asn))
    };
    let azures: BTreeSet<IpNet> = rows.iter().filter(|it| !is_ours(it)).map(|it| it.network).collect();
    for prefix in session.received.symmetric_difference(&azures) {
        let (there, here) =
            if azures.contains(prefix) { ("there", "not received") } else { (NONE, "received") };
        report.add(&on.place, &format!("route {prefix}"), there, here);
    }
}

/// The neighbours of an MSEE, of which we are one on each link and family.
fn neighbours(rows: &[Neighbour], on: &On<'_>, report: &mut Report) {
    for is_ipv4 in [true, false] {
        let Some(ends) = on.ends(is_ipv4) else { continue };
        let Some(row) = rows.iter().find(|it| it.address == ends.ours) else {
            // One table may have one family only.
            if rows.iter().any(|it| it.address.is_ipv4() == is_ipv4) {
                report.add(&on.place, "neighbour", NONE, ends.ours.to_string());
            }
            continue;
        };
        if let (Some(azure), Some(here)) = (row.asn, on.asn()) {
            report.compare(&on.place, "AS of the neighbour", Some(azure.to_string()), Some(here));
        }
        let session = on.session(is_ipv4).map(|(session, _)| session);
        let state = session.map_or("Established", |session| session.state.as_str());
        if row.state != state {
            let state = session.map_or("expected to be up", |session| session.state.as_str());
            report.add(&on.place, "session", row.state.clone(), state);
        }
        if let (Some(azure), Some(session)) = (row.prefixes, session) {
            let here = session.advertised.len().to_string();
            report.compare(&on.place, "prefixes from here", Some(azure.to_string()), Some(here));
        }
    }
}

/// The ARP table of an MSEE: our address, and its own.
fn arp(rows: &[Arp], on: &On<'_>, report: &mut Report) {
    let Some(ends) = on.ends(true) else { return };
    let live = on.ours.live.as_ref();
    let own = live.and_then(|live: &Live| live.macs.get(&format!("{} {}", on.circuit, on.role.as_str())));
    let theirs = on.session(true).and_then(|(session, _)| session.mac);
    for (is_microsofts, address, mac, what) in
        [(false, ends.ours, own.copied(), "our"), (true, ends.theirs, theirs, "the MSEE's")]
    {
        let of_it: Vec<&Arp> = rows.iter().filter(|it| it.is_microsofts == is_microsofts).collect();
        let row = of_it.iter().find(|it| it.address == address).or(of_it.first());
        let Some(row) = row else {
            report.add(&on.place, &format!("{what} ARP entry"), NONE, address.to_string());
            continue;
        };
        if row.address != address {
            let field = format!("{what} address in ARP");
            report.add(&on.place, &field, row.address.to_string(), address.to_string());
        }
        let field = format!("{what} MAC address");
        match (row.mac, mac) {
            (None, here) => {
                let here = here.map_or_else(|| "expected".to_owned(), mac_text);
                report.add(&on.place, &field, "incomplete", here);
            }
            (Some(azure), Some(here)) => {
                report.compare(&on.place, &field, Some(mac_text(azure)), Some(mac_text(here)));
            }
            (Some(_), None) => {}
        }
    }
}

/// A link on which Azure has counted nothing while it has on the other.
fn bytes(view: &View, report: &mut Report) {
    for stats in &view.others.stats {
        let place = stats.place.as_ref().map_or("statistics".to_owned(), Place::to_string);
        for (way, counts) in [("in from here", stats.bytes_in), ("out to here", stats.bytes_out)] {
            let idle = match counts {
                [Some(0), Some(1..)] => "primary",
                [Some(1..), Some(0)] => "secondary",
                _ => continue,
            };
            report.note(&place, format!("Azure has counted no byte {way} over the {idle} link"));
        }
    }
}

/// What Azure saw when it failed a link on purpose.
fn failover(test: &FailoverTest, view: &View, here: &Here<'_>, ours: &Ours, report: &mut Report) {
    let only = match view.circuits.as_slice() {
        [only] => Some(only.name.as_str()),
        _ => None,
    };
    let name = test.place.as_ref().map(|it| it.circuit.as_str()).or(only);
    let circuit = name.and_then(here);
    let place = circuit.or(name).unwrap_or("failover test");
    let link = test.link.map_or("a link", LinkRole::as_str);
    let began = test.began.as_deref().unwrap_or("at an unknown time");
    if test.succeeded == Some(false) {
        let status = test.status.as_deref().unwrap_or("unknown");
        report
            .note(place, format!("the test of {link} that began {began} did not succeed (status {status})"));
    }
    for down in &test.down {
        report.note(place, format!("in the test of {link} that began {began} a session was not up: {down}"));
    }
    let advertised = |role| advertised_on(circuit, role, ours);
    let (primary, secondary) = (advertised(LinkRole::Primary), advertised(LinkRole::Secondary));
    for prefix in &test.alone {
        if primary.contains(prefix) && secondary.contains(prefix) {
            let azure = format!("on one link in the test that began {began}");
            report.add(place, &format!("route {prefix}"), azure, "advertised on both links");
        } else {
            report
                .note(place, format!("in the test of {link} that began {began} no other link had {prefix}"));
        }
    }
}

/// What the running router advertises on a link of a circuit, over all its peerings.
fn advertised_on(circuit: Option<&str>, role: LinkRole, ours: &Ours) -> BTreeSet<IpNet> {
    let mut all = BTreeSet::new();
    let (Some(circuit), Some(live)) = (circuit, &ours.live) else { return all };
    for kind in PeeringKind::ALL {
        let sessions = ours.both_ends(circuit, kind, role).filter_map(|ends| live.sessions.get(&ends.theirs));
        sessions.for_each(|session| all.extend(session.advertised.iter().copied()));
    }
    all
}
