//! scratch
use anyhow::Result;
fn main() -> Result<()> {
    let t = std::time::Instant::now();
    let lab = erdp_tests::lab::Lab::up(&mut |line| println!("{line}"))?;
    println!("{} up {:?}", lab.name(), t.elapsed());
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}
