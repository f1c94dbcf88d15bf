//! The default: a model of the path instead of a window that halves (after draft-ietf-ccwg-bbr).
