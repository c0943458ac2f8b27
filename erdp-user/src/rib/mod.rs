//! (essay follows with the RIB)
pub mod bogons;
