#!/bin/sh
# Builds the native transport and installs it into a virtual environment, unless what is there was built from these
# very sources.
#
#   build.sh VENV PROFILE   PROFILE: release, or fast (without LTO; what release built will do, too)
#
# Ends with 3 where it cannot be built here: no cargo, one that is too old, or crates that cannot be had. Then what was
# installed before, from other sources, is taken out: it must not be taken for these.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=$(cd "$1" && pwd)
profile=$2
stamp=$venv/native.stamp

not_here() {
    rm -f "$stamp"
    "$venv/bin/pip" uninstall --quiet --yes gate-sidecar-native 2>/dev/null || true
    echo "NATIVE TRANSPORT NOT BUILT: $1" >&2
    exit 3
}

cd "$here"
sources=$(find . \( -name target -o -name fuzz \) -prune -o -type f -print | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d' ' -f1)
read -r built built_profile 2>/dev/null <"$stamp" || built=
if [ "$built" = "$sources" ] && { [ "$built_profile" = "$profile" ] || [ "$built_profile" = release ]; }; then
    exit 0
fi

needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
command -v cargo >/dev/null || not_here "cargo is not installed; it takes Rust $needed or newer"
found=$(cargo --version | cut -d' ' -f2)
oldest=$(printf '%s\n%s\n' "$needed" "$found" | sort -V | head -n 1)
[ "$oldest" = "$needed" ] || not_here "cargo is $found; it takes $needed or newer"
cargo fetch --locked --quiet --target "$(rustc -vV | sed -n 's/^host: //p')" || not_here "its crates cannot be had; see cargo's words above"
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements.lock \
    || not_here "maturin cannot be had; see pip's words above"

echo "Building the native transport, profile $profile (some minutes when nothing of it is there yet) ..."
rm -rf target/wheels
"$venv/bin/maturin" build --quiet --locked --profile "$profile" --interpreter "$venv/bin/python" --out target/wheels
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --force-reinstall target/wheels/*.whl
echo "$sources $profile" >"$stamp"
