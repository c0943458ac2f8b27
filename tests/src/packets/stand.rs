//! Where the program is loaded for the packet tables: a network namespace with three interfaces, gone with its thread.

use std::{ffi::CString, io, process::Command, thread};

use anyhow::{Result, ensure};

use super::Ports;

/// Loading an XDP program needs root.
pub fn is_root() -> bool {
    // SAFETY: no arguments, no memory.
    unsafe { libc::geteuid() == 0 }
}

/// Runs on a thread of its own in a new network namespace, which ends with the thread.
pub fn in_network_namespace<T: Send>(run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let result = scope.spawn(|| {
            // SAFETY: affects this thread only.
            let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            ensure!(result == 0, "unshare: {}", io::Error::last_os_error());
            run()
        });
        result.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Three interfaces in this thread's network namespace.
pub fn veth_ports() -> Result<Ports> {
    let mut indexes = Vec::new();
    for name in ["pa", "pb", "pc"] {
        let peer = format!("{name}x");
        let status =
            Command::new("ip").args(["link", "add", name, "type", "veth", "peer", "name", &peer]).status()?;
        ensure!(status.success(), "ip link add {name} failed");
        let name = CString::new(name)?;
        // SAFETY: a NUL-terminated name.
        indexes.push(unsafe { libc::if_nametoindex(name.as_ptr()) });
    }
    Ok(Ports { a: indexes[0], b: indexes[1], c: indexes[2] })
}
