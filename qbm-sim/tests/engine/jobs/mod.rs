//! Jobs on an image in use: what guests write meanwhile is in what a job leaves, and a power cut at
//! any step leaves the disk as it was.

mod commit;
mod crash;
mod errors;
mod guest;
mod mirror;
mod scene;
mod stream;
