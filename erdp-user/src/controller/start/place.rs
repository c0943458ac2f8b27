//! What only one process in a network namespace can have: the control socket and the presence.

use std::path::Path;

use super::StartError;
use crate::{control::server::Server, kernel::traces::Presence};

/// What only one process in a network namespace can have.
pub(super) struct Place {
    pub(super) server: Option<Server>,
    _presence: Presence,
}

impl Place {
    pub(super) fn take(control: &Path) -> Result<Self, StartError> {
        let server = Server::bind(control)?;
        let presence = Presence::claim().map_err(StartError::Presence)?.ok_or(StartError::Running)?;
        Ok(Self { server: Some(server), _presence: presence })
    }
}
