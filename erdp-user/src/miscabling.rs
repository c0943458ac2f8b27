//! What the ARP and neighbour discovery of others says about a link that does not come up (requirement E2): primary and secondary swapped, our
//! end and Microsoft's swapped, an address of ours that somebody else uses. Pure: what was seen and the time come in, sentences come out.
//!
//! The packet path drops these frames, because they are not for us, and samples them (`drop-samples`); the samples are read here. What is
//! said of a neighbour that does not answer is forgotten as soon as it answers; what is said of a duplicate address, [`CONFLICT_LASTS`]
//! after it was seen last.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use ipnet::IpNet;

use crate::types::AttachmentId;

/// How long a duplicate address is spoken of after the last frame with it.
pub const CONFLICT_LASTS: Duration = Duration::from_secs(10);
/// How long a neighbour that does not answer is spoken of: routers ask again within two minutes (the connect retry of BGP).
pub const STRANGER_LASTS: Duration = Duration::from_secs(150);

/// One end of a link as it is configured, of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The attachment.
    pub attachment: AttachmentId,
    /// Its name for operators.
    pub name: String,
    /// Whether an MSEE is to be at its other end, and nobody else.
    pub is_msee: bool,
    /// Our address with the length of its subnet.
    pub ours: IpNet,
    /// The MSEE's address.
    pub theirs: Option<IpAddr>,
}

/// A frame that was not for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where it came in.
    pub attachment: AttachmentId,
    /// Whose MAC address it has.
    pub mac: [u8; 6],
    /// Who says that it has this address.
    pub sender: IpAddr,
    /// Whom it asks for: an address, or its solicited-node group.
    pub target: IpAddr,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    /// The neighbour belongs on another link.
    Elsewhere { sender: IpAddr, place: String },
    /// The neighbour has our address and looks for us at its own.
    WrongSide { ours: IpAddr, theirs: IpAddr },
    /// Somebody else has our address.
    Duplicate { ours: IpAddr, mac: [u8; 6] },
    /// The neighbour has an address of no subnet that is configured.
    OtherSubnet { sender: IpAddr, subnet: IpNet },
}

impl Fault {
    fn is_duplicate(&self) -> bool {
        matches!(self, Self::Duplicate { .. })
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Elsewhere { sender, place } => write!(
                f,
                "{sender} asks for us here and belongs on {place}: are primary and secondary swapped, or the cables? (E2)"
            ),
            Self::WrongSide { ours, theirs } => write!(
                f,
                "the neighbour uses our address {ours} and looks for us at {theirs}: we take the first usable address, Microsoft the second (E2)"
            ),
            Self::Duplicate { ours, mac } => {
                let mac: Vec<String> = mac.iter().map(|octet| format!("{octet:02x}")).collect();
                write!(
                    f,
                    "duplicate address: {} uses our {ours} too; find it by this MAC address (E2)",
                    mac.join(":")
                )
            }
            Self::OtherSubnet { sender, subnet } => write!(
                f,
                "{sender} asks for somebody here and is not in {subnet}: compare the subnets of both ends (E2)"
            ),
        }
    }
}

/// What was seen lately, by attachment and family.
#[derive(Debug, Default)]
pub struct Miscabling(HashMap<(AttachmentId, bool), Vec<(Fault, Duration)>>);

impl Miscabling {
    /// A frame was seen; the sentence about it if it is news. `own` is our MAC address there: what we have sent ourselves and comes back
    /// says nothing of others.
    pub fn handle_seen(
        &mut self,
        seen: &Seen,
        own: [u8; 6],
        places: &[Place],
        now: Duration,
    ) -> Option<String> {
        let fault = fault(seen, places).filter(|_| seen.mac != own)?;
        let faults = self.0.entry((seen.attachment, seen.sender.is_ipv4())).or_default();
        faults.retain(|(_, at)| now.saturating_sub(*at) < STRANGER_LASTS);
        if let Some((_, at)) = faults.iter_mut().find(|(known, _)| *known == fault) {
            *at = now;
            return None;
        }
        // Bounded: one of each kind, the newest.
        faults.retain(|(known, _)| std::mem::discriminant(known) != std::mem::discriminant(&fault));
        let text = fault.to_string();
        faults.push((fault, now));
        Some(text)
    }

    /// The neighbour that is expected there answers: whoever spoke before it was a stranger for a moment, or is gone.
    pub fn handle_answer(&mut self, attachment: AttachmentId, address: IpAddr) {
        if let Some(faults) = self.0.get_mut(&(attachment, address.is_ipv4())) {
            faults.retain(|(fault, _)| fault.is_duplicate());
        }
    }

    /// What is to be said about a session with a neighbour that answers, or does not.
    pub fn finding(
        &self,
        attachment: AttachmentId,
        neighbour: IpAddr,
        answers: bool,
        now: Duration,
    ) -> Option<String> {
        let faults = self.0.get(&(attachment, neighbour.is_ipv4()))?;
        let is_told = |(fault, at): &&(Fault, Duration)| {
            let age = now.saturating_sub(*at);
            if fault.is_duplicate() { age < CONFLICT_LASTS } else { !answers && age < STRANGER_LASTS }
        };
        faults.iter().filter(is_told).max_by_key(|(_, at)| *at).map(|(fault, _)| fault.to_string())
    }
}

/// What a frame says, if it says anything.
fn fault(seen: &Seen, places: &[Place]) -> Option<Fault> {
    let Seen { attachment, mac, sender, target } = *seen;
    let of_family = |place: &&Place| place.ours.addr().is_ipv4() == sender.is_ipv4();
    let here = places.iter().filter(of_family).find(|place| place.attachment == attachment)?;
    let ours = here.ours.addr();
    if sender == ours {
        return Some(match here.theirs {
            Some(theirs) if asks_for(target, theirs) => Fault::WrongSide { ours, theirs },
            _ => Fault::Duplicate { ours, mac },
        });
    }
    // Elsewhere others may be on the wire, with subnets of their own; link-local addresses are of every link.
    if !here.is_msee || here.ours.contains(&sender) || sender.is_unspecified() || is_link_local(sender) {
        return None;
    }
    let other = places.iter().filter(of_family).find(|place| place.is_msee && place.ours.contains(&sender));
    Some(match other {
        Some(other) => Fault::Elsewhere { sender, place: other.name.clone() },
        None => Fault::OtherSubnet { sender, subnet: here.ours.trunc() },
    })
}

/// Whether a frame asks for an address, by itself or by its solicited-node group (RFC 4291 section 2.7.1).
fn asks_for(target: IpAddr, address: IpAddr) -> bool {
    match (target, address) {
        (IpAddr::V6(target), IpAddr::V6(address)) => {
            let last = |address: Ipv6Addr| u128::from(address) & 0x00ff_ffff;
            let group = u128::from(target) >> 24 == 0xff02_0000_0000_0000_0000_0001_ff00_0000_u128 >> 24;
            target == address || group && last(target) == last(address)
        }
        (target, address) => target == address,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIMARY: AttachmentId = AttachmentId::at(0);
    const SECONDARY: AttachmentId = AttachmentId::at(1);
    const CE: AttachmentId = AttachmentId::at(2);
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn places() -> Vec<Place> {
        let place = |attachment, name: &str, ours: &str, theirs: Option<&str>| Place {
            attachment,
            name: name.to_owned(),
            is_msee: theirs.is_some(),
            ours: ours.parse().unwrap(),
            theirs: theirs.map(|text| text.parse().unwrap()),
        };
        vec![
            place(PRIMARY, "a/private primary", "198.18.0.1/30", Some("198.18.0.2")),
            place(PRIMARY, "a/private primary", "fd00::1/126", Some("fd00::2")),
            place(SECONDARY, "a/private secondary", "198.18.0.5/30", Some("198.18.0.6")),
            place(SECONDARY, "a/private secondary", "fd00::5/126", Some("fd00::6")),
            place(CE, "ce", "198.18.1.1/24", None),
        ]
    }

    fn said(attachment: AttachmentId, sender: &str, target: &str) -> Option<String> {
        let seen =
            Seen { attachment, mac: OTHER, sender: sender.parse().unwrap(), target: target.parse().unwrap() };
        Miscabling::default().handle_seen(&seen, OWN, &places(), Duration::ZERO)
    }

    #[test]
    fn e2_each_fault_of_a_wire_is_named_by_what_others_ask_for() {
        let swapped = "belongs on a/private secondary: are primary and secondary swapped";
        let rows: [(AttachmentId, &str, &str, Option<&str>); 12] = [
            (PRIMARY, "198.18.0.6", "198.18.0.5", Some(swapped)),
            (PRIMARY, "fd00::6", "ff02::1:ff00:5", Some(swapped)),
            (SECONDARY, "198.18.0.2", "198.18.0.1", Some("belongs on a/private primary")),
            (
                PRIMARY,
                "198.18.0.1",
                "198.18.0.2",
                Some("we take the first usable address, Microsoft the second (E2)"),
            ),
            (PRIMARY, "fd00::1", "ff02::1:ff00:2", Some("looks for us at fd00::2")),
            (
                PRIMARY,
                "198.18.0.1",
                "198.18.0.1",
                Some("duplicate address: 02:00:00:00:00:09 uses our 198.18.0.1"),
            ),
            (PRIMARY, "fd00::1", "ff02::1", Some("duplicate address")),
            (CE, "198.18.1.1", "198.18.1.77", Some("duplicate address")),
            (
                PRIMARY,
                "198.19.7.1",
                "198.19.7.2",
                Some("198.19.7.1 asks for somebody here and is not in 198.18.0.0/30"),
            ),
            (PRIMARY, "198.18.0.2", "198.18.0.3", None),
            (PRIMARY, "fe80::1", "ff02::1:ff00:9", None),
            (CE, "198.18.0.6", "198.18.0.5", None),
        ];
        for (attachment, sender, target, expected) in rows {
            let said = said(attachment, sender, target);
            match expected {
                Some(words) => {
                    assert!(said.as_ref().is_some_and(|it| it.contains(words)), "{sender}: {said:?}")
                }
                None => assert_eq!(said, None, "{sender}"),
            }
        }
    }

    #[test]
    fn what_we_have_sent_ourselves_and_comes_back_says_nothing() {
        let seen = Seen {
            attachment: PRIMARY,
            mac: OWN,
            sender: "198.18.0.1".parse().unwrap(),
            target: "198.18.0.2".parse().unwrap(),
        };
        assert_eq!(Miscabling::default().handle_seen(&seen, OWN, &places(), Duration::ZERO), None);
    }

    #[test]
    fn a_finding_goes_with_the_neighbours_answer_and_that_of_a_duplicate_ten_seconds_after_the_last_frame() {
        let at = Duration::from_secs;
        let theirs: IpAddr = "198.18.0.2".parse().unwrap();
        let seen = |sender: &str, target: &str| Seen {
            attachment: PRIMARY,
            mac: OTHER,
            sender: sender.parse().unwrap(),
            target: target.parse().unwrap(),
        };
        let mut it = Miscabling::default();
        let swapped = seen("198.18.0.6", "198.18.0.5");
        assert!(it.handle_seen(&swapped, OWN, &places(), at(0)).is_some());
        assert!(it.handle_seen(&swapped, OWN, &places(), at(60)).is_none(), "no news");
        assert!(it.finding(PRIMARY, theirs, false, at(200)).is_some_and(|text| text.contains("swapped")));
        assert_eq!(it.finding(PRIMARY, theirs, true, at(200)), None, "the right neighbour answers");
        assert_eq!(it.finding(PRIMARY, theirs, false, at(210)), None, "it has gone");
        it.handle_answer(PRIMARY, theirs);
        assert_eq!(it.finding(PRIMARY, theirs, false, at(61)), None, "and is not remembered");

        assert!(it.handle_seen(&seen("198.18.0.1", "198.18.0.9"), OWN, &places(), at(300)).is_some());
        it.handle_answer(PRIMARY, theirs);
        for (answers, now, is_told) in [(true, 309, true), (false, 309, true), (true, 310, false)] {
            assert_eq!(it.finding(PRIMARY, theirs, answers, at(now)).is_some(), is_told, "at {now} s");
        }
        assert_eq!(
            it.finding(PRIMARY, "fd00::2".parse().unwrap(), true, at(301)),
            None,
            "of the other family"
        );
    }
}
