//! Which processor the interrupts of an interface's receive queues go to, as /sys and /proc tell.
//!
//! XDP runs where the interrupt is. Drivers name the interrupts of their queues (`virtio1-input.0`, `eth0-TxRx-1`, `mlx5_comp2@...`),
//! and only those names tell a queue's from others of the card.

use std::{fs, path::Path};

/// The interrupt of a receive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Its number.
    pub number: u32,
    /// The processor that it goes to.
    pub cpu: u32,
}

/// Those of the card at this place on the PCI bus, in the order of their numbers. By that place and not by the interface's name, because
/// /sys/class/net is that of the network namespace it was mounted in.
pub fn of(bus: &str) -> Vec<Interrupt> {
    let folder = Path::new("/sys/bus/pci/devices").join(bus).join("msi_irqs");
    let mut found: Vec<Interrupt> = numbers(&folder).into_iter().filter_map(read).collect();
    found.sort_by_key(|interrupt| interrupt.number);
    found
}

fn numbers(folder: &Path) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).collect()
}

/// `None`: it is no receive queue's, or goes to several processors.
fn read(number: u32) -> Option<Interrupt> {
    let names = fs::read_to_string(format!("/sys/kernel/irq/{number}/actions")).ok()?;
    if !receives(&names) {
        return None;
    }
    let list = |name: &str| fs::read_to_string(format!("/proc/irq/{number}/{name}")).unwrap_or_default();
    // What it may go to; of several the one that the kernel has chosen, where it tells. That one is told late: an interrupt moves when it
    // comes the next time.
    let cpu = only(&list("smp_affinity_list")).or_else(|| only(&list("effective_affinity_list")))?;
    Some(Interrupt { number, cpu })
}

/// Whether an interrupt with this name belongs to a receive queue.
fn receives(name: &str) -> bool {
    let name = name.to_lowercase();
    ["rx", "input", "comp"].iter().any(|word| name.contains(word))
}

fn only(list: &str) -> Option<u32> {
    list.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receive_queues_interrupt_is_known_by_its_name() {
        for (name, expected) in [
            ("virtio1-input.0\n", true),
            ("virtio1-output.0\n", false),
            ("virtio1-config\n", false),
            ("eth0-TxRx-1", true),
            ("eth0-rx-0", true),
            ("eth0", false),
            ("mlx5_comp2@pci:0000:01:00.0", true),
            ("mlx5_async0@pci:0000:01:00.0", false),
        ] {
            assert_eq!(receives(name), expected, "{name}");
        }
    }

    #[test]
    fn one_processor_is_told_from_several() {
        assert_eq!((only("3\n"), only("0-3\n"), only("0,2"), only("")), (Some(3), None, None, None));
    }

    #[test]
    fn what_is_on_no_bus_has_none() {
        assert_eq!(of(""), []);
        assert_eq!(of("N/A"), []);
    }
}
