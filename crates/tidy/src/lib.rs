//! The house's rules, held by tests: floors, file sizes, fresh generated code.
