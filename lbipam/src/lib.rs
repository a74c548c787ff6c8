//! lbipam
