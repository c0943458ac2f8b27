//! Where a path comes from.

use serde::Serialize;

use super::{AttachmentId, PeerId};

/// Whose path it is; the order is the one in which the decision lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathSource {
    /// A BGP peer's.
    Peer(PeerId),
    /// The kernel's, through an attachment.
    Kernel(AttachmentId),
    /// Ours: a subnet of an attachment that is announced although no router is behind it (requirement C2).
    Static(AttachmentId),
}

impl PathSource {
    /// The peer, if it is one's.
    pub const fn peer(self) -> Option<PeerId> {
        match self {
            Self::Peer(peer) => Some(peer),
            Self::Kernel(_) | Self::Static(_) => None,
        }
    }

    /// The attachment, if it is no peer's.
    pub const fn attachment(self) -> Option<AttachmentId> {
        match self {
            Self::Peer(_) => None,
            Self::Kernel(attachment) | Self::Static(attachment) => Some(attachment),
        }
    }
}

impl From<PeerId> for PathSource {
    fn from(peer: PeerId) -> Self {
        Self::Peer(peer)
    }
}

impl PartialEq<PeerId> for PathSource {
    fn eq(&self, peer: &PeerId) -> bool {
        *self == Self::Peer(*peer)
    }
}
