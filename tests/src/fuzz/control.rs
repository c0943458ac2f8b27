//! Target "control": a line from a client of the control socket. Whatever it is, it is refused with a sentence or is a request whose numbers
//! are in their ranges, that is the same when it is written and read again, and that no log line can be forged with.

use anyhow::{Context as _, Result, ensure};
use erdp::control::{Envelope, PROTOCOL, Request, server::read_request};

use super::must;

/// One line.
pub fn run(bytes: &[u8]) {
    must(check(bytes));
}

fn check(line: &[u8]) -> Result<()> {
    match read_request(line) {
        Ok(request) => {
            ensure!(request.out_of_range().is_none(), "{request:?}");
            let summary = request.summary();
            ensure!(!summary.chars().any(char::is_control), "a line of the log is forged: {summary:?}");
            ensure!(!request.kind().is_empty(), "{request:?}");
            let written = serde_json::to_vec(&Envelope { protocol: PROTOCOL, request: &request })?;
            let read = read_request(&written).map_err(anyhow::Error::msg).context("what was written")?;
            ensure!(format!("{read:?}") == format!("{request:?}"), "{read:?} was {request:?}");
            ensure!(request.is_order() || !request.exchanges_configuration(), "{request:?}");
        }
        Err(why) => ensure!(!why.is_empty(), "refused without a word"),
    }
    Ok(())
}

/// One request of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let requests = [
        r#"{"show":"routes"}"#,
        r#"{"routes":{"place":{"within":"198.18.0.0/15"},"peer":"198.18.0.2","domain":"a/private","community":"12076:51002"}}"#,
        r#"{"paths":{"peer":"198.18.0.2","way":"received","place":{"longest-for":"fd00::9"}}}"#,
        r#"{"peer":{"name":"198.18.0.2"}}"#,
        r#""metrics""#,
        r#""ready""#,
        r#"{"explain":{"interface":"eth0","to":["198.18.64.9","fd00::9"],"from":null,"ports":[5,3478]}}"#,
        r#"{"explain":{"interface":"eth0","to":["198.18.64.9"],"from":"198.18.0.1","ports":[5,22],"shape":{"protocol":{"number":47},"dscp":46,"ecn":2,"size":1500,"ttl":1,"tcp_flags":18,"echo_reply":false,"tags":[5,100]},"detail":true}}"#,
        r#"{"explain":{"interface":"eth0","to":[],"from":null,"ports":[0,0],"frames":["020000000001020000000002080045000000"],"detail":true}}"#,
        r#"{"set":{"circuit":{"name":"a","change":{"bandwidth":"2G","burst-policy":"peak-2x"},"force":true}}}"#,
        r#"{"hand-over":{"version":1,"file":{"path":"/etc/erdp/erdp.toml","text":"asn = 1"}}}"#,
        r#"{"config":"show"}"#,
        r#"{"config":{"diff":{"path":"a","text":"asn = 65010"}}}"#,
        r#"{"config":{"apply":{"file":{"path":"a","text":""},"confirm_s":60,"no_flap":true}}}"#,
        r#"{"config":"confirm"}"#,
        r#"{"config":"rollback"}"#,
        r#""restart""#,
        r#"{"peering":{"disable":{"name":"a/private","text":"x","drain_ms":1000,"force":false}}}"#,
        r#"{"peering":{"reset":{"name":"a","text":"","force":true}}}"#,
        r#"{"peering":{"enable":{"name":"a"}}}"#,
        r#"{"drill":{"begin":{"link":"a primary","seconds":10,"force":false}}}"#,
        r#"{"drill":"watch"}"#,
        r#"{"drill":"stop"}"#,
        r#"{"load":{"link":"a"}}"#,
    ];
    let line = |request: &str| format!("{{\"protocol\":1,\"request\":{request}}}\n").into_bytes();
    let lines = requests.into_iter().map(line);
    lines.filter(|line| serde_json::from_slice::<Envelope<Request>>(line).is_ok()).collect()
}
