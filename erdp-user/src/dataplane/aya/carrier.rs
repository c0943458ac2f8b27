//! What the program that counts losses needs to know of this kernel to write a link's word when its driver takes nothing any more.
//!
//! It needs the kernel's type information (`CONFIG_DEBUG_INFO_BTF`), which distributions' kernels have, and namespaces' cookies (Linux 5.14).
//! Without them a thread of the controller does the same by rtnetlink, some milliseconds later and only while it lives
//! (`kernel::carrier`).

use std::io;

use erdp_common::abi::KernelLayout;

use super::{AyaDataplane, DataplaneError, Raw, chain};
use crate::dataplane::{bpffs, btf::Btf};

impl AyaDataplane {
    /// Tells the program; before that it only counts.
    pub(super) fn watch_carriers(&mut self) -> Result<(), DataplaneError> {
        let failed = |reason: String| DataplaneError::Map { map: "KERNEL", reason };
        let layout = layout().map_err(|error| failed(error.to_string()))?;
        self.kernel.set(0, Raw(layout), 0).map_err(|error| failed(chain(&error)))
    }
}

fn layout() -> io::Result<KernelLayout> {
    let kernel = Btf::of_this_kernel()?;
    let offset = |structure: &str, member: &str| {
        let offset = kernel.offset(structure, member);
        offset.ok_or_else(|| io::Error::other(format!("this kernel's {structure} has no {member}")))
    };
    Ok(KernelLayout {
        ifindex: offset("net_device", "ifindex")?,
        net: offset("net_device", "nd_net")?,
        net_cookie: offset("net", "net_cookie")?,
        _pad: 0,
        ours: bpffs::network_namespace()?,
    })
}
