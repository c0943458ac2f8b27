//! Interfaces of the configuration that are not as it wants them, for operators: what the core says of each, with what the kernel says of its
//! name now; and a successor that takes into use what is there again.

use std::collections::BTreeSet;

use super::Controller;
use crate::{config, core::InterfaceFault, kernel::interface_index};

impl Controller {
    /// What is wrong with an interface of the configuration.
    pub(super) fn interface_fault(&self, interface: &str) -> Option<InterfaceFault> {
        self.core.interface_fault(interface, interface_index(interface).is_some())
    }

    /// The word for it and the sentence about it, for `erdp show`.
    pub(super) fn show_fault(&self, interface: &str) -> (Option<&'static str>, Option<String>) {
        let fault = self.interface_fault(interface);
        (fault.as_ref().map(InterfaceFault::as_str), fault.map(|fault| fault.sentence(interface)))
    }

    /// The interfaces of attachments in use that are not there, a line each.
    pub(super) fn absent_interfaces(&self) -> String {
        let in_use = self.core.attachments.iter().filter(|attachment| self.core.config.is_in_use(attachment));
        let names: BTreeSet<&str> = in_use.map(|attachment| attachment.interface.as_str()).collect();
        let absent = names.into_iter().filter_map(|name| {
            self.interface_fault(name)
                .filter(InterfaceFault::is_absence)
                .map(|fault| fault.sentence(name) + "\n")
        });
        absent.collect()
    }

    /// Why a peer cannot be reached for want of an interface.
    pub(super) fn interface_finding(&self, peer: &config::Peer) -> Option<String> {
        let attachment = self.core.attachments.get(peer.attachment.index())?;
        let fault =
            self.interface_fault(&attachment.interface).filter(|fault| *fault != InterfaceFault::Down)?;
        Some(fault.sentence(&attachment.interface))
    }

    /// The interfaces that are there and not in use are taken into use by a successor; the answer is what to tell the operator.
    pub(super) fn take_into_use(&mut self) -> Option<String> {
        let unused =
            self.core.presence().into_iter().filter(|(_, is_in_use)| !is_in_use).map(|(name, _)| name);
        let unused: Vec<&str> =
            unused.filter(|name| self.interface_fault(name) == Some(InterfaceFault::Unused)).collect();
        if unused.is_empty() {
            return None;
        }
        let names = unused.join(", ");
        // It reads what runs from there.
        self.keep_at_once();
        Some(match self.start_successor() {
            Ok(process) => {
                format!("{names}: there again; process {process} takes over and takes it into use")
            }
            Err(why) => format!(
                "{names}: there again and not in use yet; {why}; afterwards `erdp restart` takes it into use"
            ),
        })
    }
}
