//! The kernel's routes at the edge of the core: the subscription, the first dump, and what operators see of it.

use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Controller;
use crate::{
    compile,
    config::Config,
    core::NotTakenHop,
    kernel::{
        interface_name,
        routes::{self, Counts, Listener, RouteEvent, RoutesError},
    },
};

/// How long a start waits for the first dump: a million routes take about two seconds.
const FIRST_DUMP: Duration = Duration::from_secs(30);

/// Subscribes to what a configuration wants; without any, events never come.
pub(super) fn listen(config: &Config) -> Result<(Option<Listener>, mpsc::Receiver<RouteEvent>), RoutesError> {
    let (watches, _) = compile::watches(config);
    if watches.is_empty() {
        return Ok((None, mpsc::channel(1).1));
    }
    let (listener, events) = Listener::open(watches, routes::RECEIVE_BUFFER)?;
    Ok((Some(listener), events))
}

impl Controller {
    /// Takes what the kernel has at the start, whole.
    pub(crate) async fn learn_kernel_routes(&mut self, events: &mut mpsc::Receiver<RouteEvent>) {
        let deadline = Instant::now() + FIRST_DUMP;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match tokio::time::timeout(left, events.recv()).await {
                Ok(Some(event)) => {
                    let is_complete = matches!(event, RouteEvent::Complete(_));
                    self.core.handle_routes(event);
                    if is_complete {
                        let Counts { routes, .. } = self.core.kernel_routes.counts;
                        tracing::info!(routes, "the kernel's routes are known");
                        return;
                    }
                }
                // Nothing is wanted, or time is over.
                Ok(None) => return,
                Err(_) => break,
            }
        }
        tracing::warn!("the kernel has not told its routes in time: they are used as they come");
    }

    /// Routes of the kernel to a prefix that no attachment takes, for operators.
    pub(crate) fn show_not_taken(&self, watch: usize, prefix: IpNet) -> Vec<Value> {
        let refused = self.core.why_not_taken(watch, prefix);
        let row = |(ifindex, gateway, reason): &NotTakenHop| {
            let interface = ifindex.map(|it| interface_name(it).unwrap_or_else(|| format!("interface {it}")));
            let by = match (&interface, gateway) {
                (Some(interface), Some(gateway)) => format!(" (via {gateway} dev {interface})"),
                (Some(interface), None) => format!(" (dev {interface})"),
                (None, _) => String::new(),
            };
            json!({
                "way": "in", "peer": "kernel", "domain": null, "prefix": prefix, "rule": "kernel-routes",
                "reason": format!("{reason}{by}"),
            })
        };
        refused.iter().map(row).collect()
    }

    /// Counts, for operators; nothing where no attachment takes any.
    pub(crate) fn show_kernel_routes(&self) -> Value {
        let (rows, not_taken) = self.core.kernel_route_counts();
        if rows.is_empty() {
            return Value::Null;
        }
        let attachments = rows.into_iter().map(|(id, taken, refused)| {
            json!({ "attachment": self.core.name_of(id), "taken": taken, "refused": refused })
        });
        json!({
            "attachments": attachments.collect::<Vec<_>>(),
            "not_taken": not_taken,
            "kernel": self.core.kernel_routes.counts,
        })
    }
}
