//! Finds edges for viewers, and keeps the book.
