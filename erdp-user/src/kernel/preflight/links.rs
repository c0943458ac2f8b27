//! Findings about interfaces: what would lose traffic before the program sees it, or after it has sent it on.

use super::{FarEnd, Finding, Fix, Interface, Kind, Severity, far_end, netdev, refusal, warning};
use crate::config::Tags;

/// A page, less the room before the packet (256), skb_shared_info behind it (320) and an Ethernet header with two tags
/// (22): what drivers take without multi-buffer XDP.
pub const SINGLE_BUFFER_MTU: u32 = 3_498;
/// Two tags of 4 bytes, one of which drivers leave room for beyond the MTU.
const MTU_WITH_TWO_TAGS: u32 = 1_504;

/// What is wrong with one interface, given the longest tags of its attachments.
pub(super) fn findings(
    name: &str,
    interface: &Interface,
    tags: Tags,
    allow_generic: bool,
    cpus: u32,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !interface.is_up {
        // Not a refusal: a circuit may run on its other link, and says loudly that it does.
        let reason = "is administratively down, so nothing passes";
        findings.push(found(warning, Kind::Down, name, reason, Fix::Up(name.into())));
    }
    if interface.mtu > SINGLE_BUFFER_MTU && !allow_generic {
        let reason = format!("has an MTU of {}, and native XDP takes {SINGLE_BUFFER_MTU}", interface.mtu);
        let mut finding = found(refusal, Kind::Mtu, name, reason, Fix::Mtu(name.into(), 1_500));
        finding.remedy += ", or --allow-generic for slow forwarding";
        findings.push(finding);
    }
    for (kind, feature, what) in [(Kind::Lro, "rx-lro", "LRO"), (Kind::GroHw, "rx-gro-hw", "GRO_HW")] {
        if interface.has_feature(feature) {
            let reason = format!(
                "merges packets before XDP sees them ({what}), and merged packets cannot be forwarded"
            );
            findings.push(found(refusal, kind, name, reason, Fix::Feature(name.into(), feature, false)));
        }
    }
    if !allow_generic {
        findings.extend(driver(name, interface));
    }
    findings.extend(checksums(name, interface));
    findings.extend(queues(name, interface, cpus));
    findings.extend(interrupts(name, interface, cpus));
    if tags != Tags::Untagged {
        findings.extend(tagged(name, interface, tags));
    }
    findings
}

/// A finding whose remedy is its fix.
fn found(
    severity: fn(Kind, String, String, String) -> Finding,
    kind: Kind,
    name: &str,
    reason: impl Into<String>,
    fix: Fix,
) -> Finding {
    Finding {
        fix: Some(fix.clone()),
        ..severity(kind, format!("interface {name}"), reason.into(), fix.to_string())
    }
}

/// What the driver says that it can do (Linux 6.3); an older kernel tells by refusing to attach.
fn driver(name: &str, interface: &Interface) -> Option<Finding> {
    let can = interface.xdp_features?;
    let driver = interface.driver.as_deref().unwrap_or("unknown");
    let object = || format!("interface {name}");
    let is_veth = driver == "veth";
    if can & (netdev::BASIC | netdev::REDIRECT) != netdev::BASIC | netdev::REDIRECT {
        let remedy = if is_veth {
            // veth_set_xdp_features: none at all while the peer has more of them.
            "give it as many receive queues as its peer has transmit queues: `ethtool -L`, or `numtxqueues` and `numrxqueues` of \
             `ip link add` at both ends"
        } else {
            "use a card whose driver has it (igb, ixgbe, i40e, ice, mlx5, virtio_net ...), or --allow-generic for slow forwarding"
        };
        let reason = format!("cannot run XDP in its driver ({driver}), or not redirect from there");
        return Some(refusal(Kind::NoXdp, object(), reason, remedy.to_owned()));
    }
    // Other drivers say so only once a program is attached, which ours will be.
    if is_veth && can & netdev::TARGET == 0 {
        let reason = "takes no frames from XDP: its peer does not poll for them, and every forwarded frame would be lost";
        let remedy = "ethtool -K PEER gro on (at the far end of the pair), or an XDP program there";
        return Some(refusal(Kind::NoTarget, object(), reason.to_owned(), remedy.to_owned()));
    }
    None
}

/// Whether the far end of a veth computes its checksums. Where it cannot be seen, only the doctor tells, and it is a note: nothing may be
/// wrong there.
fn checksums(name: &str, interface: &Interface) -> Option<Finding> {
    let far = interface.far_end.as_ref()?;
    let (severity, reason) = match far {
        FarEnd::Seen { leaves_checksums: false, .. } => return None,
        FarEnd::Seen { name, .. } => (
            Severity::Warning,
            format!(
                "has a far end, {name}, that leaves checksums to hardware (transmit checksum offload), and there is none between the two: \
                 UDP and TCP from there are forwarded with wrong checksums, and whoever receives them drops them"
            ),
        ),
        FarEnd::Unseen => (
            Severity::Note,
            "has a far end that cannot be seen from here: with transmit checksum offload there, UDP and TCP would be forwarded with wrong \
             checksums"
                .to_owned(),
        ),
    };
    let object = format!("interface {name}");
    Some(Finding { severity, ..warning(Kind::Checksums, object, reason, far_end::remedy(far)) })
}

/// One queue is served by one CPU.
fn queues(name: &str, interface: &Interface, cpus: u32) -> Option<Finding> {
    let (now, most) = interface.queues?;
    let better = most.min(cpus);
    (now < better).then(|| {
        let reason = format!(
            "has {now} receive queue(s) and could have {better}: so many CPUs can forward what it receives"
        );
        found(warning, Kind::Queues, name, reason, Fix::Queues(name.into(), better))
    })
}

/// The interrupts of several queues on one processor: it alone receives, whatever the others do.
fn interrupts(name: &str, interface: &Interface, cpus: u32) -> Option<Finding> {
    let (first, others) = interface.interrupts.split_first()?;
    let is_alone = others.iter().all(|interrupt| interrupt.cpu == first.cpu);
    (cpus > 1 && !others.is_empty() && is_alone).then(|| {
        let reason = format!(
            "has {} receive queues whose interrupts all go to CPU {}, which alone forwards what it receives",
            interface.interrupts.len(),
            first.cpu
        );
        let spread = interface.interrupts.iter().zip((0..cpus).cycle());
        let fix = Fix::Interrupts(spread.map(|(interrupt, cpu)| (interrupt.number, cpu)).collect());
        let mut finding = found(warning, Kind::Interrupts, name, reason, fix);
        finding.remedy += " (a running irqbalance moves them again: ban them there)";
        finding
    })
}

/// Drivers whose "VLAN offload on receive" takes no tag off: a veth passes on what its peer has sent.
const KEEPS_TAGS: [&str; 1] = ["veth"];

fn tagged(name: &str, interface: &Interface, tags: Tags) -> Vec<Finding> {
    let mut findings = Vec::new();
    let keeps_tags = interface.driver.as_deref().is_some_and(|driver| KEEPS_TAGS.contains(&driver));
    if interface.has_feature("rx-vlan-hw-parse") && !keeps_tags {
        let reason = "strips VLAN tags before XDP sees them, and tagged traffic would be lost";
        findings.push(found(
            refusal,
            Kind::TagsStripped,
            name,
            reason,
            Fix::Feature(name.into(), "rx-vlan-hw-parse", false),
        ));
    }
    // In promiscuous mode a filter lets everything pass.
    if interface.has_feature("rx-vlan-filter") && !interface.is_promiscuous && !keeps_tags {
        let reason =
            "filters VLANs that the kernel has no sub-interface for, and tagged traffic would be lost";
        let mut finding = found(refusal, Kind::VlanFilter, name, reason, Fix::Promiscuous(name.into()));
        finding.remedy += &format!(", or ethtool -K {name} rx-vlan-filter off where the driver can");
        findings.push(finding);
    }
    if matches!(tags, Tags::Double { .. }) && interface.mtu < MTU_WITH_TWO_TAGS {
        let reason =
            format!("has an MTU of {}, and two tags on 1,500-byte packets need 1,504", interface.mtu);
        findings.push(found(warning, Kind::TagsMtu, name, reason, Fix::Mtu(name.into(), MTU_WITH_TWO_TAGS)));
    }
    findings
}
