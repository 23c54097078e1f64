"""Native modules. Each is optional: without a C compiler the package installs and runs on its pure-Python twins."""

from pathlib import Path

from setuptools import Extension, setup

SOURCES = sorted(Path("src").glob("vivace/**/_*.pyx"))


def module_name(source: Path) -> str:
    return ".".join(source.relative_to("src").with_suffix("").parts)


def extensions() -> list[Extension]:
    from Cython.Build import cythonize

    modules = [Extension(module_name(s), [str(s)], extra_compile_args=["-O3", "-fno-strict-aliasing"]) for s in SOURCES]
    modules = cythonize(modules, language_level=3, compiler_directives={"boundscheck": True, "wraparound": False})
    for module in modules:  # afterwards: cythonize makes new ones and drops the mark
        module.optional = True
    return modules


setup(ext_modules=extensions())
