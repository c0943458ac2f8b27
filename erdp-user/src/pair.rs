//! A circuit's two links as a pair (requirements B1, B2, B7): which of them may carry traffic and why not, what that makes of the pair,
//! and how long a link that flaps is left alone. Pure: facts and time come in as arguments.
//!
//! What is judged here is enforced where packets and routes are: a dead carrier, a dead BFD session and an unresolved neighbour by the
//! next-hop group; a session that is down and routes that are drained by the RIB, which has no such path or a longer one. A link that
//! flaps is enforced by the link's own word: [`Damper`] says when it may be alive again.

use std::time::Duration;

use serde::Serialize;

/// What is known of a session over a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionFacts {
    /// Its neighbour's MAC address is known.
    pub is_resolved: bool,
    /// `None`: without BFD, or BFD that has never been up and is not waited for.
    pub bfd_is_up: Option<bool>,
    /// BGP is established.
    pub is_established: bool,
    /// Routes that the peer announces and policy accepts.
    pub routes: usize,
    /// The peer asks to be spared: it prepends its AS eight times (B7).
    pub is_draining: bool,
    /// It was taken out of use here (B6): [`Reason::PeeringDisabled`], [`Reason::Drill`] or [`Reason::Draining`].
    pub out_of_use: Option<Reason>,
}

/// What is known of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFacts {
    /// The circuit is enabled.
    pub is_enabled: bool,
    /// It ends on another box; the sessions are those with that box, if there are any, and nothing more is known here.
    pub is_elsewhere: bool,
    /// Its interface is not there.
    pub is_missing: bool,
    /// The interface has its carrier.
    pub has_carrier: bool,
    /// It has it again, and is held down because it flaps.
    pub is_held_down: bool,
    /// The sessions over it.
    pub sessions: Vec<SessionFacts>,
}

/// Why a link, or a part of it, carries nothing; in the order in which it is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The circuit is disabled.
    Disabled,
    /// Its interface is not there.
    NoInterface,
    /// No carrier.
    NoCarrier,
    /// It flaps, and is held down.
    HeldDown,
    /// An operator has taken a peering down (B6).
    PeeringDisabled,
    /// A drill has taken it down (B6).
    Drill,
    /// A neighbour's MAC address is not known.
    NoNeighbour,
    /// BFD says that the path is dead.
    BfdDown,
    /// A BGP session is not established.
    NoSession,
    /// A session is up and has no routes: the path behind it may be dead (B7).
    NoRoutes,
    /// The MSEE is being drained for maintenance (B7), or the peering here before it is taken down (B6).
    Draining,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 11] = [
        Self::Disabled,
        Self::NoInterface,
        Self::NoCarrier,
        Self::HeldDown,
        Self::PeeringDisabled,
        Self::Drill,
        Self::NoNeighbour,
        Self::BfdDown,
        Self::NoSession,
        Self::NoRoutes,
        Self::Draining,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::NoInterface => "no-interface",
            Self::NoCarrier => "no-carrier",
            Self::HeldDown => "held-down",
            Self::PeeringDisabled => "peering-disabled",
            Self::Drill => "drill",
            Self::NoNeighbour => "no-neighbour",
            Self::BfdDown => "bfd-down",
            Self::NoSession => "no-session",
            Self::NoRoutes => "no-routes",
            Self::Draining => "draining",
        }
    }
}

/// What a link is worth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// Some session may carry traffic over it.
    pub is_eligible: bool,
    /// All that is wrong, also where some of it works.
    pub reasons: Vec<Reason>,
}

impl LinkFacts {
    /// Nothing can be said of it here.
    pub fn is_unknown(&self) -> bool {
        self.is_elsewhere && self.sessions.is_empty()
    }
}

/// Judges a link. One that ends elsewhere is judged there; here by what its box tells of Microsoft's routes, if it is asked (B1a).
pub fn judge(link: &LinkFacts) -> Judgement {
    if link.is_unknown() {
        return Judgement { is_eligible: true, reasons: Vec::new() };
    }
    let mut reasons: Vec<Reason> = of_link(link).collect();
    let is_usable = reasons.is_empty();
    let of_sessions: Vec<Option<Reason>> = link.sessions.iter().map(first_reason).collect();
    let is_eligible = is_usable && of_sessions.iter().any(Option::is_none);
    if is_usable {
        reasons.extend(of_sessions.into_iter().flatten());
        reasons.sort_unstable();
        reasons.dedup();
    }
    Judgement { is_eligible, reasons }
}

fn of_link(link: &LinkFacts) -> impl Iterator<Item = Reason> {
    let reasons = [
        (!link.is_enabled, Reason::Disabled),
        (link.is_missing, Reason::NoInterface),
        (!link.has_carrier && !link.is_elsewhere && !link.is_missing, Reason::NoCarrier),
        (link.is_held_down, Reason::HeldDown),
    ];
    reasons.into_iter().filter_map(|(is, reason)| is.then_some(reason))
}

/// Whether a link that flaps may be left alone: the pair's other one carries the traffic meanwhile. What ends on another box is not known
/// well enough; without BGP (the kernel's routes) the link itself has to do.
pub fn may_be_left_alone(other: &LinkFacts) -> bool {
    let carries =
        if other.sessions.is_empty() { of_link(other).next().is_none() } else { judge(other).is_eligible };
    carries && !other.is_elsewhere
}

/// Why a session over a link carries nothing; `None`: it does.
pub fn why_not(link: &LinkFacts, session: &SessionFacts) -> Option<Reason> {
    of_link(link).next().or_else(|| first_reason(session))
}

fn first_reason(session: &SessionFacts) -> Option<Reason> {
    let SessionFacts { is_resolved, bfd_is_up, is_established, routes, is_draining, out_of_use } = *session;
    if out_of_use.is_some() {
        return out_of_use;
    }
    [
        (!is_resolved, Reason::NoNeighbour),
        (bfd_is_up == Some(false), Reason::BfdDown),
        (!is_established, Reason::NoSession),
        (routes == 0, Reason::NoRoutes),
        (is_draining, Reason::Draining),
    ]
    .into_iter()
    .find_map(|(is, reason)| is.then_some(reason))
}

/// How many of the two links carry traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PairState {
    /// Both: active/active.
    Both,
    /// One.
    One,
    /// None.
    None,
}

/// A circuit's pair of links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// How many carry traffic.
    pub state: PairState,
    /// Whether Microsoft's 99.95 % hold (B1): two links, all sessions up.
    pub is_sla_valid: bool,
    /// Why, in words.
    pub why: &'static str,
}

/// Judges the pair.
pub fn pair(links: [&LinkFacts; 2]) -> Pair {
    let judged = links.map(judge);
    let eligible = judged.iter().filter(|link| link.is_eligible).count();
    let is_whole = judged.iter().all(|link| link.is_eligible && link.reasons.is_empty());
    let elsewhere = links.iter().any(|link| link.is_elsewhere);
    let unknown = links.iter().any(|link| link.is_unknown());
    let (state, is_sla_valid, why) = match (eligible, is_whole) {
        (2, true) if unknown => (PairState::Both, true, "this box's half: look at the other box too (B1a)"),
        (2, true) if elsewhere => {
            (PairState::Both, true, "both links carry traffic, each on a box of its own (B1a)")
        }
        (2, true) => {
            (PairState::Both, true, "both links carry traffic; one box is a single point of failure (B1a)")
        }
        (2, false) => {
            (PairState::Both, false, "both links carry traffic, and a session over one of them does not (B3)")
        }
        (1, _) => (PairState::One, false, "one link carries everything (B1)"),
        (_, _) => (PairState::None, false, "no link carries traffic (B1)"),
    };
    Pair { state, is_sla_valid, why }
}

/// How a link that flaps is left alone: the first losses cost nothing, then each doubles the time for which the link stays down after
/// it is back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damper {
    losses: u32,
    last: Option<Duration>,
    held_until: Option<Duration>,
}

impl Damper {
    /// Losses that cost nothing: an operator who moves a cable, a switch that restarts.
    const FREE: u32 = 2;
    const FIRST: Duration = Duration::from_secs(1);
    const MOST: Duration = Duration::from_secs(60);
    /// A link that has been quiet for so long is new again.
    const FORGOTTEN: Duration = Duration::from_secs(120);

    /// The link is lost.
    pub fn handle_loss(&mut self, now: Duration) {
        if self.last.is_some_and(|last| now.saturating_sub(last) > Self::FORGOTTEN) {
            self.losses = 0;
        }
        self.losses += 1;
        self.last = Some(now);
        self.held_until = None;
    }

    /// The link is back; the answer is whether it may be used at once.
    pub fn handle_return(&mut self, now: Duration) -> bool {
        let doublings = self.losses.saturating_sub(Self::FREE + 1).min(16);
        let hold = if self.losses > Self::FREE {
            (Self::FIRST * (1 << doublings)).min(Self::MOST)
        } else {
            Duration::ZERO
        };
        self.held_until = (!hold.is_zero()).then_some(now + hold);
        self.held_until.is_none()
    }

    /// Whether the hold has come to its end; true once.
    pub fn poll_release(&mut self, now: Duration) -> bool {
        self.held_until.take_if(|until| *until <= now).is_some()
    }

    /// Ends the hold: nothing else is left to carry the traffic.
    pub fn release(&mut self) -> bool {
        self.held_until.take().is_some()
    }

    /// Whether the link is back and held down.
    pub fn holds(&self) -> bool {
        self.held_until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: SessionFacts = SessionFacts {
        is_resolved: true,
        bfd_is_up: Some(true),
        is_established: true,
        routes: 10,
        is_draining: false,
        out_of_use: None,
    };

    fn link(sessions: &[SessionFacts]) -> LinkFacts {
        LinkFacts {
            is_enabled: true,
            is_elsewhere: false,
            is_missing: false,
            has_carrier: true,
            is_held_down: false,
            sessions: sessions.to_vec(),
        }
    }

    #[test]
    fn a_link_is_eligible_when_all_of_it_holds_and_each_lack_has_its_reason() {
        assert_eq!(judge(&link(&[GOOD, GOOD])), Judgement { is_eligible: true, reasons: vec![] });
        let without_bfd = SessionFacts { bfd_is_up: None, ..GOOD };
        assert!(judge(&link(&[without_bfd])).is_eligible);
        for (session, reason) in [
            (SessionFacts { is_resolved: false, ..GOOD }, Reason::NoNeighbour),
            (SessionFacts { bfd_is_up: Some(false), ..GOOD }, Reason::BfdDown),
            (SessionFacts { is_established: false, ..GOOD }, Reason::NoSession),
            (SessionFacts { routes: 0, ..GOOD }, Reason::NoRoutes),
            (SessionFacts { is_draining: true, ..GOOD }, Reason::Draining),
            (SessionFacts { out_of_use: Some(Reason::Drill), ..GOOD }, Reason::Drill),
            (SessionFacts { out_of_use: Some(Reason::PeeringDisabled), ..GOOD }, Reason::PeeringDisabled),
        ] {
            assert_eq!(judge(&link(&[session])), Judgement { is_eligible: false, reasons: vec![reason] });
            assert_eq!(
                judge(&link(&[GOOD, session])),
                Judgement { is_eligible: true, reasons: vec![reason] }
            );
        }
        for (bad, reason) in [
            (LinkFacts { is_enabled: false, ..link(&[GOOD]) }, Reason::Disabled),
            (LinkFacts { has_carrier: false, ..link(&[GOOD]) }, Reason::NoCarrier),
            (LinkFacts { is_missing: true, has_carrier: false, ..link(&[GOOD]) }, Reason::NoInterface),
            (LinkFacts { is_held_down: true, ..link(&[GOOD]) }, Reason::HeldDown),
        ] {
            assert_eq!(judge(&bad), Judgement { is_eligible: false, reasons: vec![reason] });
        }
    }

    #[test]
    fn a_pair_is_both_one_or_none_and_sla_valid_only_when_whole() {
        let good = link(&[GOOD]);
        let dead = link(&[SessionFacts::default()]);
        let half = link(&[GOOD, SessionFacts::default()]);
        let elsewhere = LinkFacts { is_elsewhere: true, has_carrier: false, ..link(&[]) };
        let of_box = |session| LinkFacts { is_elsewhere: true, has_carrier: false, ..link(&[session]) };
        let (told, silent) = (of_box(GOOD), of_box(SessionFacts { routes: 0, ..GOOD }));
        for (links, state, valid) in [
            ([&good, &good], PairState::Both, true),
            ([&good, &elsewhere], PairState::Both, true),
            ([&good, &half], PairState::Both, false),
            ([&good, &told], PairState::Both, true),
            ([&good, &silent], PairState::One, false),
            ([&dead, &told], PairState::One, false),
            ([&dead, &good], PairState::One, false),
            ([&dead, &elsewhere], PairState::One, false),
            ([&dead, &dead], PairState::None, false),
        ] {
            let pair = pair(links);
            assert_eq!((pair.state, pair.is_sla_valid), (state, valid), "{links:?}");
        }
        assert_eq!(judge(&silent).reasons, [Reason::NoRoutes]);
        assert!(pair([&good, &told]).why.contains("each on a box of its own"), "B1a");
    }

    #[test]
    fn a_link_is_left_alone_only_while_the_other_one_carries_traffic() {
        let elsewhere = LinkFacts { is_elsewhere: true, ..link(&[GOOD]) };
        for (other, may) in [
            (link(&[GOOD]), true),
            (link(&[GOOD, SessionFacts::default()]), true),
            (link(&[]), true),
            (LinkFacts { has_carrier: false, ..link(&[GOOD]) }, false),
            (LinkFacts { has_carrier: false, ..link(&[]) }, false),
            (LinkFacts { is_held_down: true, ..link(&[GOOD]) }, false),
            (link(&[SessionFacts { is_resolved: false, ..GOOD }]), false),
            (link(&[SessionFacts { bfd_is_up: Some(false), ..GOOD }]), false),
            (link(&[SessionFacts { is_established: false, ..GOOD }]), false),
            (link(&[SessionFacts { out_of_use: Some(Reason::Drill), ..GOOD }]), false),
            (elsewhere, false),
        ] {
            assert_eq!(may_be_left_alone(&other), may, "{other:?}");
        }
    }

    #[test]
    fn a_flapping_link_is_held_down_for_twice_as_long_each_time_and_forgiven_after_two_quiet_minutes() {
        let at = Duration::from_secs;
        let mut damper = Damper::default();
        let mut now = 0;
        for hold in [0, 0, 1, 2, 4, 8, 16, 32, 60, 60] {
            damper.handle_loss(at(now));
            assert_eq!(damper.handle_return(at(now)), hold == 0, "loss at {now}");
            if hold > 0 {
                assert!(damper.holds() && !damper.poll_release(at(now + hold) - Duration::from_millis(1)));
                assert!(damper.poll_release(at(now + hold)) && !damper.holds());
            }
            now += 70;
        }
        damper.handle_loss(at(now + 121));
        assert!(damper.handle_return(at(now + 121)), "it is new again");
    }

    #[test]
    fn a_loss_ends_a_hold_and_so_does_need() {
        let mut damper = Damper::default();
        for _ in 0..3 {
            damper.handle_loss(Duration::ZERO);
        }
        assert!(!damper.handle_return(Duration::ZERO));
        assert!(damper.release() && !damper.release());
        damper.handle_return(Duration::ZERO);
        damper.handle_loss(Duration::ZERO);
        assert!(!damper.holds());
    }
}
