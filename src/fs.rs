//! Images as files of a FUSE mount.
