//! The next step for a state that is not good: what an operator does, or looks at, to have it good again. Pure: from a row of the daemon's answer to a sentence.

use serde_json::Value;

use super::values::{number, text};

/// What to do about a session that is not Established.
pub fn session(row: &Value) -> String {
    let (peer, admin, bfd) = (text(&row["peer"]), text(&row["admin"]), text(&row["bfd"]));
    let attachment = text(&row["attachment"]);
    if admin.starts_with("disabled") && admin.contains("(A8)") {
        return "check the circuit's provisioning state and `admin` in the configuration".into();
    }
    if admin.starts_with("disabled") || admin.starts_with("draining") {
        return format!("`erdp peering enable {peer}` puts it back in service");
    }
    if !matches!(bfd.as_str(), "-" | "Up" | "up") && text(&row["last_error"]).contains("BFD") {
        return "`erdp show bfd` says why the path is dead".into();
    }
    let state = text(&row["state"]);
    match state.as_str() {
        "OpenSent" | "OpenConfirm" => {
            "TCP is up and the peer has not agreed yet: wait for its answer, then compare AS numbers and capabilities".into()
        }
        _ if row["finding"].is_string() => format!("`erdp show links` says whether {attachment} has carrier and a neighbour"),
        _ => format!(
            "`erdp show links` (carrier, neighbour), `ping {peer}`; then compare both ends' addresses, AS numbers and MD5 keys; `erdp show \
             peer {peer}` has all that is known"
        ),
    }
}

/// What to do about a reason of a link ([`erdp::pair::Reason`]).
pub fn link(reason: &str, name: &str) -> Option<String> {
    let step = match reason {
        "disabled" => {
            "the circuit is not in use: `admin` in the configuration, and its provisioning state in Azure"
                .into()
        }
        "no-interface" => "create the interface, then `systemctl reload erdp`".into(),
        "no-carrier" => "look at the cable, the optics and the port at the other end".into(),
        "held-down" => {
            "the link flaps: look at cable and optics; it is used again by itself after it has been quiet"
                .into()
        }
        "peering-disabled" => {
            format!("`erdp peering enable {}` puts it back in service", name.replace(' ', "/"))
        }
        "drill" => "a drill is running: `erdp drill --stop` ends it".into(),
        "no-neighbour" => {
            "nobody answers ARP or neighbour discovery: compare VLAN tags and addresses with the provider's"
                .into()
        }
        "bfd-down" => {
            "`erdp show bfd` says why; the path behind the link is dead, or the peer's BFD is off".into()
        }
        "no-session" => "`erdp show sessions` says why".into(),
        "no-routes" => {
            "the session brings no route: `erdp show refused`, and a route filter in Azure (D6)".into()
        }
        "draining" => {
            "maintenance: nothing to do, traffic is on the other link; `erdp show peer` says whose it is"
                .into()
        }
        _ => return None,
    };
    Some(step)
}

/// What to do about a BFD session that is not up.
pub fn bfd(row: &Value) -> String {
    let peer = text(&row["peer"]);
    match (text(&row["remote_state"]).as_str(), text(&row["diagnostic"]).as_str()) {
        _ if row["detection_ms"].is_null() => {
            format!(
                "{peer} has never been heard: enable BFD on the peer, and compare addresses; single hop, UDP port 3784"
            )
        }
        ("AdminDown", _) => "the peer's operator has switched BFD off: ask there".into(),
        (_, "detection-time-expired") => {
            "the peer is not heard any more: `erdp show links`, then the path and the peer's load".into()
        }
        (_, "neighbour-signaled-down") => {
            "the peer does not hear us: look at the way there, and at filters on its side".into()
        }
        (_, "administratively-down") => {
            format!("an operator here has taken it down: `erdp peering enable {peer}`")
        }
        _ => "it comes up by itself when the peer answers; `erdp show sessions` says what BGP sees".into(),
    }
}

/// What to do about prefixes towards Microsoft that come near the limit, or beyond it.
pub fn limit(row: &Value) -> Option<String> {
    match number(&row["percent"]) {
        0..80 => None,
        80..=100 => Some("announce fewer or shorter prefixes before the limit is reached, or set when-full = \"aggregate\" (D1)".into()),
        _ => Some("some prefixes are held back: `erdp show refused` lists them; announce fewer, or set when-full = \"aggregate\" (D1)".into()),
    }
}
