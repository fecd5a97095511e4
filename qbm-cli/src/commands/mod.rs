//! The commands, one file each.

pub mod audit;
pub mod backup;
mod behind;
pub mod bitmap;
pub mod check;
pub mod commit;
pub mod compare;
pub mod convert;
pub mod create;
pub mod daemon;
pub mod dd;
pub mod info;
pub mod man;
pub mod map;
pub mod measure;
pub mod overlay;
pub mod points;
pub mod rebase;
pub mod rebuild;
pub mod resize;
pub mod restore;
pub mod serve;
pub mod stream;
pub mod verify;
