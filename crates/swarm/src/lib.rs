//! The viewer's mind: which piece from whom by when.
