//! The commands, one file each.

pub mod audit;
pub mod backup;
pub mod bitmap;
pub mod check;
pub mod compare;
pub mod convert;
pub mod create;
pub mod dd;
pub mod info;
pub mod man;
pub mod map;
pub mod measure;
pub mod overlay;
pub mod points;
pub mod rebuild;
pub mod resize;
pub mod restore;
pub mod serve;
pub mod verify;
