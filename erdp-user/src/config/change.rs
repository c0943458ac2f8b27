//! A change to a circuit of the running router, by the rules of the file: all of it or nothing.

use erdp_common::policer::{BurstPolicy, Rates};
use serde::{Deserialize, Serialize};

use super::parse::circuit::{BURST_POLICIES, burst, credit};
use super::values::{BitsPerSecond, Why};
use super::{Circuit, Config};
use crate::azure::bandwidths::unsold;

/// What is to be changed; the values are written as in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CircuitChange {
    /// `bandwidth`.
    pub bandwidth: Option<String>,
    /// `burst`.
    pub burst: Option<String>,
    /// `credit-ms`.
    pub credit_ms: Option<i64>,
}

/// One key that a change changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// As in the file.
    pub key: &'static str,
    /// What it was.
    pub from: String,
    /// What it is now.
    pub to: String,
}

/// A change that may be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Which circuit of the configuration.
    pub index: usize,
    /// As it will be.
    pub circuit: Circuit,
    /// What becomes different; empty: it is all that way already.
    pub changed: Vec<Changed>,
    /// What is probably not meant.
    pub warnings: Vec<String>,
    /// Why it is refused unless it is forced: the bandwidth would be reduced (requirement A4).
    pub decrease: Option<String>,
}

/// The sentence that refuses a circuit less bandwidth than it has (requirement A4).
pub(super) fn decrease(before: &Circuit, after: &Circuit) -> Option<String> {
    let (name, from, to) = (&after.name, before.bandwidth, after.bandwidth);
    (to < from).then(|| {
        format!(
            "circuit {name}: bandwidth: {to} is less than the {from} that it has, and Microsoft does not reduce a circuit (A4); keep \
             {from}, or give --force to `erdp set circuit` or `erdp config apply` if another circuit has taken its place"
        )
    })
}

impl CircuitChange {
    /// The change to the circuit called `name`, or the sentence that refuses it: object, reason, remedy.
    pub fn plan(&self, config: &Config, name: &str) -> Result<Planned, String> {
        let Some(index) = config.circuits.iter().position(|circuit| circuit.name == name) else {
            let names: Vec<&str> = config.circuits.iter().map(|circuit| circuit.name.as_str()).collect();
            return Err(format!("no circuit {name:?}; there are: {}", names.join(", ")));
        };
        if *self == Self::default() {
            return Err(format!(
                "circuit {name}: nothing to change; give a bandwidth, a burst policy or a credit"
            ));
        }
        let before = &config.circuits[index];
        let refuse = |key| move |(reason, remedy): Why| format!("circuit {name}: {key}: {reason}; {remedy}");
        let mut circuit = before.clone();
        let mut warnings = Vec::new();
        if let Some(text) = &self.bandwidth {
            circuit.bandwidth = BitsPerSecond::parse(text).map_err(refuse("bandwidth"))?;
            if let Some((reason, remedy)) = unsold(circuit.bandwidth, circuit.kind, circuit.sku) {
                warnings.push(format!("circuit {name}: bandwidth: {reason}; {remedy}"));
            }
        }
        if let Some(text) = &self.burst {
            circuit.burst = burst(text).map_err(refuse("burst"))?;
        }
        if let Some(millis) = self.credit_ms {
            circuit.credit_ms = credit(millis).map_err(refuse("credit-ms"))?;
        }
        if let Err(error) = Rates::new(circuit.bandwidth.0, circuit.burst).policer() {
            return Err(format!("circuit {name}: bandwidth: {error}; use what was bought"));
        }
        if self.credit_ms.is_some() && circuit.burst != BurstPolicy::Peak2x {
            let policy = burst_name(circuit.burst);
            warnings
                .push(format!("circuit {name}: credit-ms: {policy} has no credit; it counts under peak-2x"));
        }
        let (changed, decrease) = (differences(before, &circuit), decrease(before, &circuit));
        Ok(Planned { index, circuit, changed, warnings, decrease })
    }
}

fn differences(before: &Circuit, after: &Circuit) -> Vec<Changed> {
    let texts = |circuit: &Circuit| {
        [
            ("bandwidth", circuit.bandwidth.to_string()),
            ("burst", burst_name(circuit.burst).to_owned()),
            ("credit-ms", circuit.credit_ms.to_string()),
        ]
    };
    let both = texts(before).into_iter().zip(texts(after));
    both.filter(|(from, to)| from != to).map(|((key, from), (_, to))| Changed { key, from, to }).collect()
}

/// The file's word for a burst policy.
pub fn burst_name(policy: BurstPolicy) -> &'static str {
    BURST_POLICIES.iter().find(|(_, other)| *other == policy).map_or("?", |(name, _)| name)
}

/// The burst policy of a word.
pub fn burst_policy(word: &str) -> Option<BurstPolicy> {
    BURST_POLICIES.iter().find(|(name, _)| *name == word).map(|(_, policy)| *policy)
}
