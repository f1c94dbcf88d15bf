//! HLS and LL-HLS playlists as a pure function of catalog and records.
