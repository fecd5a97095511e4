//! Tracking: a mark is durable before the data that it stands for is written.
//!
//! [`Gate`](gate::Gate) hands every write a ticket that names the segments it must mark.
//! [`Segment`](segment::Segment) holds one file's marks in memory and what of them is known to be
//! durable. [`commit`] makes marks durable for all writers that wait, with one sync for a group.
//! [`Clusters`](clusters::Clusters) is the same for an allocation bitmap, the other way round, and
//! [`Claims`](claims::Claims) lets the first writers of a cluster take turns.
//! A [`Shield`](shield::Shield) keeps what a live backup still needs from being written over. A
//! [`Watch`](watch::Watch) tells a job what is written to, and a [`Hold`](hold::Hold) keeps writes waiting
//! while one ends.
//!
//! # Invariants
//!
//! * `durable` of a segment is a subset of what its medium surely holds, at every instant.
//! * The data of a write is submitted only when its granules are durable in every segment that
//!   its ticket names.
//! * A ticket lives until the medium has finished with the write's data.

pub(crate) mod claims;
pub(crate) mod clusters;
pub(crate) mod commit;
pub(crate) mod duties;
pub(crate) mod gate;
pub(crate) mod hold;
pub(crate) mod segment;
pub(crate) mod shield;
pub(crate) mod wait;
pub(crate) mod watch;
