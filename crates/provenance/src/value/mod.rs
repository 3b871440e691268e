//! Values by their type: each is read strictly into one form, so that two texts are equal exactly
//! when they mean the same thing.

pub(crate) mod address;
pub(crate) mod date;
pub(crate) mod duration;
pub(crate) mod number;
pub(crate) mod url;
