//! Hostile BGP: byte strings and sequences of events that nobody would send who means well.
//!
//! [`corpus`] reads and grows the committed inputs; [`mutate`] makes new ones of them; [`names`] reads an UPDATE by the text of the
//! RFCs and knows nothing of the codec: whether a session may be ended because of it (RFC 7606) and which prefixes it names;
//! [`messages`] holds the decoder against that; [`events`] lets a session and the routing base live through programs of messages,
//! losses, timeouts and orders.
//!
//! Both targets are deterministic: a seed and a number of inputs. What finds its way to an outcome that no committed input has is
//! told, and written to the corpus where `ERDP_GROW` says so; so the corpora have grown from the seeds in `corpus/` without
//! instrumentation, by what the code says of each input.

pub mod corpus;
pub mod events;
pub mod messages;
pub mod mutate;
pub mod names;
