//! How much went over a session, by the kind of message, and the last NOTIFICATION either way.

use serde::{Deserialize, Serialize};

use super::{FaultKind, Moment, Notification};

/// How much went over the session since it was made; never reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Messages of any type received whole.
    pub messages_in: u64,
    /// Messages of any type sent.
    pub messages_out: u64,
    /// UPDATE messages received.
    pub updates_in: u64,
    /// UPDATE messages sent.
    pub updates_out: u64,
    /// Prefixes received as reachable.
    pub announced_in: u64,
    /// Prefixes received as withdrawn, those by RFC 7606 included.
    pub withdrawn_in: u64,
    /// Prefixes sent as reachable.
    pub announced_out: u64,
    /// Prefixes sent as withdrawn.
    pub withdrawn_out: u64,
    /// Faults in UPDATE messages that did not end the session.
    pub faults_in: u64,
    /// Of those, attributes that were discarded (RFC 7606 section 2, as the next three).
    #[serde(default)]
    pub attributes_discarded: u64,
    /// Routes of a family that was not agreed on, and that were ignored.
    #[serde(default)]
    pub families_ignored: u64,
    /// Routes that were treated as withdrawn.
    #[serde(default)]
    pub treated_as_withdrawn: u64,
    /// UPDATE messages that ended a session.
    #[serde(default)]
    pub update_resets: u64,
    /// Updates that could not be sent: not Established, or not encodable.
    pub unsent: u64,
    /// Times the session became Established.
    pub established: u64,
    /// Times an Established session, or an attempt, failed.
    pub failed: u64,
    /// OPEN messages received.
    #[serde(default)]
    pub opens_in: u64,
    /// OPEN messages sent.
    #[serde(default)]
    pub opens_out: u64,
    /// KEEPALIVE messages received.
    #[serde(default)]
    pub keepalives_in: u64,
    /// KEEPALIVE messages sent.
    #[serde(default)]
    pub keepalives_out: u64,
    /// NOTIFICATION messages received.
    #[serde(default)]
    pub notifications_in: u64,
    /// NOTIFICATION messages sent.
    #[serde(default)]
    pub notifications_out: u64,
    /// ROUTE-REFRESH messages received.
    #[serde(default)]
    pub refreshes_in: u64,
    /// ROUTE-REFRESH messages sent.
    #[serde(default)]
    pub refreshes_out: u64,
}

impl Counters {
    /// How many faults in UPDATE messages were met in this way.
    pub fn faults(&self, kind: FaultKind) -> u64 {
        match kind {
            FaultKind::AttributeDiscard => self.attributes_discarded,
            FaultKind::AfiSafiDisable => self.families_ignored,
            FaultKind::TreatAsWithdraw => self.treated_as_withdrawn,
            FaultKind::SessionReset => self.update_resets,
        }
    }

    pub(super) fn count_fault(&mut self, kind: FaultKind) {
        *match kind {
            FaultKind::AttributeDiscard => &mut self.attributes_discarded,
            FaultKind::AfiSafiDisable => &mut self.families_ignored,
            FaultKind::TreatAsWithdraw => &mut self.treated_as_withdrawn,
            FaultKind::SessionReset => &mut self.update_resets,
        } += 1;
    }

    /// A whole message came in. An UPDATE is counted where it is delivered.
    pub(super) fn count_in(&mut self, message: &[u8]) {
        self.messages_in += 1;
        match kind(message) {
            Some(1) => self.opens_in += 1,
            Some(3) => self.notifications_in += 1,
            Some(4) => self.keepalives_in += 1,
            Some(5) => self.refreshes_in += 1,
            _ => {}
        }
    }

    /// A message is sent. An UPDATE is counted where it is made.
    pub(super) fn count_out(&mut self, message: &[u8]) {
        self.messages_out += 1;
        match kind(message) {
            Some(1) => self.opens_out += 1,
            Some(3) => self.notifications_out += 1,
            Some(4) => self.keepalives_out += 1,
            Some(5) => self.refreshes_out += 1,
            _ => {}
        }
    }
}

/// The type of a message (RFC 4271 section 4.1, RFC 2918 section 3).
fn kind(message: &[u8]) -> Option<u8> {
    message.get(18).copied()
}

/// A NOTIFICATION in words, and when that was.
pub type Noted = (String, Moment);

/// The last NOTIFICATION either way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notified {
    /// From the peer.
    pub received: Option<Noted>,
    /// To the peer.
    pub sent: Option<Noted>,
}

impl Notified {
    /// A whole message came in.
    pub(super) fn note_in(&mut self, message: &[u8], now: Moment) {
        if let Some(text) = words(message) {
            self.received = Some((text, now));
        }
    }

    /// A message is sent.
    pub(super) fn note_out(&mut self, message: &[u8], now: Moment) {
        if let Some(text) = words(message) {
            self.sent = Some((text, now));
        }
    }
}

/// What a NOTIFICATION says; `None`: it is none.
fn words(message: &[u8]) -> Option<String> {
    let is_one = kind(message) == Some(3);
    let (code, subcode, data) = match message.get(19..).filter(|_| is_one)? {
        [code, subcode, data @ ..] => (*code, *subcode, data),
        _ => return None,
    };
    Some(Notification { code, subcode, data: data.to_vec() }.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_last_notification_either_way_is_kept_with_its_time() {
        let at = |seconds| Moment(Duration::from_secs(seconds));
        let message =
            |kind: u8, body: &[u8]| [&[0xff; 16][..], &[0, 19 + body.len() as u8, kind], body].concat();
        let mut notified = Notified::default();
        notified.note_in(&message(3, b"\x06\x02\x06rack 7"), at(5));
        notified.note_in(&message(4, b""), at(6));
        notified.note_in(&message(3, b"\x06"), at(6));
        assert_eq!(notified.received, Some(("administrative shutdown (6/2): \"rack 7\"".into(), at(5))));
        assert_eq!(notified.sent, None);
        notified.note_out(&message(3, &[4, 0]), at(7));
        assert_eq!(notified.sent, Some(("hold timer expired (4/0)".into(), at(7))));
    }

    #[test]
    fn messages_are_counted_by_their_type_and_counters_of_before_are_read() {
        let mut counters = Counters::default();
        let message = |kind: u8| [&[0xff; 16][..], &[0, 19, kind]].concat();
        for kind in [1, 2, 3, 4, 4, 5, 9] {
            counters.count_in(&message(kind));
            counters.count_out(&message(kind));
        }
        let Counters { opens_in, notifications_in, keepalives_in, refreshes_in, messages_in, .. } = counters;
        assert_eq!((opens_in, notifications_in, keepalives_in, refreshes_in, messages_in), (1, 1, 2, 1, 7));
        let Counters { opens_out, notifications_out, keepalives_out, refreshes_out, messages_out, .. } =
            counters;
        assert_eq!(
            (opens_out, notifications_out, keepalives_out, refreshes_out, messages_out),
            (1, 1, 2, 1, 7)
        );
        // Another process hands over, which does not know the kinds.
        let mut value = serde_json::to_value(counters).unwrap();
        let fields = value.as_object_mut().unwrap();
        fields.retain(|key, _| {
            !["opens", "keepalives", "notifications", "refreshes"].iter().any(|it| key.starts_with(it))
        });
        let read: Counters = serde_json::from_value(value).unwrap();
        assert_eq!((read.messages_in, read.keepalives_in), (7, 0));
    }
}
