//! Identifiers of things in a configuration: each is its place in a list of [`crate::config::Config`]'s.
//!
//! An attachment has a place in [`crate::config::Config::attachments`], from 0, and a number in the maps, from 1, because there 0 is
//! "none". Both are the same identifier, and only this file adds or subtracts the one.

use std::{fmt, num::NonZero};

use serde::{Deserialize, Serialize, Serializer};

/// A BGP peer, by its place in [`crate::config::Config::peers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PeerId(pub u16);

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {}", self.0)
    }
}

/// A logical interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachmentId(NonZero<u16>);

impl AttachmentId {
    /// The last one that there can be.
    pub const LAST: Self = Self(NonZero::<u16>::MAX);

    /// The attachment at this place of [`crate::config::Config::attachments`]. 65,535 attachments are far beyond a file that a person
    /// maintains; the next one would get the last identifier.
    pub const fn at(index: usize) -> Self {
        if index >= u16::MAX as usize {
            return Self::LAST;
        }
        match NonZero::new(index as u16 + 1) {
            Some(number) => Self(number),
            None => Self::LAST,
        }
    }

    /// The attachment that has this number in the maps; `None`: it is the number of none.
    pub const fn numbered(number: u16) -> Option<Self> {
        match NonZero::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Its place in [`crate::config::Config::attachments`].
    pub const fn index(self) -> usize {
        self.0.get() as usize - 1
    }

    /// Its number in the maps.
    pub const fn number(self) -> u16 {
        self.0.get()
    }
}

/// As its place in the configuration.
impl Serialize for AttachmentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.index().serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachment_has_one_identifier_for_its_place_in_the_file_and_its_number_in_the_maps() {
        assert_eq!(AttachmentId::numbered(0), None);
        for index in [0, 1, 254, 65_533] {
            let id = AttachmentId::at(index);
            assert_eq!((id.index(), usize::from(id.number())), (index, index + 1));
            assert_eq!(AttachmentId::numbered(id.number()), Some(id));
        }
        assert_eq!(AttachmentId::at(70_000), AttachmentId::LAST);
    }
}
