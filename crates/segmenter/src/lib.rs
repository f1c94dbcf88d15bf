//! Samples in; CMAF parts and segments out, cut in decode time.
