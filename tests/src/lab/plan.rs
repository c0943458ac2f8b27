//! The lab's plan: who is where, under which address and AS number. Constants only.
//!
//! ```text
//!  host ---- ce ---- edge ==== msee1 ---- azure        host, azure   end hosts (azure also speaks BGP as the VNet's gateway)
//!                         \=== msee2 ----/             ce, msee1/2   kernel routers (BIRD; FRR and BIRD)
//!                                                      edge          erdp; its kernel forwards nothing
//! ```
//! Hosts and links have addresses of 198.18.0.0/15 (RFC 2544, for benchmarks) and fd00::/8 (RFC 4193) only.

/// The short names of the namespaces, in the order of the way from the customer to Azure.
pub const NAMESPACES: [&str; 6] = ["host", "ce", "edge", "msee1", "msee2", "azure"];

/// AS number of the edge.
pub const EDGE_ASN: u32 = 65010;
/// AS number of the customer's router.
pub const CE_ASN: u32 = 65020;
/// Microsoft's AS number: both MSEEs.
pub const MSEE_ASN: u32 = 12076;
/// What an Azure VNet gateway uses.
pub const GATEWAY_ASN: u32 = 65515;

/// The private peering's subnet: a /30 for each link.
pub const PRIVATE_IPV4: &str = "198.18.0.0/29";
/// The same for IPv6: a /126 for each link.
pub const PRIVATE_IPV6: &str = "fd00:0:0:10::/125";

/// One link: the two ends' addresses of both families, with their prefix lengths.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// Namespace and interface of the near end (nearer to the customer).
    pub near: (&'static str, &'static str),
    /// Namespace and interface of the far end.
    pub far: (&'static str, &'static str),
    /// IPv4 addresses: near, far, prefix length.
    pub ipv4: (&'static str, &'static str, u8),
    /// IPv6 addresses: near, far, prefix length.
    pub ipv6: (&'static str, &'static str, u8),
}

/// Customer host to customer router.
pub const LAN: Link = Link {
    near: ("host", "lan0"),
    far: ("ce", "lan0"),
    ipv4: ("198.18.64.10", "198.18.64.1", 24),
    ipv6: ("fd00:0:0:64::10", "fd00:0:0:64::1", 64),
};
/// Customer router to edge.
pub const CE: Link = Link {
    near: ("ce", "edge0"),
    far: ("edge", "ce0"),
    ipv4: ("198.18.1.2", "198.18.1.1", 30),
    ipv6: ("fd00:0:0:1::2", "fd00:0:0:1::1", 64),
};
/// Edge to MSEE, primary: the edge has the first usable address of the first subnet, Microsoft the second.
pub const PRIMARY: Link = Link {
    near: ("edge", "msee1"),
    far: ("msee1", "edge0"),
    ipv4: ("198.18.0.1", "198.18.0.2", 30),
    ipv6: ("fd00:0:0:10::1", "fd00:0:0:10::2", 126),
};
/// Edge to MSEE, secondary: the second subnet.
pub const SECONDARY: Link = Link {
    near: ("edge", "msee2"),
    far: ("msee2", "edge0"),
    ipv4: ("198.18.0.5", "198.18.0.6", 30),
    ipv6: ("fd00:0:0:10::5", "fd00:0:0:10::6", 126),
};
/// Primary MSEE to Azure host.
pub const VNET1: Link = Link {
    near: ("msee1", "vnet0"),
    far: ("azure", "msee1"),
    ipv4: ("198.18.128.1", "198.18.128.2", 30),
    ipv6: ("fd00:0:0:81::1", "fd00:0:0:81::2", 64),
};
/// Secondary MSEE to Azure host.
pub const VNET2: Link = Link {
    near: ("msee2", "vnet0"),
    far: ("azure", "msee2"),
    ipv4: ("198.18.128.5", "198.18.128.6", 30),
    ipv6: ("fd00:0:0:82::1", "fd00:0:0:82::2", 64),
};
/// All links.
pub const LINKS: [Link; 6] = [LAN, CE, PRIMARY, SECONDARY, VNET1, VNET2];

/// The customer's own networks that carry hosts.
pub const CUSTOMER_IPV4: &str = "198.18.64.0/24";
/// The same for IPv6.
pub const CUSTOMER_IPV6: &str = "fd00:0:0:64::/64";
/// The VNet.
pub const VNET_IPV4: &str = "198.18.192.0/24";
/// The same for IPv6.
pub const VNET_IPV6: &str = "fd00:0:0:c0::/64";
/// The Azure host's addresses in the VNet.
pub const AZURE_IPV4: &str = "198.18.192.10";
/// The same for IPv6.
pub const AZURE_IPV6: &str = "fd00:0:0:c0::10";

/// What may enter the kernels of the peers: the lab's own networks, none of the real prefixes that are only announced.
pub const LAB_IPV4: &str = "198.18.0.0/15";
/// The same for IPv6.
pub const LAB_IPV6: &str = "fd00::/8";
