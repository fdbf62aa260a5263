//! The PyO3 skin: mqlog._native.
