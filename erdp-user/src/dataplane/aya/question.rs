//! Questions about frames, and frames for tests: the loaded program runs on them (BPF_PROG_TEST_RUN), and nothing is sent. A question has a marker in
//! the frame's metadata, where the program writes its answer; it counts nothing.

use std::os::fd::BorrowedFd;

use ::aya::{TestRun as _, TestRunOptions};
use erdp_common::abi::{TRACE_ANSWERED, TRACE_MAGIC, Trace};

use super::{AyaDataplane, DataplaneError, chain};
use crate::dataplane::bpffs;

/// Room for a question and its answer: the longest single-buffer frame, tags that are pushed, the trace.
const FRAME_MAX: usize = 4096;

/// Room for frames going into and coming out of the program, to be used again and again.
#[derive(Debug)]
pub struct Buffers {
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { input: Vec::with_capacity(FRAME_MAX), output: vec![0; FRAME_MAX] }
    }
}

impl AyaDataplane {
    /// Runs the program once on a frame that counts as received on an interface; nothing is sent. What leaves is in
    /// `buffers`, with the XDP action that the program has returned.
    pub fn run<'b>(
        &self,
        ifindex: u32,
        frame: &[u8],
        buffers: &'b mut Buffers,
    ) -> Result<(u32, &'b [u8]), DataplaneError> {
        let context = context(0, frame.len(), ifindex);
        self.exchange(&context, frame, &mut buffers.output)
            .map(|(action, len)| (action, &buffers.output[..len]))
    }

    /// As [`Dataplane::ask`], without an allocation: the frame as it would leave is in `buffers`.
    pub fn ask_with<'b>(
        &self,
        ifindex: u32,
        frame: &[u8],
        buffers: &'b mut Buffers,
    ) -> Result<(Trace, &'b [u8]), DataplaneError> {
        buffers.input.clear();
        buffers.input.extend_from_slice(&trace_bytes(Trace { magic: TRACE_MAGIC, ..Trace::default() }));
        buffers.input.extend_from_slice(frame);
        let context = context(size_of::<Trace>(), buffers.input.len(), ifindex);
        let (_, len) = self.exchange(&context, &buffers.input, &mut buffers.output)?;
        let output = &buffers.output[..len];
        let trace = read_trace(output)
            .filter(|trace| trace.magic == TRACE_ANSWERED)
            .ok_or_else(|| DataplaneError::Ask("the program has not answered the question".into()))?;
        Ok((trace, &output[size_of::<Trace>()..]))
    }

    /// One BPF_PROG_TEST_RUN: the action, and how many bytes of `output` are the frame afterwards.
    fn exchange(
        &self,
        context: &[u8],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(u32, usize), DataplaneError> {
        let room = output.len();
        let options = TestRunOptions {
            data_in: Some(input),
            data_out: Some(output),
            ctx_in: Some(context),
            ..Default::default()
        };
        let result = self.program()?.test_run(options).map_err(|error| DataplaneError::Ask(chain(&error)))?;
        Ok((result.return_value, room.min(result.data_size_out as usize)))
    }
}

/// Asks a program by BPF_PROG_TEST_RUN with the marker of a question, so that it neither sends nor counts: its account, and the frame as
/// it would leave.
pub(super) fn ask_program(
    program: BorrowedFd<'_>,
    ifindex: u32,
    frame: &[u8],
) -> Result<(Trace, Vec<u8>), DataplaneError> {
    let mut question = trace_bytes(Trace { magic: TRACE_MAGIC, ..Trace::default() }).to_vec();
    question.extend_from_slice(frame);
    let mut answer = vec![0; FRAME_MAX];
    let context = context(size_of::<Trace>(), question.len(), ifindex);
    let asked = bpffs::run_program(program, &context, &question, &mut answer);
    let len = asked.map_err(|error| DataplaneError::Ask(error.to_string()))?;
    let trace = read_trace(&answer[..len])
        .filter(|trace| trace.magic == TRACE_ANSWERED)
        .ok_or_else(|| DataplaneError::Ask("the running program does not answer questions".into()))?;
    Ok((trace, answer[size_of::<Trace>()..len].to_vec()))
}

/// `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex. With metadata, `data` is
/// its length (Linux 5.14, net/bpf/test_run.c).
fn context(metadata: usize, len: usize, ifindex: u32) -> [u8; 24] {
    let mut context = [0; 24];
    context[..4].copy_from_slice(&(metadata as u32).to_ne_bytes());
    context[4..8].copy_from_slice(&(len as u32).to_ne_bytes());
    context[12..16].copy_from_slice(&ifindex.to_ne_bytes());
    context
}

fn trace_bytes(trace: Trace) -> [u8; size_of::<Trace>()] {
    // SAFETY: Trace is repr(C) without padding, its size is asserted.
    unsafe { std::mem::transmute(trace) }
}

fn read_trace(bytes: &[u8]) -> Option<Trace> {
    let bytes: [u8; size_of::<Trace>()] = bytes.get(..size_of::<Trace>())?.try_into().ok()?;
    // SAFETY: every bit pattern is a Trace.
    Some(unsafe { std::mem::transmute::<[u8; size_of::<Trace>()], Trace>(bytes) })
}
