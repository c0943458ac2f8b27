//! Memory for the maps. Since Linux 5.11 it is not counted against RLIMIT_MEMLOCK, which is why nothing is said of that limit, but
//! against the control group of who makes them; a group with too little lets the start fail in the middle.

use std::{fs, path::Path};

use super::{Finding, Kind, refusal};

/// A KiB of the forwarding tables, as `fib-blocks` counts.
const BLOCK: u64 = 1_024;
/// Everything beside the forwarding tables: the other maps, three programs, the daemon itself without a full table.
/// `/sys/fs/cgroup/.../memory.peak` of the service in the VM lab is below it.
const BESIDE: u64 = 48 << 20;

/// What the control groups of this process leave, in bytes: the least of `memory.max` less what is used on the way up.
pub fn available() -> Option<u64> {
    let line = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = line.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
    least(Path::new("/sys/fs/cgroup"), &group)
}

fn least(mount: &Path, group: &str) -> Option<u64> {
    let number = |folder: &Path, file: &str| -> Option<u64> {
        fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()
    };
    let folder = mount.join(group);
    // Files' pages are given up when others need the room.
    let files = |folder: &Path| -> Option<u64> {
        let stat = fs::read_to_string(folder.join("memory.stat")).ok()?;
        stat.lines().find_map(|line| line.strip_prefix("file "))?.parse().ok()
    };
    let left = |folder: &Path| -> Option<u64> {
        // "max" is no number: no limit there.
        let most = number(folder, "memory.max")?;
        let used = number(folder, "memory.current").unwrap_or(0);
        Some(most.saturating_sub(used.saturating_sub(files(folder).unwrap_or(0))))
    };
    folder.ancestors().take_while(|folder| folder.starts_with(mount)).filter_map(left).min()
}

/// Too little for the tables of a configuration.
pub fn finding(fib_blocks: u32, available: Option<u64>) -> Option<Finding> {
    let needed = u64::from(fib_blocks) * BLOCK + BESIDE;
    let available = available.filter(|available| *available < needed)?;
    let mib = |bytes: u64| bytes >> 20;
    Some(refusal(
        Kind::Memory,
        "the control group of this process",
        format!(
            "leaves {} MiB of memory, and the maps and the daemon take {} MiB",
            mib(available),
            mib(needed)
        ),
        "raise memory.max (MemoryMax= of the unit), or lower fib-blocks in the configuration",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_group_on_the_way_up_counts() {
        let mount = std::env::temp_dir().join(format!("erdp-groups-{}", std::process::id()));
        fs::create_dir_all(mount.join("a/b")).expect("folders");
        let write = |path: &str, text: &str| fs::write(mount.join(path), text).expect("a file");
        assert_eq!(least(&mount, "a/b"), None, "no files, no limit");
        write("a/b/memory.max", "max\n");
        write("a/memory.max", "1000\n");
        write("a/memory.current", "400\n");
        assert_eq!(least(&mount, "a/b"), Some(600));
        write("a/memory.stat", "anon 300\nfile 50\n");
        assert_eq!(least(&mount, "a/b"), Some(650));
        write("a/b/memory.max", "500\n");
        assert_eq!(least(&mount, "a/b"), Some(500));
        fs::remove_dir_all(&mount).expect("they go");
    }
}
