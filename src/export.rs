//! One image to a real file.
