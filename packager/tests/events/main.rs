//! Events reach webhooks, and nobody waits for one: real HTTP receivers that are down, slow, unwell, or tired of it.
//! Signatures are checked by `openssl`, which knows nothing of ours.
#![cfg(test)]

mod delivery;
mod receiver;
