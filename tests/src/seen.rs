//! Sessions as their peers show them: whether one has changed is theirs to say, not the edge's.

/// A session as its peer shows it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Everything but times.
    pub what: String,
    /// BIRD's time of the last change, in milliseconds of the day.
    pub since_ms: u64,
}

impl Seen {
    /// A line of BIRD's `show protocols` or `show bfd sessions`, with who has said it.
    pub fn by_bird(namespace: &str, line: &str) -> Seen {
        let (mut words, mut since_ms) = (Vec::new(), 0);
        for word in line.split_whitespace() {
            let digits: Option<Vec<u64>> = word.split([':', '.']).map(|part| part.parse().ok()).collect();
            match digits.as_deref() {
                Some([hours, minutes, seconds, millis]) if word.contains(':') => {
                    since_ms = ((hours * 60 + minutes) * 60 + seconds) * 1_000 + millis;
                }
                _ => words.push(word),
            }
        }
        Seen { what: format!("BIRD {namespace}: {}", words.join(" ")), since_ms }
    }

    /// BIRD works a time of the clock out of its monotonic one each time it is asked, and of the clock as it last looked at it: on a busy machine
    /// some milliseconds beside it. A session that comes back takes longer.
    pub fn is(&self, other: &Seen) -> bool {
        self.what == other.what && self.since_ms.abs_diff(other.since_ms) <= 50
    }

    /// Whether nothing has changed of all of them.
    pub fn are(these: &[Seen], those: &[Seen]) -> bool {
        these.len() == those.len() && these.iter().zip(those).all(|(one, other)| one.is(other))
    }
}

#[cfg(test)]
mod tests {
    use super::Seen;

    #[test]
    fn another_time_or_another_word_is_a_change_and_a_neighbours_address_is_no_time() {
        let line = "edge4      BGP        ---        up     10:00:01.250  Established";
        let seen = Seen::by_bird("ce", line);
        assert_eq!(
            (seen.what.as_str(), seen.since_ms),
            ("BIRD ce: edge4 BGP --- up Established", 36_001_250)
        );
        assert!(seen.is(&Seen::by_bird("ce", &line.replace("1.250", "1.251"))));
        assert!(!seen.is(&Seen::by_bird("ce", &line.replace("1.250", "1.350"))));
        assert!(!seen.is(&Seen::by_bird("ce", &line.replace("Established", "Idle"))));
        assert!(!Seen::are(std::slice::from_ref(&seen), &[]));
        let bfd = Seen::by_bird("msee1", "198.18.0.1  edge0  Up  10:00:01.250  0.300  0.900");
        assert_eq!(
            (bfd.what.as_str(), bfd.since_ms),
            ("BIRD msee1: 198.18.0.1 edge0 Up 0.300 0.900", 36_001_250)
        );
    }
}
