//! Orders of the controller to a session, and which step of the session each one is. The task with the socket and the simulated world both drive a
//! session by them.

use super::super::PeerCommand;
use super::super::wire::EncodeError;
use super::{Gate, Moment, Session};

impl Session {
    /// Does what the controller has ordered. After [`PeerCommand::Stop`] the session is driven until its actions are carried out, and no
    /// further.
    ///
    /// # Errors
    /// Routes that cannot be encoded, as [`Session::send`] says it.
    pub fn handle_order(&mut self, now: Moment, order: PeerCommand) -> Result<(), EncodeError> {
        match order {
            PeerCommand::Send { session, update } => return self.send(now, session, &update),
            PeerCommand::RequestRefresh(family) => self.request_refresh(family),
            PeerCommand::Overflow { excess, wait } => self.handle_overflow(now, excess, wait),
            PeerCommand::Away { left, count } => self.handle_away(now, left, count),
            PeerCommand::Reset { text } => self.handle_reset(now, &text),
            PeerCommand::PathDown => self.handle_path_down(now),
            PeerCommand::Hold(true) => self.handle_close(now, Gate::Bfd, ""),
            PeerCommand::Hold(false) => self.handle_open(now, Gate::Bfd),
            PeerCommand::Disable { text } => self.handle_close(now, Gate::Operator, &text),
            PeerCommand::Enable => self.handle_open(now, Gate::Operator),
            PeerCommand::Carrier(false) => self.handle_close(now, Gate::Carrier, ""),
            PeerCommand::Carrier(true) => self.handle_open(now, Gate::Carrier),
            PeerCommand::Hurry => self.handle_hurry(now),
            PeerCommand::Stop { cease, text } => self.handle_stop(now, cease, &text),
        }
        Ok(())
    }
}
