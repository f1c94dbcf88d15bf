//! Grants, vouchers, accounts, epochs: integer double entry.
