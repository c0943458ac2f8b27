//! Another process's tables, read back as a start does that finds a program forwarding.

use erdp_common::{abi::GROUP_FORWARD, fib::build::Store as _};

use super::*;
use crate::fib::Adopted;

impl Adopted for MemoryDataplane {
    fn roots(&self, attachment: AttachmentId) -> Option<[u32; 2]> {
        self.with_tables(|tables| {
            let record = tables.attachments[usize::from(attachment.number())];
            Some([record.root4, record.root6])
        })
    }

    fn word(&self, line: u32, at: usize) -> u64 {
        self.with_tables(|tables| tables.blocks.word(line, at))
    }

    fn egress(&self, group: u32) -> Vec<AttachmentId> {
        self.with_tables(|tables| {
            let group = tables.groups[group as usize];
            let members = group.members.iter().filter(|it| group.kind == GROUP_FORWARD && **it != 0);
            let next_hops = members.map(|id| tables.next_hops[usize::from(*id)]);
            let alive = next_hops.filter(|it| tables.links[usize::from(it.link)] != 0);
            alive.filter_map(|next_hop| AttachmentId::numbered(next_hop.attachment)).collect()
        })
    }
}

fn v6(attachment: u16) -> NextHopKey {
    NextHopKey {
        attachment: AttachmentId::at(usize::from(attachment) - 1),
        address: "fd00::2".parse().expect("an address"),
    }
}

#[test]
fn a_program_may_go_when_everything_that_it_forwards_is_known_again_over_the_same_links() {
    let mut before = Bench::new();
    let routes = [
        (0, "20.0.0.0/8", vec![via(1, 2), via(2, 2)]),
        (0, "20.0.3.0/24", vec![via(1, 2)]),
        (1, "30.0.0.0/16", vec![via(3, 2)]),
        (0, "2001:db8::/32", vec![v6(1)]),
    ];
    for (domain, prefix, keys) in &routes {
        before.route(*domain, prefix, keys, 0);
    }
    let mut now = Bench::new();
    for key in [via(1, 2), via(2, 2), via(3, 2), v6(1)] {
        now.resolve(key);
    }
    assert!(now.forwarding.covers(&Bench::new().dataplane), "nothing was forwarded");
    for (domain, prefix, keys) in &routes {
        assert!(!now.forwarding.covers(&before.dataplane), "{prefix} is missing");
        now.route(*domain, prefix, keys, 0);
    }
    assert!(now.forwarding.covers(&before.dataplane));
    assert!(now.forwarding.covers(&Bench::new().dataplane));
    // More of it, or by way of more links, is no loss.
    now.route(0, "20.0.4.0/24", &[via(2, 2), via(1, 2)], 0);
    now.route(0, "2001:db8::/32", &[v6(1), v6(2)], 0);
    assert!(now.forwarding.covers(&before.dataplane));
    // Part of it by way of fewer links is, as long as that link is alive.
    now.route(0, "20.0.0.0/8", &[via(1, 2)], 0);
    assert!(!now.forwarding.covers(&before.dataplane));
    before.forwarding.link(12, false, &mut before.dataplane).expect("memory");
    assert!(now.forwarding.covers(&before.dataplane), "nothing goes over the second link any more");
}

#[test]
fn a_neighbour_that_is_not_known_again_keeps_the_program_that_knows_it() {
    let mut before = Bench::new();
    before.route(0, "20.0.0.0/8", &[via(1, 2)], 0);
    let mut now = Bench::new();
    now.route(0, "20.0.0.0/8", &[via(1, 2)], 0);
    assert!(!now.forwarding.covers(&before.dataplane));
    now.resolve(via(1, 2));
    assert!(now.forwarding.covers(&before.dataplane));
}

#[test]
fn a_host_of_a_connected_subnet_is_covered_by_asking_for_it() {
    let (mut before, mut now) = (Bench::new(), Bench::new());
    for bench in [&mut before, &mut now] {
        bench.forwarding.connect(0, &mut bench.dataplane).expect("room");
    }
    before.resolve(via(4, 9));
    assert!(now.forwarding.covers(&before.dataplane));
    // The subnet alone does not lead elsewhere.
    before.route(0, "198.18.4.9/32", &[via(1, 2)], 0);
    assert!(!now.forwarding.covers(&before.dataplane));
}
