//! Runs `tools/build_cython.py` with the interpreter that the package is built for.
//!
//! maturin names it in PYO3_PYTHON; without it `python3` of the path serves, which must then have
//! Cython and setuptools.

use std::env;
use std::ffi::OsString;
use std::process::Command;

const SCRIPT: &str = "../../tools/build_cython.py";

fn main() {
    println!("cargo::rerun-if-env-changed=PYO3_PYTHON");
    println!("cargo::rerun-if-changed=../../cython");
    println!("cargo::rerun-if-changed={SCRIPT}");
    let python = env::var_os("PYO3_PYTHON").unwrap_or_else(|| OsString::from("python3"));
    let out_dir = env::var_os("OUT_DIR").unwrap_or_default();
    let output = Command::new(&python).arg(SCRIPT).arg(out_dir).output();
    let name = python.display();
    match output {
        Err(error) => println!("cargo::error=cannot run {name} to build cython/: {error}"),
        Ok(output) if !output.status.success() => {
            // The script's one line if it could say what is missing, else all the compiler said.
            let said = String::from_utf8_lossy(&output.stderr);
            for line in said.trim_end().lines() {
                println!("cargo::error={line}");
            }
        }
        Ok(_) => {}
    }
}
