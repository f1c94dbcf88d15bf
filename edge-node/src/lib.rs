//! Takes a rendition's feed once, verifies it and passes it on over data channels; earns.
