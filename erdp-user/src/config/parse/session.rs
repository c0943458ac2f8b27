//! What sessions with MSEEs and with the customer's routers can both be told: transport, restart, role, and what their routes are
//! worth.

use toml::Spanned;

use super::super::error::Fault;
use super::super::values::Why;
use super::super::{MaxPrefixes, SessionOptions, WhenTooMany};
use super::{optional, value};
use crate::bgp::{GracefulRestart, Role, Seconds};

/// The keys, from whichever table.
pub(super) struct Keys<'a> {
    pub gtsm: bool,
    pub restart_time: Option<&'a Spanned<i64>>,
    pub role: Option<&'a Spanned<String>>,
    pub strict_role: bool,
    pub add_path: bool,
    pub local_pref: Option<&'a Spanned<i64>>,
    pub prepend: Option<&'a Spanned<i64>>,
    pub max_prefixes: Option<&'a Spanned<i64>>,
    pub max_prefixes_wait: Option<&'a Spanned<i64>>,
    pub max_memory_mib: Option<&'a Spanned<i64>>,
    pub when_too_many: Option<&'a Spanned<String>>,
}

/// What peers of a kind may announce where the file does not say.
pub(super) struct Defaults {
    /// Prefixes of each family.
    prefixes: u32,
    /// Memory of all routes.
    memory_mib: u32,
    /// Above either.
    when_too_many: WhenTooMany,
}

/// MSEEs, and the other edge box, which passes on what they announce. The whole Internet's table (1.1 million IPv4 prefixes and 0.25
/// million IPv6 ones, in some 300 MiB as memory is counted here) is a part of this: nothing that Microsoft means to announce is refused.
pub(super) const ROUTERS_OF_A_CIRCUIT: Defaults =
    Defaults { prefixes: 2_000_000, memory_mib: 1_024, when_too_many: WhenTooMany::Refuse };
/// Customers' routers and services. Microsoft takes 10,000 IPv4 prefixes at most (requirement D1): who announces ten times as many
/// leaks.
pub(super) const CUSTOMERS_ROUTERS: Defaults =
    Defaults { prefixes: 100_000, memory_mib: 128, when_too_many: WhenTooMany::Cease };

/// How long graceful restart keeps routes unless told otherwise; FRR and BIRD ask for the same.
const RESTART_TIME: Seconds = Seconds(120);
/// The first wait of a peer that sent too many prefixes.
const OVERFLOW_WAIT: Seconds = Seconds(60);

pub(super) fn options(
    keys: &Keys<'_>,
    defaults: &Defaults,
    key: &dyn Fn(&str) -> String,
) -> Result<SessionOptions, Fault> {
    let wait = optional(keys.max_prefixes_wait, &key("max-prefixes-wait"), |number| wait(*number))?;
    let limit = optional(keys.max_prefixes, &key("max-prefixes"), |number| limit(*number))?;
    let memory = optional(keys.max_memory_mib, &key("max-memory-mib"), |number| memory_mib(*number))?;
    // Before there were defaults, a limit that was written always ended the session.
    let otherwise = if limit.is_some() { WhenTooMany::Cease } else { defaults.when_too_many };
    let when = optional(keys.when_too_many, &key("when-too-many"), |text| when_too_many(text))?;
    let max_prefixes =
        MaxPrefixes { limit: limit.unwrap_or(defaults.prefixes), wait: wait.unwrap_or(OVERFLOW_WAIT) };
    Ok(SessionOptions {
        gtsm: keys.gtsm,
        restart_time: optional(keys.restart_time, &key("restart-time"), |number| restart_time(*number))?
            .unwrap_or(RESTART_TIME),
        role: keys.role.map(|raw| value(raw, &key("role"), |text| role(text))).transpose()?,
        role_strict: keys.strict_role,
        add_path: keys.add_path,
        local_pref: optional(keys.local_pref, &key("local-pref"), |number| local_pref(*number))?,
        prepend: optional(keys.prepend, &key("prepend"), |number| prepend(*number))?.unwrap_or(0),
        max_prefixes: Some(max_prefixes),
        max_memory_mib: memory.unwrap_or(defaults.memory_mib),
        when_too_many: when.unwrap_or(otherwise),
        policy_in: None,
        policy_out: None,
    })
}

fn restart_time(number: i64) -> Result<Seconds, Why> {
    let longest = GracefulRestart::TIME_MAX.0;
    u16::try_from(number).ok().filter(|seconds| *seconds <= longest).map(Seconds).ok_or_else(|| {
        (
            format!("{number} s is not between 0 and {longest} (RFC 4724 section 3 has twelve bits for it)"),
            "leave it out for 120; 0 switches graceful restart off".to_owned(),
        )
    })
}

fn role(text: &str) -> Result<Role, Why> {
    Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| {
        let words = Role::ALL.map(Role::as_str).join(", ");
        (format!("`{text}` is not a role of RFC 9234"), format!("write what we are to the peer: {words}"))
    })
}

pub(super) fn local_pref(number: i64) -> Result<u32, Why> {
    u32::try_from(number).map_err(|_| {
        (
            format!("{number} is not between 0 and {}", u32::MAX),
            "leave it out for 100; higher is preferred".to_owned(),
        )
    })
}

/// Microsoft drains a link with eight of its own number (requirement B7); more than sixteen is nobody's intention.
pub(super) fn prepend(number: i64) -> Result<u8, Why> {
    u8::try_from(number).ok().filter(|times| *times <= 16).ok_or_else(|| {
        (
            format!("{number} is not between 0 and 16"),
            "write how often our AS is repeated, such as 3".to_owned(),
        )
    })
}

pub(super) fn limit(number: i64) -> Result<u32, Why> {
    u32::try_from(number).ok().filter(|limit| *limit > 0).ok_or_else(|| {
        (
            format!("{number} is not a number of prefixes"),
            "write at least 1, or leave it out for the default".to_owned(),
        )
    })
}

/// At most a TiB: more is no limit for any machine.
fn memory_mib(number: i64) -> Result<u32, Why> {
    const MOST: u32 = 1 << 20;
    u32::try_from(number).ok().filter(|mib| (1..=MOST).contains(mib)).ok_or_else(|| {
        (format!("{number} MiB is not between 1 and {MOST}"), "leave it out for the default".to_owned())
    })
}

fn when_too_many(text: &str) -> Result<WhenTooMany, Why> {
    match text {
        "cease" => Ok(WhenTooMany::Cease),
        "refuse" => Ok(WhenTooMany::Refuse),
        _ => Err((
            format!("`{text}` is no answer to too many prefixes"),
            "use \"cease\" (the session ends and comes back) or \"refuse\" (only the surplus is refused)"
                .into(),
        )),
    }
}

fn wait(number: i64) -> Result<Seconds, Why> {
    u16::try_from(number).ok().filter(|seconds| *seconds > 0).map(Seconds).ok_or_else(|| {
        (
            format!("{number} s is not between 1 and 65535"),
            "leave it out for 60; it doubles each time".to_owned(),
        )
    })
}
