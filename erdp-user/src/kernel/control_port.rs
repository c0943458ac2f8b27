//! Control ports: the pair of virtual interfaces by which the kernel speaks on a tagged attachment (see
//! `erdp_common::control`).
//!
//! ```text
//! kernel: ARP, ND, BGP, echo -- erdp-3 <== veth ==> erdp-3x -- XDP: pop or push the tags -- the attachment's interface
//! ```
//! The kernel's end has the attachment's addresses and the MAC address of its interface, so that what is said here is what is
//! forwarded with. Both ends carry [`ALIAS`], by which a pair is known again that a killed `erdp` has left: it is removed and made
//! anew, because nothing in it outlives the sessions. A pair that a program is attached to belongs to an `erdp` that runs, and any
//! other interface of that name to somebody else: both are left alone and said.

use std::{fs, io};

use futures_util::TryStreamExt;
use rtnetlink::{
    LinkMessageBuilder, LinkUnspec, LinkVeth,
    packet_route::link::{
        InfoData, InfoKind, InfoVeth, LinkAttribute, LinkHeader, LinkInfo, LinkMessage, LinkXdp,
    },
};

use super::{Kernel, KernelError, preflight, request_failed};

/// How the alias of each end begins; the attachment's name follows.
pub const ALIAS: &str = "erdp control port of";

/// A control port that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlPort {
    /// Name of the kernel's end: sessions are bound to it.
    pub name: String,
    /// Index of the kernel's end: addresses and neighbours are on it.
    pub ifindex: u32,
    /// Index of the other end, where the XDP program runs.
    pub outer: u32,
}

impl ControlPort {
    /// Name of the end where the XDP program runs.
    pub fn outer_name(&self) -> String {
        outer_name(&self.name)
    }
}

fn outer_name(name: &str) -> String {
    format!("{name}x")
}

/// What both ends take over from the attachment's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// MAC address of the kernel's end.
    pub mac: [u8; 6],
    /// IP MTU in bytes.
    pub mtu: u32,
}

impl Shape {
    /// That of an interface for an attachment with so many tags. Linux allows for one tag beyond an interface's MTU
    /// (`xdp_ok_fwd_dev`, 6.18); the second one is at the packet's expense.
    pub fn of(mac: [u8; 6], mtu: u32, tags: usize) -> Self {
        let second_tag = if tags > 1 { 4 } else { 0 };
        Self { mac, mtu: mtu.min(preflight::SINGLE_BUFFER_MTU).saturating_sub(second_tag) }
    }
}

/// An interface as far as names are concerned.
struct Named {
    ifindex: u32,
    name: String,
    alias: String,
    is_control_port: bool,
    has_program: bool,
}

impl Kernel {
    /// Removes the control ports that a dead `erdp` has left, and says which of the `wanted` names is not free.
    pub async fn clear_control_ports(&self, wanted: &[String]) -> Result<(), KernelError> {
        let is_wanted = |name: &str| wanted.iter().any(|it| it == name || outer_name(it) == name);
        for link in self.named_links().await? {
            let is_outer = link.is_control_port && link.name.ends_with('x');
            if is_outer && link.has_program && is_wanted(&link.name) {
                return Err(KernelError::ControlPortInUse { name: link.name });
            }
            if is_outer && !link.has_program {
                tracing::info!(interface = link.name, "removing a control port that was left behind");
                self.remove_link(link.ifindex, &link.name).await?;
            }
        }
        // Dumped again: a pair goes with either of its ends.
        match self.named_links().await?.into_iter().find(|link| is_wanted(&link.name)) {
            Some(link) => Err(KernelError::NameTaken { name: link.name }),
            None => Ok(()),
        }
    }

    /// The pair of this name for this attachment that an `erdp` before us has made; `None`: there is none.
    pub async fn find_control_port(&self, name: &str, of: &str) -> Result<Option<ControlPort>, KernelError> {
        let (links, alias) = (self.named_links().await?, format!("{ALIAS} {of}"));
        let index = |name: &str| {
            let found = links.iter().find(|it| it.name == name && it.is_control_port && it.alias == alias);
            found.map(|it| it.ifindex)
        };
        let (Some(ifindex), Some(outer)) = (index(name), index(&outer_name(name))) else { return Ok(None) };
        Ok(Some(ControlPort { name: name.to_owned(), ifindex, outer }))
    }

    /// Removes the pair of this name, if it is one of ours.
    pub async fn remove_control_port_named(&self, name: &str) -> Result<(), KernelError> {
        let links = self.named_links().await?;
        match links.iter().find(|it| it.name == name && it.is_control_port) {
            Some(link) => self.remove_link(link.ifindex, name).await,
            None => Ok(()),
        }
    }

    /// Makes a pair, both ends down; `of` is the attachment's name.
    pub async fn add_control_port(
        &self,
        name: &str,
        of: &str,
        shape: Shape,
    ) -> Result<ControlPort, KernelError> {
        let outer = outer_name(name);
        let peer = LinkUnspec::new_with_name(&outer).mtu(shape.mtu).build();
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(name)
            .mtu(shape.mtu)
            .address(shape.mac.to_vec())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        let what = || format!("making the control port {name} (needs CAP_NET_ADMIN and the kernel's veth)");
        self.handle.link().add(pair).execute().await.map_err(|error| request_failed(what(), error))?;
        let links = self.named_links().await?;
        let index = |name: &str| links.iter().find(|link| link.name == name).map_or(0, |link| link.ifindex);
        let port = ControlPort { name: name.to_owned(), ifindex: index(name), outer: index(&outer) };
        for ifindex in [port.ifindex, port.outer] {
            let alias = LinkAttribute::IfAlias(format!("{ALIAS} {of}"));
            self.set_link(LinkUnspec::new_with_index(ifindex).append_extra_attribute(alias).build(), name)
                .await?;
        }
        Ok(port)
    }

    /// Makes a pair work. What the kernel must not do there has been said by sysctl before.
    pub async fn start_control_port(&self, port: &ControlPort) -> Result<(), KernelError> {
        let ControlPort { name, .. } = port;
        // The outer end is a wire: without a link-local address it says nothing of its own. The kernel's end makes its address of
        // its MAC address, as the attachment's interface does.
        for (interface, setting, value) in
            [(port.outer_name(), "disable_ipv6", "1"), (name.clone(), "addr_gen_mode", "0")]
        {
            match fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/{setting}"), value) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(unset(name, setting, error));
                }
                _ => {}
            }
        }
        for ifindex in [port.outer, port.ifindex] {
            self.set_link(LinkUnspec::new_with_index(ifindex).up().build(), name).await?;
        }
        // After both are up: receive offload on the kernel's end is what lets XDP redirect to the outer one (veth, Linux 5.13), and
        // no hardware comes after that would compute checksums.
        preflight::set_feature(name, preflight::Feature::ReceiveOffload, true)
            .map_err(|error| unset(name, "generic-receive-offload", error))?;
        preflight::set_feature(name, preflight::Feature::TransmitChecksum, false)
            .map_err(|error| unset(name, "tx-checksumming", error))
    }

    /// Gives both ends what the attachment's interface has.
    pub async fn shape_control_port(&self, port: &ControlPort, shape: Shape) -> Result<(), KernelError> {
        let kernel = LinkUnspec::new_with_index(port.ifindex).mtu(shape.mtu).address(shape.mac.to_vec());
        self.set_link(kernel.build(), &port.name).await?;
        self.set_link(LinkUnspec::new_with_index(port.outer).mtu(shape.mtu).build(), &port.name).await
    }

    /// Removes a pair; one that is not there is fine.
    pub async fn remove_control_port(&self, port: &ControlPort) -> Result<(), KernelError> {
        self.remove_link(port.ifindex, &port.name).await
    }

    async fn set_link(&self, message: LinkMessage, name: &str) -> Result<(), KernelError> {
        let set = self.handle.link().set(message).execute().await;
        set.map_err(|error| request_failed(format!("setting up the control port {name}"), error))
    }

    async fn remove_link(&self, ifindex: u32, name: &str) -> Result<(), KernelError> {
        match self.handle.link().del(ifindex).execute().await {
            Err(error) if super::errno(&error) != Some(libc::ENODEV) => {
                Err(request_failed(format!("removing the control port {name}"), error))
            }
            _ => Ok(()),
        }
    }

    async fn named_links(&self) -> Result<Vec<Named>, KernelError> {
        let mut list = Vec::new();
        let mut links = self.handle.link().get().execute();
        while let Some(link) =
            links.try_next().await.map_err(|error| request_failed("listing links".into(), error))?
        {
            list.push(named(&link.header, &link.attributes));
        }
        Ok(list)
    }
}

fn named(header: &LinkHeader, attributes: &[LinkAttribute]) -> Named {
    let mut named = Named {
        ifindex: header.index,
        name: String::new(),
        alias: String::new(),
        is_control_port: false,
        has_program: false,
    };
    let mut is_veth = false;
    for attribute in attributes {
        match attribute {
            LinkAttribute::IfName(name) => named.name.clone_from(name),
            LinkAttribute::IfAlias(alias) => named.alias.clone_from(alias),
            LinkAttribute::LinkInfo(info) => is_veth = info.contains(&LinkInfo::Kind(InfoKind::Veth)),
            LinkAttribute::Xdp(xdp) => {
                named.has_program = xdp.iter().any(|it| matches!(it, LinkXdp::ProgId(_)));
            }
            _ => {}
        }
    }
    named.is_control_port = named.alias.starts_with(ALIAS) && is_veth;
    named
}

fn unset(name: &str, setting: &'static str, error: io::Error) -> KernelError {
    KernelError::Setting { name: name.to_owned(), setting, error }
}
