//! Which bandwidths Microsoft sells (requirement A3), by kind of circuit. Others are warned about and used all the same: the list is
//! Microsoft's to change.

use crate::config::{BitsPerSecond, CircuitKind, Sku};

/// The day on which [`SOLD_MBPS`] was compared with what Microsoft publishes.
pub const AS_OF: &str = "2026-11-21";

/// Megabits a second by kind of circuit; a provider's 10 Mb/s are no longer sold and still in use.
pub const SOLD_MBPS: [(CircuitKind, &[u64]); 3] = [
    (CircuitKind::Provider, &[10, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000]),
    (CircuitKind::Direct10G, &[1_000, 2_000, 5_000, 10_000]),
    (CircuitKind::Direct100G, &[5_000, 10_000, 40_000, 100_000]),
];

/// The least that is sold with the SKU `local`.
pub const LOCAL_FROM: BitsPerSecond = BitsPerSecond(1_000_000_000);

/// Reason and remedy of the warning about a bandwidth that is not sold as this kind of circuit and with this SKU; without a kind, as any.
pub fn unsold(bandwidth: BitsPerSecond, kind: Option<CircuitKind>, sku: Sku) -> Option<(String, String)> {
    let kinds = SOLD_MBPS.iter().filter(|(it, _)| kind.is_none_or(|kind| *it == kind));
    let is_sold = kinds.flat_map(|(_, list)| *list).any(|mbps| mbps * 1_000_000 == bandwidth.0);
    if is_sold && is_least(bandwidth, sku) {
        return None;
    }
    let what = kind.map_or(String::new(), |kind| format!(" of kind {}", kind.as_str()));
    let what = if sku == Sku::Local { format!("{what} with the SKU local") } else { what };
    let remedy = format!("use what was bought: {}", sold(kind, sku));
    Some((format!("Microsoft sells no circuit of {bandwidth}{what} (A3)"), remedy))
}

/// The bandwidths that are sold as this kind of circuit and with this SKU, as a list for people; without a kind, those of each.
pub fn sold(kind: Option<CircuitKind>, sku: Sku) -> String {
    let lists = SOLD_MBPS.iter().filter(|(it, _)| kind.is_none_or(|kind| *it == kind)).map(|(kind, list)| {
        let sold = list.iter().map(|mbps| BitsPerSecond(mbps * 1_000_000)).filter(|it| is_least(*it, sku));
        let sold: Vec<String> = sold.map(|it| it.to_string()).collect();
        format!("{} {}", kind.as_str(), sold.join(", "))
    });
    format!("{} (10M: legacy)", lists.collect::<Vec<_>>().join("; "))
}

fn is_least(bandwidth: BitsPerSecond, sku: Sku) -> bool {
    sku != Sku::Local || bandwidth >= LOCAL_FROM
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a3_each_kind_of_circuit_has_its_own_bandwidths_and_local_begins_at_1g() {
        use CircuitKind::{Direct10G, Direct100G, Provider};
        let rows = [
            // Kind, SKU, what is sold, what is not (in Mb/s).
            (None, Sku::Standard, &[10, 50, 500, 1_000, 10_000, 40_000, 100_000][..], &[20, 3_000][..]),
            (Some(Provider), Sku::Standard, &[10, 50, 100, 200, 500, 1_000, 10_000], &[40_000, 100_000]),
            (Some(Direct10G), Sku::Premium, &[1_000, 2_000, 5_000, 10_000], &[50, 500, 40_000]),
            (Some(Direct100G), Sku::Standard, &[5_000, 10_000, 40_000, 100_000], &[1_000, 2_000]),
            (Some(Provider), Sku::Local, &[1_000, 10_000], &[50, 500]),
            (None, Sku::Local, &[1_000, 100_000], &[10, 500]),
            (Some(Direct100G), Sku::Local, &[5_000], &[1_000]),
        ];
        for (kind, sku, sold, not) in rows {
            for (mbps, is_sold) in sold.iter().map(|it| (it, true)).chain(not.iter().map(|it| (it, false))) {
                let said = unsold(BitsPerSecond(mbps * 1_000_000), kind, sku);
                assert_eq!(said.is_none(), is_sold, "{kind:?} {sku:?} {mbps}: {said:?}");
            }
        }
        let (reason, remedy) = unsold(BitsPerSecond(500_000_000), Some(Direct10G), Sku::Standard).unwrap();
        assert!(reason.contains("500M of kind direct-10g") && reason.contains("A3"), "{reason}");
        assert!(remedy.contains("direct-10g 1G, 2G, 5G, 10G") && !remedy.contains("40G"), "{remedy}");
    }
}
