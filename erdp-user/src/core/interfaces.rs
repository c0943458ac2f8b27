//! Interfaces of the configuration that are not as it wants them: each is a state with a reason, and everything else goes on.
//!
//! One that is not there at the start, or goes while the router runs, is in no map; its sessions wait as for a carrier. When it is there
//! again, `erdp config apply` (with it `systemctl reload erdp`) and every new start take it into use: an apply has a successor started
//! (`controller::successor`), which sets up what is there by the code of every start and takes sessions, routes and the program over.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Core;
use crate::{
    dataplane::Dataplane,
    events::Kind,
    kernel::{KernelEvent, Link},
};

/// What is wrong with an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// It was not there at the start, and is not now.
    Missing,
    /// It was there and is gone.
    Gone,
    /// It is there now, and was not, or has gone and come back: it is not in use.
    Unused,
    /// It has this name now.
    Renamed(String),
    /// It is administratively down.
    Down,
}

/// What is known of an interface of the configuration.
#[derive(Clone, Copy, Debug)]
struct Known<'a> {
    /// Its name in the configuration.
    name: &'a str,
    /// Whether it was there at the start.
    was_there: bool,
    /// The link that is in use; `None`: none is.
    link: Option<&'a Link>,
    /// Whether some interface has its name now.
    is_named: bool,
}

impl Known<'_> {
    fn fault(&self) -> Option<Fault> {
        match (self.link, self.was_there) {
            (Some(link), _) if link.name != self.name => Some(Fault::Renamed(link.name.clone())),
            (Some(link), _) if !link.admin_up => Some(Fault::Down),
            (Some(_), _) => None,
            (None, _) if self.is_named => Some(Fault::Unused),
            (None, true) => Some(Fault::Gone),
            (None, false) => Some(Fault::Missing),
        }
    }
}

impl Fault {
    /// Whether nothing can pass for want of an interface.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(self, Self::Missing | Self::Gone | Self::Unused)
    }

    /// The word for it.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Gone => "gone",
            Self::Unused => "unused",
            Self::Renamed(_) => "renamed",
            Self::Down => "down",
        }
    }

    /// What it is and what to do.
    pub(crate) fn sentence(&self, name: &str) -> String {
        match self {
            Self::Missing => format!(
                "interface {name} was not there at the start, the rest runs: create it, then `systemctl reload erdp` takes it into use"
            ),
            Self::Gone => format!(
                "interface {name} is gone, the rest runs: when it is there again, `systemctl reload erdp` takes it into use"
            ),
            Self::Unused => format!(
                "interface {name} is there again and not in use: `systemctl reload erdp` (or `erdp restart`) takes it into use"
            ),
            Self::Renamed(now) => format!(
                "interface {name} is called {now} now: rename it back, or correct the configuration and restart erdp; until then it \
                 forwards, and sessions over it do not begin anew"
            ),
            Self::Down => format!("interface {name} is administratively down: ip link set {name} up"),
        }
    }
}

/// Interfaces that have been found to be there and not in use: said once each.
#[derive(Debug, Default)]
pub(crate) struct Announced(BTreeSet<u32>);

impl<D: Dataplane> Core<D> {
    /// The index of an interface by its name in the configuration; `None`: it was not there at the start.
    pub(crate) fn ifindex_of(&self, interface: &str) -> Option<u32> {
        let mut all = self.forwarding.topology().attachments();
        all.find(|facts| facts.interface == interface).map(|facts| facts.ifindex).filter(|it| *it != 0)
    }

    /// Whether an interface is there and in use.
    pub(crate) fn is_in_use(&self, interface: &str) -> bool {
        self.ifindex_of(interface).is_some_and(|ifindex| self.forwarding.topology().has(ifindex))
    }

    /// What is wrong with an interface of the configuration, where some interface has its name now or none has.
    pub(crate) fn interface_fault(&self, interface: &str, is_named: bool) -> Option<Fault> {
        let ifindex = self.ifindex_of(interface);
        let in_use = ifindex.filter(|ifindex| self.forwarding.topology().has(*ifindex));
        let known = Known {
            name: interface,
            was_there: ifindex.is_some(),
            link: in_use.and_then(|ifindex| self.links.get(&ifindex)),
            is_named,
        };
        // The kernel has not reported it yet.
        if in_use.is_some() && known.link.is_none() {
            return None;
        }
        known.fault()
    }

    /// Every interface of the configuration, and whether it is there and in use.
    pub(crate) fn presence(&self) -> BTreeMap<&str, bool> {
        let names = self.attachments.iter().map(|attachment| attachment.interface.as_str());
        names.map(|name| (name, self.is_in_use(name))).collect()
    }

    /// An interface has gone, or an end of a control port: the rest goes on.
    pub(crate) fn on_gone(&mut self, ifindex: u32) {
        self.announced.0.remove(&ifindex);
        let topology = self.forwarding.topology();
        let is_ours = topology.attachments().any(|facts| facts.ifindex == ifindex);
        let control = topology.attachments().find(|facts| {
            facts.control.as_ref().is_some_and(|it| it.ifindex == ifindex || it.outer == ifindex)
        });
        if let Some(facts) = control.filter(|_| topology.has(ifindex)) {
            tracing::error!(
                attachment = facts.name,
                "its control port is gone, and with it the kernel's way there; `erdp restart` makes it anew"
            );
        }
        if !is_ours && control.is_none() || !topology.has(ifindex) {
            return;
        }
        if let Some(link) = self.links.remove(&ifindex) {
            tracing::error!(
                interface = link.name,
                "the interface is gone, the rest goes on; when it is there again, `systemctl reload erdp` takes it into use"
            );
            self.note(Kind::Link, &link.name, "gone", Some("the interface was removed from this namespace"));
        }
        self.log_failure(|it| it.forwarding.interface_gone(ifindex, &mut it.dataplane));
        if is_ours {
            self.rank_link(ifindex, false);
            self.redundancy.handle_gone(ifindex, self.now);
        }
    }

    /// Interfaces that everything which is there does not name have gone unheard.
    pub(crate) fn note_absent(&mut self, facts: &[KernelEvent]) {
        let is_there = |ifindex: &u32| {
            facts.iter().any(|fact| matches!(fact, KernelEvent::Link(link) if link.ifindex == *ifindex))
        };
        let ports = self.forwarding.topology().ports().into_keys();
        let absent: Vec<u32> = ports.filter(|ifindex| !is_there(ifindex)).collect();
        absent.into_iter().for_each(|ifindex| self.on_gone(ifindex));
    }

    /// Whether a link is one that is in use. One that is not and has a name of the configuration is said to be there, once.
    pub(crate) fn is_link_in_use(&mut self, link: &Link) -> bool {
        let topology = self.forwarding.topology();
        if topology.link_of(link.ifindex).is_some() && topology.has(link.ifindex) {
            return true;
        }
        let is_wanted = self.attachments.iter().any(|it| it.interface == link.name);
        if is_wanted && !self.is_in_use(&link.name) && self.announced.0.insert(link.ifindex) {
            tracing::warn!("{}", Fault::Unused.sentence(&link.name));
        }
        false
    }

    /// Says that an interface in use has another name than before.
    pub(crate) fn note_name(&self, before: Option<&Link>, link: &Link) {
        if before.is_none_or(|before| before.name == link.name) {
            return;
        }
        let configured =
            self.forwarding.topology().interfaces().get(&link.ifindex).copied().unwrap_or_default();
        if configured == link.name {
            tracing::info!(interface = link.name, "the interface has its name again");
        } else {
            tracing::warn!("{}", Fault::Renamed(link.name.clone()).sentence(configured));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, admin_up: bool) -> Link {
        Link { ifindex: 7, name: name.into(), admin_up, carrier: true, mtu: 1500, mac: [2; 6] }
    }

    /// Whether it was there at the start, the link in use, whether something has its name now; the state and words about it.
    type Row<'a> = (bool, Option<&'a Link>, bool, Option<(&'static str, &'static str)>);

    #[test]
    fn an_interface_that_is_not_as_configured_is_a_state_with_a_reason_and_a_remedy() {
        let (up, down, other) = (link("eth1", true), link("eth1", false), link("lan0", true));
        let rows: [Row<'_>; 8] = [
            (true, Some(&up), true, None),
            (true, Some(&down), true, Some(("down", "ip link set eth1 up"))),
            (true, Some(&other), false, Some(("renamed", "is called lan0 now"))),
            // Something else has taken its name: what is in use is still the other one.
            (true, Some(&other), true, Some(("renamed", "rename it back"))),
            (true, None, false, Some(("gone", "when it is there again"))),
            (true, None, true, Some(("unused", "systemctl reload erdp"))),
            (false, None, false, Some(("missing", "create it"))),
            (false, None, true, Some(("unused", "systemctl reload erdp"))),
        ];
        for (was_there, link, is_named, expected) in rows {
            let fault = Known { name: "eth1", was_there, link, is_named }.fault();
            assert_eq!(fault.as_ref().map(Fault::as_str), expected.map(|it| it.0));
            if let (Some(fault), Some((_, words))) = (fault, expected) {
                let said = fault.sentence("eth1");
                assert!(said.contains("eth1") && said.contains(words), "{said}");
                assert_eq!(fault.is_absence(), link.is_none(), "{said}");
            }
        }
    }
}
