//! Identifiers of records in a map: counted users, and reuse only after a grace period.
//!
//! The grace is the trie's ([`GRACE_NS`]): a packet that has read an identifier is long gone before it means something else.

use std::{collections::VecDeque, hash::Hash};

use erdp_common::fib::build::GRACE_NS;
use foldhash::{HashMap, HashMapExt as _};

/// Identifiers 1 to `limit - 1` for values of `T`.
pub struct Ids<T> {
    by_value: HashMap<T, u32>,
    /// With the number of users.
    by_id: HashMap<u32, (T, u32)>,
    /// The value that was asked for last: most often also the next one's, and to be compared with is cheaper than to be hashed.
    last: Option<(T, u32)>,
    next: u32,
    limit: u32,
    retired: VecDeque<(u64, u32)>,
}

impl<T: Clone + Eq + Hash> Ids<T> {
    /// None in use; 0 is never handed out.
    pub fn new(limit: u32) -> Self {
        let (by_value, by_id) = (HashMap::new(), HashMap::new());
        Self { by_value, by_id, last: None, next: 1, limit, retired: VecDeque::new() }
    }

    /// The identifier of a value in use.
    pub fn get(&self, value: &T) -> Option<u32> {
        match &self.last {
            Some((last, id)) if last == value => Some(*id),
            _ => self.by_value.get(value).copied(),
        }
    }

    /// One more user of a value in use.
    pub fn reuse(&mut self, value: &T) -> Option<u32> {
        let id = self.get(value)?;
        self.by_id.get_mut(&id)?.1 += 1;
        if self.last.as_ref().is_none_or(|(_, last)| *last != id) {
            self.last = Some((value.clone(), id));
        }
        Some(id)
    }

    /// A new identifier with one user; `None`: none is left.
    pub fn acquire(&mut self, value: T, now_ns: u64) -> Option<u32> {
        let id = match self.retired.front() {
            Some((since, id)) if now_ns.saturating_sub(*since) >= GRACE_NS => {
                let id = *id;
                self.retired.pop_front();
                id
            }
            _ if self.next < self.limit => {
                self.next += 1;
                self.next - 1
            }
            _ => return None,
        };
        self.by_value.insert(value.clone(), id);
        self.by_id.insert(id, (value, 1));
        Some(id)
    }

    /// One user less; the value when it was the last.
    pub fn release(&mut self, id: u32, now_ns: u64) -> Option<T> {
        let (_, users) = self.by_id.get_mut(&id)?;
        *users -= 1;
        if *users > 0 {
            return None;
        }
        self.retired.push_back((now_ns, id));
        self.last.take_if(|(_, last)| *last == id);
        let (value, _) = self.by_id.remove(&id)?;
        self.by_value.remove(&value);
        Some(value)
    }

    /// The value of an identifier in use.
    pub fn value(&self, id: u32) -> Option<&T> {
        self.by_id.get(&id).map(|(value, _)| value)
    }

    /// Values in use and their identifiers.
    pub fn iter(&self) -> impl Iterator<Item = (&T, u32)> {
        self.by_value.iter().map(|(value, id)| (value, *id))
    }
}

#[cfg(test)]
mod tests {
    use super::{GRACE_NS, Ids};

    #[test]
    fn an_identifier_is_reused_only_after_its_last_user_and_the_grace_period() {
        let mut ids = Ids::new(3);
        let one = ids.acquire("a", 0).expect("room");
        assert_eq!(ids.reuse(&"a"), Some(one));
        assert_eq!(ids.release(one, 10), None, "one user is left");
        assert_eq!(ids.release(one, 20), Some("a"));
        let two = ids.acquire("b", 30).expect("room");
        assert_ne!(one, two);
        assert_eq!(ids.acquire("c", 30), None, "the grace period of the first has not passed");
        assert_eq!(ids.acquire("c", 20 + GRACE_NS), Some(one));
    }
}
