//! Who may have a connection: pure. No user fills all places, and root, by whom packages are upgraded and services restarted, finds one
//! whatever the others do.

use std::collections::HashMap;

/// How many there are.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Of what, for messages.
    pub what: &'static str,
    /// For everybody.
    pub shared: usize,
    /// Of those, for one user other than root.
    pub of_one_user: usize,
    /// Further ones, for root alone.
    pub of_root: usize,
}

/// Connections served at once.
pub const CONNECTIONS: Room = Room { what: "connections", shared: 32, of_one_user: 16, of_root: 8 };
/// Long lists read at once: the keys of each are in memory.
pub const LONG_LISTS: Room = Room { what: "long lists", shared: 4, of_one_user: 2, of_root: 2 };

const ROOT: u32 = 0;

/// A place that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    user: u32,
    is_reserved: bool,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The user has too many.
    #[error("{most} {what} of user {user} are open, which is all that one user may have: close some")]
    User {
        /// Who.
        user: u32,
        /// So many are allowed.
        most: usize,
        /// Of what.
        what: &'static str,
    },
    /// Everybody together.
    #[error(
        "{most} {what} are open, which is all that there may be: try again, or ask as root, for whom some are reserved"
    )]
    All {
        /// So many are allowed.
        most: usize,
        /// Of what.
        what: &'static str,
    },
}

/// The places and who has them.
#[derive(Debug)]
pub struct Places {
    room: Room,
    shared: usize,
    reserved: usize,
    by_user: HashMap<u32, usize>,
}

impl Places {
    /// All free.
    pub fn new(room: Room) -> Self {
        Self { room, shared: 0, reserved: 0, by_user: HashMap::new() }
    }

    /// A user wants one.
    pub fn take(&mut self, user: u32) -> Result<Place, Full> {
        let of_user = self.by_user.get(&user).copied().unwrap_or_default();
        let Room { what, shared, of_one_user, of_root } = self.room;
        let is_reserved = user == ROOT && self.reserved < of_root;
        if !is_reserved {
            if user != ROOT && of_user >= of_one_user {
                return Err(Full::User { user, most: of_one_user, what });
            }
            if self.shared >= shared {
                return Err(Full::All { most: shared, what });
            }
        }
        *if is_reserved { &mut self.reserved } else { &mut self.shared } += 1;
        self.by_user.insert(user, of_user + 1);
        Ok(Place { user, is_reserved })
    }

    /// It is free again.
    pub fn give(&mut self, place: Place) {
        let taken = if place.is_reserved { &mut self.reserved } else { &mut self.shared };
        *taken = taken.saturating_sub(1);
        if let Some(of_user) = self.by_user.get_mut(&place.user) {
            *of_user -= 1;
            if *of_user == 0 {
                self.by_user.remove(&place.user);
            }
        }
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.shared + self.reserved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_locks_others_out_and_nobody_locks_root_out() {
        let mut places = Places::new(CONNECTIONS);
        let one: Vec<Place> = (0..16).map(|_| places.take(1_000).unwrap()).collect();
        assert_eq!(places.take(1_000), Err(Full::User { user: 1_000, most: 16, what: "connections" }));
        (0..16).for_each(|_| assert!(places.take(1_001).is_ok()));
        assert_eq!(places.take(1_002), Err(Full::All { most: 32, what: "connections" }));
        (0..8).for_each(|_| assert!(places.take(ROOT).is_ok()));
        assert_eq!(places.take(ROOT), Err(Full::All { most: 32, what: "connections" }));
        assert_eq!(places.taken(), 40);
        places.give(one[0]);
        assert!(places.take(1_002).is_ok());
    }

    #[test]
    fn places_that_are_given_back_are_all_there_again() {
        let mut places = Places::new(LONG_LISTS);
        for _ in 0..3 {
            let taken: Vec<Place> = (0..6).map(|_| places.take(ROOT).unwrap()).collect();
            taken.into_iter().for_each(|place| places.give(place));
            assert_eq!((places.taken(), places.by_user.len()), (0, 0));
        }
    }
}
