//! What each domain says about each prefix, kept once: where a view has the routes of one domain and no others but refusals, its table
//! in the trie is that domain's word, and the view is the domain's *home*. Beside it stands only what is not in the table: what found no
//! room, and, while a batch is placed, what is in it (where there are zones; elsewhere the batch itself is asked). A domain without a home (each of its views has another domain's routes too, or some prefix must
//! not go in clear) keeps a map.
//!
//! A view is a home only while its policy is what it was when its table was filled: [`Forwarding::leave_homes`] comes before a change of
//! shape and [`Forwarding::find_homes`] after it.

use std::{net::IpAddr, sync::Arc};

use erdp_common::fib::build::Prefix;
use ipnet::IpNet;

use super::{Forwarding, Source, Target};
use crate::rib::PrefixMap;

/// A domain's new word on a prefix; `None`: it has no route.
pub(super) type Word = (usize, IpNet, Option<Arc<Target>>);

/// The word of one domain.
#[derive(Default)]
pub(super) struct Said {
    /// The view that has it.
    home: Option<usize>,
    /// What that view's table does not say; `None`: that there is no route, while the table has one.
    beside: PrefixMap<Option<Arc<Target>>>,
}

impl Forwarding {
    /// What a domain says about a prefix now.
    pub(super) fn said(&self, domain: usize, prefix: IpNet) -> Option<Arc<Target>> {
        let said = self.said.get(domain)?;
        match said.beside.get(&prefix) {
            Some(target) => target.clone(),
            None => {
                let home = said.home.filter(|home| !self.views[*home].refusals.contains(&prefix))?;
                self.groups.value(self.installed(home, prefix)?).cloned()
            }
        }
    }

    /// Every prefix that a domain says something about, some twice.
    pub(super) fn said_of(&self, domain: usize) -> Vec<IpNet> {
        let Some(said) = self.said.get(domain) else { return Vec::new() };
        let mut prefixes: Vec<IpNet> = said.beside.keys().collect();
        if let Some(home) = said.home {
            prefixes.extend(self.table(home).into_iter().map(|(prefix, _)| prefix));
        }
        prefixes
    }

    /// How much a domain says beside the trie.
    #[cfg(test)]
    pub(super) fn beside(&self, domain: usize) -> usize {
        self.said.get(domain).map_or(0, |said| said.beside.len())
    }

    /// The same where some of it is in a batch that is not placed yet.
    pub(super) fn said_now(&self, domain: usize, prefix: IpNet, news: &[Word]) -> Option<Arc<Target>> {
        match news.iter().find(|(of, about, _)| (*of, *about) == (domain, prefix)) {
            Some((_, _, target)) => target.clone(),
            None => self.said(domain, prefix),
        }
    }

    /// Notes what the batch itself will not be asked for: words of domains without a home, and, with zones, all, because what is said of
    /// one prefix matters for others there.
    pub(super) fn hear(&mut self, words: &[Word]) {
        let is_zoned = self.is_zoned();
        for (domain, prefix, target) in words {
            while self.said.len() <= *domain {
                self.said.push(Said { home: self.home_of(self.said.len()), ..Said::default() });
            }
            let said = &mut self.said[*domain];
            match (said.home, target) {
                (Some(_), _) if !is_zoned => {}
                (None, None) => drop(said.beside.remove(prefix)),
                _ => drop(said.beside.insert(prefix, target.clone())),
            }
        }
    }

    /// The batch is over: a word that has found its place in the domain's home is there, and another one stays beside it.
    pub(super) fn leave_word(&mut self, (domain, prefix, target): Word) {
        let Some(said) = self.said.get_mut(domain) else { return };
        let Some(home) = said.home else { return };
        if self.unplaced.is_empty() && said.beside.is_empty() {
            return;
        }
        if self.unplaced.contains(&(home, prefix)) {
            said.beside.insert(&prefix, target);
        } else {
            said.beside.remove(&prefix);
        }
    }

    /// What has found its place in the domain's home needs no other.
    pub(super) fn leave_to_trie(&mut self, domain: usize, prefix: IpNet) {
        if let Some(said) = self.said.get_mut(domain)
            && said.home.is_some_and(|home| !self.unplaced.contains(&(home, prefix)))
        {
            said.beside.remove(&prefix);
        }
    }

    /// Takes down what only the tables of views say that will not be homes any more.
    pub(super) fn leave_homes(&mut self) {
        let policies = self.topology.views();
        for domain in 0..self.said.len() {
            let Some(home) = self.said[domain].home else { continue };
            if !self.has_guards && policies.contains(&self.views[home].policy) {
                continue;
            }
            for (prefix, group) in self.table(home) {
                let target = self.groups.value(group).cloned();
                let beside = &mut self.said[domain].beside;
                if beside.get(&prefix).is_none() {
                    beside.insert(&prefix, target);
                }
            }
            self.said[domain].home = None;
            self.forget_denials(domain);
        }
    }

    /// Finds a home for each domain that has none, and leaves to it what it has.
    pub(super) fn find_homes(&mut self) {
        for domain in 0..self.said.len() {
            if self.said[domain].home.is_some() {
                continue;
            }
            self.said[domain].home = self.home_of(domain);
            let prefixes: Vec<IpNet> = self.said[domain].beside.keys().collect();
            prefixes.into_iter().for_each(|prefix| self.leave_to_trie(domain, prefix));
        }
    }

    /// A view that has all routes of a domain and no others but refusals.
    fn home_of(&self, domain: usize) -> Option<usize> {
        if self.has_guards {
            return None;
        }
        self.views.iter().position(|view| view.policy.sources == [Source::Domain(domain)])
    }

    /// Without a table that says otherwise, there is no need to say that there is no route.
    fn forget_denials(&mut self, domain: usize) {
        let beside = &mut self.said[domain].beside;
        let denied: Vec<IpNet> =
            beside.iter().filter(|(_, target)| target.is_none()).map(|(prefix, _)| prefix).collect();
        denied.iter().for_each(|prefix| drop(beside.remove(prefix)));
    }

    /// The routes of a view, with their groups; refusals are none.
    fn table(&self, view: usize) -> Vec<(IpNet, u32)> {
        let Some(view) = self.views.get(view) else { return Vec::new() };
        let v4 = self.fib.routes(&view.table4).into_iter();
        let v6 = self.fib.routes(&view.table6).into_iter();
        let v4 = v4.filter_map(|(prefix, group)| Some((net(prefix, true)?, group)));
        let all = v4.chain(v6.filter_map(|(prefix, group)| Some((net(prefix, false)?, group))));
        all.filter(|(prefix, _)| !view.refusals.contains(prefix)).collect()
    }
}

/// A prefix of the trie as everybody else has it; none that was not put in is ever invalid.
fn net(prefix: Prefix, is_ipv4: bool) -> Option<IpNet> {
    let address = match is_ipv4 {
        true => IpAddr::V4(((prefix.bits() >> 96) as u32).into()),
        false => IpAddr::V6(prefix.bits().into()),
    };
    IpNet::new(address, prefix.length()).ok()
}
