//! What the XDP program and the controller share.
#![no_std]
