//! `erdp uninstall`: undoes what an edge that no longer runs has left in this network namespace. Forwarding ends with it.
//!
//! It runs as root, and what tells it what to undo was written by the daemon's user. So it undoes what the kernel itself says is an edge's
//! (pins in its folder, control ports by their alias, addresses by their mark) and sysctls of a fixed list, and nothing else.

use super::start::StartError;
use crate::{
    control::place,
    dataplane::{DataplaneError, pins::Pins},
    kernel::{
        Kernel,
        sysctl::Sysctls,
        traces::{Note, Presence, Traces},
    },
};

/// What has come of it, a sentence each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uninstalled {
    /// What was undone.
    pub removed: Vec<String>,
    /// What was noted and is left as it is, with the reason.
    pub left: Vec<String>,
}

/// Pins first, so that no program sends what nobody answers for; then control ports, addresses and sysctls. Refused while an edge runs
/// here: it undoes all of this itself when it is stopped.
pub async fn uninstall() -> Result<Uninstalled, StartError> {
    let _presence = Presence::claim().map_err(StartError::Presence)?.ok_or(StartError::StillRuns)?;
    let mut done = Uninstalled::default();
    let pins = Pins::of_this_namespace().map_err(DataplaneError::from)?;
    let count = pins.remove().map_err(DataplaneError::from)?;
    if count > 0 {
        done.removed.push(format!("{count} pins below {}", pins.folder().display()));
    }
    let Some(note) = Traces::read() else { return Ok(done) };
    let (kernel, _events) = Kernel::open()?;
    for name in &note.traces.control_ports {
        kernel.remove_control_port_named(name).await?;
        done.removed.push(format!("control port {name}"));
    }
    remove_addresses(&kernel, &note, &mut done).await?;
    let mut sysctls = Sysctls::default();
    sysctls.remember(&note.traces.sysctls);
    done.removed.extend(sysctls.changed().map(|(name, before)| format!("sysctl {name}: {before} again")));
    drop(sysctls);
    let control = &note.traces.control;
    match place::remove_noted(control, note.writer) {
        Ok(true) => done.removed.push(format!("control socket {}", control.display())),
        Ok(false) => {}
        Err(why) => done.left.push(format!("control socket {why}")),
    }
    done.left.extend(note.left_out);
    Traces::remove();
    Ok(done)
}

/// Those that an edge has added; root may have noted others.
async fn remove_addresses(kernel: &Kernel, note: &Note, done: &mut Uninstalled) -> Result<(), StartError> {
    let marked = kernel.marked_addresses().await?;
    for (ifindex, net) in &note.traces.addresses {
        let what = format!("address {net} on interface {ifindex}");
        if note.writer == Some(0) || marked.contains(&(*ifindex, net.addr())) {
            kernel.remove_address(*ifindex, net.addr(), net.prefix_len()).await?;
            done.removed.push(what);
        } else {
            done.left.push(format!("{what}: it is not there, or no edge has added it: left as it is"));
        }
    }
    Ok(())
}
