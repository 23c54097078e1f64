#!/bin/sh
# Builds the wheel of Vivace, native modules included:   build.sh WHEEL_DIR [options of pip wheel ...]
#
# Called by the Dockerfile and by tests/deploy/test_image.py. PYTHON names the interpreter, python3 if unset.
# Fails where the package itself would not: without a C compiler it installs and is slow, an image must not be.
set -eu

wheel_dir=$1
shift
python=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A copy, because pip builds where the sources lie; without what an earlier build left there.
cp -R "$root/pyproject.toml" "$root/setup.py" "$root/README.md" "$root/LICENSE" "$root/src" "$work"
find "$work/src" \( -name '*.so' -o -name '*.c' -o -name '__pycache__' -o -name '*.egg-info' \) -prune -exec rm -rf {} +

printf '[build_ext]\nparallel = %s\n' "$(nproc)" > "$work/build.cfg"
export DIST_EXTRA_CONFIG="$work/build.cfg"
export CFLAGS="${CFLAGS:-} -g0" # debug symbols are three quarters of a module
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$wheel_dir" "$@" "$work"

"$python" -m zipfile --list "$wheel_dir"/vivace-*.whl > "$work/files"
for source in $(cd "$work/src" && find vivace -name '_*.pyx'); do
    grep -q "^${source%.pyx}\..*so " "$work/files" || {
        echo "build.sh: the wheel lacks the native module ${source%.pyx}; is there a C compiler?" >&2
        exit 1
    }
done
