//! [`regex_lite`] under the name of `regex`, for libraries that know only that one. Its tables of Unicode and its four
//! engines would be a sixth of the runtime's binary, for a list of processors and the name of an image.

pub use regex_lite::*;
