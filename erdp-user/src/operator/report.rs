//! A forecast in words: `erdp whatif` for people.

use std::fmt::Write as _;

use erdp::drill::whatif::{Class, Direction, Forecast};

use super::show::table::bits;

/// The forecast as lines.
pub fn forecast(forecast: &Forecast) -> String {
    let Forecast { circuit, link, rate_bps, burst, over_s, directions, orphans, only_here } = forecast;
    let mut text = format!(
        "If {circuit}/{link} failed now (load of the last {over_s:.1} s; {} bought, {burst}):\n",
        bits(*rate_bps)
    );
    for orphan in orphans {
        let _ = writeln!(text, "All traffic of {orphan}, would be lost.");
    }
    if only_here.0 > 0 {
        let _ = writeln!(
            text,
            "Prefixes with a path over this link only: {}, such as {}.",
            only_here.0,
            only_here.1.join(", ")
        );
    }
    directions.iter().for_each(|it| text += &direction(it));
    text
}

fn direction(it: &Direction) -> String {
    let name = it.direction.replace("microsoft", "Microsoft").replace('-', " ");
    let mut text = format!(
        "{name}: {} would move; the remaining link would be offered {} and carries {} permanently",
        bits(it.moves_bps),
        bits(it.offered_bps),
        bits(it.sustained_bps)
    );
    if it.peak_bps > it.sustained_bps {
        let _ = write!(text, " and {} in bursts", bits(it.peak_bps));
    }
    text += ".\n";
    let dropped: Vec<&Class> = it.classes.iter().filter(|class| class.dropped_bps > 0).collect();
    for class in &dropped {
        let percent = class.dropped_bps as f64 * 100.0 / class.offered_bps.max(1) as f64;
        let _ = writeln!(
            text,
            "  {}: {} of {} would be dropped ({percent:.0} %; {} already now)",
            class.class,
            bits(class.dropped_bps),
            bits(class.offered_bps),
            bits(class.dropped_now_bps)
        );
    }
    match it.burst_s {
        Some(seconds) => {
            let _ =
                writeln!(text, "  from {seconds:.1} s after the failure: until then burst credit covers it");
        }
        None if dropped.is_empty() => text += "  no drops here\n",
        None => {}
    }
    if it.msee_drops_percent > 0.0 {
        let _ = writeln!(
            text,
            "  Microsoft's policer does not distinguish classes: it would drop {:.0} % of every class, voice included",
            it.msee_drops_percent
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(dropped: [u64; 2]) -> Forecast {
        let class = |class: &str, offered_bps, dropped_bps| Class {
            class: class.into(),
            offered_bps,
            dropped_now_bps: 0,
            dropped_bps,
        };
        Forecast {
            circuit: "contoso".into(),
            link: "primary".into(),
            rate_bps: 1_000_000_000,
            burst: "peak-2x".into(),
            over_s: 5.0,
            directions: vec![Direction {
                direction: "to-microsoft".into(),
                moves_bps: 600_000_000,
                offered_bps: 1_400_000_000,
                sustained_bps: 1_000_000_000,
                peak_bps: 2_000_000_000,
                burst_s: (dropped != [0, 0]).then_some(2.5),
                classes: vec![
                    class("default", 1_200_000_000, dropped[0]),
                    class("voice", 200_000_000, dropped[1]),
                ],
                msee_drops_percent: if dropped == [0, 0] { 0.0 } else { 28.6 },
            }],
            orphans: vec![],
            only_here: (1, vec!["10.9.0.0/16".into()]),
        }
    }

    #[test]
    fn the_class_that_would_be_dropped_is_named_with_how_much_and_from_when_on() {
        let text = forecast(&sample([400_000_000, 0]));
        for words in [
            "If contoso/primary failed now",
            "1.00 Gb/s bought, peak-2x",
            "Prefixes with a path over this link only: 1, such as 10.9.0.0/16",
            "to Microsoft: 600.0 Mb/s would move; the remaining link would be offered 1.40 Gb/s",
            "default: 400.0 Mb/s of 1.20 Gb/s would be dropped (33 %",
            "from 2.5 s after",
            "29 % of every class, voice included",
        ] {
            assert!(text.contains(words), "{words:?} is not in\n{text}");
        }
        assert!(!text.contains("voice: "), "{text}");
        assert!(forecast(&sample([0, 0])).contains("no drops here"));
    }
}
