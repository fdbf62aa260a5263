"""Compile every cython/mqlog/*.pyx into OUT_DIR: `build_cython.py OUT_DIR`.

Called by rust/cython/build.rs. The modules land at the top of OUT_DIR, where maturin's
`include ... from = "out-dir"` picks them up. The staging folder beside them is kept, so a module
whose sources did not change is not compiled again.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

# The build watches folders; a stray __pycache__ in them would count as a change.
sys.dont_write_bytecode = True

SOURCES = Path(__file__).resolve().parent.parent / "cython"
DIRECTIVES = {
    "language_level": "3",
    "boundscheck": True,
    "embedsignature": True,
    "freethreading_compatible": True,
}


def build(out_dir: Path) -> None:
    """Compile all modules; SystemExit with one line if a tool is missing."""
    try:
        from Cython.Build import cythonize
        from setuptools import Distribution, Extension
    except ImportError as error:
        sys.exit(
            f"{error.name} is missing in {sys.executable}, which builds cython/: "
            "pip install 'cython>=3.1,<4' setuptools (or set PYO3_PYTHON to another Python)"
        )

    stage = out_dir / f"stage-{sysconfig.get_config_var('SOABI')}"
    unix = sys.platform != "win32"
    extensions = [
        # -g0: the interpreter's own -g would make the module ten times as large.
        Extension(
            f"mqlog.{source.stem}",
            [str(source)],
            extra_compile_args=["-O2", "-g0"] if unix else [],
        )
        for source in sorted((SOURCES / "mqlog").glob("*.pyx"))
    ]
    modules = cythonize(
        extensions,
        build_dir=str(stage / "c"),
        include_path=[str(SOURCES)],
        compiler_directives=DIRECTIVES,
        quiet=True,
    )
    command = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
    command.build_lib = str(stage / "lib")
    command.build_temp = str(stage / "obj")
    command.ensure_finalized()
    command.run()

    # Modules of another interpreter, or of a source that is gone, must not get into the wheel.
    for pattern in ("_*.so", "_*.pyd"):
        for old in out_dir.glob(pattern):
            old.unlink()
    for module in command.get_outputs():
        shutil.copy2(module, out_dir)


if __name__ == "__main__":
    build(Path(sys.argv[1]).absolute())
