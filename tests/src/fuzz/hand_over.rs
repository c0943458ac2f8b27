//! Target "hand-over": a message of the conversation between two daemons. It is refused, or means the same when it is written and read again, and
//! a session that it carries can be resumed or is refused.

use anyhow::{Context as _, Result, ensure};
use erdp::controller::hand_over::reread;

use super::must;

/// One message.
pub fn run(bytes: &[u8]) {
    must(check(bytes));
}

fn check(message: &[u8]) -> Result<()> {
    let Ok(written) = reread(message) else { return Ok(()) };
    let again = reread(&written).with_context(|| String::from_utf8_lossy(&written).into_owned())?;
    let same = || format!("{} and {}", String::from_utf8_lossy(&written), String::from_utf8_lossy(&again));
    ensure!(written == again, "{}", same());
    Ok(())
}

/// One message of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"kind":"hello","version":1,"release":"0.1.0"}"#,
        r#"{"kind":"routes","withdrawn":["10.0.0.0/8"],"announced":[],"attributes":null,"end_of_rib":null,"refresh":null}"#,
        r#"{"kind":"told","withdrawn":[],"announced":[],"attributes":null,"path":7,"end_of_rib":"Ipv4Unicast","refresh":null}"#,
        r#"{"kind":"untold","families":["Ipv4Unicast"]}"#,
        r#"{"kind":"setting","circuit":"a","change":{"bandwidth":"1G"}}"#,
        r#"{"kind":"disabled","ends":["198.18.0.1","198.18.0.2"],"text":"x"}"#,
        r#"{"kind":"something new","with":[1,2,3]}"#,
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
