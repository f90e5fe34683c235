//! Every container over every kind of disk, and what each independent reader makes of it.

mod contents;
mod disks;
mod formats;
mod large_members;
mod limits;
mod readers;
mod sharing;
mod vast;
