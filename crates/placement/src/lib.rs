//! The tracker's mind: which edges for this viewer.
