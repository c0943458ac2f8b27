//! The files joined: peerings with their circuits by the circuit's name in their identifier, tables with the link in whose subnets their addresses
//! are. The tables say neither circuit nor link, so that is all there is to know them by, unless the operator names the place with the file.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use super::{
    ImportError,
    answers::{Circuit, Peering, Port},
    read::{Others, Seen},
    said::clean,
};
use crate::config::{LinkRole, PeeringKind};

/// Circuits of all files: each table is compared with each link.
const CIRCUITS_MAX: usize = 256;

/// A circuit, a peering of it, or a link of that: `contoso`, `contoso/private`, `contoso/private/primary`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The circuit's name.
    pub circuit: String,
    /// Which peering.
    pub kind: Option<PeeringKind>,
    /// Which link.
    pub role: Option<LinkRole>,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let refused = || {
            format!(
                "{:?} names no circuit, peering or link: write it like contoso/private/primary",
                clean(text)
            )
        };
        let mut parts = text.split('/');
        let circuit = clean(parts.next().filter(|name| !name.is_empty()).ok_or_else(refused)?);
        let kind = parts.next().map(|word| kind(word).ok_or_else(refused)).transpose()?;
        let role = parts.next().map(|word| role(word).ok_or_else(refused)).transpose()?;
        if parts.next().is_some() { Err(refused()) } else { Ok(Place { circuit, kind, role }) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.circuit)?;
        self.kind.iter().try_for_each(|kind| write!(f, "/{}", kind.as_str()))?;
        self.role.iter().try_for_each(|role| write!(f, " {}", role.as_str()))
    }
}

/// A peering by its word.
pub fn kind(word: &str) -> Option<PeeringKind> {
    PeeringKind::ALL.into_iter().find(|kind| kind.as_str() == word)
}

/// A link by its word.
pub fn role(word: &str) -> Option<LinkRole> {
    LinkRole::ALL.into_iter().find(|role| role.as_str() == word)
}

/// Azure's view of the circuits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The circuits.
    pub circuits: Vec<CircuitView>,
    /// Everything else.
    pub others: Others,
}

/// A circuit with its peerings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitView {
    /// Azure's name of it, or one by its place among the files.
    pub name: String,
    /// Its answer, if a file has it.
    pub circuit: Option<Circuit>,
    /// Its peerings, at most one of a kind.
    pub peerings: Vec<Peering>,
}

impl CircuitView {
    /// The peering of a kind that is in use.
    pub fn peering(&self, kind: PeeringKind) -> Option<&Peering> {
        self.peerings.iter().find(|it| it.kind == kind && it.enabled)
    }
}

/// A link's subnet, by which tables are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End<'a> {
    /// The circuit's name.
    pub circuit: &'a str,
    /// Which peering.
    pub kind: PeeringKind,
    /// Which link.
    pub role: LinkRole,
    /// The subnet.
    pub subnet: IpNet,
}

impl View {
    /// Joins what was read.
    ///
    /// # Errors
    /// When two files are the same circuit, or a peering says of no circuit that it is its.
    pub fn of(seen: Seen) -> Result<View, ImportError> {
        let mut view = View { circuits: Vec::new(), others: seen.others };
        for (at, mut circuit) in seen.circuits.into_iter().enumerate() {
            let name = circuit.name.clone().unwrap_or_else(|| format!("circuit-{}", at + 1));
            if circuit.name.is_none() {
                circuit.missing.push("name".to_owned());
            }
            if view.find(&name).is_some() {
                let text = format!("two answers are of circuits named {name}; give each circuit once");
                return Err(ImportError::Lacking(text));
            }
            let peerings = std::mem::take(&mut circuit.peerings);
            view.circuits.push(CircuitView { name, circuit: Some(circuit), peerings });
        }
        for (peering, place) in seen.peerings {
            view.add(peering, place)?;
        }
        if view.circuits.len() > CIRCUITS_MAX {
            return Err(ImportError::Lacking(format!(
                "{} circuits; at most {CIRCUITS_MAX} are read",
                view.circuits.len()
            )));
        }
        for circuit in &mut view.circuits {
            let mut kinds = Vec::new();
            circuit.peerings.retain(|it| {
                !kinds.contains(&it.kind) && {
                    kinds.push(it.kind);
                    true
                }
            });
        }
        Ok(view)
    }

    /// The index of a circuit by its name, which in Azure has no case.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.circuits.iter().position(|it| it.name.eq_ignore_ascii_case(name))
    }

    fn add(&mut self, peering: Peering, place: Option<Place>) -> Result<(), ImportError> {
        let only = match self.circuits.as_slice() {
            [only] => Some(only.name.clone()),
            _ => None,
        };
        let name = place.map(|place| place.circuit).or_else(|| peering.circuit.clone()).or(only);
        let name = name.ok_or_else(|| {
            ImportError::Lacking(
                "a peering has no id with its circuit's name; name the circuit with the file: CIRCUIT=FILE"
                    .to_owned(),
            )
        })?;
        match self.find(&name) {
            Some(at) => self.circuits[at].peerings.push(peering),
            None => self.circuits.push(CircuitView { name, circuit: None, peerings: vec![peering] }),
        }
        Ok(())
    }

    /// The subnets of all links that the files name.
    pub fn ends(&self) -> Vec<End<'_>> {
        let mut ends = Vec::new();
        for circuit in &self.circuits {
            for peering in circuit.peerings.iter().filter(|it| it.enabled) {
                let subnets = peering.subnets();
                ends.extend(subnets.map(|(role, subnet)| End {
                    circuit: &circuit.name,
                    kind: peering.kind,
                    role,
                    subnet,
                }));
            }
        }
        ends
    }

    /// The pair of ports of a name.
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.others.ports.iter().find(|it| it.name.eq_ignore_ascii_case(name))
    }
}

/// The link that most of these addresses are of; `None`: none, or two links have as many. A link may have several subnets.
pub fn place_of(addresses: &[IpAddr], ends: &[End<'_>]) -> Option<Place> {
    let mut links: Vec<(Place, Vec<IpNet>)> = Vec::new();
    for end in ends {
        let place = Place { circuit: end.circuit.to_owned(), kind: Some(end.kind), role: Some(end.role) };
        match links.iter_mut().find(|(it, _)| *it == place) {
            Some((_, subnets)) => subnets.push(end.subnet),
            None => links.push((place, vec![end.subnet])),
        }
    }
    let mut best: Option<(Place, usize)> = None;
    let mut is_tie = false;
    for (place, subnets) in links {
        let is_in = |address: &&IpAddr| subnets.iter().any(|subnet| subnet.contains(*address));
        let count = addresses.iter().filter(is_in).count();
        let most = best.as_ref().map_or(0, |(_, most)| *most);
        if count > most {
            (best, is_tie) = (Some((place, count)), false);
        } else if count == most {
            is_tie = true;
        }
    }
    best.filter(|_| !is_tie).map(|(place, _)| place)
}
