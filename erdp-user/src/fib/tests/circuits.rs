//! An attachment that lists several domains: which of them has a prefix, by their order, by a last resort, or by what each route is worth.

use super::*;
use crate::rib::LAST_RESORT;

/// The domain that a question about a packet from attachment 4 names.
fn domain_of(bench: &Bench, to: &str) -> Option<usize> {
    let group = bench.ask(14, to).trace.group;
    bench.forwarding.longest_match(AttachmentId::at(3), to.parse().unwrap(), group)?.domain
}

#[test]
fn domains_do_not_leak_and_a_ce_attachment_sees_the_union_in_its_order() {
    let mut bench = Bench::new();
    for key in [via(1, 2), via(3, 2)] {
        bench.resolve(key);
    }
    bench.route(0, "20.0.0.0/8", &[via(1, 2)], 0);
    bench.route(1, "20.0.0.0/8", &[via(3, 2)], 0);
    bench.route(1, "40.0.0.0/8", &[via(3, 2)], 0);
    assert_eq!(bench.next_hop(14, "20.1.1.1"), Some(via(1, 2)), "the first listed domain wins");
    assert_eq!(bench.next_hop(14, "40.1.1.1"), Some(via(3, 2)), "the union holds the second domain too");
    assert_eq!(bench.next_hop(15, "20.1.1.1"), Some(via(3, 2)), "attachment 5 knows domain 1 only");
    let worth = |bench: &mut Bench, domain: usize, worth: u32| {
        bench.forwarding.rank(domain, "20.0.0.0/8".parse().expect("a prefix"), worth);
        bench.route(domain, "20.0.0.0/8", &[via([1, 3][domain], 2)], 0);
    };
    worth(&mut bench, 0, LAST_RESORT);
    assert_eq!(bench.next_hop(14, "20.1.1.1"), Some(via(3, 2)), "a last resort is used last");
    assert_eq!(domain_of(&bench, "20.1.1.1"), Some(1), "and a question is answered so");
    assert_eq!(bench.next_hop(15, "20.1.1.1"), Some(via(3, 2)));
    worth(&mut bench, 1, LAST_RESORT);
    assert_eq!(bench.next_hop(14, "20.1.1.1"), Some(via(1, 2)), "of two of them the first listed one");
    assert_eq!(domain_of(&bench, "20.1.1.1"), Some(0));
    worth(&mut bench, 0, 1);
    worth(&mut bench, 1, 200);
    assert_eq!(bench.next_hop(14, "20.1.1.1"), Some(via(1, 2)), "and nothing else of their worth counts");
    bench.route(0, "20.0.0.0/8", &[], 0);
    assert_eq!(bench.next_hop(14, "20.1.1.1"), Some(via(3, 2)), "the second domain's route takes over");
}

#[test]
fn b11_an_attachment_that_compares_its_circuits_uses_what_is_worth_most_and_shares_between_equal_ones() {
    let mut all: Vec<AttachmentFacts> = topology().attachments().cloned().collect();
    all[3].compares_circuits = true;
    let mut bench = Bench::of(Topology::new(all));
    [via(1, 2), via(2, 2), via(3, 2)].into_iter().for_each(|key| bench.resolve(key));
    let ways = |bench: &Bench, to: &str| -> BTreeSet<NextHopKey> {
        let answer = bench.ask(14, to);
        let target = bench.forwarding.target(answer.trace.group).unwrap();
        target.members().map(|(key, _)| key).collect()
    };
    for prefix in ["20.0.0.0/8", "21.0.0.0/8"] {
        bench.route(0, prefix, &[via(1, 2), via(2, 2)], 0);
        bench.route(1, prefix, &[via(3, 2)], 0);
    }
    let all = BTreeSet::from([via(1, 2), via(2, 2), via(3, 2)]);
    assert_eq!(
        (ways(&bench, "20.1.1.1"), ways(&bench, "21.1.1.1")),
        (all.clone(), all.clone()),
        "equal ones share"
    );
    bench.forwarding.rank(1, "20.0.0.0/8".parse().expect("a prefix"), 200);
    bench.route(1, "20.0.0.0/8", &[via(3, 2)], 0);
    assert_eq!((ways(&bench, "20.1.1.1"), ways(&bench, "21.1.1.1")), ([via(3, 2)].into(), all.clone()));
    bench.route(1, "20.0.0.0/8", &[], 0);
    assert_eq!(ways(&bench, "20.1.1.1"), [via(1, 2), via(2, 2)].into(), "the other circuit takes over");
    bench.forwarding.rank(1, "20.0.0.0/8".parse().expect("a prefix"), 0);
    bench.route(1, "20.0.0.0/8", &[via(3, 2)], 0);
    assert_eq!(ways(&bench, "20.1.1.1"), [via(1, 2), via(2, 2)].into(), "one that is spared comes last");
    bench.route(0, "20.0.0.0/8", &[], 0);
    assert_eq!(ways(&bench, "20.1.1.1"), [via(3, 2)].into(), "and carries where nothing else does");
}
