//! The numbers that requests may carry. Whoever may write to the socket may send any, and none may bring the controller down: each
//! request is judged here before it reaches the loop.

use std::ops::RangeInclusive;

use super::{Configuring, Drilling, Peering, Request};
use crate::drill;

/// For how many seconds a change may wait to be confirmed: at most a day.
pub const CONFIRM_S: RangeInclusive<u64> = 1..=86_400;
/// How long a drain may take, in milliseconds: at most ten minutes.
pub const DRAIN_MS: RangeInclusive<u64> = 0..=600_000;

impl Request {
    /// The sentence that refuses a request with a number that is out of its range.
    pub fn out_of_range(&self) -> Option<String> {
        let (what, number, range) = match self {
            Request::Config(Configuring::Apply { confirm_s: Some(seconds), .. }) => {
                ("seconds until a confirmation", *seconds, CONFIRM_S)
            }
            Request::Peering(Peering::Disable { drain_ms, .. }) => {
                ("milliseconds of a drain", *drain_ms, DRAIN_MS)
            }
            Request::Drill(Drilling::Begin { seconds, .. }) => {
                ("seconds of a drill", *seconds, drill::SECONDS)
            }
            // Their numbers are bounded by their types or judged with the words beside them (`CircuitChange`).
            Request::Set(_) | Request::Explain(_) | Request::HandOver { .. } => return None,
            Request::Routes(_) | Request::Paths(_) | Request::Peer { .. } => return None,
            Request::Show(_)
            | Request::Metrics
            | Request::Ready
            | Request::Load { .. }
            | Request::Restart => return None,
            Request::Config(_) | Request::Peering(_) | Request::Drill(_) => return None,
        };
        let (from, to) = (range.start(), range.end());
        (!range.contains(&number)).then(|| format!("{number} {what}: from {from} to {to} are possible"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{File, Topic};
    use super::*;

    #[test]
    fn a_number_that_no_client_of_ours_sends_is_refused_before_the_controller_sees_it() {
        let file = || File { path: "erdp.toml".into(), text: String::new() };
        let apply = |seconds| {
            Request::Config(Configuring::Apply {
                file: file(),
                confirm_s: seconds,
                no_flap: false,
                force: false,
            })
        };
        let drain = |ms| {
            Request::Peering(Peering::Disable {
                name: "x".into(),
                text: String::new(),
                drain_ms: ms,
                force: false,
            })
        };
        let drill = |seconds| Request::Drill(Drilling::Begin { link: "x".into(), seconds, force: false });
        for fits in [apply(None), apply(Some(1)), apply(Some(86_400)), drain(0), drain(600_000), drill(1)] {
            assert_eq!(fits.out_of_range(), None, "{fits:?}");
        }
        for out in [
            apply(Some(0)),
            apply(Some(86_401)),
            apply(Some(u64::MAX)),
            drain(600_001),
            drain(u64::MAX),
            drill(0),
            drill(u64::MAX),
        ] {
            let said = out.out_of_range();
            assert!(said.as_ref().is_some_and(|said| said.contains("are possible")), "{out:?}: {said:?}");
        }
        assert_eq!(Request::Show(Topic::Links).out_of_range(), None);
    }
}
