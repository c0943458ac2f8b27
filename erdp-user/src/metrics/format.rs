//! The two formats of `/metrics`, and which one a client asks for (RFC 9110 section 12.5.1).
//!
//! The text format 0.0.4 is the answer unless the client prefers OpenMetrics. Both have the same series: samples of counters end in
//! `_total` in both. They differ in the lines around them: OpenMetrics names a counter's family without the suffix and ends with `# EOF`;
//! the text format names it with the suffix, because there a family's name is that of its samples. Neither has `_created`.

/// How the page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// For `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What a client asks for by these `Accept` fields: OpenMetrics where it is named and no less wanted than text, of two alike the
    /// one that is named first.
    pub fn wanted<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        let ranges = accept.into_iter().flat_map(|field| split(field, ','));
        let mut best = (Self::Text, 0);
        for range in ranges.filter_map(Range::parse) {
            if range.quality > best.1 {
                best = (range.format, range.quality);
            }
        }
        best.0
    }

    /// A page of OpenMetrics text in this format.
    pub fn written(self, openmetrics: String) -> String {
        match self {
            Self::OpenMetrics => openmetrics,
            Self::Text => as_text(&openmetrics),
        }
    }
}

/// One media range that this server has something for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    format: Format,
    /// Thousandths.
    quality: u32,
}

impl Range {
    /// `None`: nothing here is of that type, or of that version.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = split(text, ';').into_iter();
        let format = match parts.next()?.trim().to_ascii_lowercase().as_str() {
            "application/openmetrics-text" => Format::OpenMetrics,
            "text/plain" | "text/*" | "*/*" => Format::Text,
            _ => return None,
        };
        let mut quality = 1_000;
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => quality = thousandths(value)?,
                "version" if !format.is_version(value) => return None,
                _ => {}
            }
        }
        Some(Self { format, quality })
    }
}

impl Format {
    fn is_version(self, version: &str) -> bool {
        version == if self == Self::Text { "0.0.4" } else { "1.0.0" }
    }
}

/// A weight of at most three decimals (RFC 9110 section 12.4.2).
fn thousandths(text: &str) -> Option<u32> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) || whole.len() != 1 || decimals.len() > 3 {
        return None;
    }
    let number: u32 = format!("{whole}{decimals:0<3}").parse().ok()?;
    (number <= 1_000).then_some(number)
}

/// Splits where the separator is not inside quotes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut is_quoted = false;
    let is_separator = |c: char| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    };
    text.split(is_separator).collect()
}

fn as_text(openmetrics: &str) -> String {
    let mut counters = Vec::new();
    for line in openmetrics.lines() {
        if let Some(name) = line.strip_prefix("# TYPE ").and_then(|line| line.strip_suffix(" counter")) {
            counters.push(name);
        }
    }
    let mut text = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(kind), Some(name), Some(rest)) if counters.contains(&name) => {
                text += &format!("# {kind} {name}_total {rest}\n");
            }
            _ => {
                text += line;
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::metrics::{Metric, Page};

    #[test]
    fn rfc9110_12_5_1_a_client_has_the_format_that_it_prefers_and_text_where_it_does_not_care() {
        use Format::{OpenMetrics, Text};
        for (accept, expected) in [
            (&[][..], Text),
            (&[""], Text),
            (&["*/*"], Text),
            (&["text/plain"], Text),
            (&["text/plain;version=0.0.4"], Text),
            (&["application/json"], Text),
            (&["application/openmetrics-text"], OpenMetrics),
            (&["application/openmetrics-text; version=1.0.0; charset=utf-8"], OpenMetrics),
            (&["Application/OpenMetrics-Text;Version=\"1.0.0\""], OpenMetrics),
            (&["application/openmetrics-text;version=2.0.0"], Text),
            (&["application/openmetrics-text;q=0"], Text),
            (&["application/openmetrics-text;q=nonsense"], Text),
            (&["application/openmetrics-text;q=0.2, text/plain;q=0.3"], Text),
            (&["text/plain;q=0.299", "application/openmetrics-text;q=0.3"], OpenMetrics),
            (&["text/plain, application/openmetrics-text"], Text),
            (&["application/openmetrics-text, text/plain"], OpenMetrics),
            (&["text/html;level=\"1,2;q=0\", application/openmetrics-text;q=0.1"], OpenMetrics),
            // Prometheus 2 and 3.
            (
                &[
                    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                ],
                OpenMetrics,
            ),
            (
                &[
                    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                ],
                OpenMetrics,
            ),
            (&["text/plain;version=0.0.4;q=1,*/*;q=0.1"], Text),
        ] {
            assert_eq!(Format::wanted(accept.iter().copied()), expected, "{accept:?}");
        }
    }

    fn every_metric() -> String {
        let mut page = Page::default();
        for metric in Metric::ALL {
            let labels: Vec<String> =
                metric.labels().iter().map(|label| format!("{label} \"x\"\\")).collect();
            page.put(*metric, &labels.iter().map(String::as_str).collect::<Vec<_>>(), 7.0);
        }
        page.text().unwrap()
    }

    /// The samples of a page: name and labels, value.
    fn samples(page: &str) -> BTreeMap<&str, &str> {
        page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' ')).collect()
    }

    #[test]
    fn both_formats_have_the_same_series() {
        let openmetrics = every_metric();
        let text = Format::Text.written(openmetrics.clone());
        assert_eq!(samples(&text), samples(&openmetrics));
        assert_eq!(samples(&text).len(), Metric::ALL.len());
        assert!(openmetrics.ends_with("# EOF\n") && !text.contains("# EOF"));
    }

    /// What `promtool check metrics` and a parser of the text format want: HELP, then TYPE, then the family's samples, once, with the
    /// family's name.
    #[test]
    fn the_text_format_is_well_formed() {
        let text = Format::Text.written(every_metric());
        let (mut family, mut kind, mut seen) = (String::new(), String::new(), BTreeSet::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').unwrap();
                assert!(seen.insert(name.to_owned()) && !text.is_empty(), "{line}");
                (family, kind) = (name.to_owned(), String::new());
            } else if let Some(it) = line.strip_prefix("# TYPE ") {
                let (name, it) = it.split_once(' ').unwrap();
                assert!(name == family && ["counter", "gauge"].contains(&it), "{line}");
                assert_eq!(it == "counter", name.ends_with("_total"), "{line}");
                kind = it.to_owned();
            } else {
                let name = line.split(['{', ' ']).next().unwrap();
                assert!(name == family && !kind.is_empty(), "{line} of {family}");
                let (_, value) = line.rsplit_once(' ').unwrap();
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert_eq!(seen.len(), Metric::ALL.len());
        assert!(text.ends_with('\n') && !text.contains("\n\n"));
    }
}
