//! A circuit's rate is changed while packets flow: the loaded program keeps its buckets as they are, and the rate afterwards is the
//! new one.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use erdp::{
    compile::limits,
    config::{CircuitChange, Config},
    dataplane::{
        Dataplane as _, Record,
        aya::{AyaDataplane, Buffers, LoadOptions},
    },
};
use erdp_common::{
    abi::{L2_MAX, NEXT_HOP_MSEE, NEXT_HOP_RESOLVED, NextHop},
    policer::TIME_FRACTION_BITS,
};
use erdp_tests::packets::{
    Build, Edge, Ports, in_network_namespace, is_root, neighbour_mac, our_mac, veth_ports,
};

const MILLISECOND: u64 = 1_000_000 << TIME_FRACTION_BITS;
/// IP bytes of each packet.
const PACKET: usize = 1_000;

/// A circuit whose outbound policer next hop 1 (20.1.0.0/16) passes, and packets that come from the customer.
struct Stand {
    config: Config,
    dataplane: AyaDataplane,
    _edge: Edge,
    outbound: u16,
    ports: Ports,
    frame: Vec<u8>,
    buffers: Buffers,
    now: u64,
}

impl Stand {
    fn new(ports: Ports) -> Result<Self> {
        let file = erdp_tests::edge::configuration().replace("\"1G\"", "\"100M\"");
        let (config, _) = Config::parse(&file, Path::new("edge.toml"))?;
        let now = 1_000 * MILLISECOND;
        let options = LoadOptions { fib_blocks: 2048, virtual_clock: true, ..LoadOptions::default() };
        let mut dataplane = AyaDataplane::load(options)?;
        dataplane.set_clock(now)?;
        let _edge = Edge::build(&mut dataplane, ports)?;
        let records = limits::records(&config, now);
        records.iter().try_for_each(|record| dataplane.write(record))?;
        let msee = config.attachments().into_iter().find(|attachment| attachment.side.is_msee());
        let outbound = limits::of(&config, &msee.context("no MSEE")?).outbound;
        let mut l2 = [0; L2_MAX];
        l2[..6].copy_from_slice(&neighbour_mac(1));
        l2[6..12].copy_from_slice(&our_mac(1));
        let flags = NEXT_HOP_RESOLVED | NEXT_HOP_MSEE;
        let (attachment, link) = (1, 1);
        let next_hop = NextHop {
            flags,
            attachment,
            link,
            mtu: 1500,
            l2_len: 12,
            policer: outbound,
            l2,
            ..NextHop::default()
        };
        dataplane.write(&Record::NextHop(1, next_hop))?;
        let segment = Build::udp(40_000, 443, &[0; PACKET - 28]);
        let packet = Build::ipv4([198, 18, 64, 1], [20, 1, 0, 1], 17, &segment, |_| {});
        ensure!(packet.len() == PACKET, "{} bytes", packet.len());
        let frame = Build::ethernet(&[], 0x0800, &packet);
        Ok(Self { config, dataplane, _edge, outbound, ports, frame, buffers: Buffers::default(), now })
    }

    /// Offers a packet each 10 us (800 Mb/s) for so long; the answer is what got through, in bits a second.
    fn offer(&mut self, milliseconds: u64) -> Result<f64> {
        let mut bits = 0;
        for _ in 0..milliseconds * 100 {
            self.now += MILLISECOND / 100;
            self.dataplane.set_clock(self.now)?;
            let (action, _) = self.dataplane.run(self.ports.c, &self.frame, &mut self.buffers)?;
            bits += if action == 4 { 8 * PACKET } else { 0 };
        }
        Ok(bits as f64 * 1_000.0 / milliseconds as f64)
    }

    /// Carries a change out as the controller does, less bandwidth as if it were forced (A4); the answer is the bucket's words before
    /// and after.
    fn change(&mut self, change: &CircuitChange) -> Result<[[u64; 4]; 2]> {
        let planned = change.plan(&self.config, "lab").map_err(anyhow::Error::msg)?;
        let before = &self.config.circuits[planned.index];
        let is_less = planned.circuit.bandwidth < before.bandwidth;
        ensure!(planned.decrease.is_some() == is_less, "{change:?}: {:?}", planned.decrease);
        let records = limits::change(planned.index, before, &planned.circuit, self.now)
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        let old = self.dataplane.bucket(self.outbound)?;
        records.iter().try_for_each(|record| self.dataplane.write(record))?;
        self.config.circuits[planned.index] = planned.circuit;
        Ok([old, self.dataplane.bucket(self.outbound)?])
    }
}

#[test]
fn a_rate_that_is_changed_live_holds_at_once_and_the_buckets_state_is_kept() -> Result<()> {
    if !is_root() {
        println!("SKIP: loading an XDP program needs root");
        return Ok(());
    }
    in_network_namespace(|| {
        let mut stand = Stand::new(veth_ports()?)?;
        // The credit of a second is drained first: then only the sustained rate is left.
        let peak = stand.offer(1_100)?;
        ensure!(peak > 150e6, "no burst to twice the rate: {peak} bit/s");
        for (bandwidth, megabits) in [("100M", 100.0), ("200M", 200.0), ("50M", 50.0), ("500M", 500.0)] {
            let change = CircuitChange { bandwidth: Some(bandwidth.into()), ..CircuitChange::default() };
            let [old, new] = stand.change(&change)?;
            ensure!(old == new, "{bandwidth}: the bucket was {old:?} and is {new:?}");
            ensure!(old[0] > stand.now, "{bandwidth}: an idle bucket has no state to lose");
            let rate = stand.offer(200)? / 1e6;
            println!("{bandwidth}: {rate:.2} Mb/s");
            ensure!((rate - megabits).abs() < 0.02 * megabits, "{bandwidth}: {rate} Mb/s");
        }
        Ok(())
    })
}

#[test]
fn a_burst_policy_with_other_buckets_lets_no_link_pay_the_debt_of_both() -> Result<()> {
    if !is_root() {
        println!("SKIP: loading an XDP program needs root");
        return Ok(());
    }
    in_network_namespace(|| {
        let mut stand = Stand::new(veth_ports()?)?;
        stand.offer(1_100)?;
        let [old, new] =
            stand.change(&CircuitChange { burst: Some("dual-link".into()), ..Default::default() })?;
        ensure!(old[0] > stand.now + 900 * MILLISECOND, "the credit is not drained: {old:?}");
        ensure!(new == [stand.now; 4], "the bucket begins elsewhere than now: {new:?}");
        let rate = stand.offer(500)? / 1e6;
        ensure!((rate - 100.0).abs() < 5.0, "dual-link passes {rate} Mb/s on a link of 100");
        // From one policy with a bucket for each link to the other nothing is reset.
        let [old, new] =
            stand.change(&CircuitChange { burst: Some("headroom-20".into()), ..Default::default() })?;
        ensure!(old == new, "the bucket was {old:?} and is {new:?}");
        let rate = stand.offer(500)? / 1e6;
        ensure!((rate - 120.0).abs() < 3.0, "headroom-20 passes {rate} Mb/s on a link of 100");
        Ok(())
    })
}
