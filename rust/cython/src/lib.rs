//! Builds cython/ into OUT_DIR so that maturin can pack it; holds no code.
