//! A viewer without a screen: tests, load, monitoring.
