//! Faults in a peer's UPDATE messages as operators see them: what was wrong, what was done about it, which prefixes it concerns and the
//! message itself (RFC 7606 section 6). Each fault is counted; the last messages with one are kept; the log has them at a bounded rate.

use std::fmt::Write as _;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::Moment;
use super::wire::{DecodedUpdate, Reaction, WireError};

/// Messages that are kept for `erdp show refused`.
pub const KEPT: usize = 8;
/// Bytes of a message that are kept and logged: all of one that is not extended (RFC 8654).
const BYTES: usize = 4096;
/// Prefixes that are kept and logged of one message.
const PREFIXES: usize = 16;
/// Faults that are named of one message.
const NAMED: usize = 4;
/// Log lines in a row.
const BURST: u32 = 5;
/// A log line more after this time.
const REFILL: Duration = Duration::from_secs(10);

/// What is done about a fault (RFC 7606 section 2), the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The attribute is ignored, the routes stand.
    AttributeDiscard,
    /// Routes of a family are ignored: only of one that was not agreed on.
    AfiSafiDisable,
    /// The routes count as withdrawn.
    TreatAsWithdraw,
    /// The session ends.
    SessionReset,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::AttributeDiscard, Self::AfiSafiDisable, Self::TreatAsWithdraw, Self::SessionReset];

    /// Its name, as in labels and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AttributeDiscard => "attribute-discard",
            Self::AfiSafiDisable => "afi-safi-disable",
            Self::TreatAsWithdraw => "treat-as-withdraw",
            Self::SessionReset => "session-reset",
        }
    }

    /// What has happened, as a sentence's beginning.
    pub fn outcome(self) -> &'static str {
        match self {
            Self::AttributeDiscard => "an attribute was discarded",
            Self::AfiSafiDisable => "routes of a family were ignored",
            Self::TreatAsWithdraw => "the routes were treated as withdrawn",
            Self::SessionReset => "the session was reset",
        }
    }
}

impl From<&Reaction> for FaultKind {
    fn from(reaction: &Reaction) -> Self {
        match reaction {
            Reaction::DiscardAttribute => Self::AttributeDiscard,
            Reaction::DisableFamily => Self::AfiSafiDisable,
            Reaction::TreatAsWithdraw => Self::TreatAsWithdraw,
            Reaction::Reset(_) => Self::SessionReset,
        }
    }
}

/// An UPDATE with at least one fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultyUpdate {
    /// The strongest of the reactions to it.
    pub kind: FaultKind,
    /// What is wrong with it.
    pub detail: String,
    /// Prefixes that it names, the first ones; none where they could not be read.
    pub prefixes: Vec<IpNet>,
    /// How many more it names.
    pub more_prefixes: usize,
    /// Its first bytes.
    pub message: Vec<u8>,
    /// How many it has.
    pub message_bytes: usize,
}

impl FaultyUpdate {
    /// A message that was decoded in spite of its faults; `None`: it has none.
    pub fn of_update(update: &DecodedUpdate, message: &[u8]) -> Option<Self> {
        let all = || update.updates.iter().flat_map(|part| part.announced.iter().chain(&part.withdrawn));
        let mut faulty = Self::new(&update.faults, message)?;
        faulty.prefixes = all().copied().take(PREFIXES).collect();
        faulty.more_prefixes = all().count() - faulty.prefixes.len();
        Some(faulty)
    }

    /// A message that ends the session.
    pub fn of_reset(error: &WireError, message: &[u8]) -> Option<Self> {
        Self::new(std::slice::from_ref(error), message)
    }

    fn new(faults: &[WireError], message: &[u8]) -> Option<Self> {
        let kind = faults.iter().map(|fault| FaultKind::from(&fault.reaction)).max()?;
        let mut details: Vec<&str> = faults.iter().map(|fault| fault.detail.as_str()).collect();
        details.dedup();
        let unnamed = details.len().saturating_sub(NAMED);
        let mut detail = details[..details.len() - unnamed].join("; ");
        if unnamed > 0 {
            detail += &format!("; and {unnamed} more");
        }
        Some(Self {
            kind,
            detail,
            prefixes: Vec::new(),
            more_prefixes: 0,
            message: message[..message.len().min(BYTES)].to_vec(),
            message_bytes: message.len(),
        })
    }

    /// The message in hex, as far as it is kept.
    pub fn hex(&self) -> String {
        let mut hex = String::with_capacity(2 * self.message.len());
        for byte in &self.message {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        hex
    }

    /// The prefixes in words.
    pub fn prefixes_text(&self) -> String {
        let mut text = self.prefixes.iter().map(IpNet::to_string).collect::<Vec<_>>().join(" ");
        if self.more_prefixes > 0 {
            text += &format!(" and {} more", self.more_prefixes);
        }
        text
    }
}

/// How often faults are logged: a few in a row, and then one now and then, which says how many were left out.
#[derive(Clone, Debug)]
pub struct LogRate {
    left: u32,
    filled: Moment,
    left_out: u64,
}

impl Default for LogRate {
    fn default() -> Self {
        Self { left: BURST, filled: Moment::default(), left_out: 0 }
    }
}

impl LogRate {
    /// Whether something is to be logged now, and how many were left out before it.
    pub fn admit(&mut self, now: Moment) -> Option<u64> {
        let refills = (now - self.filled).as_secs() / REFILL.as_secs();
        if refills > 0 {
            self.left = BURST.min(self.left.saturating_add(u32::try_from(refills).unwrap_or(BURST)));
            self.filled = now;
        }
        if self.left == 0 {
            self.left_out += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::Update;

    fn fault(detail: &str, reaction: Reaction) -> WireError {
        WireError { detail: detail.to_owned(), reaction }
    }

    #[test]
    fn rfc7606_6_a_faulty_update_names_its_prefixes_and_has_the_message_within_bounds() {
        let announced: Vec<IpNet> =
            (0..20).map(|number| format!("20.{number}.0.0/16").parse().unwrap()).collect();
        let updates = vec![Update { announced, ..Update::default() }];
        let faults = vec![fault("a", Reaction::DiscardAttribute), fault("b", Reaction::TreatAsWithdraw)];
        let update = DecodedUpdate { updates, faults };
        let faulty = FaultyUpdate::of_update(&update, &[0xab; 5000]).unwrap();
        assert_eq!((faulty.kind, faulty.detail.as_str()), (FaultKind::TreatAsWithdraw, "a; b"));
        assert_eq!((faulty.prefixes.len(), faulty.more_prefixes), (16, 4));
        assert!(faulty.prefixes_text().ends_with("20.15.0.0/16 and 4 more"), "{}", faulty.prefixes_text());
        assert_eq!((faulty.message_bytes, faulty.hex().len(), &faulty.hex()[..4]), (5000, 8192, "abab"));
        assert_eq!(FaultyUpdate::of_update(&DecodedUpdate::default(), &[]), None, "nothing is wrong");
        let many: Vec<WireError> =
            (0..9).map(|number| fault(&number.to_string(), Reaction::DiscardAttribute)).collect();
        let many = DecodedUpdate { faults: many, ..DecodedUpdate::default() };
        assert_eq!(FaultyUpdate::of_update(&many, &[]).unwrap().detail, "0; 1; 2; 3; and 5 more");
    }

    #[test]
    fn faults_are_logged_a_few_in_a_row_and_then_one_every_ten_seconds() {
        let at = |ms| Moment(Duration::from_millis(ms));
        let mut rate = LogRate::default();
        let first: Vec<_> = (0..8).map(|_| rate.admit(at(1_000))).collect();
        assert_eq!(first, [Some(0), Some(0), Some(0), Some(0), Some(0), None, None, None]);
        assert_eq!(rate.admit(at(9_999)), None);
        assert_eq!((rate.admit(at(10_000)), rate.admit(at(10_001))), (Some(4), None));
        // After a long silence it is as in the beginning.
        let later: Vec<_> = (0..6).map(|_| rate.admit(at(1_000_000)).is_some()).collect();
        assert_eq!(later, [true, true, true, true, true, false]);
    }
}
