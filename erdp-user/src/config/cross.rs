//! Rules between parts of the file. While it is parsed, every subnet and every logical interface is noted here with
//! its place; at the end each is compared with those before it, so that the later one is blamed.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::Policy;
use super::error::Fault;
use super::values::Tags;

/// What was noted, and the warnings gathered so far.
#[derive(Default)]
pub(super) struct Ledger {
    /// Where the text stands; keys of sessions may be in files beside it.
    pub file: PathBuf,
    subnets: Vec<Noted<IpNet>>,
    guarded: Vec<Noted<IpNet>>,
    interfaces: Vec<Noted<(String, Tags)>>,
    /// The policies of the file, and the names of those that are attached somewhere.
    pub policies: Vec<Policy>,
    pub attached: BTreeSet<String>,
    pub warnings: Vec<Fault>,
}

struct Noted<T> {
    what: T,
    at: Range<usize>,
    key: String,
}

impl Ledger {
    pub fn of(file: &Path) -> Self {
        Self { file: file.to_owned(), ..Self::default() }
    }

    pub fn warn(&mut self, at: Range<usize>, key: String, reason: String, remedy: &str) {
        self.warnings.push(Fault::new(at, key, reason, remedy));
    }

    /// Whether everybody can read the file; a text that is in no file is nobody's.
    pub fn is_readable_by_others(&self) -> bool {
        std::fs::metadata(&self.file).is_ok_and(|facts| facts.mode() & 0o004 != 0)
    }

    pub fn subnet(&mut self, what: IpNet, at: Range<usize>, key: String) {
        self.subnets.push(Noted { what, at, key });
    }

    /// A prefix that must not go in clear.
    pub fn guarded(&mut self, what: IpNet, at: Range<usize>, key: String) {
        self.guarded.push(Noted { what, at, key });
    }

    pub fn tags(&mut self, interface: &str, tags: Tags, at: Range<usize>, key: String) {
        self.interfaces.push(Noted { what: (interface.to_owned(), tags), at, key });
    }

    pub fn check(&self) -> Result<(), Fault> {
        self.no_subnets_overlap()?;
        self.nothing_guarded_is_on_our_wires()?;
        self.no_interface_is_used_twice()
    }

    /// Our addresses share one host stack, and a next hop must name one interface: subnets are disjoint everywhere.
    fn no_subnets_overlap(&self) -> Result<(), Fault> {
        // In order of address, a subnet that overlaps anything overlaps its neighbour or contains it.
        let mut sorted: Vec<_> = self.subnets.iter().enumerate().collect();
        sorted.sort_by_key(|(index, noted)| (noted.what.network(), noted.what.prefix_len(), *index));
        for pair in sorted.windows(2) {
            let [one, other] = pair else { continue };
            if !one.1.what.contains(&other.1.what) {
                continue;
            }
            let (earlier, later) = if one.0 < other.0 { (one.1, other.1) } else { (other.1, one.1) };
            let reason = format!("{} overlaps {} of {}", later.what, earlier.what, earlier.key);
            let remedy = "give every link and attachment a subnet of its own";
            return Err(Fault::new(later.at.clone(), later.key.clone(), reason, remedy));
        }
        Ok(())
    }

    /// Hosts of a connected subnet are reached in clear, and a prefix has one tunnel.
    fn nothing_guarded_is_on_our_wires(&self) -> Result<(), Fault> {
        for (index, noted) in self.guarded.iter().enumerate() {
            let mut others = self.subnets.iter().chain(self.guarded.iter().take(index));
            let overlaps =
                |other: &&Noted<IpNet>| other.what.contains(&noted.what) || noted.what.contains(&other.what);
            if let Some(other) = others.find(overlaps) {
                let reason = format!("{} overlaps {} of {}", noted.what, other.what, other.key);
                let remedy = "name prefixes behind the tunnel only, each once";
                return Err(Fault::new(noted.at.clone(), noted.key.clone(), reason, remedy));
            }
        }
        Ok(())
    }

    /// A frame's interface and tags are all that says which attachment it came from.
    fn no_interface_is_used_twice(&self) -> Result<(), Fault> {
        let mut seen = HashMap::new();
        for noted in &self.interfaces {
            if let Some(earlier) = seen.insert(&noted.what, noted) {
                let (interface, tags) = &noted.what;
                let reason = format!("{interface}{tags} already belongs to {}", earlier.key);
                let remedy = "use another interface, or tell the frames apart by vlan (and s-vlan)";
                return Err(Fault::new(noted.at.clone(), noted.key.clone(), reason, remedy));
            }
        }
        Ok(())
    }
}
