//! `erdp why`: why packets are dropped: by circuit and class where a policer does it, by reason elsewhere, each with the rate, since when, what to do about it
//! and who was seen.
//!
//! The command reads the daemon's counters, policers and samples twice and shows what lies between; the counters of the packet path say how many,
//! the samples of dropped frames who. What is shown is a function of two readings ([`account`]).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use erdp::control::{DEFAULT_SOCKET, Request, Topic, client::Client};
use erdp_common::{classify::Class, reason::DropReason};
use serde::Serialize;
use serde_json::Value;

use super::{
    config::seconds,
    show::{
        has_colours,
        table::{Cell, Column, Look, Note, Table, Tone, bits, duration},
        values::{came_in_on, endpoint, number, rows, sent_by, text},
    },
};
use crate::out;

/// What `erdp why` takes.
#[derive(clap::Args)]
pub struct WhyArguments {
    /// Show only this reason
    #[arg(long, value_parser = PossibleValuesParser::new(DropReason::ALL.iter().map(|reason| reason.label())))]
    reason: Option<String>,
    /// Show only this circuit: what its policers drop, and reasons whose samples came in over it
    #[arg(long)]
    circuit: Option<String>,
    /// Show only packets of this class (of those that policers drop)
    #[arg(long, value_parser = PossibleValuesParser::new(Class::ALL.iter().map(|class| class.label())))]
    class: Option<String>,
    /// Show only what is dropped now
    #[arg(long)]
    now: bool,
    /// Time over which rates are measured (1s, 1m)
    #[arg(long, default_value = "1s", value_parser = seconds)]
    over: u64,
    /// Go on: what was dropped in each interval, until the command is ended
    #[arg(long)]
    follow: bool,
    /// Control socket of the running router
    #[arg(long, default_value = DEFAULT_SOCKET, env = "ERDP_CONTROL")]
    control: PathBuf,
    /// JSON instead of a table; with --follow one array a line
    #[arg(long)]
    json: bool,
}

/// What the daemon counts at a moment.
struct Reading {
    at: Instant,
    counters: Value,
    policers: Value,
    samples: Value,
}

fn read(control: &Path) -> Result<Reading> {
    let mut client = Client::connect(control)?;
    let mut ask = |topic| client.ask(&Request::Show(topic));
    let (at, counters) = (Instant::now(), ask(Topic::Counters)?);
    Ok(Reading { at, counters, policers: ask(Topic::Policers)?, samples: ask(Topic::Drops)? })
}

/// Why packets of a kind are dropped.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct DropCause {
    reason: String,
    circuit: Option<String>,
    direction: Option<String>,
    class: Option<String>,
    /// Ever.
    packets: u64,
    bytes: u64,
    packets_per_s: f64,
    bits_per_s: f64,
    /// Since when it goes on, or went on last; `None`: not since the daemon's start.
    began_s: Option<u64>,
    last_s: Option<u64>,
    remedy: String,
    /// Where sampled frames came in, the most frequent first, with their number.
    seen_on: Vec<(String, usize)>,
    /// The last sampled frame.
    example: Option<String>,
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
struct Filter {
    reason: Option<String>,
    circuit: Option<String>,
    class: Option<String>,
    /// Only what is dropped now.
    now: bool,
}

impl Filter {
    fn takes(&self, drop: &DropCause) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|it| Some(it) == found)
        };
        let of_circuit = self.circuit.as_ref().is_none_or(|circuit| match &drop.circuit {
            Some(own) => own == circuit,
            None => drop.seen_on.iter().any(|(place, _)| is_of_circuit(place, circuit)),
        });
        is(&self.reason, Some(&drop.reason))
            && is(&self.class, drop.class.as_deref())
            && of_circuit
            && (!self.now || drop.packets_per_s > 0.0)
    }
}

/// An attachment towards an MSEE is called as its circuit, a slash and its peering.
fn is_of_circuit(attachment: &str, circuit: &str) -> bool {
    attachment.strip_prefix(circuit).is_some_and(|rest| rest.starts_with(['/', ' ']))
}

/// What is dropped, the fastest first, by two readings.
fn account(before: &Reading, now: &Reading, filter: &Filter) -> Vec<DropCause> {
    let seconds = now.at.saturating_duration_since(before.at).as_secs_f64().max(0.001);
    let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
    let mut drops = Vec::new();
    for (reason, tally) in now.counters["dropped"].as_object().into_iter().flatten() {
        let policed = reason == DropReason::Policed.label();
        if number(&tally["packets"]) == 0 || (policed && !rows(&now.policers).is_empty()) {
            continue;
        }
        let was = &before.counters["dropped"][reason];
        let bytes_per_s = per_second(number(&tally["bytes"]), number(&was["bytes"]));
        let (seen_on, example) = seen(&now.samples, reason);
        drops.push(DropCause {
            reason: reason.clone(),
            circuit: None,
            direction: None,
            class: None,
            packets: number(&tally["packets"]),
            bytes: number(&tally["bytes"]),
            packets_per_s: per_second(number(&tally["packets"]), number(&was["packets"])),
            bits_per_s: 8.0 * bytes_per_s,
            began_s: now.counters["dropping"][reason]["began_s"].as_u64(),
            last_s: now.counters["dropping"][reason]["last_s"].as_u64(),
            remedy: remedy(reason),
            seen_on,
            example,
        });
    }
    for (at, row) in
        rows(&now.policers).iter().enumerate().filter(|(_, row)| number(&row["dropped_packets"]) > 0)
    {
        let is_it = |was: &&Value| {
            ["circuit", "links", "direction", "class"].iter().all(|key| was[*key] == row[*key])
        };
        let was = rows(&before.policers)
            .get(at)
            .filter(is_it)
            .or_else(|| rows(&before.policers).iter().find(is_it));
        let grown = |key: &str| per_second(number(&row[key]), was.map_or(0, |was| number(&was[key])));
        let by_link =
            if row["links"] == "both" { String::new() } else { format!(" by {}", text(&row["links"])) };
        let circuit = text(&row["circuit"]);
        drops.push(DropCause {
            reason: DropReason::Policed.label().into(),
            direction: Some(text(&row["direction"]) + &by_link),
            class: Some(text(&row["class"])),
            packets: number(&row["dropped_packets"]),
            bytes: number(&row["dropped_bytes"]),
            packets_per_s: grown("dropped_packets"),
            bits_per_s: 8.0 * grown("dropped_bytes"),
            began_s: row["dropping"]["began_s"].as_u64(),
            last_s: row["dropping"]["last_s"].as_u64(),
            remedy: format!(
                "{circuit} has {} in each direction: {}",
                bits(number(&row["rate_bps"])),
                remedy(DropReason::Policed.label()).replacen("the circuit is full: ", "", 1)
            ),
            circuit: Some(circuit),
            seen_on: Vec::new(),
            example: None,
        });
    }
    drops.retain(|drop| filter.takes(drop));
    drops.sort_by(|a, b| b.packets_per_s.total_cmp(&a.packets_per_s).then(b.packets.cmp(&a.packets)));
    drops
}

fn remedy(reason: &str) -> String {
    let known = DropReason::ALL.iter().find(|it| it.label() == reason);
    known.map_or_else(
        || "a reason of another version: ask `erdp` of the daemon's version".into(),
        |it| it.remedy().into(),
    )
}

/// Where frames dropped for a reason came in, and the last one.
fn seen(samples: &Value, reason: &str) -> (Vec<(String, usize)>, Option<String>) {
    let of_reason = || rows(samples).iter().filter(|row| row["reason"] == *reason);
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for row in of_reason() {
        *places.entry(text(came_in_on(row))).or_default() += 1;
    }
    let mut places: Vec<(String, usize)> = places.into_iter().collect();
    places.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let example = of_reason().next_back().map(|row| {
        let to = if row["destination"].is_null() {
            String::new()
        } else {
            format!(" to {}", endpoint(&row["destination"], &row["destination_port"]))
        };
        format!(
            "{} from {}{to}, {} bytes, at {}",
            text(&row["protocol"]),
            endpoint(sent_by(row), &row["source_port"]),
            number(&row["length"]),
            text(&row["time"])
        )
    });
    (places, example)
}

/// As a table, with what to do and who was seen below each row.
fn table(drops: &[DropCause], notes: bool, look: Look) -> String {
    const COLUMNS: [Column; 9] = [
        Column::new("REASON"),
        Column::new("CIRCUIT").least(10),
        Column::new("DIRECTION").least(14),
        Column::new("CLASS"),
        Column::new("PACKETS"),
        Column::new("NOW"),
        Column::new("RATE").rank(1),
        Column::new("SINCE"),
        Column::new("LAST"),
    ];
    if drops.is_empty() {
        return "no drops\n".into();
    }
    let mut table = Table::new(&COLUMNS);
    let or_none = |value: &Option<String>| Cell::from(value.clone().unwrap_or_else(|| "-".into()));
    for drop in drops {
        let is_now = drop.packets_per_s > 0.0;
        let tone = if is_now { Tone::Bad } else { Tone::Dim };
        let cells = vec![
            Cell::toned(drop.reason.clone(), tone),
            or_none(&drop.circuit),
            or_none(&drop.direction),
            or_none(&drop.class),
            drop.packets.to_string().into(),
            Cell::toned(
                match drop.packets_per_s {
                    rate if rate >= 1.0 => format!("{rate:.0}/s"),
                    _ if is_now => "<1/s".into(),
                    _ => "-".into(),
                },
                tone,
            ),
            if is_now { bits(drop.bits_per_s as u64).into() } else { Cell::from("-") },
            match drop.began_s {
                Some(began_s) => duration(began_s),
                None if is_now => "now".into(),
                None => "before the start".into(),
            }
            .into(),
            if is_now {
                Cell::from("now")
            } else {
                drop.last_s.map_or_else(|| "-".into(), |it| duration(it) + " ago").into()
            },
        ];
        table.row(cells, if notes { below(drop) } else { Vec::new() });
    }
    table.text(look)
}

fn below(drop: &DropCause) -> Vec<Note> {
    let note = |label: &str, text: String| Note { label: label.into(), text, tone: Tone::Plain };
    let mut notes = vec![note("next", drop.remedy.clone())];
    if !drop.seen_on.is_empty() {
        let all: usize = drop.seen_on.iter().map(|(_, count)| count).sum();
        let places = drop.seen_on.iter().take(3).map(|(place, count)| format!("{count} on {place}"));
        notes.push(note("seen", format!("of {all} samples {}", places.collect::<Vec<_>>().join(", "))));
    }
    notes.extend(drop.example.clone().map(|example| note("last", example)));
    notes
}

/// Says why packets are dropped, once or again and again.
pub fn run(arguments: &WhyArguments) -> Result<()> {
    let look = Look { wide: false, colours: has_colours() };
    let WhyArguments { reason, circuit, class, now, over, follow, control, json } = arguments;
    let filter = Filter {
        reason: reason.clone(),
        circuit: circuit.clone(),
        class: class.clone(),
        now: *now || *follow,
    };
    let mut before = read(control)?;
    let mut is_first = true;
    loop {
        thread::sleep(Duration::from_secs(*over));
        let reading = match read(control) {
            Ok(reading) => reading,
            // The daemon may be restarting.
            Err(error) if *follow && !out::is_closed() => {
                eprintln!("error: {error:#}; asking again in {over} s");
                continue;
            }
            Err(error) => return Err(error),
        };
        let drops = account(&before, &reading, &filter);
        if *json {
            println!("{}", serde_json::to_string(&drops)?);
        } else if *follow {
            // The remedies once; a quiet interval is one word.
            print!(
                "{}: {}",
                jiff::Timestamp::now().strftime("%H:%M:%S"),
                if drops.is_empty() { "" } else { "\n" }
            );
            print!("{}", table(&drops, is_first, look));
            is_first &= drops.is_empty();
        } else {
            print!("{}", table(&drops, true, look));
        }
        if !*follow || out::is_closed() {
            return Ok(());
        }
        before = reading;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::operator::show::tests::{answer, golden};

    /// Two readings of a lab, two seconds apart.
    fn readings() -> (Reading, Reading) {
        let at = Instant::now();
        let reading = |at, counters, policers| Reading { at, counters, policers, samples: answer("drops") };
        let (mut counters, mut policers) = (answer("counters"), answer("policers"));
        counters["dropped"]["foreign-source"] = json!({"packets": 4, "bytes": 400});
        counters["dropped"]["policed"] = json!({"packets": 8_123, "bytes": 12_184_500});
        let before = reading(at, counters.clone(), policers.clone());
        counters["dropped"]["no-route"] = json!({"packets": 57, "bytes": 3_420});
        counters["dropping"] = json!({"no-route": {"began_s": 192, "last_s": 1}, "foreign-source": {"began_s": 4_000, "last_s": 3_720}});
        policers[0]["dropped_packets"] = 9_123.into();
        policers[0]["dropped_bytes"] = 13_684_500.into();
        policers[0]["dropping"] = json!({"began_s": 65, "last_s": 0});
        (before, reading(at + Duration::from_secs(2), counters, policers))
    }

    #[test]
    fn drops_have_circuit_class_reason_rate_remedy_and_who_was_seen() {
        let (before, now) = readings();
        let drops = account(&before, &now, &Filter::default());
        golden("why", &table(&drops, true, Look::default()));
        let shown: Vec<_> =
            drops.iter().map(|it| (it.reason.as_str(), it.packets_per_s, it.class.as_deref())).collect();
        assert_eq!(
            shown,
            [("policed", 500.0, Some("default")), ("no-route", 20.0, None), ("foreign-source", 0.0, None)]
        );
        assert_eq!(drops[0].bits_per_s, 6_000_000.0);
    }

    #[test]
    fn filters_leave_what_was_asked_for() {
        let (before, now) = readings();
        let left = |filter: Filter| -> Vec<String> {
            account(&before, &now, &filter).into_iter().map(|it| it.reason).collect()
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(left(Filter { reason: some("no-route"), ..Filter::default() }), ["no-route"]);
        assert_eq!(left(Filter { circuit: some("lab"), ..Filter::default() }), ["policed", "foreign-source"]);
        assert_eq!(left(Filter { circuit: some("la"), ..Filter::default() }), [""; 0]);
        assert_eq!(left(Filter { class: some("voice"), ..Filter::default() }), [""; 0]);
        assert_eq!(left(Filter { now: true, ..Filter::default() }), ["policed", "no-route"]);
        assert_eq!(table(&[], true, Look::default()), "no drops\n");
    }
}
