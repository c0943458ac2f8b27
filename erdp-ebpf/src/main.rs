//! ERDP's XDP program: entry, verdict and counting.
//!
//! The stages are `erdp_common::pipeline`; [`packet`] gives them the frame and [`maps`] the tables. Here, once: a frame is
//! counted as received, decided about, counted as transmitted, punted or dropped, and handed to the kernel's redirect. Two
//! tracepoints ([`losses`]) count what is lost after a redirect, so that no frame disappears uncounted (invariant: received =
//! redirected + punted + dropped; redirected = sent + lost). The first of them also
//! marks a link dead whose driver takes nothing any more.
//!
//! A frame with a [`Trace`] in its metadata area is a question (`erdp explain`): it is answered there and not counted.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(internal_features, reason = "the BPF target has no atomics in core but the intrinsics themselves")]
#![expect(missing_docs, reason = "aya's attribute macros make functions without documentation")]

#[cfg(feature = "bench")]
mod bench;
mod functions;
mod losses;
mod maps;
mod packet;

use core::hint::black_box;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use aya_log_ebpf::info;
use erdp_common::{
    abi::{Errand, TRACE_ANSWERED, Trace, VERDICT_DROP, VERDICT_PUNT, VERDICT_TRANSMIT, control_slot},
    account::{account, originated},
    answer, bfd,
    packet::Packet as _,
    pipeline::{self, Trail, Verdict},
    reason::DropReason,
};

use crate::{maps::Maps, packet::Frame};

/// Licence of the loaded object; the redirect and tracepoint helpers need a GPL-compatible one.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The router: every port of the edge runs this program.
#[xdp]
#[inline(always)]
pub fn erdp(ctx: XdpContext) -> u32 {
    let mut frame = Frame::new(&ctx);
    let len = frame.len() as u64;
    // Opaque twice: taken apart into registers, every field would be set anew on every way out; known to be zero, it would be
    // cleared by a call of memset.
    let zero = black_box(0);
    let mut trail = Trail {
        wanted: [zero; 2],
        group: zero as u32,
        attachment: zero as u16,
        next_hop: zero as u16,
        wanted_on: zero as u16,
        is_question: frame.is_question(),
    };
    let trail = black_box(&mut trail);
    let verdict = pipeline::process(&mut frame, ctx.ingress_ifindex() as u32, &Maps, trail);
    if let Verdict::Bfd(session) = verdict {
        maps::send_bfd(&ctx, u32::from(session), len as u32);
    }
    if trail.is_question {
        answer(&mut frame, verdict, trail);
        return action(verdict);
    }
    if let Some(counters) = maps::counters() {
        account(verdict, trail, len, &frame, counters);
    }
    if let Verdict::Drop(reason) = verdict {
        dropped(&ctx, reason, trail);
    }
    action(verdict)
}

/// What remains to be done about a frame that the router has dropped and counted: a sample of its head, a line in the log, the ICMP
/// error that it is made into. A program of its own, reached by a tail call, so that the router's stays small for the verifier, the
/// stack and the instruction cache.
#[xdp]
pub fn erdp_dropped(ctx: XdpContext) -> u32 {
    let Some(errand) = maps::errand() else {
        return xdp_action::XDP_DROP;
    };
    let mut frame = Frame::new(&ctx);
    tell(&ctx, &frame, errand);
    let Some(attachment) = answer::answer(&mut frame, ctx.ingress_ifindex() as u32, errand, &Maps) else {
        return xdp_action::XDP_DROP;
    };
    if let Some(counters) = maps::counters() {
        originated(attachment, &frame, counters);
    }
    maps::redirect(attachment)
}

/// BFD of a configured peer, by a tail call: it is noted in its session, and handed to the kernel or answered. This program counts the
/// frame in all its slots, and answers questions about it, as the router does for all others.
#[xdp]
pub fn erdp_bfd(ctx: XdpContext) -> u32 {
    let Some(errand) = maps::errand() else {
        return xdp_action::XDP_DROP;
    };
    let mut frame = Frame::new(&ctx);
    let len = u64::from(errand.reason);
    let mut trail = Trail { is_question: frame.is_question(), ..Trail::default() };
    let verdict = bfd::receive(&mut frame, ctx.ingress_ifindex() as u32, errand.group, &Maps, &mut trail);
    if trail.is_question {
        answer(&mut frame, verdict, &trail);
        return action(verdict);
    }
    if let Some(counters) = maps::counters() {
        account(verdict, &trail, len, &frame, counters);
    }
    if let Verdict::Drop(reason) = verdict {
        dropped(&ctx, reason, &trail);
    }
    action(verdict)
}

/// Tells the operator: by a sample, and by the log where that is on.
#[inline(always)]
fn tell(ctx: &XdpContext, frame: &Frame<'_>, errand: Errand) {
    if let Some(now) = maps::may_sample(errand.reason) {
        maps::sample(|sample| {
            sample.time_ns = now;
            sample.ifindex = ctx.ingress_ifindex() as u32;
            sample.len = frame.len() as u32;
            sample.group = errand.group;
            sample.attachment = errand.attachment;
            sample.next_hop = errand.next_hop;
            sample.reason = errand.reason as u8;
            sample.captured = frame.copy_front(&mut sample.head);
        });
    }
    if maps::logs_drops() {
        info!(
            ctx,
            "dropped: reason {} attachment {} group {} bytes {}",
            errand.reason,
            errand.attachment,
            errand.group,
            frame.len()
        );
    }
}

/// The device map's slot is the egress attachment, or its control port's.
#[inline(always)]
fn action(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Transmit(attachment) | Verdict::FromKernel(attachment) => maps::redirect(attachment),
        Verdict::PuntVia(_, attachment) => maps::redirect(control_slot(attachment)),
        Verdict::Punt(_) => xdp_action::XDP_PASS,
        // There is no program for BFD: counted as dropped.
        Verdict::Bfd(_) | Verdict::Drop(_) => xdp_action::XDP_DROP,
    }
}

#[inline(always)]
fn dropped(ctx: &XdpContext, reason: DropReason, trail: &Trail) {
    if let Some(neighbour) = trail.neighbour_wanted() {
        maps::want(&neighbour);
    }
    let Trail { group, next_hop, attachment, .. } = *trail;
    maps::send_errand(ctx, Errand { reason: reason as u32, group, next_hop, attachment });
}

/// Writes the answer in place of the question.
#[inline(always)]
fn answer(frame: &mut Frame<'_>, verdict: Verdict, trail: &Trail) {
    let (verdict, reason) = match verdict {
        Verdict::Transmit(_) | Verdict::FromKernel(_) => (VERDICT_TRANSMIT, 0),
        Verdict::Punt(kind) | Verdict::PuntVia(kind, _) => (VERDICT_PUNT, kind as u8),
        Verdict::Bfd(_) => (VERDICT_DROP, DropReason::BrokenReference as u8),
        Verdict::Drop(reason) => (VERDICT_DROP, reason as u8),
    };
    if let Some(trace) = frame.metadata::<Trace>() {
        *trace = Trace {
            magic: TRACE_ANSWERED,
            verdict,
            reason,
            attachment: trail.attachment,
            group: trail.group,
            next_hop: trail.next_hop,
            _pad: 0,
        };
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
