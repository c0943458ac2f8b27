//! What `/metrics`, `/healthz` and `/readyz` are read from: one snapshot for all who ask, made by the controller's loop once a second at
//! most and only if somebody wants one. So a scrape costs the loop nothing, however many there are.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::body::Bytes;
use tokio::{sync::watch, time::timeout};

use super::{Page, format::Format};

/// How old a snapshot may be that is shown.
pub const FRESH: Duration = Duration::from_secs(1);
/// How long the controller's loop may take for a turn before it is unhealthy, and for a snapshot.
pub const ANSWER_MAX: Duration = Duration::from_secs(2);

/// The controller's state at a moment.
#[derive(Debug)]
pub struct Snapshot {
    at: Instant,
    /// Everything that is measured, or why it cannot be read.
    metrics: Result<Page, String>,
    /// What hinders the circuits from carrying traffic, one line each; empty: nothing.
    pub unready: String,
    /// What an operator has taken out of service, one line each: it hinders nothing.
    pub held: String,
    texts: [OnceLock<Result<Bytes, String>>; 2],
}

impl Snapshot {
    /// What is so now.
    pub fn new(at: Instant, metrics: Result<Page, String>, unready: String, held: String) -> Self {
        Self { at, metrics, unready, held, texts: Default::default() }
    }

    /// The metrics in a format, written by whoever asks first.
    pub fn metrics(&self, format: Format) -> Result<Bytes, String> {
        let place = match format {
            Format::OpenMetrics => &self.texts[0],
            Format::Text => &self.texts[1],
        };
        let write = || {
            let page = self.metrics.as_ref().map_err(String::clone)?;
            let text = page.text().map_err(|error| error.to_string())?;
            Ok(Bytes::from(format.written(text)))
        };
        place.get_or_init(write).clone()
    }

    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < FRESH
    }
}

/// Where the loop puts snapshots and others find them.
#[derive(Debug)]
pub struct Board {
    started: Instant,
    /// When the loop turned last, in milliseconds since the start.
    beat_ms: AtomicU64,
    /// The controller's parts that have ended, one line each.
    dead: watch::Sender<String>,
    is_wanted: AtomicBool,
    shown: watch::Sender<Option<Arc<Snapshot>>>,
}

impl Board {
    /// An empty one, whose loop begins now.
    pub fn new(now: Instant) -> Self {
        Self {
            started: now,
            beat_ms: AtomicU64::new(0),
            dead: watch::Sender::new(String::new()),
            is_wanted: AtomicBool::new(false),
            shown: watch::Sender::new(None),
        }
    }

    /// The loop turns; these parts of the controller have ended and are not there again, one line each.
    pub fn beat(&self, now: Instant, dead: String) {
        self.dead.send_if_modified(|known| {
            let is_new = *known != dead;
            *known = dead;
            is_new
        });
        let since = now.saturating_duration_since(self.started);
        self.beat_ms.store(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Why the controller is not healthy: its loop has not turned lately, or a part of it has ended. Empty: it is.
    pub fn unhealthy(&self, now: Instant) -> String {
        let beat = self.started + Duration::from_millis(self.beat_ms.load(Ordering::Relaxed));
        if now.saturating_duration_since(beat) >= ANSWER_MAX {
            return format!("the controller has not answered for {} s\n", ANSWER_MAX.as_secs());
        }
        self.dead.borrow().clone()
    }

    /// Whether the loop is to make a snapshot.
    pub fn is_due(&self, now: Instant) -> bool {
        let is_fresh = self.shown.borrow().as_ref().is_some_and(|shown| shown.is_fresh(now));
        !is_fresh && self.is_wanted.load(Ordering::Acquire)
    }

    /// The loop has made one.
    pub fn show(&self, snapshot: Snapshot) {
        self.is_wanted.store(false, Ordering::Release);
        self.shown.send_replace(Some(Arc::new(snapshot)));
    }

    /// A snapshot that is no older than [`FRESH`], or why there is none.
    pub async fn fresh(&self) -> Result<Arc<Snapshot>, String> {
        let mut shown = self.shown.subscribe();
        let is_fresh = |shown: &Option<Arc<Snapshot>>| {
            shown.as_ref().is_some_and(|shown| shown.is_fresh(Instant::now()))
        };
        if !is_fresh(&shown.borrow()) {
            self.is_wanted.store(true, Ordering::Release);
        }
        match timeout(ANSWER_MAX, shown.wait_for(is_fresh)).await {
            Ok(Ok(found)) => found.clone().ok_or_else(|| "the daemon is stopping\n".to_owned()),
            Ok(Err(_)) => Err("the daemon is stopping\n".into()),
            Err(_) => Err(format!("the controller has not answered for {} s\n", ANSWER_MAX.as_secs())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metric;

    fn snapshot(at: Instant) -> Snapshot {
        let mut page = Page::default();
        page.put(Metric::Uptime, &[], 1.0);
        Snapshot::new(at, Ok(page), String::new(), String::new())
    }

    #[tokio::test]
    async fn a_thousand_scrapes_cost_the_loop_one_snapshot_a_second() {
        let board = Arc::new(Board::new(Instant::now()));
        let begin = Instant::now();
        assert!(!board.is_due(begin), "nobody has asked");
        let scrapes: Vec<_> = (0..1_000)
            .map(|_| {
                let board = board.clone();
                tokio::spawn(async move { board.fresh().await })
            })
            .collect();
        tokio::task::yield_now().await;
        let mut made = 0;
        for scrape in scrapes {
            while !scrape.is_finished() {
                if board.is_due(Instant::now()) {
                    board.show(snapshot(Instant::now()));
                    made += 1;
                }
                tokio::task::yield_now().await;
            }
            let shown = scrape.await.unwrap().unwrap();
            let text = shown.metrics(Format::OpenMetrics).unwrap();
            assert!(text.starts_with(b"# HELP erdp_uptime_seconds"), "{text:?}");
        }
        let seconds = begin.elapsed().as_secs() + 1;
        assert!(made <= seconds, "{made} snapshots in {seconds} s");
    }

    #[tokio::test]
    async fn a_loop_that_stands_still_is_unhealthy_and_no_scrape_waits_for_it_for_ever() {
        let board = Board::new(Instant::now());
        let error = board.fresh().await.unwrap_err();
        assert!(error.contains("has not answered for 2 s"), "{error}");
        let now = Instant::now();
        board.beat(now, String::new());
        assert!(board.unhealthy(now).is_empty() && !board.unhealthy(now + ANSWER_MAX).is_empty());
    }
}
