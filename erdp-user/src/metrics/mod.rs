//! What is measured, under which name, and how it is written: OpenMetrics text for Prometheus and its like.
//!
//! [`Metric`] is the catalogue: names are append-only, and `docs/metrics.md` has the same list (a test compares them). The controller
//! fills a [`Page`] when somebody wants one and puts it on the [`board`]; [`server`] hands it out over HTTP; [`episodes`] says since when something is counted; [`rates`] turns growing counts into the per-second values
//! that Azure's own metrics are, so that graphs of both sides can be laid over each other (rules G).

pub mod board;
pub mod episodes;
pub mod format;
pub mod rates;
pub mod server;

use std::{collections::BTreeMap, sync::atomic::AtomicU64};

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its samples have the suffix `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    /// The word for it in OpenMetrics and in the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        }
    }
}

macro_rules! metrics {
    ($($variant:ident = $name:literal, $kind:ident, [$($label:literal),*], $help:literal;)*) => {
        /// Everything that is measured. Append only: names are what alarms and graphs of others hang on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Metric { $(#[doc = $help] $variant,)* }

        impl Metric {
            /// Every metric, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name, without the suffix that samples of counters have.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The name of its samples: a counter's has a suffix.
            pub fn sample(self) -> String {
                match self.kind() {
                    Kind::Counter => format!("{}_total", self.name()),
                    Kind::Gauge => self.name().to_owned(),
                }
            }

            /// How it behaves.
            pub const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)* }
            }

            /// The names of its labels, in the order in which [`Page::put`] takes their values.
            pub const fn labels(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($label),*],)* }
            }

            /// One sentence about it.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }
    };
}

metrics! {
    BuildInfo = "erdp_build_info", Gauge, ["version"], "Always 1; the label is the running version";
    Uptime = "erdp_uptime_seconds", Gauge, [], "Seconds since the controller started";
    AttachmentReceivedPackets = "erdp_attachment_received_packets", Counter, ["attachment", "interface", "side"], "Frames that came in on an attachment";
    AttachmentReceivedBytes = "erdp_attachment_received_bytes", Counter, ["attachment", "interface", "side"], "Bytes that came in on an attachment, from the Ethernet header on";
    AttachmentSentPackets = "erdp_attachment_sent_packets", Counter, ["attachment", "interface", "side"], "Frames that were redirected to an attachment";
    AttachmentSentBytes = "erdp_attachment_sent_bytes", Counter, ["attachment", "interface", "side"], "Bytes that were redirected to an attachment, from the Ethernet header on";
    DroppedPackets = "erdp_dropped_packets", Counter, ["reason"], "Frames that were dropped, by reason; `erdp show drops` has the remedy of each";
    DroppedBytes = "erdp_dropped_bytes", Counter, ["reason"], "Bytes of the frames that were dropped, by reason";
    PuntedPackets = "erdp_punted_packets", Counter, ["kind"], "Frames handed to the edge's own kernel, by kind";
    OriginatedPackets = "erdp_originated_packets", Counter, [], "ICMP errors that the packet path made itself";
    FromKernelPackets = "erdp_from_kernel_packets", Counter, [], "Frames of the edge's own kernel that left through control ports";
    TransmitLostPackets = "erdp_transmit_lost_packets", Counter, [], "Frames that were redirected and that the link did not take";
    UnexplainedPackets = "erdp_unexplained_packets", Gauge, [], "Frames that no verdict accounts for; anything but 0 is a fault of ERDP";
    CircuitPackets = "erdp_circuit_packets", Counter, ["circuit", "links", "direction", "class", "passage"], "Packets that a circuit's policer has judged, by class and outcome";
    CircuitBytes = "erdp_circuit_bytes", Counter, ["circuit", "links", "direction", "class", "passage"], "IP bytes that a circuit's policer has judged, by class and outcome";
    CircuitBandwidth = "erdp_circuit_bandwidth_bits_per_second", Gauge, ["circuit"], "What each direction of a circuit is limited to now";
    CircuitSlaValid = "erdp_circuit_sla_valid", Gauge, ["circuit"], "1 while both links of a circuit are up on this box or the other one's are not known to be down (B1)";
    LinkUp = "erdp_link_up", Gauge, ["circuit", "link", "interface"], "1 while a circuit's link on this box has carrier";
    InterfaceUp = "erdp_interface_up", Gauge, ["attachment", "interface"], "1 while an attachment towards the customer or a service has carrier";
    SessionEstablished = "erdp_session_established", Gauge, ["peer", "attachment", "asn", "side"], "1 while a BGP session is Established";
    SessionInService = "erdp_session_in_service", Gauge, ["peer", "attachment"], "0 while a session is out of service by an order, a drill or a disabled circuit";
    SessionUptime = "erdp_session_uptime_seconds", Gauge, ["peer", "attachment"], "Seconds since a BGP session was established; 0 while it is not";
    SessionReceived = "erdp_session_received_prefixes", Gauge, ["peer", "attachment"], "Prefixes that a peer announces";
    SessionRefused = "erdp_session_refused_prefixes", Gauge, ["peer", "attachment"], "Those of a peer's prefixes that policy refuses";
    SessionAdvertised = "erdp_session_advertised_prefixes", Gauge, ["peer", "attachment"], "Prefixes that we announce to a peer";
    SessionFaults = "erdp_session_update_faults", Counter, ["peer", "attachment", "reaction"], "Faults in a peer's UPDATE messages, by what was done about them (RFC 7606): attribute-discard, afi-safi-disable, treat-as-withdraw, session-reset";
    Routes = "erdp_routes", Gauge, ["domain"], "Prefixes that a routing domain reaches";
    FibInUse = "erdp_fib_blocks_in_use", Gauge, [], "KiB of the forwarding trie in use";
    FibSize = "erdp_fib_blocks", Gauge, [], "KiB of the forwarding trie in all";
    RoutesWithoutRoom = "erdp_routes_without_room", Gauge, [], "Routes that the forwarding trie had no room for; they are tried again";
    ArpAvailability = "ArpAvailability", Gauge, ["circuit", "PeeringType", "Peer"], "Azure's name: 100 while the MSEE's MAC address is known by ARP (or neighbour discovery), else 0";
    BgpAvailability = "BgpAvailability", Gauge, ["circuit", "PeeringType", "Peer"], "Azure's name: 100 while the BGP session with the MSEE is Established, else 0";
    BitsIn = "BitsInPerSecond", Gauge, ["circuit", "PeeringType", "DeviceRole"], "Azure's name: bits a second into Azure (from us to the MSEE), over the last minute";
    BitsOut = "BitsOutPerSecond", Gauge, ["circuit", "PeeringType", "DeviceRole"], "Azure's name: bits a second out of Azure (from the MSEE to us), over the last minute";
    QosDropBitsIn = "QosDropBitsInPerSecond", Gauge, ["circuit"], "Azure's name: bits a second towards Azure that the circuit's policer dropped here, over the last minute";
    QosDropBitsOut = "QosDropBitsOutPerSecond", Gauge, ["circuit"], "Azure's name: bits a second from Azure that the circuit's policer dropped here, over the last minute";
    AdminState = "AdminState", Gauge, ["circuit", "Link"], "Azure's name: 1 if the circuit is enabled here, else 0";
    LineProtocol = "LineProtocol", Gauge, ["circuit", "Link"], "Azure's name: 1 while the link has carrier here, else 0";
    SessionDraining = "erdp_session_draining", Gauge, ["peer", "attachment"], "1 while a peer drains: every route that it announces repeats its AS eight times (B7), or an operator here drains it (B6)";
    LinkEligible = "erdp_link_eligible", Gauge, ["circuit", "link", "reason"], "1 while a circuit's link may carry traffic, else 0; the label is the first reason that `erdp show links` names, or none";
    SessionMemory = "erdp_session_memory_bytes", Gauge, ["peer", "attachment"], "What a peer's routes take in memory, as it is counted against its max-memory-mib";
    SessionMemoryMax = "erdp_session_memory_max_bytes", Gauge, ["peer", "attachment"], "What a peer's routes may take in memory (max-memory-mib)";
    SessionSurplus = "erdp_session_surplus_prefixes", Counter, ["peer", "attachment"], "Times that a prefix of a peer was refused because the peer announces more than it may (D2)";
    SessionOver = "erdp_session_over_limit", Gauge, ["peer", "attachment"], "1 while prefixes of a peer are missing because it announces more than it may (D2), else 0";
    SessionTooLong = "erdp_session_too_long_prefixes", Gauge, ["peer", "attachment"], "Prefixes that a peer is not advertised now because no message of the session could hold their attributes (RFC 8654)";
    SessionStripped = "erdp_session_stripped_announcements", Counter, ["peer", "attachment"], "Times that a route was advertised to an MSEE without attributes that ERDP does not read (pass-attributes)";
    InterfacePresent = "erdp_interface_present", Gauge, ["interface"], "1 while an interface of the configuration is there and in use, else 0; `erdp show links` has the reason";
}

/// The value of each metric for each of its label sets, at one moment.
#[derive(Debug, Default)]
pub struct Page(BTreeMap<Metric, Vec<(Labels, f64)>>);

type Labels = Vec<(&'static str, String)>;

impl Page {
    /// Adds a value; `labels` are in the order of [`Metric::labels`].
    pub fn put(&mut self, metric: Metric, labels: &[&str], value: f64) {
        debug_assert_eq!(labels.len(), metric.labels().len(), "{}", metric.name());
        let labels = metric.labels().iter().copied().zip(labels.iter().map(|value| escaped(value)));
        self.0.entry(metric).or_default().push((labels.collect(), value));
    }

    /// The page as OpenMetrics text. Metrics without a value are left out.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::default();
        for (metric, samples) in &self.0 {
            match metric.kind() {
                Kind::Counter => {
                    let family = Family::<Labels, Counter>::default();
                    for (labels, value) in samples {
                        family.get_or_create(labels).inc_by(*value as u64);
                    }
                    registry.register(metric.name(), metric.help(), family);
                }
                Kind::Gauge => {
                    let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
                    for (labels, value) in samples {
                        family.get_or_create(labels).set(*value);
                    }
                    registry.register(metric.name(), metric.help(), family);
                }
            }
        }
        let mut text = String::new();
        text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// A label's value as OpenMetrics wants it; prometheus-client writes it as it is.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use erdp_common::{classify::Class, policer::Passage, reason::DropReason};

    use super::{Metric, Page};
    use crate::pair;

    /// The rows of the documentation's table: name, kind, labels, help.
    fn documented() -> Vec<[String; 4]> {
        let text = include_str!("../../../docs/metrics.md");
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
        let row = |row: &str| {
            let cells: Vec<_> =
                row.split(" | ").map(|cell| cell.trim_matches(['`', ' ', '|']).to_owned()).collect();
            cells.try_into().ok()
        };
        rows.filter_map(row).collect()
    }

    #[test]
    fn the_documentation_lists_every_metric_in_order_and_no_other() {
        let row = |metric: &Metric| {
            let labels = if metric.labels().is_empty() { "-".into() } else { metric.labels().join("`, `") };
            [metric.name().into(), metric.kind().as_str().into(), labels, metric.help().into()]
        };
        let ours: Vec<[String; 4]> = Metric::ALL.iter().map(row).collect();
        for (ours, documented) in ours.iter().zip(&documented()) {
            assert_eq!(ours, documented);
        }
        assert_eq!(ours.len(), documented().len(), "docs/metrics.md has another number of rows");
    }

    #[test]
    fn names_are_unique_and_ours_have_our_prefix() {
        let names: BTreeSet<_> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        assert_eq!(names.len(), Metric::ALL.len());
        let others: Vec<_> = names.into_iter().filter(|name| !name.starts_with("erdp_")).collect();
        let azures = [
            "AdminState",
            "ArpAvailability",
            "BgpAvailability",
            "BitsInPerSecond",
            "BitsOutPerSecond",
            "LineProtocol",
            "QosDropBitsInPerSecond",
            "QosDropBitsOutPerSecond",
        ];
        assert_eq!(others, azures);
    }

    /// What a page really has, each metric with a value: the names of its samples, and the labels of each.
    fn exposed() -> BTreeMap<String, BTreeSet<String>> {
        let mut page = Page::default();
        for metric in Metric::ALL {
            page.put(*metric, &vec!["x"; metric.labels().len()], 1.0);
        }
        let text = page.text().unwrap();
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (sample, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let labels = labels.split(',').filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()));
            (name.to_owned(), labels.collect())
        });
        samples.collect()
    }

    /// The words of an expression of PromQL, in two kinds: what it calls, and the samples and labels that it asks for.
    fn asked(expression: &str) -> (Vec<String>, Vec<String>) {
        let (mut called, mut wanted) = (Vec::new(), Vec::new());
        // Between quotes are values, between brackets is a time.
        let values_are_out = expression.split('"').step_by(2).collect::<String>();
        let text: String = values_are_out.split(['[', ']']).step_by(2).collect::<Vec<_>>().join(" ");
        let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let mut rest = text.as_str();
        while let Some(begin) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_') {
            rest = &rest[begin..];
            let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let is_called = ["(", "by", "without"].iter().any(|it| after.trim_start().starts_with(it));
            if is_called { &mut called } else { &mut wanted }.push(word.to_owned());
            rest = after;
        }
        (called, wanted)
    }

    /// What an expression asks for and nobody measures; `labels` are those that a text beside it names.
    fn faults_of(expression: &str, labels: impl Iterator<Item = String>) -> Vec<String> {
        const FUNCTIONS: [&str; 14] = [
            "rate",
            "sum",
            "max",
            "min",
            "by",
            "without",
            "avg",
            "increase",
            "on",
            "changes",
            "absent",
            "group_left",
            "and",
            "unless",
        ];
        let exposed = exposed();
        let (called, wanted) = asked(expression);
        let wanted = wanted.into_iter().filter(|word| !FUNCTIONS.contains(&word.as_str()));
        // Prometheus adds these to every sample.
        let is_added = |word: &String| matches!(word.as_str(), "instance" | "job");
        let (names, asked): (Vec<_>, Vec<_>) =
            wanted.filter(|word| !is_added(word)).partition(|word| exposed.contains_key(word));
        let known: BTreeSet<&String> = names.iter().flat_map(|name| &exposed[name]).collect();
        let unknown =
            asked.into_iter().chain(labels).filter(|label| !is_added(label) && !known.contains(label));
        let mut faults: Vec<String> = unknown.map(|word| format!("`{expression}` asks for {word}")).collect();
        let foreign = called.iter().filter(|it| !FUNCTIONS.contains(&it.as_str()));
        faults.extend(foreign.map(|it| format!("`{expression}` calls {it}")));
        if names.is_empty() {
            faults.push(format!("`{expression}` asks for nothing that is measured"));
        }
        faults
    }

    /// What a text has between double braces.
    fn in_braces(text: &str) -> impl Iterator<Item = String> {
        text.split("{{").skip(1).filter_map(|it| Some(it.split_once("}}")?.0.trim().to_owned()))
    }

    /// Every fault of a dashboard.
    fn faults(dashboard: &serde_json::Value) -> Vec<String> {
        let mut faults = Vec::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let targets = panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
            if targets.is_empty() {
                faults.push(format!("{} asks for nothing", panel["title"]));
            }
            for target in targets {
                let expression = target["expr"].as_str().unwrap_or_default();
                let legend = target["legendFormat"].as_str().unwrap_or_default();
                faults.extend(faults_of(expression, in_braces(legend)));
            }
        }
        faults
    }

    /// The words that an expression compares labels with.
    fn label_values(expression: &str) -> impl Iterator<Item = &str> {
        expression.split('"').skip(1).step_by(2).flat_map(|values| values.split('|'))
    }

    /// Whether a label can have this value: reasons, passages and classes.
    fn is_label_value(word: &str) -> bool {
        let reasons = DropReason::ALL.iter().map(|it| it.label());
        let links = pair::Reason::ALL.iter().map(|it| it.as_str());
        let passages = Passage::ALL.iter().map(|it| it.label());
        reasons
            .chain(links)
            .chain(passages)
            .chain(Class::ALL.iter().map(|it| it.label()))
            .any(|it| it == word)
    }

    /// Every fault of a file of alert rules, and how many rules it has.
    fn alert_faults(rules: &str) -> (Vec<String>, usize) {
        let rules: Vec<&str> = rules.split("- alert: ").skip(1).collect();
        let mut faults = Vec::new();
        for rule in &rules {
            let name = rule.lines().next().unwrap_or_default();
            let value = |key: &str| {
                let mut lines = rule.lines().filter_map(|line| line.trim_start().strip_prefix(key));
                lines.next().unwrap_or_default().trim()
            };
            let expression = value("expr:");
            let texts = format!("{} {}", value("summary:"), value("description:"));
            let labels: Vec<String> = in_braces(&texts).map(|it| it.replacen("$labels.", "", 1)).collect();
            // What is summed up has the labels that it is summed up by.
            let left = expression.split_once("by (").and_then(|(_, rest)| rest.split_once(')'));
            for label in labels.iter().filter(|label| left.is_some_and(|(left, _)| !left.contains(*label))) {
                faults.push(format!("{name}: `{expression}` leaves no {label}"));
            }
            faults.extend(faults_of(expression, labels.into_iter()).iter().map(|it| format!("{name}: {it}")));
            for word in label_values(expression).filter(|word| !is_label_value(word)) {
                faults.push(format!("{name}: no sample is labelled {word}"));
            }
            let is_whole =
                ["labels: {severity: ", "summary: ", "description: "].iter().all(|it| rule.contains(it));
            if !is_whole {
                faults.push(format!("{name}: severity, summary or description is missing"));
            }
        }
        (faults, rules.len())
    }

    #[test]
    fn every_alert_asks_for_samples_and_labels_that_the_page_has() {
        let (faults, rules) = alert_faults(include_str!("../../../deploy/alerts.yml"));
        assert_eq!(faults, Vec::<String>::new());
        assert!(rules >= 20, "{rules}");
    }

    #[test]
    fn an_alert_that_asks_for_what_nobody_measures_is_found_out() {
        let of = |expression: &str, summary: &str| {
            let rule = format!(
                "- alert: It\n  expr: {expression}\n  labels: {{severity: info}}\n  annotations:\n    summary: \"{summary}\"\n    description: x\n"
            );
            alert_faults(&rule).0
        };
        let sum = "sum by (instance, circuit) (rate(erdp_circuit_packets_total[5m])) > 0";
        assert_eq!(of(sum, "{{ $labels.circuit }} on {{ $labels.instance }}"), Vec::<String>::new());
        for (expression, summary) in [
            ("erdp_link_alive == 0", ""),
            ("erdp_link_up == 0", "{{ $labels.peer }}"),
            ("erdp_dropped_packets_total{reason=~\"policed|sunday\"} > 0", ""),
            (sum, "{{ $labels.class }}"),
            ("erdp_circuit_packets > 0", ""),
        ] {
            assert!(!of(expression, summary).is_empty(), "{expression} with {summary} passes");
        }
        assert!(!alert_faults("- alert: It\n  expr: erdp_link_up == 0\n").0.is_empty());
    }

    #[test]
    fn every_target_of_the_dashboard_asks_for_samples_and_labels_that_the_page_has() {
        let dashboard: serde_json::Value =
            serde_json::from_str(include_str!("../../../deploy/grafana.json")).unwrap();
        assert_eq!(faults(&dashboard), Vec::<String>::new());
        assert!(dashboard["panels"].as_array().unwrap().len() >= 12);
    }

    #[test]
    fn a_dashboard_that_asks_for_what_nobody_measures_is_found_out() {
        let of = |expression: &str, legend: &str| {
            let second = serde_json::json!({ "expr": expression, "legendFormat": legend });
            let first = serde_json::json!({ "expr": "erdp_unexplained_packets" });
            faults(&serde_json::json!({ "panels": [{ "title": "it", "targets": [first, second] }] }))
        };
        let good = "8 * sum by (circuit) (rate(erdp_circuit_bytes_total{passage=\"dropped\"}[1m])) > 0";
        assert_eq!(of(good, "{{circuit}}"), Vec::<String>::new());
        // A name, a counter without its suffix, a label of another metric in a selector, in `by` and in the legend, an unknown function.
        let wrong = [
            ("erdp_circuit_octets_total", ""),
            ("erdp_circuit_bytes", ""),
            ("erdp_circuit_bytes_total{reason=\"policed\"}", ""),
            ("sum by (reason) (rate(erdp_circuit_bytes_total[1m]))", ""),
            ("erdp_circuit_bytes_total", "{{reason}}"),
            ("pace(erdp_circuit_bytes_total[1m])", ""),
            ("5", ""),
        ];
        for (expression, legend) in wrong {
            assert!(!of(expression, legend).is_empty(), "{expression} with {legend} passes");
        }
        assert!(!faults(&serde_json::json!({ "panels": [{ "title": "it" }] })).is_empty());
    }

    #[test]
    fn a_page_is_openmetrics_text_with_labels_escaped() {
        let mut page = Page::default();
        page.put(Metric::DroppedPackets, &["no-route"], 7.0);
        page.put(Metric::LinkUp, &["a \"b\"\n", "primary", "eth0"], 1.0);
        let text = page.text().unwrap();
        assert!(text.contains("# TYPE erdp_dropped_packets counter\n"), "{text}");
        assert!(text.contains("erdp_dropped_packets_total{reason=\"no-route\"} 7\n"), "{text}");
        assert!(
            text.contains(
                "erdp_link_up{circuit=\"a \\\"b\\\"\\n\",link=\"primary\",interface=\"eth0\"} 1.0\n"
            ),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
