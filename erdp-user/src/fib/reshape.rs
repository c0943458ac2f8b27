//! Another configuration for the same attachments, while packets flow.
//!
//! A routing table whose policy is new is filled beside the one in use; then each attachment is pointed at its own by one record, and a
//! packet sees the old table or the new one, whole. The tables that nobody uses any more are emptied afterwards and taken for
//! the next policy. Where something finds no room, everything is as it was.

use std::sync::Arc;

use ipnet::IpNet;

use super::{
    AttachmentFacts, AttachmentId, FibError, Forwarding, NextHopKey, Policy, Target, Topology, View, group,
    shares::members_of,
};
use crate::dataplane::{Dataplane, Record};
use erdp_common::{abi::GROUP_MEMBERS, fib::build::PoolFull};

impl Forwarding {
    /// Takes new facts of all attachments: identifiers, interfaces, tags and addresses are the same as before.
    pub fn reshape(
        &mut self,
        attachments: Vec<AttachmentFacts>,
        now_ns: u64,
        dataplane: &mut dyn Dataplane,
    ) -> Result<(), FibError> {
        let new = self.topology.with(attachments);
        let before = std::mem::replace(&mut self.topology, new);
        if let Err(error) = self.take_shape(&before, now_ns, dataplane) {
            let refused = std::mem::replace(&mut self.topology, before);
            // What was there found room before; the tables that were made for the new policies are emptied.
            self.take_shape(&refused, now_ns, dataplane)?;
            return Err(error);
        }
        Ok(())
    }

    fn take_shape(
        &mut self,
        before: &Topology,
        now_ns: u64,
        dataplane: &mut dyn Dataplane,
    ) -> Result<(), FibError> {
        self.has_guards = self.topology.attachments().any(|facts| !facts.encrypted_only.is_empty());
        self.leave_homes();
        self.connect_again(before, now_ns, dataplane)?;
        for policy in self.topology.views() {
            if !self.views.iter().any(|view| view.policy == policy) {
                self.add_view(policy, now_ns, dataplane)?;
            }
        }
        if guards(before) != guards(&self.topology) {
            // Those that could not go in clear before have routes of their own in every view.
            let mut prefixes = self.prefixes();
            prefixes.extend(guards(before).into_iter().flat_map(|(_, prefixes)| prefixes));
            let views = 0..self.views.len();
            let all: Vec<_> =
                views.flat_map(|view| prefixes.iter().map(move |prefix| (view, *prefix))).collect();
            self.install(all, now_ns, dataplane)?;
            self.guard(now_ns, dataplane)?;
        }
        self.weigh_again(before, dataplane)?;
        self.write_attachments(dataplane)?;
        for id in self.topology.attachments().map(|facts| facts.id).collect::<Vec<_>>() {
            self.write_next_hops(id, dataplane)?;
        }
        self.empty_unused(now_ns, dataplane)?;
        self.find_homes();
        Ok(())
    }

    /// Every prefix that any domain says something about, and those that must not go in clear.
    fn prefixes(&self) -> Vec<IpNet> {
        let mut prefixes: Vec<IpNet> = (0..self.said.len()).flat_map(|domain| self.said_of(domain)).collect();
        prefixes.extend(self.topology.attachments().flat_map(|facts| facts.encrypted_only.iter().copied()));
        prefixes.sort_unstable();
        prefixes.dedup();
        prefixes
    }

    /// A table of its own for a policy, with its routes: one that nobody uses, or a new one.
    fn add_view(
        &mut self,
        policy: Policy,
        now_ns: u64,
        dataplane: &mut dyn Dataplane,
    ) -> Result<(), FibError> {
        let view = match self.views.iter().position(|view| view.policy == Policy::default()) {
            Some(view) => {
                self.views[view].policy = policy;
                view
            }
            None => {
                let full = |full: PoolFull| FibError::PoolFull {
                    prefix: IpNet::default(),
                    needed: full.needed,
                    capacity: full.capacity,
                };
                let table4 = self.fib.create_table().map_err(full)?;
                let table6 = self.fib.create_table().map_err(full)?;
                self.views.push(View { policy, refusals: Default::default(), table4, table6 });
                self.views.len() - 1
            }
        };
        let all = self.prefixes().into_iter().map(|prefix| (view, prefix));
        self.install(all.collect::<Vec<_>>(), now_ns, dataplane)
    }

    /// Tables whose policy no attachment has lose it, and their routes.
    fn empty_unused(&mut self, now_ns: u64, dataplane: &mut dyn Dataplane) -> Result<(), FibError> {
        let used = self.topology.views();
        for view in 0..self.views.len() {
            if self.views[view].policy == Policy::default() || used.contains(&self.views[view].policy) {
                continue;
            }
            self.views[view].policy = Policy::default();
            let gone: Vec<_> = self.prefixes().into_iter().map(|prefix| (view, prefix)).collect();
            self.install(gone, now_ns, dataplane)?;
        }
        Ok(())
    }

    /// Connected subnets and hosts of attachments that list other domains than before.
    fn connect_again(
        &mut self,
        before: &Topology,
        now_ns: u64,
        dataplane: &mut dyn Dataplane,
    ) -> Result<(), FibError> {
        let mut routes = Vec::new();
        for facts in self.topology.attachments().filter(|facts| facts.has_hosts()) {
            let Some(old) = before.attachment(facts.id) else { continue };
            let is_on_link = |key: &&NextHopKey| {
                key.attachment == facts.id && facts.subnets.iter().any(|subnet| subnet.contains(&key.address))
            };
            let hosts: Vec<NextHopKey> = self.macs.keys().filter(is_on_link).copied().collect();
            let gone = old.domains.iter().filter(|domain| !facts.domains.contains(domain));
            let come = facts.domains.iter().filter(|domain| !old.domains.contains(domain));
            for (domain, is_there) in gone.map(|it| (*it, false)).chain(come.map(|it| (*it, true))) {
                let there = |target| is_there.then(|| Arc::new(target));
                routes.extend(facts.subnets.iter().map(|net| (domain, *net, there(Target::Glean(facts.id)))));
                let host = |key: &NextHopKey| {
                    (domain, IpNet::from(key.address), there(Target::Forward([*key].into())))
                };
                routes.extend(hosts.iter().map(host));
            }
        }
        self.routes(routes, now_ns, dataplane)
    }

    /// The groups with members whose weight has changed: as few flows move as can be.
    fn weigh_again(&mut self, before: &Topology, dataplane: &mut dyn Dataplane) -> Result<(), FibError> {
        let weight = |topology: &Topology, id| topology.attachment(id).map(|facts| facts.weight);
        let is_changed =
            |key: &NextHopKey| weight(before, key.attachment) != weight(&self.topology, key.attachment);
        let mut records = Vec::new();
        for (target, id) in self.groups.iter() {
            if !target.members().any(|(key, _)| is_changed(&key)) {
                continue;
            }
            let member = |(key, share)| Some((self.next_hops.get(&key)? as u16, self.weight(key, share)));
            let members: Vec<(u16, u32)> = target.members().take(GROUP_MEMBERS).filter_map(member).collect();
            records.push((id, group(target, &members_of(&members), self.written.get(&id))));
        }
        for (id, record) in records {
            dataplane.write(&Record::Group(id, record))?;
            self.written.insert(id, record);
        }
        Ok(())
    }
}

/// What must not go in clear, and where it may go.
fn guards(topology: &Topology) -> Vec<(AttachmentId, Vec<IpNet>)> {
    let guards = topology.attachments().map(|facts| (facts.id, facts.encrypted_only.clone()));
    guards.filter(|(_, prefixes)| !prefixes.is_empty()).collect()
}
