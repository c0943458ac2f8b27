//! The control ports of this edge's tagged attachments: made before the program is attached, removed after it is gone.
//!
//! What a neighbour asks of our IPv6 addresses goes to their solicited-node groups (RFC 4291 section 2.7.1). The kernel joins them on
//! the control port, whose other end is no hardware; so they are joined on the attachment's own interface too, or a network card that
//! filters multicast would keep the neighbour's question. The sockets that have joined close with the process.

use std::{
    collections::HashMap,
    io,
    net::{Ipv6Addr, UdpSocket},
};

use crate::{
    config::{Attachment, Config},
    fib::Topology,
    kernel::{
        Kernel, KernelError, KernelEvent, Link,
        control_port::{ControlPort, Shape},
    },
};

/// What was made, to be undone.
#[derive(Debug, Default)]
pub struct ControlPorts {
    ports: Vec<ControlPort>,
    /// Found, and not yet taken into use.
    adopted: HashMap<String, ControlPort>,
    groups: Vec<UdpSocket>,
}

impl ControlPorts {
    /// Makes one for each tagged attachment and tells the topology; all of them down. When one cannot be made, none is left. Those
    /// that an edge before us has left are used on where its program still `forwards`.
    pub async fn add(
        config: &Config,
        kernel: &Kernel,
        facts: &[KernelEvent],
        topology: &mut Topology,
        forwards: bool,
    ) -> Result<Self, KernelError> {
        let mut made = Self::default();
        let tagged: Vec<(Attachment, String)> = config
            .attachments()
            .into_iter()
            .filter_map(|attachment| attachment.control_port().map(|name| (attachment, name)))
            // Without its interface an attachment needs none.
            .filter(|(it, _)| topology.attachment(it.id).is_some_and(|facts| facts.ifindex != 0))
            .collect();
        let mut names = Vec::new();
        for (attachment, name) in &tagged {
            let found = if forwards { kernel.find_control_port(name, &attachment.name).await? } else { None };
            match found {
                Some(port) => drop(made.adopted.insert(name.clone(), port)),
                None => names.push(name.clone()),
            }
        }
        kernel.clear_control_ports(&names).await?;
        let links: HashMap<u32, &Link> = facts
            .iter()
            .filter_map(
                |fact| if let KernelEvent::Link(link) = fact { Some((link.ifindex, link)) } else { None },
            )
            .collect();
        for (attachment, name) in &tagged {
            if let Err(error) = made.add_one(attachment, name, kernel, &links, topology).await {
                made.remove(kernel).await;
                return Err(error);
            }
        }
        Ok(made)
    }

    async fn add_one(
        &mut self,
        attachment: &Attachment,
        name: &str,
        kernel: &Kernel,
        links: &HashMap<u32, &Link>,
        topology: &mut Topology,
    ) -> Result<(), KernelError> {
        let id = attachment.id;
        let ifindex = topology.attachment(id).map_or(0, |facts| facts.ifindex);
        let Some(link) = links.get(&ifindex) else { return Ok(()) };
        let shape = Shape::of(link.mac, link.mtu, attachment.tags.iter().count());
        let port = match self.adopted.remove(name) {
            Some(port) => {
                kernel.shape_control_port(&port, shape).await?;
                port
            }
            None => kernel.add_control_port(name, &attachment.name, shape).await?,
        };
        tracing::info!(attachment = attachment.name, interface = name, "control port");
        topology.set_control_port(id, port.clone());
        self.ports.push(port);
        for address in attachment.addresses.iter().map(ipnet::IpNet::addr) {
            let std::net::IpAddr::V6(address) = address else { continue };
            match join(solicited_node(address), ifindex) {
                Ok(socket) => self.groups.push(socket),
                // Most interfaces filter nothing, and on the others promiscuous mode does as well.
                Err(error) => tracing::warn!(
                    interface = attachment.interface,
                    %error,
                    "cannot join the solicited-node group of {address}; if neighbour discovery fails: ip link set {} allmulticast on",
                    attachment.interface
                ),
            }
        }
        Ok(())
    }

    /// The kernel's ends, by name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.ports.iter().map(|port| port.name.as_str())
    }

    /// Brings all of them up.
    pub async fn start(&self, kernel: &Kernel) -> Result<(), KernelError> {
        for port in &self.ports {
            kernel.start_control_port(port).await?;
        }
        Ok(())
    }

    /// Undoes everything.
    pub async fn remove(self, kernel: &Kernel) {
        for port in &self.ports {
            if let Err(error) = kernel.remove_control_port(port).await {
                tracing::warn!(%error, "a control port stays");
            }
        }
    }
}

fn join(group: Ipv6Addr, ifindex: u32) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    socket.join_multicast_v6(&group, ifindex)?;
    Ok(socket)
}

/// ff02::1:ff00:0/104 and the last 24 bits of the address.
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}

#[cfg(test)]
mod tests {
    use super::solicited_node;

    #[test]
    fn the_solicited_node_group_has_the_last_24_bits_of_the_address() {
        for (address, group) in
            [("fd00::1", "ff02::1:ff00:1"), ("fe80::1234:56ff:fe78:9abc", "ff02::1:ff78:9abc")]
        {
            let group: std::net::Ipv6Addr = group.parse().expect("a group");
            assert_eq!(solicited_node(address.parse().expect("an address")), group);
        }
    }
}
