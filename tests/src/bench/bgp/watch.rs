//! Where packets go while a feed is lost. The number of routes does not change then; what does is whether `erdp` has next hops left that
//! no route leads to, and in the kernel's tables where a sample of the prefixes leads.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use erdp::control::Topic;
use ipnet::IpNet;
use nix::unistd::{SysconfVar, sysconf};

use super::{
    receiver::{Kind, Receiver},
    stage::MSEES,
};
use crate::lab::enter;

/// Share of one CPU below which a receiver counts as done.
const QUIET: f64 = 0.2;
/// For how long, in half seconds.
const QUIET_HALVES: u32 = 4;

/// What was there before the loss.
pub enum Watch {
    /// Next hops in the maps, of which the lost feed has two.
    NextHops(u64),
    /// Questions to the kernel, IPv4 and IPv6: each file, its family's option, its number of lines.
    Questions([(PathBuf, &'static str, usize); 2]),
}

impl Receiver {
    /// Begins to watch: every route leads to the first MSEE, or to both.
    ///
    /// # Errors
    /// When it cannot be told where routes lead, or they lead elsewhere.
    pub fn watch(&self, samples: [&[IpNet]; 2]) -> Result<Watch> {
        if self.kind == Kind::Erdp {
            return Ok(Watch::NextHops(self.next_hops()?));
        }
        let mut questions = Vec::new();
        for (sample, option) in samples.into_iter().zip(["-4", "-6"]) {
            let file = self.folder.join(format!("questions{option}"));
            let line = |prefix: &IpNet| format!("route get {}\n", prefix.addr());
            fs::write(&file, sample.iter().map(line).collect::<String>())?;
            questions.push((file, option, sample.len()));
        }
        let questions: [_; 2] = questions.try_into().ok().context("two families")?;
        let watch = Watch::Questions(questions);
        ensure!(!self.has_moved(&watch)?, "every route leads to the second feed already");
        Ok(watch)
    }

    /// Whether everything leads to the second MSEE.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn has_moved(&self, watch: &Watch) -> Result<bool> {
        let questions = match watch {
            // Both go when the last route that leads there has.
            Watch::NextHops(before) => return Ok(self.next_hops()? + 2 <= *before),
            Watch::Questions(questions) => questions,
        };
        for (at, (file, option, asked)) in questions.iter().enumerate() {
            let mut ip = Command::new("ip");
            // A prefix may be without any route while it moves; the rest is asked for all the same.
            ip.args([option, "-oneline", "-force", "-batch"]).arg(file);
            enter::prepare(&mut ip, &self.namespace)?;
            let answers = String::from_utf8(ip.output().context("cannot start ip")?.stdout)?;
            let via = format!(" via {} ", MSEES[1][at]);
            if answers.lines().filter(|line| line.contains(&via)).count() < *asked {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits until it has nothing to do any more; false: it has still after that time.
    ///
    /// # Errors
    /// When it has ended.
    pub fn until_quiet(&mut self, patience: Duration) -> Result<bool> {
        let ticks = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100) as f64;
        let (started, mut before, mut halves) = (Instant::now(), self.cpu_ticks()?, 0);
        while started.elapsed() < patience {
            thread::sleep(Duration::from_millis(500));
            self.must_run()?;
            let now = self.cpu_ticks()?;
            halves = if (now - before) as f64 / ticks < QUIET / 2.0 { halves + 1 } else { 0 };
            before = now;
            if halves == QUIET_HALVES {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// CPU time of its processes so far, in ticks of the kernel's clock.
    fn cpu_ticks(&self) -> Result<u64> {
        let of = |id: u32| -> Result<u64> {
            let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
            // After the name, which may hold anything: utime and stime are fields 14 and 15 (proc_pid_stat(5)).
            let fields = stat.rsplit_once(')').context("no name")?.1.split_whitespace();
            fields.skip(11).take(2).map(|field| Ok(field.parse::<u64>()?)).sum()
        };
        self.processes.iter().map(|process| of(process.id())).sum()
    }

    fn next_hops(&self) -> Result<u64> {
        self.ask(Topic::Counters)?["fib"]["next_hops"].as_u64().context("no number of next hops")
    }
}
