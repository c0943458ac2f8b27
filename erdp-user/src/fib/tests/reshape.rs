//! Another shape of the same attachments: afterwards everything forwards as if it had been so from the beginning.

use super::*;

/// Routes of both domains, on-link hosts of both CEs.
fn fill(bench: &mut Bench) {
    bench.route(0, "10.0.0.0/8", &[via(1, 2), via(2, 2)], 0);
    bench.route(0, "10.9.0.0/16", &[via(1, 2)], 0);
    bench.route(0, "20.0.0.0/8", &[via(4, 2), via(5, 2)], 0);
    bench.route(1, "30.0.0.0/8", &[via(3, 2)], 0);
    bench.route(1, "40.0.0.0/8", &[via(5, 2)], 0);
    bench.forwarding.connect(0, &mut bench.dataplane).expect("room");
    for key in [via(1, 2), via(2, 2), via(3, 2), via(4, 2), via(5, 2), via(5, 9)] {
        bench.resolve(key);
    }
}

/// What becomes of packets from everywhere to everywhere.
fn verdicts(bench: &Bench) -> Vec<(u32, &'static str, &'static str, u8, Option<NextHopKey>)> {
    let mut list = Vec::new();
    for ifindex in [11, 12, 14, 15] {
        for to in [
            "10.1.1.1",
            "10.9.1.1",
            "20.1.1.1",
            "30.1.1.1",
            "40.1.1.1",
            "198.18.5.9",
            "198.18.4.77",
            "50.1.1.1",
        ] {
            let answer = bench.ask(ifindex, to);
            let next_hop = bench.forwarding.next_hop_key(answer.trace.next_hop);
            list.push((ifindex, to, answer.verdict(), answer.trace.reason, next_hop));
        }
    }
    list
}

fn shape(change: impl Fn(&mut [AttachmentFacts])) -> Topology {
    let mut all: Vec<AttachmentFacts> = topology().attachments().cloned().collect();
    change(&mut all);
    Topology::new(all)
}

#[test]
fn after_each_change_of_shape_packets_go_as_if_it_had_been_so_from_the_beginning() {
    let shapes = [
        ("zones", zoned()),
        ("back", topology()),
        ("another order of domains", shape(|all| all[3].domains = vec![1, 0])),
        ("a domain less", shape(|all| all[3].domains = vec![0])),
        ("a domain more", shape(|all| all[4].domains = vec![1, 0])),
        ("a disabled circuit", shape(|all| all[0].enabled = false)),
        ("hairpin", shape(|all| all.iter_mut().for_each(|it| it.hairpin = true))),
        (
            "encrypted only",
            shape(|all| all[4].encrypted_only = vec!["10.9.0.0/16".parse().expect("a prefix")]),
        ),
        ("back again", topology()),
    ];
    let mut bench = Bench::new();
    fill(&mut bench);
    for (at, (name, shape)) in shapes.into_iter().enumerate() {
        let mut fresh = Bench::of(shape.clone());
        fresh.forwarding.guard(0, &mut fresh.dataplane).expect("room");
        fill(&mut fresh);
        let attachments = shape.attachments().cloned().collect();
        let now_ns = (at as u64 + 1) * 2_000_000_000;
        bench.forwarding.reshape(attachments, now_ns, &mut bench.dataplane).expect("room");
        assert_eq!(verdicts(&bench), verdicts(&fresh), "{name}");
        // Tables that nobody uses are emptied and taken for the next policy: no more than were ever in use at once, and a spare.
        assert!(bench.forwarding.views.len() <= 6, "{name}: {} tables", bench.forwarding.views.len());
    }
}

#[test]
fn other_weights_move_flows_to_whom_they_favour() {
    let mut bench = Bench::new();
    fill(&mut bench);
    let share = |bench: &Bench| {
        let flows = (0..200).map(|last| format!("20.1.0.{last}"));
        flows.filter(|to| bench.next_hop(11, to) == Some(via(4, 2))).count()
    };
    // CE 4 has weight 3 and CE 5 has 1.
    let before = share(&bench);
    let equal = shape(|all| all[3].weight = NonZero::<u8>::MIN);
    bench
        .forwarding
        .reshape(equal.attachments().cloned().collect(), 0, &mut bench.dataplane)
        .expect("memory");
    let after = share(&bench);
    assert!((130..=170).contains(&before) && (80..=120).contains(&after), "{before} of 200, then {after}");
}

#[test]
fn b9_what_may_go_in_clear_again_leaves_nothing_in_any_table() {
    let mut bench = Bench::new();
    let before = bench.forwarding.sizes();
    for encrypted in ["60.0.0.0/16", "70.0.0.0/24"] {
        let guarded = shape(|all| all[4].encrypted_only = vec![encrypted.parse().expect("a prefix")]);
        let facts = guarded.attachments().cloned().collect();
        bench.forwarding.reshape(facts, 0, &mut bench.dataplane).expect("room");
        assert!(bench.forwarding.sizes()["routes"] > before["routes"]);
    }
    let facts = topology().attachments().cloned().collect();
    bench.forwarding.reshape(facts, 0, &mut bench.dataplane).expect("room");
    assert_eq!(bench.forwarding.sizes()["routes"], before["routes"]);
}
