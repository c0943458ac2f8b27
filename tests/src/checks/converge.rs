//! Convergence: every session Established, every announced prefix received, everything passed on that should be.
//!
//! What should be follows from the plan alone ([`expected`]): each session carries its own family; an MSEE announces its share of
//! the table and the VNet; the customer's router announces its networks; the customer's router is told what the MSEEs announce,
//! the MSEEs what the customer's router does, and no MSEE what another does (a circuit is no transit).

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    edge::{Edge, Session},
    lab::{Lab, bird, plan},
};

/// How long convergence may take.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// What one session should show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The peer's address.
    pub peer: &'static str,
    /// Its AS number.
    pub asn: u32,
    /// A name for people.
    pub name: &'static str,
    /// Prefixes accepted from it. (FRR also announces back what it has from us: RFC 4271 section 9.1.2 lets us refuse a path
    /// with our own AS number, and such prefixes are not counted.)
    pub received: u64,
    /// Prefixes advertised to it.
    pub advertised: u64,
}

/// What every session should show once all is exchanged.
///
/// # Errors
/// None for the plan as it is.
pub fn expected(lab: &Lab) -> Result<Vec<Expected>> {
    let table = &lab.announced().msee;
    let ce = lab.ce_announces()?;
    let mut rows = Vec::new();
    for is_ipv4 in [true, false] {
        // The VNet is announced by both MSEEs besides the table.
        let family = || table.iter().filter(|(prefix, _)| prefix.addr().is_ipv4() == is_ipv4);
        let from_primary = family().filter(|(_, links)| links.primary).count() as u64 + 1;
        let from_secondary = family().filter(|(_, links)| links.secondary).count() as u64 + 1;
        let from_both = family().count() as u64 + 1;
        let from_ce = ce.iter().filter(|prefix| prefix.addr().is_ipv4() == is_ipv4).count() as u64;
        let side = |ipv4: &'static str, ipv6: &'static str| if is_ipv4 { ipv4 } else { ipv6 };
        rows.extend([
            Expected {
                peer: side(plan::PRIMARY.ipv4.1, plan::PRIMARY.ipv6.1),
                asn: plan::MSEE_ASN,
                name: "primary MSEE",
                received: from_primary,
                advertised: from_ce,
            },
            Expected {
                peer: side(plan::SECONDARY.ipv4.1, plan::SECONDARY.ipv6.1),
                asn: plan::MSEE_ASN,
                name: "secondary MSEE",
                received: from_secondary,
                advertised: from_ce,
            },
            Expected {
                peer: side(plan::CE.ipv4.0, plan::CE.ipv6.0),
                asn: plan::CE_ASN,
                name: "customer's router",
                received: from_ce,
                advertised: from_both,
            },
        ]);
    }
    Ok(rows)
}

/// Waits until all sessions show what they should. `tell` gets a line whenever something has moved.
///
/// # Errors
/// Names the first session that does not, when time is over or erdp has ended.
pub fn wait(lab: &mut Lab, edge: &mut Edge, tell: &mut dyn FnMut(&str)) -> Result<String> {
    let expected = expected(lab)?;
    let begin = Instant::now();
    let mut shown = String::new();
    loop {
        edge.must_run()?;
        lab.must_run()?;
        let sessions = if edge.answers() { edge.sessions()? } else { Vec::new() };
        let progress = progress(&sessions, &expected);
        if progress != shown {
            tell(&progress);
            shown = progress;
        }
        let Some(missing) = expected.iter().find_map(|row| missing(row, &sessions)) else {
            return Ok(format!("converged in {:.1} s: {shown}", begin.elapsed().as_secs_f32()));
        };
        let patience = lab.ground().patience(PATIENCE);
        if begin.elapsed() > patience {
            bail!("not converged after {} s: {missing}", patience.as_secs());
        }
        thread::sleep(Duration::from_millis(150));
    }
}

fn progress(sessions: &[Session], expected: &[Expected]) -> String {
    let up = sessions.iter().filter(|session| is_established(session)).count();
    let received: u64 = sessions.iter().map(accepted).sum();
    let advertised: u64 = sessions.iter().map(|session| session.advertised).sum();
    format!(
        "{up} of {} sessions Established, {received} of {} prefixes accepted, {advertised} of {} advertised",
        expected.len(),
        expected.iter().map(|row| row.received).sum::<u64>(),
        expected.iter().map(|row| row.advertised).sum::<u64>(),
    )
}

fn is_established(session: &Session) -> bool {
    session.state.eq_ignore_ascii_case("established")
}

fn accepted(session: &Session) -> u64 {
    session.received.saturating_sub(session.refused)
}

/// What `row` still lacks, as a sentence.
fn missing(row: &Expected, sessions: &[Session]) -> Option<String> {
    let Expected { peer, asn, name, received, advertised } = row;
    let Some(session) = sessions.iter().find(|session| session.peer == *peer) else {
        return Some(format!("no session with {peer} ({name})"));
    };
    if session.asn != *asn || !is_established(session) {
        let why = session.last_error.as_deref().unwrap_or("no error yet");
        return Some(format!("{peer} ({name}, AS {}): {}, {why}", session.asn, session.state));
    }
    let differs = accepted(session) != *received || session.advertised != *advertised;
    differs.then(|| {
        format!(
            "{peer} ({name}): {} of {received} prefixes accepted, {} of {advertised} advertised",
            accepted(session),
            session.advertised
        )
    })
}

/// The customer's router itself must have learned everything: what we count as advertised is only our side of it.
///
/// # Errors
/// When it has another number of routes.
pub fn customer_has_learned(lab: &Lab) -> Result<String> {
    let all = lab.announced().msee.len() + 2 + lab.ce_announces()?.len();
    let printed = super::until(lab.ground().patience(Duration::from_secs(10)), || {
        let printed = bird::ask(lab, "ce", &["show", "route", "count"])?;
        let total = printed.lines().find(|line| line.starts_with("Total:")).unwrap_or_default().to_owned();
        if !total.contains(&format!("for {all} networks")) {
            bail!("the customer's router should know {all} networks and says: {total}");
        }
        Ok(total)
    })?;
    Ok(format!("customer's router (BIRD): {}", printed.trim_start_matches("Total: ")))
}

/// The kernels of both MSEEs must have the customer's networks behind the edge: their routers say so by what they have put there,
/// whatever erdp believes of its sessions.
///
/// # Errors
/// Names the MSEE that has no such route.
pub fn msees_have_learned(lab: &Lab) -> Result<String> {
    let begin = Instant::now();
    for link in [plan::PRIMARY, plan::SECONDARY] {
        for (family, network, edge) in
            [("-4", plan::CUSTOMER_IPV4, link.ipv4.0), ("-6", plan::CUSTOMER_IPV6, link.ipv6.0)]
        {
            super::until(lab.ground().patience(PATIENCE), || {
                let route = lab.namespace(link.far.0)?.ip(&format!("{family} route show {network}"))?;
                if !route.contains(&format!("via {edge} ")) {
                    bail!(
                        "{} has no route to {network} by the edge ({edge}), but: {}",
                        link.far.0,
                        route.trim()
                    );
                }
                Ok(())
            })?;
        }
    }
    Ok(format!(
        "both MSEEs route the customer's networks by the edge (waited {:.1} s)",
        begin.elapsed().as_secs_f32()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(state: &str, received: u64, advertised: u64) -> Session {
        Session {
            peer: "198.18.0.2".into(),
            asn: 12076,
            state: state.into(),
            received,
            refused: 0,
            advertised,
            sessions: 1,
            last_error: None,
        }
    }

    #[test]
    fn a_session_is_missed_until_it_is_established_and_has_exchanged_everything() {
        let row =
            Expected { peer: "198.18.0.2", asn: 12076, name: "primary MSEE", received: 10, advertised: 2 };
        let rows = [
            (vec![], true),
            (vec![session("Active", 10, 2)], true),
            (vec![session("Established", 9, 2)], true),
            (vec![session("Established", 10, 1)], true),
            (vec![session("Established", 11, 2)], true),
            (vec![Session { asn: 65020, ..session("Established", 10, 2) }], true),
            (vec![session("Established", 10, 2)], false),
            (vec![Session { refused: 2, ..session("Established", 12, 2) }], false),
            (vec![Session { refused: 2, ..session("Established", 10, 2) }], true),
        ];
        for (sessions, is_missing) in rows {
            assert_eq!(missing(&row, &sessions).is_some(), is_missing, "{sessions:?}");
        }
    }
}
