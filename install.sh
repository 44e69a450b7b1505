#!/usr/bin/env bash
# Installs swarm_hub for this user, in Termux or on Debian and its kin; run again it upgrades.
#   bash install.sh [options] [swarmhub://join/…]      --help lists the options
# Nothing is compiled, but cffi in Termux. Nothing runs before the last line, so that a cut download does nothing.
set -euo pipefail

usage() {
  cat <<'END'
install.sh [options] [LINK]: install or upgrade swarm_hub for this user

LINK is what `swarm-hub invite` printed on a gateway: this device becomes its worker.

  --from SOURCE     a wheel, a clone, or what pip understands (a URL, git+https://…); by default the
                    clone that this script lies in, or the variable SWARM_HUB_FROM
  --role ROLE       worker (default), or gateway, which has a worker in it too
  --prefix DIR      where to install; default ~/.local/share/swarm_hub
  --config DIR      the configuration directory; default ~/.config/swarm_hub
  --no-service      have nothing start the hub
  --dry-run         print the commands, and run none
  --uninstall       remove what was installed; the configuration stays
  --purge           with --uninstall: remove the configuration directory too, keys and jobs with it
END
}

say() { printf 'install: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

# Runs a command, or prints it as one that a shell takes.
run() {
  if [ "$dry_run" = yes ]; then
    printf '%q ' "$@" | sed 's/ $//'
    echo
  else
    "$@"
  fi
}

is_termux() { [ -n "${TERMUX_VERSION:-}" ]; }

# Installs packages where this user may, else says what to run.
need_packages() {
  local as_root=()
  if is_termux; then
    run pkg install -y "$@"
    return
  fi
  command -v apt-get >/dev/null || fail "missing (by Debian's names): $*; install them and run this again"
  if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
      fail "missing packages; run: sudo apt-get install -y $*; then this again"
    fi
    as_root=(sudo -n)
  fi
  run "${as_root[@]}" apt-get install -y "$@" \
    || fail "could not install $*; run: apt-get update, then this again"
}

find_python() {
  local candidate least="(3, 11)"
  # Before 3.13 Python calls Android Linux, and pip would choose wheels that do not work there.
  if is_termux; then least="(3, 13)"; fi
  for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c "import sys, venv, ensurepip, sqlite3, ssl, ctypes; \
sys.exit(sys.version_info < $least)" 2>/dev/null; then
      python="$candidate"
      return
    fi
  done
  return 1
}

# Whether this Python can import something.
imports() { "${python:-python3}" -c "import $1" 2>/dev/null; }

install_packages() {
  local missing=()
  if is_termux; then
    find_python || missing+=(python)
    # Both come with python only where apt takes what it recommends.
    imports pip || missing+=(python-pip)
    imports ensurepip._bundled || missing+=(python-ensurepip-wheels)
    command -v sv >/dev/null || missing+=(termux-services)
    command -v termux-battery-status >/dev/null || missing+=(termux-api)
  else
    find_python || missing+=(python3 python3-venv)
  fi
  case "$source" in git+*) command -v git >/dev/null || missing+=(git) ;; esac
  [ "${#missing[@]}" -eq 0 ] || need_packages "${missing[@]}"
  [ -n "$python" ] || find_python || {
    [ "$dry_run" = yes ] || fail "Python 3.11 or newer (in Termux 3.13) is needed; set PYTHON to its path"
    python=python3
  }
  if is_termux; then install_cryptography; fi
}

# cryptography is Rust, and Termux has it built. But it loads cffi, which its package has pip install,
# and pip has to compile it as long as there is no wheel of it for Android.
install_cryptography() {
  if imports cryptography.hazmat.bindings._rust; then return; fi
  if ! imports _cffi_backend; then
    run "$python" -m pip install --quiet --only-binary=:all: cffi 2>/dev/null || {
      say "cffi has to be compiled; afterwards clang can go: pkg uninstall clang"
      need_packages clang libffi
      run "$python" -m pip install --quiet cffi
    }
  fi
  need_packages python-cryptography
}

# Fills a new environment beside the one that is used, which stays as it is if anything fails here.
make_environment() {
  local pip=("$new/bin/python" -m pip --disable-pip-version-check --quiet) site options=()
  if is_termux; then
    options=(--system-site-packages)
    # Both have the same in Python; there is no compiler.
    export SKIP_CYTHON=1 PYYAML_FORCE_LIBYAML=0
  fi
  run mkdir -p "$prefix/versions"
  run "$python" -m venv "${options[@]}" "$new"
  if [ "$dry_run" = yes ]; then
    site="$new/lib/python3.X/site-packages"
  else
    site="$("$new/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
  fi
  # The project brings the list of its libraries along. Without --no-deps pip would install what
  # libp2p names and nobody here imports; much of that has to be compiled.
  run "${pip[@]}" install --no-deps "$source"
  if is_termux; then
    # For itself pip chooses the wheel with the library for Windows. These have the right one.
    local machine
    case "$(uname -m)" in
      aarch64) machine=arm64_v8a ;;
      x86_64) machine=x86_64 ;;
      *) fail "wasmtime has no library for this processor ($(uname -m)); arm64 or x86_64 is needed" ;;
    esac
    run "${pip[@]}" install --no-deps --only-binary=:all: --platform "android_26_$machine" \
      --target "$site" -r "$site/swarm_hub/requirements/android.txt"
  fi
  run "${pip[@]}" install --no-deps -r "$site/swarm_hub/requirements/worker.txt"
  if [ "$role" = gateway ]; then
    run "${pip[@]}" install --no-deps -r "$site/swarm_hub/requirements/gateway.txt"
  fi
  # 21 MB that only Windows loads.
  run rm -rf "$site/wasmtime/win32-x86_64"
  # Without byte code the first start takes three times as long.
  run "$new/bin/python" -m compileall -q "$site"
}

# Has the new environment look at itself, with a configuration that is nobody's.
check_environment() {
  local scratch="$new/doctor" init doctor said
  init=("$new/bin/swarm-hub" init --role "$([ "$role" = gateway ] && echo both || echo worker)" -c "$scratch")
  doctor=("$new/bin/swarm-hub" doctor -c "$scratch")
  if [ "$dry_run" = yes ]; then
    run "${init[@]}"
    run "${doctor[@]}"
  elif ! said="$("${init[@]}" 2>&1 && "${doctor[@]}" 2>&1)"; then
    printf '%s\n' "$said" >&2
    fail "this device can't run it, see what is bad above"
  fi
  run rm -rf "$scratch"
}

# At any end: what did not come into use is removed.
clean_up() {
  if [ -z "$new" ] || [ "$dry_run" = yes ]; then return; fi
  if [ "$(readlink "$prefix/current" 2>/dev/null)" = "versions/${new##*/}" ]; then return; fi
  rm -rf "$new"
  if [ -e "$prefix/current" ]; then
    say "stopped; the version that was here stays in use"
  else
    rmdir "$prefix/versions" "$prefix" 2>/dev/null || true
    say "stopped; nothing was installed"
  fi
}

# One rename makes the new environment the one that is used. The one before it is kept, since a hub
# that still runs imports from it.
switch() {
  local before="" each
  if [ -L "$prefix/current" ]; then before="$(readlink "$prefix/current")"; fi
  run ln -sfn "versions/${new##*/}" "$prefix/current.new"
  run mv -fT "$prefix/current.new" "$prefix/current"
  for each in "$prefix"/versions/*; do
    if [ -d "$each" ] && [ "$each" != "$new" ] && [ "$each" != "$prefix/$before" ]; then
      run rm -rf "$each"
    fi
  done
}

link_command() {
  run mkdir -p "${command_link%/*}"
  if [ -e "$command_link" ] && [ "$(readlink "$command_link")" != "$hub" ]; then
    say "$command_link is another program and stays; this one is $hub"
    return
  fi
  run ln -sfn "$hub" "$command_link"
  case ":$PATH:" in
    *":${command_link%/*}:"*) ;;
    *) say "${command_link%/*} is not in your PATH; call $command_link, or log in again" ;;
  esac
}

configure() {
  if [ -n "$link" ]; then
    run "$hub" join "$link" -c "$config" || joined=no
  elif [ "$role" = gateway ] && [ ! -e "$config/configuration.yaml" ]; then
    run "$hub" init -c "$config"
  fi
}

start_service() {
  if [ "$service" = no ]; then return; fi
  if [ "$dry_run" = no ] && [ ! -e "$config/configuration.yaml" ]; then
    say "next, with a link from \`swarm-hub invite\` on a gateway:"
    say "  $hub join LINK && $hub service install"
    return
  fi
  run "$hub" service install -c "$config" \
    || fail "installed, but nothing starts the hub, see above; --no-service does without"
}

uninstall() {
  if [ -x "$hub" ] || [ "$dry_run" = yes ]; then
    run "$hub" service remove || say "no service was removed, see above"
  fi
  if [ -L "$command_link" ] && [ "$(readlink "$command_link")" = "$hub" ]; then
    run rm -f "$command_link"
  fi
  run rm -rf "$prefix/versions" "$prefix/current"
  if [ -d "$prefix" ] && [ "$dry_run" = no ]; then
    rmdir "$prefix" 2>/dev/null || say "$prefix has other files and stays"
  fi
  if [ "$purge" = yes ]; then
    run rm -rf "$config"
  elif [ -e "$config" ]; then
    say "kept: $config, with its keys and jobs; --uninstall --purge removes it too"
  fi
}

main() {
  # Not local, as clean_up reads them after main.
  prefix="" new="" dry_run=no
  local source="${SWARM_HUB_FROM:-}" role=worker config="" service=yes
  local remove=no purge=no joined=yes link="" python="" here hub command_link
  while [ "$#" -gt 0 ]; do
    case "$1" in
      --from | --role | --prefix | --config)
        if [ -z "${2:-}" ]; then fail "$1 needs a value; see --help"; fi
        case "$1" in
          --from) source="$2" ;;
          --role) role="$2" ;;
          --prefix) prefix="$2" ;;
          --config) config="$2" ;;
        esac
        shift
        ;;
      --no-service) service=no ;;
      --dry-run) dry_run=yes ;;
      --uninstall) remove=yes ;;
      --purge) purge=yes ;;
      -h | --help) usage; return ;;
      swarmhub://*) link="$1" ;;
      *) fail "unknown: $1; see --help" ;;
    esac
    shift
  done
  case "$role" in worker | gateway) ;; *) fail "--role is worker or gateway, not $role" ;; esac
  [ "$purge" = no ] || [ "$remove" = yes ] || fail "--purge belongs to --uninstall"
  prefix="$(absolute "${prefix:-$HOME/.local/share/swarm_hub}")"
  config="$(absolute "${config:-${SWARM_HUB_CONFIG:-$HOME/.config/swarm_hub}}")"
  hub="$prefix/current/bin/swarm-hub"
  command_link="$HOME/.local/bin/swarm-hub"
  if is_termux; then command_link="${PREFIX:-/data/data/com.termux/files/usr}/bin/swarm-hub"; fi
  if [ "$remove" = yes ]; then
    uninstall
    return
  fi

  # Where bash reads this from a pipe, it is in no file.
  here="$(dirname "${BASH_SOURCE[0]:-main}")"
  if [ -z "$source" ] && [ -f "${BASH_SOURCE[0]:-}" ] && [ -f "$here/swarm_hub/const.py" ]; then
    source="$here"
  fi
  [ -n "$source" ] || fail "from where? swarm_hub is in no package index: give a wheel, a clone or \
git+https://… with --from SOURCE or SWARM_HUB_FROM"
  if [ -d "$source" ]; then source="$(cd "$source" && pwd)"; fi
  if [ -f "$source" ]; then source="$(absolute "$source")"; fi
  if is_termux && [ "$role" = gateway ]; then
    fail "a phone can be a worker only: what a gateway needs has to be compiled there"
  fi

  install_packages
  new="$prefix/versions/$(date -u +%Y%m%dT%H%M%SZ).$$"
  trap clean_up EXIT
  make_environment
  check_environment
  switch
  link_command
  configure
  start_service
  [ "$joined" = yes ] || fail "installed, but not joined, see above; then: $hub join LINK -c $config"
  [ "$dry_run" = yes ] || say "$("$hub" --version) is installed; see what is advised: $hub doctor -c $config"
}

absolute() {
  case "$1" in /*) printf '%s' "$1" ;; *) printf '%s/%s' "$PWD" "$1" ;; esac
}

main "$@"
