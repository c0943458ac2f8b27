//! A running router's pages over HTTP, as a monitoring system reads them, and the samples on them.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::lab::{enter, netns::Namespace};

/// Where the tests' configurations have `metrics`.
pub const ADDRESS: &str = "127.0.0.1:9179";

/// Status and body of a GET from inside a namespace.
///
/// # Errors
/// When nobody answers, or not by HTTP.
pub fn get(namespace: &Namespace, path: &str) -> Result<(u16, String)> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: edge\r\nAccept: application/openmetrics-text\r\nConnection: close\r\n\r\n"
    );
    enter::run(namespace.name(), move || {
        let mut stream = TcpStream::connect(ADDRESS)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").context("no end of the head")?;
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).context("no status")?;
        Ok((status, body.to_owned()))
    })
}

/// A sample of a page: its name, its labels in their order, its value.
pub type Sample<'a> = (&'a str, Vec<(String, String)>, f64);

/// Every sample of a page.
pub fn samples(page: &str) -> Vec<Sample<'_>> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(sample).collect()
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let (sample, value) = line.rsplit_once(' ')?;
    let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
    let pairs = labels.trim_end_matches('}').split("\",").filter_map(|pair| pair.split_once("=\""));
    let pairs = pairs.map(|(label, value)| (label.to_owned(), value.trim_end_matches('"').to_owned()));
    Some((name, pairs.collect(), value.parse().ok()?))
}

/// The value of the one sample of this name that has all these labels, written as on the page.
///
/// # Errors
/// When there is none, or more than one.
pub fn value(page: &str, name: &str, labels: &[&str]) -> Result<f64> {
    let found = values(page, name, labels);
    ensure!(found.len() == 1, "{name} {labels:?} is there {} times", found.len());
    Ok(found[0])
}

/// The values of all samples of this name that have all these labels, written as on the page.
pub fn values(page: &str, name: &str, labels: &[&str]) -> Vec<f64> {
    let has = |pairs: &[(String, String)], label: &&str| {
        pairs.iter().any(|(name, value)| format!("{name}=\"{value}\"") == **label)
    };
    let all = samples(page).into_iter();
    all.filter(|(other, pairs, _)| *other == name && labels.iter().all(|label| has(pairs, label)))
        .map(|(_, _, value)| value)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels() {
        let page = "# TYPE a gauge\na 1.5\nb_total{x=\"1\",y=\"to msee\"} 7\nb_total{x=\"2\",y=\"to msee\"} 9\n# EOF\n";
        assert_eq!(value(page, "a", &[]).expect("a"), 1.5);
        assert_eq!(value(page, "b_total", &["x=\"2\""]).expect("b"), 9.0);
        assert_eq!(values(page, "b_total", &["y=\"to msee\""]), [7.0, 9.0]);
        assert!(value(page, "b_total", &["y=\"to msee\""]).is_err());
    }
}
