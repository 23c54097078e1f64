#!/bin/sh
# Installs the wheel in WHEEL_DIR with all that it needs:   install.sh WHEEL_DIR PREFIX
#
# PREFIX becomes a virtual environment without pip; start PREFIX/bin/vivace. It cannot be moved to another path.
# Called by the Dockerfile and by tests/deploy/test_image.py. PYTHON names the interpreter, python3 if unset.
set -eu

wheel_dir=$1
prefix=$2
python=${PYTHON:-python3}

"$python" -m venv --without-pip "$prefix"
# without PYTHONPATH: pip must see what is in the prefix, and nothing else
PYTHONPATH='' "$python" -m pip --python "$prefix/bin/python" \
    install --quiet --disable-pip-version-check --no-cache-dir "$wheel_dir"/vivace-*.whl

# What a server never opens: tests, C headers and sources, and Arrow's clients of other services. 85 of 500 MB.
packages=$("$prefix/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
rm -rf "$packages"/pyarrow/include "$packages"/pyarrow/src
rm -f "$packages"/pyarrow/*flight* "$packages"/pyarrow/libarrow_s3*
find "$packages" -type d -name tests -prune -exec rm -rf {} +
find "$packages" \( -name '*.c' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' \) -type f -delete

# Every library is there and loads.
"$prefix/bin/python" -c 'import vivace.process'
"$prefix/bin/vivace" -version
