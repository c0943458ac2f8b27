//! Maintenance at Microsoft (requirement B7): before an MSEE is worked on, it repeats its own AS eight times in what it announces, so
//! that traffic goes the other way while everything still works.

use crate::bgp::PathAttributes;
use crate::config::MICROSOFT_ASN;

/// How often the AS stands in front of the path of a route that is to be spared.
pub const DRAIN_REPEATS: usize = 8;

/// Whether a route says that its link is about to be drained.
pub fn is_draining(attributes: &PathAttributes) -> bool {
    attributes.as_path.asns().take_while(|asn| *asn == MICROSOFT_ASN).take(DRAIN_REPEATS).count()
        == DRAIN_REPEATS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::AsPath;

    #[test]
    fn b7_eight_times_microsofts_as_in_front_is_a_drain_and_seven_or_elsewhere_is_none() {
        let row = |path: Vec<u32>| {
            let mut attributes = PathAttributes::originated([198, 18, 0, 2].into());
            attributes.as_path = AsPath::sequence(path);
            is_draining(&attributes)
        };
        assert!(row([12_076; 8].to_vec()) && row([[12_076; 9].as_slice(), &[8_075]].concat()));
        assert!(!row([12_076; 7].to_vec()) && !row([[8_075].as_slice(), &[12_076; 8]].concat()));
    }
}
