//! `erdp uninstall`: undoes what an edge that no longer runs has left in this network namespace. Forwarding ends with it.

use std::fs;

use super::start::StartError;
use crate::{
    control::server,
    dataplane::{DataplaneError, pins::Pins},
    kernel::{
        Kernel,
        sysctl::Sysctls,
        traces::{Presence, Traces},
    },
};

/// Pins first, so that no program sends what nobody answers for; then control ports, addresses and sysctls. The answer is what was
/// undone, a sentence each. Refused while an edge runs here: it undoes all of this itself when it is stopped.
pub async fn uninstall() -> Result<Vec<String>, StartError> {
    let _presence = Presence::claim().map_err(StartError::Presence)?.ok_or(StartError::StillRuns)?;
    let mut done = Vec::new();
    let pins = Pins::of_this_namespace().map_err(DataplaneError::from)?;
    let count = pins.remove().map_err(DataplaneError::from)?;
    if count > 0 {
        done.push(format!("{count} pins below {}", pins.folder().display()));
    }
    let Some(traces) = Traces::read() else { return Ok(done) };
    let (kernel, _events) = Kernel::open()?;
    for name in &traces.control_ports {
        kernel.remove_control_port_named(name).await?;
        done.push(format!("control port {name}"));
    }
    for (ifindex, net) in &traces.addresses {
        kernel.remove_address(*ifindex, net.addr(), net.prefix_len()).await?;
        done.push(format!("address {net} on interface {ifindex}"));
    }
    let mut sysctls = Sysctls::default();
    sysctls.remember(&traces.sysctls);
    done.extend(sysctls.changed().map(|(name, before)| format!("sysctl {name}: {before} again")));
    drop(sysctls);
    if server::is_abandoned(&traces.control) {
        // It is replaced by the next start in any case.
        let _ = fs::remove_file(&traces.control);
    }
    Traces::remove();
    Ok(done)
}
