# Sourced by quickstart.sh and test.sh: what must be installed, and a clear word when it cannot be.
# Debian 12, as root or with sudo. Nothing is installed twice, and nothing outside apt is touched.

say() { printf '\n== %s\n' "$*"; }
die() { printf '\n%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# cargo and pip keep what they download in a home; machines that build images may have none.
if [ -z "${HOME:-}" ] || ! [ -w "$HOME" ]; then
  mkdir -p .cache/home
  export HOME=$PWD/.cache/home
fi

build_packages=(g++ cmake ninja-build libboost1.81-dev libssl-dev libcurl4-openssl-dev
  libfmt-dev libspdlog-dev libcli11-dev ca-certificates python3 python3-pip)

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
    sudo "$@"
  else
    die "installing packages needs root: run this as root, or where sudo may ask for a password, or
install these packages yourself and run it again: ${missing[*]}"
  fi
}

is_installed() { dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null | grep -q '^ii'; }

# The Rust toolchain that Debian keeps for web browsers is recent enough (1.85 in the release itself,
# newer with its security updates); it conflicts with the distribution's older one and with rustup's
# package, so look before asking for it.
has_recent_cargo() {
  command -v cargo >/dev/null || return 1
  local version
  version=$(cargo --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\).*/\1/p')
  [ -n "$version" ] && [ "$version" -ge 85 ]
}

add_rust_packages() {
  has_recent_cargo && return
  local package
  for package in cargo rustc rustup; do
    if is_installed "$package"; then
      die "the package $package is installed, is older than Rust 1.85, and conflicts with
cargo-web, which the build needs. Remove it (apt-get remove $package) or put a cargo of 1.85 or
later on the PATH, then run this again."
    fi
  done
  wanted+=(cargo-web rustc-web)
}

# install_packages PACKAGE...: what is missing of these, of the build's, and of Rust.
install_packages() {
  command -v apt-get >/dev/null || die "this needs Debian 12 or a system with its packages: apt-get is not here."
  local package
  wanted=("${build_packages[@]}" "$@")
  add_rust_packages
  missing=()
  for package in "${wanted[@]}"; do is_installed "$package" || missing+=("$package"); done
  [ ${#missing[@]} = 0 ] && return
  if is_installed libboost1.74-dev; then
    die "libboost1.74-dev is installed and conflicts with libboost1.81-dev, which the build needs.
Remove it (apt-get remove libboost1.74-dev), then run this again."
  fi
  say "installing ${missing[*]}"
  as_root apt-get update -q || die "the package lists cannot be read: is the network there?"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
    "${missing[@]}" || die "these packages cannot be installed: ${missing[*]}"
  hash -r
  has_recent_cargo || die "$(command -v cargo) is older than Rust 1.85 and comes before /usr/bin on the
PATH. Update it (rustup update) or take it from the PATH, then run this again."
}
