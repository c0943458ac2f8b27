//! Interfaces that are not there at the start, or go: nothing in the maps leads to them, and everything else is as it would be.

use super::*;
use crate::dataplane::Counters;

/// As the kernel: a slot of the device map takes no interface that is not there.
struct Kernel {
    maps: MemoryDataplane,
    there: BTreeSet<u32>,
    slots: BTreeMap<u16, u32>,
    ports: BTreeMap<u32, erdp_common::abi::Port>,
}

impl Kernel {
    fn new(there: &[u32]) -> Self {
        Self {
            maps: MemoryDataplane::new(8192),
            there: there.iter().copied().collect(),
            slots: BTreeMap::new(),
            ports: BTreeMap::new(),
        }
    }

    fn forwarding(&mut self, topology: Topology) -> Forwarding {
        let mut forwarding = Forwarding::new(topology, self).expect("what is there suffices");
        for ifindex in self.there.clone() {
            forwarding.link_facts(ifindex, LinkFacts { mac: MAC, mtu: 1500 }, self).expect("memory");
            forwarding.link(ifindex, true, self).expect("memory");
        }
        let both = Target::Forward([via(1, 2), via(2, 2)].into());
        forwarding.route(0, "10.0.0.0/8".parse().expect("a prefix"), Some(both), 0, self).expect("room");
        for key in [via(1, 2), via(2, 2)] {
            forwarding.neighbour(key, Some(MAC), 0, self).expect("memory");
        }
        forwarding
    }

    /// Where packets of a hundred flows from CE 4 leave.
    fn egress(&self, forwarding: &Forwarding) -> BTreeSet<u16> {
        let leaves = |port: u16| {
            let (from, to) = ("198.18.64.9".parse().expect("one"), "10.1.1.1".parse().expect("one"));
            let question = Question { from, to, ports: (port, 443), hop_limit: 64, tags: [None, None] };
            let answer = self.maps.ask(14, &question.frame().expect("one family")).expect("memory");
            let key = forwarding.next_hop_key(answer.trace.next_hop);
            (answer.verdict() == "transmit").then(|| key.expect("a next hop").attachment.number())
        };
        (0..100).filter_map(leaves).collect()
    }
}

impl Dataplane for Kernel {
    fn write(&mut self, record: &Record) -> Result<(), DataplaneError> {
        match record {
            Record::TxPort(_, ifindex) if *ifindex != 0 && !self.there.contains(ifindex) => {
                return Err(DataplaneError::Map { map: "TX_PORTS", reason: "Invalid argument".into() });
            }
            Record::TxPort(slot, ifindex) => drop(self.slots.insert(*slot, *ifindex)),
            Record::Port(ifindex, port) => drop(self.ports.insert(*ifindex, *port)),
            _ => {}
        }
        self.maps.write(record)
    }

    fn take_store(&mut self) -> Option<Box<dyn Store + Send>> {
        self.maps.take_store()
    }

    fn counters(&self) -> Result<Counters, DataplaneError> {
        self.maps.counters()
    }

    fn ask(&self, ifindex: u32, frame: &[u8]) -> Result<Answer, DataplaneError> {
        self.maps.ask(ifindex, frame)
    }

    fn clock(&self) -> u64 {
        self.maps.clock()
    }

    fn attach(
        &mut self,
        name: &str,
        ifindex: u32,
        mode: crate::dataplane::Mode,
    ) -> Result<(), DataplaneError> {
        self.maps.attach(name, ifindex, mode)
    }
}

fn facts(topology: &Topology) -> Vec<AttachmentFacts> {
    topology.attachments().cloned().collect()
}

#[test]
fn an_interface_that_is_not_there_at_the_start_is_in_no_map_and_packets_take_what_is_there() {
    // MSEE 1 and the tagged MSEE 3 are on interface 11, which is not there; nor has 3 its control port.
    let mut all = facts(&topology());
    for at in [0, 2] {
        (all[at].ifindex, all[at].control) = (0, None);
    }
    let mut kernel = Kernel::new(&[12, 14, 15]);
    let mut forwarding = kernel.forwarding(Topology::new(all));
    assert_eq!(kernel.egress(&forwarding), [2].into(), "nothing leaves by attachment 1");
    assert_eq!(kernel.slots, [(1, 0), (2, 12), (3, 0), (4, 14), (5, 15)].into());
    assert_eq!(kernel.ports.keys().copied().collect::<Vec<_>>(), [12, 14, 15]);
    let topology = forwarding.topology();
    assert_eq!(topology.ports().into_keys().collect::<Vec<_>>(), [12, 14, 15], "where the program is to run");
    assert_eq!((topology.link_of(0), topology.has(0)), (None, false));
    // Another shape, with the interface still absent.
    let same = facts(forwarding.topology());
    forwarding.reshape(same, 1, &mut kernel).expect("the same attachments");
    assert_eq!(kernel.egress(&forwarding), [2].into());
}

#[test]
fn an_interface_that_goes_leaves_the_maps_and_what_is_applied_afterwards_is_carried_out() {
    let mut kernel = Kernel::new(&[11, 12, 14, 15, 20, 21]);
    let mut forwarding = kernel.forwarding(topology());
    assert_eq!(kernel.egress(&forwarding), [1, 2].into());
    let links: Vec<_> = [11, 12, 14, 15].iter().map(|it| forwarding.topology().link_of(*it)).collect();
    kernel.there.remove(&11);
    forwarding.interface_gone(11, &mut kernel).expect("it has gone");
    assert_eq!(kernel.egress(&forwarding), [2].into());
    assert_eq!((kernel.slots[&1], kernel.slots[&3], kernel.slots[&2]), (0, 0, 12));
    assert_eq!(kernel.ports[&11], Default::default());
    let after: Vec<_> = [11, 12, 14, 15].iter().map(|it| forwarding.topology().link_of(*it)).collect();
    assert_eq!(links, after, "the words of the other links keep their numbers");
    // What `erdp config apply` does, with the same file and with another.
    let same = facts(forwarding.topology());
    forwarding.reshape(same.clone(), 1, &mut kernel).expect("an unchanged file is applied");
    let mut other = same;
    other[3].domains = vec![0];
    forwarding.reshape(other, 2, &mut kernel).expect("so is a changed one");
    assert_eq!((kernel.slots[&1], kernel.egress(&forwarding)), (0, [2].into()));
    assert!(!forwarding.topology().ports().contains_key(&11), "it gets the program no more");
}

#[test]
fn a_control_port_that_goes_leaves_the_maps_and_its_interface_stays() {
    let mut kernel = Kernel::new(&[11, 12, 14, 15, 20, 21]);
    let mut forwarding = kernel.forwarding(topology());
    for end in [21, 20] {
        kernel.there.remove(&end);
        forwarding.interface_gone(end, &mut kernel).expect("it has gone");
    }
    let slot = erdp_common::abi::control_slot(3);
    assert_eq!((kernel.slots[&slot], kernel.slots[&3], kernel.ports[&21]), (0, 11, Default::default()));
    let same = facts(forwarding.topology());
    forwarding.reshape(same, 1, &mut kernel).expect("an unchanged file is applied");
    assert_eq!(kernel.egress(&forwarding), [1, 2].into());
}
