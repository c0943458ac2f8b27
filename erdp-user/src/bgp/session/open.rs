//! Whether an OPEN is acceptable, and what follows from both OPENs together.
//!
//! RFC 4271 section 6.2 (each refusal has its subcode), RFC 6286 (identifiers), RFC 5492 section 5 (unsupported capability), RFC 4760
//! section 8 (families are what both sides name), RFC 6793, RFC 4724 and 8538 (graceful restart), RFC 9234 (roles), RFC 8654,
//! RFC 7911 (several paths, towards us only). The sentence that goes with a refusal is for the operator of this side.

use std::net::IpAddr;
use std::time::Duration;

use super::super::wire::{Context, Open};
use super::super::{AddPath, Family, GracefulRestart, Notification, PeerConfig, Role, Seconds, SessionFacts};

/// What two OPENs lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub facts: SessionFacts,
    pub context: Context,
    /// Between two keepalives, before jitter; `None` when the hold time is 0.
    pub keepalive: Option<Duration>,
}

/// Why an OPEN is refused: the sentence for our operator and what the peer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub detail: String,
    pub notification: Notification,
}

/// The OPEN we send.
pub(super) fn ours(config: &PeerConfig) -> Open {
    Open {
        asn: config.local_asn,
        hold: config.hold,
        router_id: config.router_id,
        families: config.families.clone(),
        four_octet_asn: true,
        route_refresh: true,
        enhanced_refresh: true,
        extended_messages: true,
        restart: Some(our_restart(config)),
        roles: config.role.filter(|_| !config.is_internal()).map(Role::code).into_iter().collect(),
        add_path: config
            .families
            .iter()
            .filter(|_| config.add_path)
            .map(|family| (*family, AddPath::Receive))
            .collect(),
    }
}

/// With a restart time of 0 only End-of-RIB is offered (RFC 4724 section 3: no family, nothing promised).
fn our_restart(config: &PeerConfig) -> GracefulRestart {
    let helps = config.restart_time.0 > 0;
    let families = config.families.iter().map(|family| (*family, config.forwarding_preserved));
    GracefulRestart {
        restarting: config.restarting,
        notification: helps,
        time: config.restart_time.min(GracefulRestart::TIME_MAX),
        families: families.filter(|_| helps).collect(),
    }
}

/// Judges the peer's OPEN and negotiates.
pub(super) fn negotiate(config: &PeerConfig, open: &Open, local: IpAddr) -> Result<Agreed, Refusal> {
    let refuse = |subcode, detail: String| Refusal { detail, notification: Notification::new(2, subcode) };
    if open.asn != config.remote_asn {
        return Err(refuse(
            2,
            format!(
                "it says it is {}, configured is {}: correct the remote AS here or the local AS there",
                open.asn, config.remote_asn
            ),
        ));
    }
    if open.router_id.is_unspecified() {
        return Err(refuse(3, "its BGP identifier is 0.0.0.0: give the peer a router identifier".to_owned()));
    }
    // RFC 6286 section 2.2: identifiers are unique within an AS only.
    if open.router_id == config.router_id && config.is_internal() {
        let detail = format!("it has our BGP identifier {}: give one of the two another", open.router_id);
        return Err(refuse(3, detail));
    }
    if matches!(open.hold.0, 1 | 2) {
        let detail = format!("it proposes a hold time of {}: 3 s is the minimum, or 0 for none", open.hold);
        return Err(refuse(6, detail));
    }
    judge_role(config, &open.roles).map_err(|detail| refuse(11, detail))?;
    let families: Vec<Family> =
        config.families.iter().copied().filter(|family| open.families.contains(family)).collect();
    if families.is_empty() {
        let mut refusal =
            refuse(7, "it offers none of our address families: enable the same ones on both sides".into());
        refusal.notification.data = config.families.iter().flat_map(|&family| capability(family)).collect();
        return Err(refusal);
    }
    Ok(agree(config, open, families, local))
}

/// RFC 9234 section 4.2: roles must fit, and where the peer names several they must be one.
fn judge_role(config: &PeerConfig, theirs: &[u8]) -> Result<(), String> {
    let Some(ours) = config.role.filter(|_| !config.is_internal()) else { return Ok(()) };
    let name = |code: u8| Role::from_code(code).map_or("an unknown role", Role::as_str);
    match theirs {
        [] if config.role_strict => Err(format!(
            "it tells no role, and strict-role wants one: configure it as {} there",
            ours.counterpart().as_str()
        )),
        [] => Ok(()),
        [first, rest @ ..] if rest.iter().any(|other| other != first) => {
            Err("it names several roles (RFC 9234 section 4.2): its implementation is at fault".to_owned())
        }
        [code, ..] if *code == ours.counterpart().code() => Ok(()),
        [code, ..] => Err(format!(
            "it is {} and we are {}: it must be {}, correct `role` on one side",
            name(*code),
            ours.as_str(),
            ours.counterpart().as_str()
        )),
    }
}

fn agree(config: &PeerConfig, open: &Open, families: Vec<Family>, local: IpAddr) -> Agreed {
    let hold = Seconds(config.hold.0.min(open.hold.0));
    let helps = config.restart_time.0 > 0;
    let own: Vec<IpAddr> = std::iter::once(local).chain(config.other_next_hop).collect();
    let told_in = |family: &Family| open.add_path.iter().any(|(of, mode)| of == family && mode.sends());
    let add_path = families.iter().copied().filter(|family| config.add_path && told_in(family)).collect();
    let facts = SessionFacts {
        // Counted when it becomes Established.
        session: 0,
        router_id: open.router_id,
        asn: open.asn,
        internal: config.is_internal(),
        families,
        hold,
        local,
        next_hop_v4: own
            .iter()
            .find_map(|address| if let IpAddr::V4(v4) = address { Some(*v4) } else { None }),
        next_hop_v6: own
            .iter()
            .find_map(|address| if let IpAddr::V6(v6) = address { Some(*v6) } else { None }),
        four_octet_asn: open.four_octet_asn,
        route_refresh: open.route_refresh,
        enhanced_refresh: open.enhanced_refresh,
        extended_messages: open.extended_messages,
        end_of_rib: open.restart.is_some(),
        notification_restart: helps && open.restart.as_ref().is_some_and(|restart| restart.notification),
        restart: open.restart.clone().filter(|_| helps),
        add_path,
        role: config.role.filter(|_| !open.roles.is_empty() && !config.is_internal()),
    };
    let context = Context::of(&facts);
    // RFC 4271 section 4.4: a third of the hold time is a reasonable maximum between keepalives.
    let keepalive = (hold.0 > 0).then(|| hold.duration() / 3);
    Agreed { facts, context, keepalive }
}

/// The multiprotocol capability as it would stand in an OPEN (RFC 5492 section 5: what was missed is listed).
fn capability(family: Family) -> [u8; 6] {
    let afi = match family {
        Family::Ipv4Unicast => 1,
        Family::Ipv6Unicast => 2,
    };
    [1, 4, 0, afi, 0, 1]
}
