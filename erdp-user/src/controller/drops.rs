//! The last dropped frames that the program has sampled: a bounded list, decoded to headers on the way in.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use erdp_common::{abi::DropSample, reason::DropReason};
use serde_json::{Value, json};

use crate::{dataplane::sample::Headers, fib::Topology};

/// Samples that are kept; an older one gives way to a newer one.
pub const KEPT_MAX: usize = 256;

/// Samples, oldest first.
#[derive(Debug, Default)]
pub struct Drops(VecDeque<Kept>);

#[derive(Debug)]
struct Kept {
    at: SystemTime,
    /// Without the frame's bytes, which may hold the start of a payload.
    context: DropSample,
    headers: Headers,
}

impl Drops {
    /// Keeps a sample. `now_ns` and `now` are the same moment on the monotonic clock, which the sample's time is of, and on the
    /// wall's.
    pub fn keep(&mut self, sample: &DropSample, now_ns: u64, now: SystemTime) {
        let age = Duration::from_nanos(now_ns.saturating_sub(sample.time_ns));
        let head = sample.head.get(..usize::from(sample.captured)).unwrap_or(&sample.head);
        let headers = Headers::of(head);
        if self.0.len() == KEPT_MAX {
            self.0.pop_front();
        }
        let context = DropSample { head: DropSample::EMPTY.head, ..*sample };
        self.0.push_back(Kept { at: now.checked_sub(age).unwrap_or(now), context, headers });
    }

    /// One row for each sample, oldest first.
    pub fn show(&self, topology: &Topology) -> Value {
        self.0.iter().map(|kept| row(kept, topology)).collect()
    }
}

fn row(kept: &Kept, topology: &Topology) -> Value {
    let Kept { at, context, headers } = kept;
    let reason = DropReason::from_number(context.reason);
    let attachment = topology.attachments().find(|facts| facts.id.number() == context.attachment);
    let interface = topology.interfaces().get(&context.ifindex).map(|name| (*name).to_owned());
    let time = jiff::Timestamp::try_from(*at).ok().map(|time| format!("{time:.3}"));
    json!({
        "time": time,
        "reason": reason.map(DropReason::label),
        "interface": interface.unwrap_or_else(|| format!("index {}", context.ifindex)),
        "attachment": attachment.map(|facts| &facts.name),
        "source": headers.source,
        "destination": headers.destination,
        "protocol": headers.protocol,
        "source_port": headers.source_port,
        "destination_port": headers.destination_port,
        "dscp": headers.dscp,
        "ttl": headers.ttl,
        "length": context.len,
        "vlans": headers.vlans,
        "source_mac": headers.source_mac,
        "group": context.group,
        "next_hop": context.next_hop,
        "remedy": reason.map(DropReason::remedy),
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use erdp_common::{abi::DropSample, reason::DropReason};

    use super::{Drops, KEPT_MAX};
    use crate::fib::Topology;

    #[test]
    fn the_newest_samples_are_kept_with_the_time_of_the_drop() {
        let mut drops = Drops::default();
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for second in 0..KEPT_MAX as u64 + 10 {
            let time_ns = second * 1_000_000_000;
            let sample =
                DropSample { time_ns, reason: DropReason::NoRoute as u8, len: 60, ..DropSample::EMPTY };
            // Read half a second after it was dropped.
            drops.keep(&sample, time_ns + 500_000_000, now + Duration::from_secs(second));
        }
        let rows = drops.show(&Topology::default());
        let rows = rows.as_array().expect("rows");
        assert_eq!(rows.len(), KEPT_MAX);
        assert_eq!(rows[0]["time"], "2001-09-09T01:46:49.500Z", "ten seconds after the first, less the half");
        assert_eq!(rows[0]["reason"], "no-route");
        assert_eq!(rows[0]["remedy"], DropReason::NoRoute.remedy());
        assert_eq!(rows[0]["attachment"], serde_json::Value::Null);
    }

    #[test]
    fn the_bytes_of_a_frame_are_not_kept() {
        let mut drops = Drops::default();
        let sample = DropSample { captured: 96, head: [0x5a; 96], ..DropSample::EMPTY };
        drops.keep(&sample, 0, UNIX_EPOCH);
        assert!(drops.0.iter().all(|kept| kept.context.head == DropSample::EMPTY.head));
    }
}
