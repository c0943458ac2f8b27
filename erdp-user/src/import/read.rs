//! A file's bytes into what was [`Seen`]: text, JSON, and by its fields the answer of a command. Size, depth and counts are bounded before anything is
//! kept.

use serde_json::Value;

use super::{
    ImportError,
    answers::{
        Circuit, FailoverTest, Peering, Port, Resiliency, Rows, Stats, Table, arp, circuit, failover_test,
        neighbour, peering, port, resiliency, route, stats,
    },
    fields::Fields,
    said::clean,
    view::Place,
};

/// A file is at most so long: 10,000 routes, which is what a premium circuit has (D1), are 2 MB.
pub const FILE_MAX: u64 = 8 << 20;
/// Files of one import: two circuits' tables are 28.
pub const FILES_MAX: usize = 256;
/// Lists and objects inside each other: the deepest answer, a circuit with its peerings' connections, has 8 levels.
pub const DEPTH_MAX: usize = 24;
/// Circuits, peerings, ports and tests of one file: a subscription has 50 circuits.
const ENTRIES_MAX: usize = 256;
/// Rows of one table: a premium circuit takes 10,000 routes from us (D1), and its virtual networks have some more.
const ROWS_MAX: usize = 40_000;

/// What was read of all files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// How many files.
    pub files: usize,
    /// Circuits.
    pub circuits: Vec<Circuit>,
    /// Peerings of a list of their own, each with the circuit that was named with the file.
    pub peerings: Vec<(Peering, Option<Place>)>,
    /// What is joined with circuits later, or with none.
    pub others: Others,
}

/// Answers that are not a part of a circuit's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// Pairs of Direct ports.
    pub ports: Vec<Port>,
    /// Route tables, their summaries and ARP tables.
    pub tables: Vec<Table>,
    /// Bytes.
    pub stats: Vec<Stats>,
    /// Tests of a link's failure.
    pub tests: Vec<FailoverTest>,
    /// Azure's indexes of gateways.
    pub resiliency: Vec<Resiliency>,
    /// What was left out.
    pub notes: Vec<String>,
}

/// Adds a file's answer to what is seen. `file` names it in messages; `place` is what the operator says that it is of.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn read(file: &str, bytes: &[u8], place: Option<Place>, seen: &mut Seen) -> Result<(), ImportError> {
    let file = &clean(file);
    if bytes.len() as u64 > FILE_MAX {
        return Err(ImportError::TooLong { file: file.clone() });
    }
    seen.files += 1;
    if seen.files > FILES_MAX {
        return Err(ImportError::Lacking(format!("more than {FILES_MAX} files; import one edge's circuits")));
    }
    let text = text(bytes).ok_or_else(|| ImportError::NoText { file: file.clone() })?;
    let value: Value = serde_json::from_str(&text).map_err(|error| no_json(file, &error))?;
    if depth(&value) > DEPTH_MAX {
        return Err(ImportError::TooDeep { file: file.clone() });
    }
    match entries(&value) {
        [] => Err(ImportError::Empty { file: file.clone() }),
        list => Answer::of(file, &list[0])?.read(file, list, place, seen),
    }
}

/// Azure's command line writes UTF-8; PowerShell's `>` makes UTF-16 of it. Either may have a mark at its begin.
fn text(bytes: &[u8]) -> Option<String> {
    let units = |order: fn([u8; 2]) -> u16, bytes: &[u8]| {
        let units = bytes.chunks_exact(2).map(|pair| order([pair[0], pair[1]]));
        char::decode_utf16(units).collect::<Result<String, _>>().ok()
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => units(u16::from_le_bytes, rest),
        [0xfe, 0xff, rest @ ..] => units(u16::from_be_bytes, rest),
        _ => {
            let text = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(bytes);
            String::from_utf8(text.to_vec()).ok()
        }
    }
}

/// The reader stops at 128 levels by itself, so that no file has it run out of stack.
fn no_json(file: &str, error: &serde_json::Error) -> ImportError {
    if error.to_string().starts_with("recursion limit") {
        return ImportError::TooDeep { file: file.to_owned() };
    }
    ImportError::NoJson { file: file.to_owned(), line: error.line(), column: error.column() }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or_default(),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

/// What an answer is of: a list, the list in `value`, or itself.
fn entries(value: &Value) -> &[Value] {
    match value {
        Value::Array(list) => list,
        Value::Object(map) => match map.get("value") {
            Some(Value::Array(list)) => list,
            _ => std::slice::from_ref(value),
        },
        _ => std::slice::from_ref(value),
    }
}

/// The answers that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Circuits,
    Peerings,
    Ports,
    Routes,
    Neighbours,
    Arp,
    Stats,
    FailoverTests,
    Resiliency,
}

impl Answer {
    /// The answer that has an entry with these fields.
    fn of(file: &str, entry: &Value) -> Result<Answer, ImportError> {
        let unknown = || ImportError::Unknown { file: file.to_owned() };
        let fields = Fields::of(file, "an answer", entry).map_err(|_| unknown())?;
        let any = |names: &[&str]| names.iter().any(|name| fields.has(name));
        let all = |names: &[&str]| names.iter().all(|name| fields.has(name));
        // First what says most: a circuit has a name and so have others.
        if any(&[
            "serviceProviderProvisioningState",
            "circuitProvisioningState",
            "serviceProviderProperties",
            "expressRoutePort",
        ]) {
            Ok(Answer::Circuits)
        } else if any(&["peeringType", "primaryPeerAddressPrefix"]) {
            Ok(Answer::Peerings)
        } else if all(&["encapsulation", "links"]) || all(&["bandwidthInGbps", "links"]) {
            Ok(Answer::Ports)
        } else if all(&["ipAddress", "macAddress"]) {
            Ok(Answer::Arp)
        } else if all(&["network", "nextHop"]) {
            Ok(Answer::Routes)
        } else if any(&["statePfxRcd"]) || all(&["neighbor", "upDown"]) {
            Ok(Answer::Neighbours)
        } else if any(&["primarybytesIn", "secondarybytesIn"]) {
            Ok(Answer::Stats)
        } else if all(&["linkType", "status"]) || all(&["wasSimulationSuccessful", "bgpStatus"]) {
            Ok(Answer::FailoverTests)
        } else if any(&["overallScore"]) {
            Ok(Answer::Resiliency)
        } else {
            Err(unknown())
        }
    }

    /// What its entries are, and how many are read.
    fn most(self) -> (&'static str, usize) {
        match self {
            Answer::Circuits => ("circuits", ENTRIES_MAX),
            Answer::Peerings => ("peerings", ENTRIES_MAX),
            Answer::Ports => ("ports", ENTRIES_MAX),
            Answer::Routes => ("routes", ROWS_MAX),
            Answer::Neighbours => ("neighbours", ROWS_MAX),
            Answer::Arp => ("ARP entries", ROWS_MAX),
            Answer::Stats => ("statistics", ENTRIES_MAX),
            Answer::FailoverTests => ("tests", ENTRIES_MAX),
            Answer::Resiliency => ("gateways", ENTRIES_MAX),
        }
    }

    fn read(
        self,
        file: &str,
        list: &[Value],
        place: Option<Place>,
        seen: &mut Seen,
    ) -> Result<(), ImportError> {
        let (what, most) = self.most();
        if list.len() > most {
            return Err(ImportError::TooMany { file: file.to_owned(), what, got: list.len(), most });
        }
        let of = |what: &'static str| list.iter().map(move |entry| Fields::of(file, what, entry));
        let mut rows = None;
        match self {
            Answer::Circuits => {
                for fields in of("a circuit") {
                    let circuit = circuit(&fields?, file, &mut seen.others.notes)?;
                    if circuit.peerings.len() > ENTRIES_MAX {
                        let got = circuit.peerings.len();
                        let (file, what, most) = (file.to_owned(), "peerings", ENTRIES_MAX);
                        return Err(ImportError::TooMany { file, what, got, most });
                    }
                    seen.circuits.push(circuit);
                }
            }
            Answer::Peerings => {
                for fields in of("a peering") {
                    let peering = peering(&fields?, file, &mut seen.others.notes)?;
                    seen.peerings.extend(peering.map(|peering| (peering, place.clone())));
                }
            }
            Answer::Ports => {
                for fields in of("a port") {
                    seen.others.ports.push(port(&fields?)?);
                }
            }
            Answer::Routes => rows = Some(Rows::Routes(collect(of("a route"), route)?)),
            Answer::Neighbours => rows = Some(Rows::Neighbours(collect(of("a neighbour"), neighbour)?)),
            Answer::Arp => rows = Some(Rows::Arp(collect(of("an ARP entry"), arp)?)),
            Answer::Stats => {
                for fields in of("statistics") {
                    seen.others.stats.push(stats(&fields?, place.clone())?);
                }
            }
            Answer::FailoverTests => {
                for fields in of("a failover test") {
                    seen.others.tests.push(failover_test(&fields?, place.clone())?);
                }
            }
            Answer::Resiliency => {
                for fields in of("a gateway's resiliency") {
                    seen.others.resiliency.push(resiliency(&fields?)?);
                }
            }
        }
        seen.others.tables.extend(rows.map(|rows| Table { file: file.to_owned(), place, rows }));
        Ok(())
    }
}

fn collect<'a, T>(
    list: impl Iterator<Item = Result<Fields<'a>, ImportError>>,
    read: fn(&Fields<'_>) -> Result<T, ImportError>,
) -> Result<Vec<T>, ImportError> {
    list.map(|fields| read(&fields?)).collect()
}
