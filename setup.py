"""Builds the wheel, with the kernels compiled ahead of time where torch is at hand.

SIMCLR_EXT_BUILD says what happens:
    auto  (default) compile if torch can be imported, else carry only the sources
    aot   compile, or fail
    jit   carry only the sources: the kernels are compiled at first use

SIMCLR_EXT_CUDA says whether that includes the CUDA kernels: see simclr_ext/_build_config.py.

An isolated build has no torch to compile against (see pyproject.toml), so `pip install .` makes a
pure wheel, and `pip install --no-build-isolation .` one with compiled kernels.

With SOURCE_DATE_EPOCH, the time of all files, two builds make the same bytes.
"""

import gzip
import importlib.util
import os
import runpy
import sys
import tarfile
from pathlib import Path

import setuptools
from setuptools import find_packages, setup
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent

if int(setuptools.__version__.partition(".")[0]) < 77:  # pip --no-build-isolation does not check
    sys.exit(f"simclr-ext needs setuptools 77 or newer to build, got {setuptools.__version__}")

config = runpy.run_path(str(ROOT / "simclr_ext" / "_build_config.py"))


def compile_ahead() -> bool:
    """Return whether to compile now, as SIMCLR_EXT_BUILD and the environment say."""
    mode = os.environ.get("SIMCLR_EXT_BUILD", "auto")
    if mode not in ("auto", "aot", "jit"):
        sys.exit(f"SIMCLR_EXT_BUILD must be auto, aot or jit, got {mode!r}")
    has_torch = importlib.util.find_spec("torch") is not None
    if mode == "aot" and not has_torch:
        sys.exit("SIMCLR_EXT_BUILD=aot needs torch; install it and use --no-build-isolation")
    ahead = mode != "jit" and has_torch
    print(f"simclr-ext: kernels compiled {'ahead of time' if ahead else 'at first use'}")
    return ahead


class SourceArchive(sdist):
    """Makes the archive of the sources without what differs from build to build."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, owner=None, group=None):
        """Return the name of the .tar.gz of a folder, whose files belong to nobody."""
        time = os.environ.get("SOURCE_DATE_EPOCH")

        def same(entry):
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mode = 0o755 if entry.isdir() else 0o644
            entry.mtime = int(time or entry.mtime)
            return entry

        name = f"{base_name}.tar.gz"
        with (
            gzip.GzipFile(name, "wb", mtime=int(time) if time else None) as file,
            tarfile.open(fileobj=file, mode="w") as archive,
        ):
            archive.add(base_dir, filter=same)  # in the order of the names
        return name


COMMANDS = {"sdist": SourceArchive}


def extension_arguments() -> dict[str, object]:
    """Return what setup() needs to compile the extension."""
    if not compile_ahead():
        return {}
    import torch
    from torch.utils import cpp_extension

    try:
        cuda = config["cuda_build"](Path(torch.__file__).parent)
    except config["BuildConfigError"] as error:
        sys.exit(str(error))
    arguments = {
        "include_dirs": [str(config["source_dir"]())],
        "depends": [str(header) for header in config["headers"](cuda)],
        "extra_compile_args": {"cxx": config["COMPILE_ARGS"]},
        "extra_link_args": config["LINK_ARGS"],
    }
    extension_type = cpp_extension.CppExtension
    if isinstance(cuda, config["CudaBuild"]):
        print(f"simclr-ext: CUDA kernels for {', '.join(cuda.architectures)}")
        extension_type = cpp_extension.CUDAExtension
        cpp_extension.CUDA_HOME = str(cuda.home)
        arguments["extra_compile_args"] = {
            "cxx": [*config["COMPILE_ARGS"], *cuda.compile_args()],
            "nvcc": cuda.nvcc_args(),
        }
        arguments["extra_link_args"] = [
            *config["LINK_ARGS"],
            *cuda.link_args(ROOT / "build" / "cudart"),
        ]
    else:
        print(f"simclr-ext: no CUDA kernels: {cuda.reason}")
    # Python's own flags may have -g, which is most of the size of a module; messages of checks
    # in the sources have the names of these, which are to be those of any folder.
    arguments["extra_compile_args"]["cxx"] = [
        *arguments["extra_compile_args"]["cxx"],
        *("-g0", f"-ffile-prefix-map={ROOT}=."),
    ]

    class BuildKernels(cpp_extension.BuildExtension):
        def run(self):
            try:
                super().run()
            except Exception as error:  # of several kinds, from torch and setuptools
                sys.exit(
                    f"simclr-ext: the kernels were not compiled: {error}\n"
                    "SIMCLR_EXT_BUILD=jit installs their sources, which are compiled at first use."
                )

    extension = extension_type(
        "simclr_ext._C",
        [str(source.relative_to(ROOT)) for source in config["sources"](cuda)],
        **arguments,
    )
    return {"ext_modules": [extension], "cmdclass": {**COMMANDS, "build_ext": BuildKernels}}


# csrc/ travels inside the package, for compiling at first use; each of its folders is a package to
# setuptools.
FOLDERS = [ROOT / "csrc", *(path for path in (ROOT / "csrc").rglob("*") if path.is_dir())]
SOURCES = [".".join(("simclr_ext", *path.relative_to(ROOT).parts)) for path in FOLDERS]

setup(
    packages=[*find_packages(include=["simclr_ext*"]), *SOURCES],
    package_dir={"simclr_ext.csrc": "csrc"},
    package_data={
        "simclr_ext": ["py.typed"],
        "simclr_ext.trainer.pages": ["*.html", "*.css", "*.js"],
        **{name: ["*.cpp", "*.h", "*.inl", "*.cu", "*.cuh"] for name in SOURCES},
    },
    **{"cmdclass": COMMANDS, **extension_arguments()},
)
