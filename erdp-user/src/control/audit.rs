//! What is logged of the control socket: each order, with who gave it and what became of it; of the questions, one of each kind and user in
//! a minute.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use super::{Drilling, Reply, Request, asked::Asker, places::Full};

/// Between two lines about questions of one kind by one user.
const EVERY: Duration = Duration::from_secs(60);
/// Users and kinds that are kept apart: more users than that are no operators.
const KEPT: usize = 1_024;

/// When questions were logged last, and how many were not.
#[derive(Debug, Default)]
pub struct Questions(HashMap<(u32, &'static str), (Instant, u64)>);

impl Questions {
    /// A question: whether it is logged, and how many of its kind were not before it.
    pub fn admit(&mut self, user: u32, kind: &'static str, now: Instant) -> Option<u64> {
        if let Some((logged, left_out)) = self.0.get_mut(&(user, kind)) {
            if now.saturating_duration_since(*logged) < EVERY {
                *left_out = left_out.saturating_add(1);
                return None;
            }
            *logged = now;
            return Some(std::mem::take(left_out));
        }
        if self.0.len() >= KEPT {
            self.0.retain(|_, (logged, _)| now.saturating_duration_since(*logged) < EVERY);
        }
        if self.0.len() >= KEPT {
            return None;
        }
        self.0.insert((user, kind), (now, 0));
        Some(0)
    }
}

/// The trail of one socket.
#[derive(Debug, Default)]
pub struct Trail(Mutex<Questions>);

impl Trail {
    /// A request has come in.
    pub fn asked(&self, asker: &Asker, request: &Request) {
        let Asker { user, process, .. } = *asker;
        let what = request.summary();
        // A command that runs a drill asks four times a second how it goes.
        let is_repeated = matches!(request, Request::Drill(Drilling::Watch));
        if request.is_order() && !is_repeated {
            return tracing::info!(user, process, what, "order over the control socket");
        }
        // A thread that has panicked has left counts, which are as good as others.
        let mut questions = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(left_out) = questions.admit(user, request.kind(), Instant::now()) {
            tracing::info!(user, process, what, left_out, "question over the control socket");
        }
    }

    /// A connection found no place.
    pub fn turned_away(&self, asker: &Asker, why: &Full) {
        let Asker { user, process, .. } = *asker;
        let mut questions = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(left_out) = questions.admit(user, "turned away", Instant::now()) {
            tracing::warn!(user, process, %why, left_out, "a control connection is turned away");
        }
    }

    /// It was answered.
    pub fn answered(&self, asker: &Asker, request: &Request, reply: &Reply) {
        let (true, Reply::Error(why)) = (request.is_order(), reply) else { return };
        let Asker { user, process, .. } = *asker;
        tracing::warn!(user, process, what = request.summary(), why, "the order is refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Peering, Topic};

    #[test]
    fn questions_of_a_kind_are_logged_once_a_minute_for_each_user_and_counted() {
        let mut questions = Questions::default();
        let now = Instant::now();
        assert_eq!(questions.admit(1, "show", now), Some(0));
        assert_eq!(questions.admit(1, "explain", now), Some(0));
        assert_eq!(questions.admit(2, "show", now), Some(0));
        assert_eq!(questions.admit(1, "show", now), None);
        assert_eq!(questions.admit(1, "show", now + EVERY / 2), None);
        assert_eq!(questions.admit(1, "show", now + EVERY), Some(2));
    }

    #[test]
    fn the_trail_is_bounded_however_many_users_ask() {
        let mut questions = Questions::default();
        let now = Instant::now();
        let admitted = (0..10_000).filter(|user| questions.admit(*user, "show", now).is_some()).count();
        assert_eq!((admitted, questions.0.len()), (KEPT, KEPT));
        assert_eq!(questions.admit(20_000, "show", now + EVERY), Some(0), "those of before are over");
    }

    #[test]
    fn what_changes_or_keeps_something_going_is_an_order_and_named_whole() {
        let disable = Request::Peering(Peering::Disable {
            name: "lab/private\nforged line".into(),
            text: "rack 7".into(),
            drain_ms: 0,
            force: false,
        });
        assert!(disable.is_order());
        let said = disable.summary();
        assert!(said.contains("rack 7") && !said.contains('\n'), "{said}");
        assert!(Request::Drill(Drilling::Watch).is_order());
        assert!(!Request::Show(Topic::Routes).is_order());
    }
}
