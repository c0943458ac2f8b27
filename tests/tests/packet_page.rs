//! docs/packets.md says what the packet tables say.

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use erdp_tests::packets::page;

#[test]
fn the_page_about_packets_is_what_the_tables_make_of_it() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/packets.md");
    let made = page()?;
    if env::var_os("ERDP_WRITE_PAGE").is_some() {
        fs::write(&path, &made).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let there = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let differs = made.lines().zip(there.lines()).find(|(made, there)| made != there);
    if let Some((made, there)) = differs {
        println!("the tables: {made}\nthe page:   {there}");
    }
    ensure!(
        made == there,
        "docs/packets.md differs from the packet tables: run `ERDP_WRITE_PAGE=1 cargo test -p erdp-tests --test packet_page`"
    );
    Ok(())
}
