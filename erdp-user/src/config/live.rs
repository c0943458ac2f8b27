//! What becomes of the running router when one configuration takes the place of another: pure, so that it can be said beforehand.
//!
//! Most changes are carried out while packets flow and sessions stay: rates, zones, weights, filters, customers' peers. Some end
//! sessions, which are named. What is fixed when the program is loaded or an interface is taken (circuits, links, tags, addresses, sizes)
//! is refused with all the rest, and nothing is changed: a restart does it. A key that is new here and that nobody has thought about is
//! refused in the same way.

use serde::Serialize;

use super::CePeer;
use super::{Circuit, Config, Link, Peer, change::decrease, shown};

/// One value that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where, as in [`shown::values`].
    pub path: String,
    /// What it is; `None`: it is not there.
    pub from: Option<String>,
    /// What it is to be.
    pub to: Option<String>,
}

/// What an exchange of configurations means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Every value that differs, in the order of the file.
    pub differences: Vec<Difference>,
    /// Sessions that end and begin anew, by name.
    pub flaps: Vec<String>,
    /// Sessions that begin.
    pub added: Vec<String>,
    /// Sessions that end for good.
    pub removed: Vec<String>,
    /// Why it cannot be done while the router runs; empty: it can.
    pub refused: Vec<String>,
    /// Why it is done only by force: circuits would have less bandwidth (requirement A4).
    pub decreases: Vec<String>,
}

impl Plan {
    /// From the running configuration to another.
    pub fn between(running: &Config, new: &Config) -> Plan {
        let mut plan = Plan { differences: differences(running, new), ..Plan::default() };
        plan.refused = refusals(running, new);
        if !plan.refused.is_empty() {
            return plan;
        }
        let both = new.circuits.iter().filter_map(|circuit| {
            Some((running.circuits.iter().find(|it| it.name == circuit.name)?, circuit))
        });
        plan.decreases = both.filter_map(|(old, new)| decrease(old, new)).collect();
        let (before, after) = (running.peers(), new.peers());
        for peer in &after {
            match before.iter().find(|other| is_same(other, peer)) {
                None => plan.added.push(peer.name.clone()),
                Some(other) if flaps(other, peer) || is_shut(running, new, peer) => {
                    plan.flaps.push(peer.name.clone());
                }
                Some(_) => {}
            }
        }
        let gone = before.iter().filter(|peer| !after.iter().any(|other| is_same(peer, other)));
        plan.removed = gone.map(|peer| peer.name.clone()).collect();
        plan
    }

    /// Whether nothing would change, hidden keys included.
    pub fn is_empty(&self) -> bool {
        *self == Plan::default()
    }
}

/// Whether two peers are the same neighbour on the same attachment, whatever is agreed on with it.
pub fn is_same(one: &Peer, other: &Peer) -> bool {
    one.attachment == other.attachment && one.session.remote == other.session.remote
}

/// Whether the session has to begin anew: anything that is agreed on, or that its sockets have, differs.
pub fn flaps(one: &Peer, other: &Peer) -> bool {
    let mut alike = one.session.clone();
    alike.id = other.session.id;
    alike != other.session
}

/// Whether a session ends because no circuit of its attachment is in use any more (requirement A8).
fn is_shut(running: &Config, new: &Config, peer: &Peer) -> bool {
    let is_in_use = |config: &Config| {
        let attachments = config.attachments();
        let attachment = attachments.iter().find(|attachment| attachment.id == peer.attachment);
        attachment.is_some_and(|attachment| config.is_in_use(attachment))
    };
    is_in_use(running) && !is_in_use(new)
}

fn differences(running: &Config, new: &Config) -> Vec<Difference> {
    let (before, after) = (shown::values(running), shown::values(new));
    let mut list = Vec::new();
    for old in &before {
        let now = after.iter().find(|it| it.path == old.path).map(|it| it.value.clone());
        if now.as_ref() != Some(&old.value) {
            list.push(Difference { path: old.path.clone(), from: Some(old.value.clone()), to: now });
        }
    }
    for it in after.iter().filter(|it| !before.iter().any(|old| old.path == it.path)) {
        list.push(Difference { path: it.path.clone(), from: None, to: Some(it.value.clone()) });
    }
    list.extend(new.circuits.iter().filter_map(|new| {
        let old = running.circuits.iter().find(|it| it.name == new.name)?;
        hidden_difference(old, new)
    }));
    list
}

/// Of a service key only the end is shown, and two keys may have the same.
fn hidden_difference(old: &Circuit, new: &Circuit) -> Option<Difference> {
    let (from, to) = (old.inventory.service_key.as_ref()?, new.inventory.service_key.as_ref()?);
    let shown = (from.to_string(), to.to_string());
    (from != to && shown.0 == shown.1).then(|| Difference {
        path: format!("circuit.{}.inventory.service-key", new.name),
        from: Some(format!("{:?}", shown.0)),
        to: Some(format!("{:?} (another key with this end)", shown.1)),
    })
}

/// What needs a restart. Everything that is carried out live is made equal first; whatever differs then is not.
fn refusals(running: &Config, new: &Config) -> Vec<String> {
    let mut fixed = new.clone();
    (fixed.asn, fixed.router_id) = (running.asn, running.router_id);
    // About the next start only.
    fixed.require_interfaces = running.require_interfaces;
    fixed.control_orders.clone_from(&running.control_orders);
    fixed.policies.clone_from(&running.policies);
    // Without a zone rule there are no zones: which circuits and attachments there are is the frame of everything else.
    if fixed.circuits.len() == running.circuits.len() {
        for (fixed, old) in fixed.circuits.iter_mut().zip(&running.circuits) {
            keep_circuit(fixed, old);
        }
    }
    if fixed.attachments.len() == running.attachments.len() {
        for (fixed, old) in fixed.attachments.iter_mut().zip(&running.attachments) {
            // BFD sessions begin with the router.
            let bfd = |peers: &[CePeer]| -> Vec<_> {
                peers.iter().filter_map(|peer| Some((peer.address, peer.bfd?))).collect()
            };
            if bfd(&fixed.peers) == bfd(&old.peers) {
                fixed.peers.clone_from(&old.peers);
            }
            fixed.weight = old.weight;
            fixed.advertise_connected = old.advertise_connected;
            fixed.required = old.required;
            fixed.policy_in.clone_from(&old.policy_in);
            fixed.compares_circuits = old.compares_circuits;
            fixed.domains.clone_from(&old.domains);
            fixed.forbidden.clone_from(&old.forbidden);
            // That it leads to a service is fixed; where the service is and what it alone may carry is not.
            if fixed.service.is_some() == old.service.is_some() {
                fixed.service.clone_from(&old.service);
            }
        }
        fixed.chains.clone_from(&running.chains);
    }
    // BFD's sessions are numbered in the packet path at the start, in the order of the peers that have it.
    let with_bfd = |config: &Config| -> Vec<_> {
        let peers = config.peers().into_iter();
        peers.filter_map(|peer| Some((peer.attachment, peer.session.remote, peer.bfd?))).collect()
    };
    if with_bfd(running) != with_bfd(new) {
        let peers = "which peers have `bfd`, and what it says, is fixed while the router runs";
        return vec![format!("{peers}: restart erdp to change it (peers without `bfd` may come and go)")];
    }
    if fixed == *running {
        return Vec::new();
    }
    let named = differences(running, &fixed).into_iter().map(|difference| {
        let Difference { path, from, to } = difference;
        let shown = |value: Option<String>| value.unwrap_or_else(|| "(not there)".to_owned());
        format!(
            "{path} ({} to {}) is fixed while the router runs: restart erdp to change it",
            shown(from),
            shown(to)
        )
    });
    let mut named: Vec<String> = named.collect();
    if named.is_empty() {
        named.push(
            "something that is not shown is fixed while the router runs: restart erdp to change it"
                .to_owned(),
        );
    }
    named
}

/// Gives a circuit the old one's values of all that is changed live.
fn keep_circuit(fixed: &mut Circuit, old: &Circuit) {
    fixed.bandwidth = old.bandwidth;
    fixed.kind = old.kind;
    fixed.sku = old.sku;
    fixed.enabled = old.enabled;
    fixed.provisioning = old.provisioning;
    fixed.hairpin = old.hairpin;
    fixed.burst = old.burst;
    fixed.credit_ms = old.credit_ms;
    fixed.counts_wire_bytes = old.counts_wire_bytes;
    fixed.ecn = old.ecn;
    fixed.minimum_links = old.minimum_links;
    fixed.inventory.clone_from(&old.inventory);
    for (fixed, old) in [(&mut fixed.primary, &old.primary), (&mut fixed.secondary, &old.secondary)] {
        if let (Link::Local { required, .. }, Link::Local { required: before, .. }) = (fixed, old) {
            *required = *before;
        }
    }
    for (fixed, old) in [(&mut fixed.private, &old.private), (&mut fixed.microsoft, &old.microsoft)] {
        if let (Some(fixed), Some(old)) = (fixed, old) {
            fixed.classify_ports = old.classify_ports;
            fixed.peer_asn = old.peer_asn;
            fixed.hold = old.hold;
            fixed.md5.clone_from(&old.md5);
            fixed.passive = old.passive;
            fixed.forced_tunnel = old.forced_tunnel;
            fixed.options.clone_from(&old.options);
            fixed.limits.clone_from(&old.limits);
        }
    }
}
