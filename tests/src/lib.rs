//! The lab and the tests that need it.
//!
//! [`packets`] are tables of frames for the pipeline on the host and in the kernel. [`lab`] brings up network namespaces with
//! real routers.

pub mod lab;
pub mod packets;
