//! What an edge has changed on the machine, written down where the next one and `erdp uninstall` find it: a controller that is
//! killed undoes nothing, and whoever comes after it must not take its addresses for the operator's own.
//!
//! One small JSON file for each network namespace, in a folder that is empty after the machine's start. That an edge runs at all
//! is said by a socket with an abstract name: such names belong to the network namespace, and the kernel frees one with the
//! process that has it, however that ends.

use std::{
    fs, io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::dataplane::bpffs;

const FOLDER: &str = "/run/erdp";
const NAME: &[u8] = b"erdp";

/// What was changed, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traces {
    /// What an operator calls the network namespace.
    pub namespace: String,
    /// The control socket.
    pub control: PathBuf,
    /// Control ports, by the name of the kernel's end.
    pub control_ports: Vec<String>,
    /// Addresses that were not there before: interface and address.
    pub addresses: Vec<(u32, IpNet)>,
    /// Sysctls and what they were.
    pub sysctls: Vec<(String, String)>,
}

impl Traces {
    /// Those of this network namespace, if there are any.
    pub fn read() -> Option<Self> {
        serde_json::from_slice(&fs::read(file().ok()?).ok()?).ok()
    }

    /// Writes them in one step: the file is the old one or the new one.
    pub fn write(&self) -> io::Result<()> {
        let path = file()?;
        let draft = path.with_extension("new");
        let text = serde_json::to_vec(self)?;
        let write = || fs::create_dir_all(FOLDER).and_then(|()| fs::write(&draft, &text));
        // Another edge that ends at this moment removes the folder if it is empty.
        write().or_else(|_| write())?;
        fs::rename(&draft, &path)
    }

    /// Everything is undone.
    pub fn remove() {
        // Another edge's file may be in the folder, and nothing depends on its going.
        let _ = file().and_then(fs::remove_file);
        let _ = fs::remove_dir(Path::new(FOLDER));
    }
}

fn file() -> io::Result<PathBuf> {
    Ok(Path::new(FOLDER).join(format!("net-{}.json", bpffs::network_namespace()?)))
}

/// Says that an edge runs in this network namespace, as long as it is kept.
#[derive(Debug)]
pub struct Presence(#[expect(dead_code, reason = "its life is its meaning")] UnixListener);

impl Presence {
    /// `None`: another one runs here.
    pub fn claim() -> io::Result<Option<Self>> {
        match UnixListener::bind_addr(&SocketAddr::from_abstract_name(NAME)?) {
            Ok(socket) => Ok(Some(Self(socket))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error),
        }
    }
}
