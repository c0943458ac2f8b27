//! What a domain says is what it was told to say, whether the trie keeps it or a map does.

use super::*;

/// Domain 0 has a home in each of them but the last, where a prefix must not go in clear; domain 1 likewise.
fn shapes() -> Vec<Topology> {
    let mut all: Vec<AttachmentFacts> = topology().attachments().cloned().collect();
    all[3].domains = vec![1, 0];
    let swapped = Topology::new(all.clone());
    all[4].encrypted_only = vec!["20.0.0.0/24".parse().expect("a prefix")];
    vec![topology(), zoned(), swapped, Topology::new(all)]
}

fn facts(topology: &Topology) -> Vec<AttachmentFacts> {
    topology.attachments().cloned().collect()
}

fn prefix(choice: u8) -> IpNet {
    let (second, third) = (choice >> 4 & 1, choice & 3);
    let len = [8, 15, 16, 17, 24, 25, 31, 32][usize::from(choice >> 2 & 7)];
    let net: IpNet = format!("20.{second}.{third}.0/{len}").parse().expect("a prefix");
    net.trunc()
}

/// Says what the model says, about everything that can be asked for.
fn check(bench: &Bench, model: &[BTreeMap<IpNet, Target>; 2]) {
    for (domain, said) in model.iter().enumerate() {
        for net in (0..64).map(prefix) {
            let got = bench.forwarding.said(domain, net);
            assert_eq!(got.as_deref(), said.get(&net), "domain {domain}, {net}");
        }
    }
}

/// Names everything that is said, and nothing else.
fn check_names(bench: &Bench, model: &[BTreeMap<IpNet, Target>; 2]) {
    for (domain, said) in model.iter().enumerate() {
        let mut prefixes = bench.forwarding.said_of(domain);
        prefixes.sort_unstable();
        prefixes.dedup();
        let is_there = |net: &IpNet| bench.forwarding.said(domain, *net).is_some();
        assert!(prefixes.into_iter().filter(is_there).eq(said.keys().copied()), "domain {domain}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_domain_says_what_it_was_told_to_in_every_shape_and_with_any_room(
        steps in proptest::collection::vec((0usize..2, 0u8..64, 0usize..6, 0usize..40), 1..40),
        room in 1u32..8,
    ) {
        let mut dataplane = MemoryDataplane::new(4 * 512 + room);
        let forwarding = Forwarding::new(topology(), &mut dataplane).expect("room for the roots");
        let mut bench = Bench { forwarding, dataplane };
        let shapes = shapes();
        let mut model = [BTreeMap::new(), BTreeMap::new()];
        for (at, (domain, choice, target, shape)) in steps.into_iter().enumerate() {
            let now_ns = at as u64 * 700_000_000;
            let key = |last| [via([1, 3][domain], last)].into();
            let target = [Target::Discard, Target::Forward(key(2)), Target::Forward(key(3))].get(target).cloned();
            match target.clone() {
                Some(target) => drop(model[domain].insert(prefix(choice), target)),
                None => drop(model[domain].remove(&prefix(choice))),
            }
            // Without room the word stands all the same.
            let _ = bench.forwarding.route(domain, prefix(choice), target, now_ns, &mut bench.dataplane);
            check(&bench, &model);
            if let Some(shape) = shapes.get(shape) {
                let _ = bench.forwarding.reshape(facts(shape), now_ns, &mut bench.dataplane);
                check(&bench, &model);
                check_names(&bench, &model);
            }
            bench.forwarding.retry(now_ns, &mut bench.dataplane).expect("what finds no room waits");
            check(&bench, &model);
        }
    }
}

#[test]
fn what_the_trie_keeps_is_kept_nowhere_else() {
    let mut bench = Bench::new();
    for third in 0..100 {
        bench.route(0, &format!("20.0.{third}.0/24"), &[via(1, 2)], 0);
        bench.route(0, &format!("20.0.{}.0/24", third / 2), &[], 0);
    }
    assert_eq!(bench.forwarding.said_of(0).len(), 50);
    assert_eq!(bench.forwarding.beside(0), 0);
    let encrypted = &shapes()[3];
    bench.forwarding.reshape(facts(encrypted), 0, &mut bench.dataplane).expect("room");
    assert_eq!(bench.forwarding.beside(0), 50, "no view has all of it any more");
    bench.forwarding.reshape(facts(&topology()), 0, &mut bench.dataplane).expect("room");
    assert_eq!((bench.forwarding.said_of(0).len(), bench.forwarding.beside(0)), (50, 0));
}
