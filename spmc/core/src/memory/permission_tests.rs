//! The rules, one by one and exhaustively.
