//! The edge's mind for one viewer: credit, vouchers, what to send next.
